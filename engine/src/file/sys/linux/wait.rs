//! Waits in the kernel, and their end.

use super::{lock::lock_interruptibly, wake};
use crate::{
    Error, Mode,
    backend::{Cancel, Wait, Waited},
    file::{Family, FileSystem},
    sync::Mutex,
};
use rustix::io::Errno;
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

/// A request that waits in the kernel for a lock.
pub(crate) struct KernelWait {
    call: Call,
    family: Family,
    mode: Mode,
}

impl KernelWait {
    pub(crate) fn new(
        file: impl AsFd,
        spare: &Arc<Spare>,
        family: Family,
        mode: Mode,
    ) -> io::Result<KernelWait> {
        Ok(KernelWait {
            call: Call::new(file, spare)?,
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
    /// Taken out on drop only.
    descriptor: Option<OwnedFd>,
    spare: Arc<Spare>,
    state: Mutex<State>,
}

/// A descriptor that a wait has left for the next one on the same description.
#[derive(Debug, Default)]
pub(crate) struct Spare(Mutex<Option<OwnedFd>>);

impl Spare {
    pub(crate) fn new(_: FileSystem) -> Spare {
        Spare::default()
    }
}

struct State {
    cancelled: bool,
    /// The thread in `run`; it leaves only after it has taken this out.
    thread: Option<wake::Wakeable>,
    running: bool,
}

impl Call {
    pub(super) fn new(file: impl AsFd, spare: &Arc<Spare>) -> io::Result<Call> {
        // Opened now, so that cancelling cannot fail for want of it.
        wake::unlockable()?;
        let descriptor = match spare.0.lock().take() {
            Some(descriptor) => descriptor,
            None => rustix::io::fcntl_dupfd_cloexec(file, 0)?,
        };
        Ok(Call {
            descriptor: Some(descriptor),
            spare: Arc::clone(spare),
            state: Mutex::new(State {
                cancelled: false,
                thread: None,
                running: false,
            }),
        })
    }

    fn descriptor(&self) -> Result<BorrowedFd<'_>, Errno> {
        // There is one until this is dropped.
        self.descriptor.as_ref().map(AsFd::as_fd).ok_or(Errno::BADF)
    }

    /// Calls `f` until it ends other than by somebody else's signal, or this
    /// is cancelled.
    fn call(&self, f: impl Fn(BorrowedFd<'_>) -> Result<(), Errno>) -> Result<(), Errno> {
        loop {
            match f(self.descriptor()?) {
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
                let disarmed = self.descriptor().map_err(io::Error::from);
                // SAFETY: the descriptor was made for waits and is private to
                // this one; `call` ends on any error once we are cancelled.
                let disarmed = disarmed.and_then(|own| unsafe { wake::disarm(own) });
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

impl Drop for Call {
    fn drop(&mut self) {
        // One that was cancelled leads to the description no more.
        if !self.state.lock().cancelled {
            *self.spare.0.lock() = self.descriptor.take();
        }
    }
}
