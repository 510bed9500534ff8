//! macOS: `fcntl` with open file descriptions, or `flock` on file systems that
//! have no such locks.
//!
//! The kernel keeps the locks of either and of POSIX in one list for a file
//! (XNU's `kern_lockf.c`), so each excludes all others and there is one way for
//! all families. Where a file system keeps the locks itself, it answers
//! `ENOTSUP` to every request for an open file description, so that a request
//! can be made anew with `flock` without a note of it.

pub(crate) use super::{no_order::*, no_signal::*, unix::*};

use super::unix::operation;
use crate::{
    Error, Mode,
    backend::{Cancel, Wait, Waited},
    file::{Family, FileSystem, Order},
};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// The default first; all are the same.
pub(crate) const FAMILIES: &[Family] = &[Family::Posix, Family::Flock, Family::Both];

pub(crate) const ORDERS: &[Order] = &[Order::Kernel];

/// How late a wait may notice that it was cancelled. It waits for the lock all
/// the while, and goes to the end of the kernel's queue each time.
const SLICE: Duration = Duration::from_millis(10);

/// From the kernel's `bsd/sys/fcntl.h`; `libc` does not have it yet.
const F_OFD_SETLKWTIMEOUT: libc::c_int = 93;

/// `struct flocktimeout` of the same header.
#[repr(C)]
struct FlockTimeout {
    lock: libc::flock,
    timeout: libc::timespec,
}

