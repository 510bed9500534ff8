//! A plugin: appends to a journal that it shares with other plugins.
//!
//! The journal starts with the number of its entries, so that appending is
//! reading and writing, which goes wrong without the lock.

use clasp_guest::InterProcessLock;
use std::{error::Error, fs, time::Duration};

wit_bindgen::generate!({ path: "../plugins/wit", world: "plugin" });

struct Plugin;

impl Guest for Plugin {
    fn handle(plugin: String, event: String) -> Result<u32, String> {
        append(&plugin, &event).map_err(|error| error.to_string())
    }
}

fn append(plugin: &str, event: &str) -> Result<u32, Box<dyn Error>> {
    let lock = InterProcessLock::new("shared/journal.lock")?;
    let _guard = lock.acquire_timeout(Duration::from_secs(10))?;
    let journal = fs::read_to_string("shared/journal").unwrap_or_else(|_| "0\n".into());
    let (count, entries) = journal.split_once('\n').ok_or("the journal is damaged")?;
    let count = count.parse::<u32>()? + 1;
    fs::write(
        "shared/journal",
        format!("{count}\n{entries}{plugin}: {event}\n"),
    )?;
    Ok(count)
}

export!(Plugin);
