//! Counts how often it was run, however many of it run at once.
use clasp_guest::InterProcessLock;
use std::{fs, io};

fn main() -> io::Result<()> {
    let _guard = InterProcessLock::new("data/count.lock")?.acquire()?;
    let count = fs::read_to_string("data/count").map_or(0, |text| text.parse().unwrap_or(0));
    fs::write("data/count", format!("{}", count + 1))?;
    println!("hello, number {}", count + 1);
    Ok(())
}
