//! Waits in the kernel, and their end.

use super::{lock::lock_interruptibly, wake};
use crate::{
    Error, Mode,
    backend::{Cancel, Wait, Waited},
    file::Family,
    sync::Mutex,
};
use rustix::io::Errno;
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// A request that waits in the kernel for a lock.
pub(crate) struct KernelWait {
    call: Call,
    family: Family,
    mode: Mode,
}

impl KernelWait {
    pub(crate) fn new(file: impl AsFd, family: Family, mode: Mode) -> io::Result<KernelWait> {
        Ok(KernelWait {
            call: Call::new(file)?,
            family,
            mode,
        })
    }
}

impl Wait for KernelWait {
    fn run(&self) -> Result<Waited, Error> {
        self.call
            .run(|file| lock_interruptibly(file, self.family, self.mode))
    }

    fn cancel(&self) -> Cancel {
        self.call.cancel()
    }
}

/// Something that waits in the kernel, on a descriptor of its own for the
/// description that is to hold the lock.
///
/// Cancelling takes the descriptor from the wait, not the description: what a
/// racing grant has left on it, the engine unlocks explicitly once `run` has
/// returned. Closing would not do, since a forked child may share it.
pub(super) struct Call {
    descriptor: OwnedFd,
    state: Mutex<State>,
}

struct State {
    cancelled: bool,
    /// The thread in `run`; it leaves only after it has taken this out.
    thread: Option<wake::Wakeable>,
    running: bool,
}

impl Call {
    pub(super) fn new(file: impl AsFd) -> io::Result<Call> {
        // Opened now, so that cancelling cannot fail for want of it.
        wake::unlockable()?;
        Ok(Call {
            descriptor: rustix::io::fcntl_dupfd_cloexec(file, 0)?,
            state: Mutex::new(State {
                cancelled: false,
                thread: None,
                running: false,
            }),
        })
    }

    /// Calls `f` until it ends other than by somebody else's signal, or this
    /// is cancelled.
    fn call(&self, f: impl Fn(BorrowedFd<'_>) -> Result<(), Errno>) -> Result<(), Errno> {
        loop {
            match f(self.descriptor.as_fd()) {
                Err(Errno::INTR) if !self.state.lock().cancelled => {}
                ended => return ended,
            }
        }
    }

    /// Waits on the calling thread, by a call that is made again when a signal
    /// interrupts it, and that any error ends.
    pub(super) fn run(
        &self,
        f: impl Fn(BorrowedFd<'_>) -> Result<(), Errno>,
    ) -> Result<Waited, Error> {
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
            Some(thread) => thread.listening(|| self.call(f)),
            None => self.call(f),
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

    pub(super) fn cancel(&self) -> Cancel {
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
