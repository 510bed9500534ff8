//! What the tests share: guests in hosts of this process, hosts in processes of
//! their own, and native opponents.
//!
//! The tests wait for events. [`LIVENESS_TIMEOUT`] bounds what must happen and
//! [`STILL_BLOCKED`] is how long something that must not happen is given.

mod actor;
mod built;
mod process;

pub use actor::{Actor, Host, Setup, guest, run_command};
pub use built::target;
pub use clasp_engine::testing::conformance::{
    LIVENESS_TIMEOUT, STILL_BLOCKED, keeps_creation_times, remove_name, waits_need_threads,
};
pub use process::{Opponent, Process, clasp, clasp_run, has_guest, python};

use std::{sync::mpsc, thread};

include!(concat!(env!("OUT_DIR"), "/guests.rs"));

/// Something that runs on a thread of its own.
#[derive(Debug)]
pub struct Started<T>(mpsc::Receiver<T>);

impl<T> Started<T> {
    /// Its result.
    ///
    /// # Panics
    /// If it takes too long, or has panicked.
    pub fn finish(self) -> T {
        self.0
            .recv_timeout(LIVENESS_TIMEOUT)
            .expect("still blocked")
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

/// The examples of the book compile.
#[cfg(doctest)]
mod book {
    #[doc = include_str!("../../book/src/guests.md")]
    struct Guests;

    #[doc = include_str!("../../book/src/embedders.md")]
    struct Embedders;

    #[doc = include_str!("../../book/src/fasteners.md")]
    struct Fasteners;
}
