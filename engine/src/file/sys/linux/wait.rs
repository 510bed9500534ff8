//! Waits in the kernel that can be ended.

use super::wake;
use crate::{
    Error,
    backend::Cancel,
    file::{
        error::translate,
        kernel::{Call, Waited},
    },
    sync::Mutex,
};
use rustix::io::Errno;
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

/// A system call that waits, on a descriptor of its own for the description that
/// is to hold the lock.
///
/// Cancelling takes the descriptor from the call, not the description: what a
/// racing grant has left on it is unlocked explicitly once the call has ended.
/// Closing would not do, since a forked child may share the description.
pub(super) struct InterruptibleCall<F> {
    /// Taken out on drop only.
    descriptor: Option<OwnedFd>,
    cache: Arc<DescriptorCache>,
    state: Mutex<State>,
    f: F,
}

/// A descriptor that a call has left for the next one on the same description.
#[derive(Debug, Default)]
pub(super) struct DescriptorCache(Mutex<Option<OwnedFd>>);

struct State {
    cancelled: bool,
    /// The thread in `run`; it leaves only after it has taken this out.
    thread: Option<wake::Wakeable>,
    running: bool,
}

impl<F: Fn(BorrowedFd<'_>) -> Result<(), Errno>> InterruptibleCall<F> {
    pub(super) fn new(
        file: impl AsFd,
        cache: &Arc<DescriptorCache>,
        f: F,
    ) -> io::Result<InterruptibleCall<F>> {
        // Opened now, so that cancelling cannot fail for want of it.
        wake::dead_descriptor()?;
        let cached = cache.0.lock().take();
        let descriptor = match cached {
            Some(descriptor) => descriptor,
            // Beyond those of standard input and output, which may be closed.
            None => rustix::io::fcntl_dupfd_cloexec(file, 3)?,
        };
        Ok(InterruptibleCall {
            descriptor: Some(descriptor),
            cache: Arc::clone(cache),
            state: Mutex::new(State {
                cancelled: false,
                thread: None,
                running: false,
            }),
            f,
        })
    }

    fn descriptor(&self) -> Result<BorrowedFd<'_>, Errno> {
        // There is one until this is dropped.
        self.descriptor.as_ref().map(AsFd::as_fd).ok_or(Errno::BADF)
    }
}

impl<F> Call for InterruptibleCall<F>
where
    F: Fn(BorrowedFd<'_>) -> Result<(), Errno> + Send + Sync,
{
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
        let call = || (self.f)(self.descriptor()?);
        let result = match thread {
            Some(thread) => thread.listening(call),
            None => call(),
        };
        let mut state = self.state.lock();
        state.thread = None;
        state.running = false;
        if state.cancelled {
            return Ok(Waited::Cancelled);
        }
        match result {
            Ok(()) => Ok(Waited::Granted),
            Err(Errno::INTR) => Ok(Waited::Interrupted),
            Err(error) => Err(translate(&error.into())),
        }
    }

    fn cancel(&self) -> Cancel {
        let mut state = self.state.lock();
        state.cancelled = true;
        match state.thread {
            Some(thread) => {
                let invalidated = self.descriptor().map_err(io::Error::from);
                // SAFETY: the descriptor was made for waits and is private to
                // this one; `run` ends on any error once it is cancelled.
                let invalidated = invalidated.and_then(|own| unsafe { wake::invalidate(own) });
                // SAFETY: the thread takes itself out of `state` before it
                // leaves `run`, and `state` is locked.
                unsafe { thread.interrupt() };
                // If it failed, the engine tells that the wait was abandoned.
                match invalidated {
                    Ok(()) => Cancel::Requested,
                    Err(_) => Cancel::Impossible,
                }
            }
            None if state.running => Cancel::Impossible,
            None => Cancel::Requested,
        }
    }

    fn interrupt(&self) {
        if let Some(thread) = self.state.lock().thread {
            // SAFETY: the thread takes itself out of `state` before it leaves
            // `run`, and `state` is locked.
            unsafe { thread.interrupt() };
        }
    }
}

impl<F> Drop for InterruptibleCall<F> {
    fn drop(&mut self) {
        // One that was cancelled leads to the description no more.
        if !self.state.lock().cancelled {
            *self.cache.0.lock() = self.descriptor.take();
        }
    }
}
