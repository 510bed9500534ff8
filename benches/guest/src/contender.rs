//! A guest that takes a lock over and over; see `benches/wit/contender.wit`.

use clasp_guest::{Error, InterProcessReaderWriterLock};
use std::hint::spin_loop;

wit_bindgen::generate!({ path: "../wit", world: "contender" });

struct Contender;

/// Takes the lock, does something and lets go.
fn held<R>(
    lock: &InterProcessReaderWriterLock,
    exclusive: bool,
    f: impl FnOnce() -> R,
) -> Result<R, String> {
    let text = |error: Error| error.to_string();
    if exclusive {
        let _guard = lock.write().map_err(text)?;
        Ok(f())
    } else {
        let _guard = lock.read().map_err(text)?;
        Ok(f())
    }
}

/// Takes the lock, does the step and lets go.
fn with_step(lock: &InterProcessReaderWriterLock, step: Step) -> Result<(), String> {
    let text = |error: Error| error.to_string();
    match step {
        Step::Nothing => {}
        Step::Downgrade => {
            let guard = lock.write().map_err(text)?;
            let _guard = guard.downgrade().map_err(|e| e.to_string())?;
        }
        Step::FailedUpgrade => match lock.read().map_err(text)?.try_upgrade() {
            Ok(_) => return Err("no other process holds the lock".into()),
            Err(refused) => drop(refused.into_guard()),
        },
        Step::Token => {
            let guard = lock.write().map_err(text)?;
            guard.fencing_token().map_err(text)?;
        }
    }
    Ok(())
}

fn open(path: &str) -> Result<InterProcessReaderWriterLock, String> {
    InterProcessReaderWriterLock::new(path).map_err(|error| error.to_string())
}

fn spin(from: u64, length: u64) -> u64 {
    let mut time = from;
    while time < from + length {
        spin_loop();
        time = now();
    }
    time
}

impl Guest for Contender {
    fn pairs(path: String, exclusive: bool, step: Step, count: u32) -> Result<u64, String> {
        let lock = open(&path)?;
        let begun = now();
        for _ in 0..count {
            match step {
                Step::Nothing => held(&lock, exclusive, || ())?,
                step => with_step(&lock, step)?,
            }
        }
        Ok(now() - begun)
    }

    fn compete(
        path: String,
        exclusive: bool,
        hold: u64,
        pause: u64,
        until: u64,
    ) -> Result<Vec<Turn>, String> {
        let lock = open(&path)?;
        let mut turns = Vec::new();
        let mut asked = now();
        while asked < until {
            let (got, left) = held(&lock, exclusive, || {
                let got = now();
                (got, spin(got, hold))
            })?;
            turns.push(Turn { asked, got, left });
            asked = spin(now(), pause);
        }
        Ok(turns)
    }

    fn count(path: String, exclusive: bool, until: u64) -> Result<u64, String> {
        let lock = open(&path)?;
        let mut turns = 0;
        while held(&lock, exclusive, now)? < until {
            turns += 1;
        }
        Ok(turns)
    }
}

export!(Contender);
