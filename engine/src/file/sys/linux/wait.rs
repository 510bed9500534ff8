//! One wait for a lock in the kernel, and its end.

use super::{lock, wake};
use crate::{
    Error, Mode,
    backend::{Cancel, Wait, Waited},
    file::Family,
    sync::Mutex,
};
use rustix::io::Errno;
use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
};

/// A request that waits in the kernel, on a descriptor of its own for the
/// description that is to hold the lock.
///
/// Cancelling takes the descriptor from the wait, not the description: what a
/// racing grant has left on it, the engine unlocks explicitly once `run` has
/// returned. Closing would not do, since a forked child may share it.
pub(crate) struct KernelWait {
    descriptor: OwnedFd,
    family: Family,
    mode: Mode,
    state: Mutex<State>,
}

struct State {
    cancelled: bool,
    /// The thread in `run`; it leaves only after it has taken this out.
    thread: Option<wake::Wakeable>,
    running: bool,
}

impl KernelWait {
    pub(crate) fn new(file: &File, family: Family, mode: Mode) -> io::Result<KernelWait> {
        // Opened now, so that cancelling cannot fail for want of it.
        wake::unlockable()?;
        Ok(KernelWait {
            descriptor: rustix::io::fcntl_dupfd_cloexec(file, 0)?,
            family,
            mode,
            state: Mutex::new(State {
                cancelled: false,
                thread: None,
                running: false,
            }),
        })
    }

    /// Waits until the lock is granted, the wait is cancelled or fails.
    fn wait(&self) -> Result<(), Errno> {
        loop {
            match lock::lock(self.descriptor.as_fd(), self.family, self.mode) {
                // A signal of somebody else's, unless we were cancelled.
                Err(Errno::INTR) if !self.state.lock().cancelled => {}
                ended => return ended,
            }
        }
    }
}

impl Wait for KernelWait {
    fn run(&self) -> Result<Waited, Error> {
        let thread = wake::Wakeable::current();
        {
            let mut state = self.state.lock();
            if state.cancelled {
                return Ok(Waited::Cancelled);
            }
            state.thread = thread;
            state.running = true;
        }
        let result = match thread {
            Some(thread) => thread.listening(|| self.wait()),
            None => self.wait(),
        };
        let mut state = self.state.lock();
        state.thread = None;
        state.running = false;
        if state.cancelled {
            return Ok(Waited::Cancelled);
        }
        match result {
            Ok(()) => Ok(Waited::Granted),
            Err(error) => Err(Error::from_io(&error.into())),
        }
    }

    fn cancel(&self) -> Cancel {
        let mut state = self.state.lock();
        state.cancelled = true;
        match state.thread {
            Some(thread) => {
                // SAFETY: the descriptor was made for this wait and is private
                // to it; `wait` ends on any error once we are cancelled.
                let disarmed = unsafe { wake::disarm(self.descriptor.as_fd()) };
                // SAFETY: the thread takes itself out of `state` before it
                // leaves `run`, and we hold `state`.
                unsafe { thread.interrupt() };
                match disarmed {
                    Ok(()) => Cancel::Prompt,
                    Err(error) => {
                        tracing::warn!(target: "clasp::wait", %error, "cannot end a wait");
                        Cancel::Abandoned
                    }
                }
            }
            None if state.running => Cancel::Abandoned,
            None => Cancel::Prompt,
        }
    }
}
