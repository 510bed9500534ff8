//! A pool of named slots: `slots WORKER TURNS MILLISECONDS`.
//!
//! `data/slots` has the name of a slot in each line, such as that of a device. A worker takes a
//! permit for each turn, and uses the slot that the number of its permit stands for, for so long. No
//! other worker on the machine uses that slot meanwhile. What each worker does is appended to `data/log`.

use clasp_guest::InterProcessSemaphore;
use std::{
    error::Error,
    fs::{self, OpenOptions},
    io::Write,
    thread,
    time::{Duration, SystemTime},
};

fn log(worker: &str, event: &str) -> Result<(), Box<dyn Error>> {
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    // In one write, so that lines of several workers do not mix.
    let line = format!("{} {worker} {event}\n", time.as_micros());
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open("data/log")?;
    Ok(file.write_all(line.as_bytes())?)
}

/// Uses a slot, of which this worker has to be the only user.
fn work(worker: &str, slot: &str, time: Duration) -> Result<(), Box<dyn Error>> {
    let user = format!("data/{slot}");
    fs::write(&user, worker)?;
    // The device is busy.
    thread::sleep(time);
    match fs::read_to_string(&user)? {
        found if found == worker => Ok(()),
        other => Err(format!("{other} uses {slot} beside {worker}").into()),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, worker, turns, milliseconds] = &arguments[..] else {
        return Err("usage: slots WORKER TURNS MILLISECONDS".into());
    };
    let time = Duration::from_millis(milliseconds.parse()?);
    let names = fs::read_to_string("data/slots")?;
    let names: Vec<&str> = names.lines().collect();
    let slots = InterProcessSemaphore::new("data/slots.sem", u32::try_from(names.len())?)?;
    for _ in 0..turns.parse()? {
        log(worker, "waits")?;
        let permit = slots.acquire()?;
        let slot = names[permit.number() as usize];
        log(worker, &format!("begins {slot}"))?;
        work(worker, slot, time)?;
        log(worker, &format!("ends {slot}"))?;
        permit.release()?;
    }
    Ok(())
}
