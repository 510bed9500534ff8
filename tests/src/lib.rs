//! What the tests share: guests in hosts of this process, hosts in processes of
//! their own, and native opponents.
//!
//! The tests wait for events. [`SURELY`] bounds what must happen and
//! [`STILL_BLOCKED`] is how long something that must not happen is given.

mod actor;
mod process;

pub use actor::{Actor, Host, Setup, guest, run_command};
pub use clasp_engine::conformance::{STILL_BLOCKED, SURELY, remove_name, waits_need_threads};
pub use process::{Opponent, Process, clasp, python};

use std::{path::PathBuf, sync::mpsc, thread};

include!(concat!(env!("OUT_DIR"), "/guests.rs"));

/// Where cargo puts what it builds.
///
/// # Panics
/// If the test program does not lie in a target folder.
pub fn target() -> PathBuf {
    let program = std::env::current_exe().expect("the path of this program");
    let target = program
        .ancestors()
        .find(|folder| folder.join("guests").is_dir());
    target
        .expect("no guests are built: run `cargo xtask test`, or `cargo xtask guests` first")
        .to_owned()
}

/// Something that runs on a thread of its own.
#[derive(Debug)]
pub struct Started<T>(mpsc::Receiver<T>);

impl<T> Started<T> {
    /// Its result.
    ///
    /// # Panics
    /// If it takes too long, or has panicked.
    pub fn finish(self) -> T {
        self.0.recv_timeout(SURELY).expect("still blocked")
    }

    /// Gives it the time not to block.
    ///
    /// # Panics
    /// If it does not block.
    pub fn must_block(&self) {
        assert!(self.0.recv_timeout(STILL_BLOCKED).is_err(), "did not block");
    }
}

/// Runs `f` on a thread of its own.
pub fn start<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Started<T> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || send.send(f()));
    Started(receive)
}
