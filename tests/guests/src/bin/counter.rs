//! `counter FILE LOCK N`: adds one to the number in a file, N times, each under
//! the lock.

use clasp_guest::InterProcessLock;
use std::{error::Error, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, file, lock, times] = arguments.as_slice() else {
        return Err("usage: counter FILE LOCK N".into());
    };
    let lock = InterProcessLock::new(lock)?;
    for _ in 0..times.parse()? {
        let guard = lock.acquire()?;
        let number: u64 = fs::read_to_string(file)?.trim().parse()?;
        fs::write(file, (number + 1).to_string())?;
        guard.release()?;
    }
    Ok(())
}
