//! `exits CODE`: exits while it holds a lock.

use clasp_guest::InterProcessLock;

fn main() {
    let code = std::env::args().nth(1).and_then(|code| code.parse().ok());
    let lock = InterProcessLock::new("data/a.lock").unwrap();
    let _guard = lock.acquire().unwrap();
    std::process::exit(code.expect("usage: exits CODE"));
}