/// Takes a lock without waiting; `false` if somebody else has it.
pub(crate) fn try_lock(file: impl AsFd, _: Family, mode: Mode) -> io::Result<bool> {
    let file = file.as_fd();
    let result = match set(file, libc::F_OFD_SETLK, kind(mode)) {
        Err(Errno::NOTSUP) => flock(file, operation(mode, false)),
        set => set.map(drop),
    };
    match result {
        Ok(()) => Ok(true),
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Takes a lock and waits for it in the kernel.
#[cfg(feature = "conformance")]
pub(crate) fn lock(file: impl AsFd, _: Family, mode: Mode) -> io::Result<()> {
    let file = file.as_fd();
    Ok(match set(file, libc::F_OFD_SETLKW, kind(mode)) {
        Err(Errno::NOTSUP) => flock(file, operation(mode, true)),
        set => set.map(drop),
    }?)
}

/// Drops the lock of the description.
pub(crate) fn unlock(file: impl AsFd, _: Family) -> io::Result<()> {
    let file = file.as_fd();
    Ok(match set(file, libc::F_OFD_SETLK, libc::F_UNLCK) {
        Err(Errno::NOTSUP) => flock(file, FlockOperation::Unlock),
        set => set.map(drop),
    }?)
}

/// Whether nobody holds a lock; neither does the description itself.
pub(crate) fn is_free(file: impl AsFd, family: Family) -> io::Result<bool> {
    let file = file.as_fd();
    match set(file, libc::F_OFD_GETLK, libc::F_WRLCK) {
        Ok(found) => Ok(found.l_type == libc::F_UNLCK),
        // There is no asking, only trying.
        Err(Errno::NOTSUP) => {
            let free = try_lock(file, family, Mode::Exclusive)?;
            if free {
                unlock(file, family)?;
            }
            Ok(free)
        }
        Err(error) => Err(error.into()),
    }
}

/// Makes an exclusive lock that is held a shared one, with nobody in between;
/// `false` where that cannot be done: `flock` drops the one to take the other.
pub(crate) fn downgrade(file: impl AsFd, _: Family) -> io::Result<bool> {
    match set(file.as_fd(), libc::F_OFD_SETLK, libc::F_RDLCK) {
        Ok(_) => Ok(true),
        Err(Errno::NOTSUP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn kind(mode: Mode) -> libc::c_short {
    match mode {
        Mode::Shared => libc::F_RDLCK,
        Mode::Exclusive => libc::F_WRLCK,
    }
}

/// A request for the whole file.
fn request(kind: libc::c_short) -> libc::flock {
    libc::flock {
        l_start: 0,
        l_len: 0,
        l_pid: 0,
        l_type: kind,
        l_whence: libc::SEEK_SET as libc::c_short,
    }
}

fn set(
    file: BorrowedFd<'_>,
    command: libc::c_int,
    kind: libc::c_short,
) -> Result<libc::flock, Errno> {
    let mut request = request(kind);
    // SAFETY: the descriptor is borrowed and open, and the commands read and
    // write one `flock` through the pointer, which is valid for the call.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut request) };
    answer(result).map(|()| request)
}

/// Waits for the lock for as long as a slice.
fn set_within_slice(file: BorrowedFd<'_>, kind: libc::c_short) -> Result<(), Errno> {
    let mut request = FlockTimeout {
        lock: request(kind),
        timeout: libc::timespec {
            tv_sec: 0,
            tv_nsec: SLICE.subsec_nanos().into(),
        },
    };
    // SAFETY: the descriptor is borrowed and open, and the command reads one
    // `flocktimeout` through the pointer, which is valid for the call.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), F_OFD_SETLKWTIMEOUT, &raw mut request) };
    answer(result)
}

fn answer(result: libc::c_int) -> Result<(), Errno> {
    if result != -1 {
        return Ok(());
    }
    let number = io::Error::last_os_error().raw_os_error();
    Err(Errno::from_raw_os_error(number.unwrap_or(libc::EIO)))
}

/// Waits need nothing that they could leave to the next.
#[derive(Debug, Default)]
pub(crate) struct Spare;

impl Spare {
    pub(crate) fn new(_: FileSystem) -> Spare {
        Spare
    }
}

/// A request that waits for a lock.
///
/// With locks of descriptions it waits in slices, since no signal ends a wait
/// for sure: one that comes just before the system call is lost. A wait for
/// `flock` cannot be ended at all.
pub(crate) struct KernelWait {
    file: Arc<File>,
    mode: Mode,
    cancelled: AtomicBool,
    /// It is with `flock`, and ends with the lock only.
    stays: AtomicBool,
}

impl KernelWait {
    pub(crate) fn new(
        file: &Arc<File>,
        _: &Arc<Spare>,
        _: Family,
        mode: Mode,
    ) -> io::Result<KernelWait> {
        Ok(KernelWait {
            file: Arc::clone(file),
            mode,
            cancelled: AtomicBool::new(false),
            stays: AtomicBool::new(false),
        })
    }
}

impl Wait for KernelWait {
    fn run(&self) -> Result<Waited, Error> {
        let file = self.file.as_fd();
        loop {
            // After `stays` is set, for whoever cancels looks at them in the
            // other order.
            if self.cancelled.load(Ordering::SeqCst) {
                return Ok(Waited::Cancelled);
            }
            let waited = if self.stays.load(Ordering::SeqCst) {
                flock(file, operation(self.mode, true))
            } else {
                set_within_slice(file, kind(self.mode))
            };
            match waited {
                Ok(()) => return Ok(Waited::Granted),
                Err(Errno::TIMEDOUT | Errno::INTR) => {}
                Err(Errno::NOTSUP) if !self.stays.swap(true, Ordering::SeqCst) => {}
                Err(error) => return Err(Error::from_io(&error.into())),
            }
        }
    }

    fn cancel(&self) -> Cancel {
        self.cancelled.store(true, Ordering::SeqCst);
        if self.stays.load(Ordering::SeqCst) {
            Cancel::Abandoned
        } else {
            Cancel::Prompt
        }
    }
}

/// What kind of file system a file or directory is on.
pub(crate) fn file_system(file: impl AsFd) -> io::Result<FileSystem> {
    let found = rustix::fs::fstatfs(file)?;
    if found.f_flags & libc::MNT_LOCAL as u32 == 0 {
        return Ok(FileSystem::Network);
    }
    let name = found.f_fstypename.iter().map(|c| *c as u8);
    let name: Vec<u8> = name.take_while(|c| *c != 0).collect();
    // FAT gives all empty files one number, and FUSE gives what it pleases.
    Ok(match &*name {
        b"apfs" | b"hfs" => FileSystem::Local,
        _ => FileSystem::Foreign,
    })
}
