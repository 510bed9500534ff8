//! A job that needs much memory, of which at most three run on the machine at a time, however
//! many processes ask for it: `heavy MEGABYTES`.

use clasp_guest::interprocess_limited;
use std::error::Error;

#[interprocess_limited("data/heavy.sem", permits = 3, timeout = "10m")]
fn job(megabytes: usize) -> Result<usize, Box<dyn Error>> {
    let mut table = vec![0_u8; megabytes << 20];
    for at in (0..table.len()).step_by(4096) {
        table[at] = 1;
    }
    Ok(table.iter().filter(|byte| **byte == 1).count())
}

fn main() -> Result<(), Box<dyn Error>> {
    let megabytes = std::env::args().nth(1).ok_or("usage: heavy MEGABYTES")?;
    println!("{} pages were used", job(megabytes.parse()?)?);
    Ok(())
}
