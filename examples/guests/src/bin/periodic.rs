//! A job that runs at most once per interval, however many processes ask for it:
//! `periodic SECONDS`.

use clasp_guest::Periodic;
use std::{error::Error, fs, time::Duration};

fn main() -> Result<(), Box<dyn Error>> {
    let seconds = std::env::args().nth(1).ok_or("usage: periodic SECONDS")?;
    let interval = Duration::from_secs(seconds.parse()?);
    let cleanup = Periodic::new("data/cleanup.lock", interval)?;
    let removed = cleanup.run(|| {
        let mut removed = 0;
        for entry in fs::read_dir("data")? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "tmp") {
                fs::remove_file(path)?;
                removed += 1;
            }
        }
        Ok::<u32, std::io::Error>(removed)
    })?;
    match removed {
        Some(removed) => println!("removed {} temporary files", removed?),
        None => println!("not due"),
    }
    Ok(())
}
