//! Calling a thread back from the kernel: one real-time signal.
//!
//! A signal alone loses the race with a thread that is about to enter the
//! kernel. So the descriptor of the wait is first replaced by one that cannot
//! be locked: a thread that has not entered finds that one, and a thread that
//! has is woken by the signal.

use crate::{Error, ErrorKind, sync::Mutex};
use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    ptr,
    sync::OnceLock,
};

/// Added to the first real-time signal: beyond those that debuggers, thread
/// libraries and profilers are known to take first.
const DEFAULT_OFFSET: libc::c_int = 7;

/// The signal in use, once there is a choice; `None` if it is to do without.
static SIGNAL: OnceLock<Option<libc::c_int>> = OnceLock::new();

/// Held while choosing.
static CHOOSING: Mutex<()> = Mutex::new(());

pub(crate) fn choose_wake_signal(signal: Option<i32>) -> Result<(), Error> {
    let refuse = |why: String| Err(Error::new(ErrorKind::Unavailable, why));
    let _choosing = CHOOSING.lock();
    if SIGNAL.get().is_some() {
        return refuse("the signal that ends waits was chosen before".into());
    }
    if let Some(signal) = signal {
        if !(libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&signal) {
            return refuse(format!("{signal} is not a real-time signal"));
        }
        // A refusal is no choice: the default, or another, may still be made.
        if let Err(error) = install(signal) {
            return refuse(error.to_string());
        }
    }
    SIGNAL.get_or_init(|| signal);
    Ok(())
}

/// The signal in use, which is the default one if none was chosen.
fn signal() -> Option<libc::c_int> {
    if let Some(chosen) = SIGNAL.get() {
        return *chosen;
    }
    let (chosen, error) = {
        let _choosing = CHOOSING.lock();
        if let Some(chosen) = SIGNAL.get() {
            return *chosen;
        }
        let signal = libc::SIGRTMIN() + DEFAULT_OFFSET;
        let installed = install(signal);
        let chosen = *SIGNAL.get_or_init(|| installed.is_ok().then_some(signal));
        (chosen, installed.err())
    };
    if let Some(error) = error {
        tracing::warn!(target: "clasp::wait", %error, "waits that are given up will linger in the kernel");
    }
    chosen
}

/// Whether waits can be ended.
pub(super) fn is_possible() -> bool {
    signal().is_some()
}

/// Installs a handler that does nothing but let system calls return.
fn install(signal: libc::c_int) -> io::Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    let mut old = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null new action only asks; `old` is valid for writes.
    let asked = unsafe { libc::sigaction(signal, ptr::null(), old.as_mut_ptr()) };
    if asked != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed is a valid `sigaction`, and the call has filled it in.
    let old = unsafe { old.assume_init() };
    if old.sa_sigaction != libc::SIG_DFL {
        return Err(io::Error::other(format!(
            "signal {signal} is handled by other code of the process"
        )));
    }
    // SAFETY: zeroed is a valid `sigaction`, with an empty mask on Linux.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    // Without `SA_RESTART`, so that system calls return; on the alternative stack
    // of threads that have one, whose own may be small.
    action.sa_flags = libc::SA_ONSTACK;
    action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
    // SAFETY: the handler is a function that does nothing, which is safe in
    // any signal context, and lives as long as the program.
    if unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A thread that can be called back from the kernel.
#[derive(Clone, Copy)]
pub(super) struct Wakeable {
    thread: libc::pthread_t,
    signal: libc::c_int,
}

impl Wakeable {
    /// The calling thread, if there is a signal for it.
    pub(super) fn current() -> Option<Wakeable> {
        Some(Wakeable {
            signal: signal()?,
            // SAFETY: always succeeds.
            thread: unsafe { libc::pthread_self() },
        })
    }

    /// Runs `f` on this, the calling thread, with the signal let through.
    pub(super) fn listening<R>(self, f: impl FnOnce() -> R) -> R {
        let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
        let mut old = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: both sets are valid for writes; `sigemptyset` initializes
        // the one that is read, and the signal number is a valid one.
        let was_blocked = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), self.signal);
            libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), old.as_mut_ptr());
            libc::sigismember(old.as_ptr(), self.signal) == 1
        };
        let result = f();
        if was_blocked {
            // SAFETY: `set` was filled in above; it holds this signal alone.
            unsafe {
                libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut());
            }
        }
        result
    }

    /// Interrupts the system call that the thread is in, if any.
    ///
    /// # Safety
    /// The thread must not have ended.
    pub(super) unsafe fn interrupt(self) {
        // SAFETY: the thread exists, says the caller; the signal is handled.
        unsafe {
            libc::pthread_kill(self.thread, self.signal);
        }
    }
}

/// Replaces what a descriptor refers to by something that cannot be locked.
///
/// # Safety
/// The descriptor must belong to the caller's wait alone: code that uses it
/// concurrently must accept `EBADF`.
pub(super) unsafe fn invalidate(descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let dead = dead_descriptor()?;
    // SAFETY: both descriptors are open, and no other code relies on what the
    // second one refers to, says the caller.
    let result = unsafe { libc::dup3(dead.as_raw_fd(), descriptor.as_raw_fd(), libc::O_CLOEXEC) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A descriptor on which every lock request fails with `EBADF`.
pub(super) fn dead_descriptor() -> io::Result<&'static OwnedFd> {
    static DEAD: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(dead) = DEAD.get() {
        return Ok(dead);
    }
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let dead = rustix::fs::open("/", flags, rustix::fs::Mode::empty())?;
    Ok(DEAD.get_or_init(|| dead))
}
