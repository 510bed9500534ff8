//! macOS: `fcntl` with open file descriptions, or `flock` on file systems that
//! have no such locks.
//!
//! The kernel keeps the locks of either and of POSIX in one list for a file
//! (XNU's `kern_lockf.c`), so each excludes all others and there is one way for
//! all families. Where a file system keeps the locks itself, it answers
//! `ENOTSUP` to every request for an open file description, so that a request
//! can be made anew with `flock` without a note of it.

pub(crate) use super::{
    no_order::*,
    no_signal::*,
    unix::{
        check_name, classify, is_linked, is_read_only, keeps_creation_times, look_up, numbers,
        path_of, prepare, set_creation_mode,
    },
};

use super::{
    token,
    unix::{inheritable, operation},
};
use crate::{
    ByteRange, Error, ErrorKind, Mode,
    backend::Cancel,
    file::{
        Family, FileSystem, Order,
        error::{translate, translated},
        kernel::{Call, Kernel, Range, Waited},
        times,
    },
};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
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

/// Takes a lock without waiting; `false` if another open file has it.
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

/// Whether no description holds a lock, this one included.
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

/// Converts the lock that is held; `None` where that cannot be done in place:
/// `flock` drops the one to take the other.
fn convert(file: BorrowedFd<'_>, to: Mode) -> io::Result<Option<bool>> {
    match set(file, libc::F_OFD_SETLK, kind(to)) {
        Ok(_) => Ok(Some(true)),
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(Some(false)),
        Err(Errno::NOTSUP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn kind(mode: Mode) -> libc::c_short {
    match mode {
        Mode::Shared => libc::F_RDLCK,
        Mode::Exclusive => libc::F_WRLCK,
    }
}

/// From the first byte to whatever the end will be.
const WHOLE: Range = Range { start: 0, len: 0 };

fn request(kind: libc::c_short, range: Range) -> libc::flock {
    libc::flock {
        l_start: range.start,
        l_len: range.len,
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
    set_range(file, command, kind, WHOLE)
}

fn set_range(
    file: BorrowedFd<'_>,
    command: libc::c_int,
    kind: libc::c_short,
    range: Range,
) -> Result<libc::flock, Errno> {
    let mut request = request(kind, range);
    // SAFETY: the descriptor is borrowed and open, and the commands read and
    // write one `flock` through the pointer, which is valid for the call.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut request) };
    answer(result).map(|()| request)
}

/// Waits for the lock for as long as a slice.
fn set_within_slice(file: BorrowedFd<'_>, kind: libc::c_short, range: Range) -> Result<(), Errno> {
    let mut request = FlockTimeout {
        lock: request(kind, range),
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

/// One open file description.
pub(crate) struct NativeFile {
    file: Arc<File>,
    family: Family,
}

impl NativeFile {
    pub(crate) fn new(file: File, family: Family, _: FileSystem) -> NativeFile {
        NativeFile {
            file: Arc::new(file),
            family,
        }
    }
}

impl Kernel for NativeFile {
    fn try_lock(&self, mode: Mode) -> Result<bool, Error> {
        translated(try_lock(&self.file, self.family, mode))
    }

    fn unlock(&self) -> Result<(), Error> {
        translated(unlock(&self.file, self.family))
    }

    fn is_free(&self) -> Result<bool, Error> {
        translated(is_free(&self.file, self.family))
    }

    fn converts(&self) -> bool {
        true
    }

    fn convert(&self, to: Mode) -> Result<bool, Error> {
        // Where it cannot be done, the next requests wait for an unlock.
        translated(convert(self.file.as_fd(), to))?.ok_or(ErrorKind::Unsupported.into())
    }

    fn is_linked(&self) -> Result<bool, Error> {
        translated(is_linked(&self.file))
    }

    fn touch(&self) -> Result<(), Error> {
        times::touch(&self.file)
    }

    fn last_touched(&self) -> Result<Option<SystemTime>, Error> {
        times::last_touched(&self.file)
    }

    fn descriptor(&self) -> Result<OwnedFd, Error> {
        translated(inheritable(&self.file))
    }

    fn has_tokens(&self) -> bool {
        true
    }

    fn token(&self) -> Result<u64, Error> {
        token::next(&self.file)
    }

    fn wait(&self, mode: Mode) -> Result<Arc<dyn Call>, Error> {
        Ok(Arc::new(SlicedWait {
            file: Arc::clone(&self.file),
            mode,
            range: None,
            cancelled: AtomicBool::new(false),
            stays: AtomicBool::new(false),
        }))
    }
}

pub(crate) const HAS_RANGES: bool = true;

/// All are kept in one list.
pub(crate) const FAMILIES_OF_RANGES: &[&str] = &["posix", "flock", "both"];

/// One open file description whose bytes are locked.
pub(crate) struct NativeRanges(Arc<File>);

impl NativeRanges {
    pub(crate) fn new(file: File) -> NativeRanges {
        NativeRanges(Arc::new(file))
    }

    pub(crate) fn try_set(&self, range: ByteRange, mode: Option<Mode>) -> Result<bool, Error> {
        let kind = mode.map_or(libc::F_UNLCK, kind);
        match set_range(self.0.as_fd(), libc::F_OFD_SETLK, kind, range.into()) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
            Err(error) => Err(translate(&error.into())),
        }
    }

    pub(crate) fn conflict(
        &self,
        range: ByteRange,
        mode: Mode,
    ) -> Result<Option<(ByteRange, Mode)>, Error> {
        let found = set_range(self.0.as_fd(), libc::F_OFD_GETLK, kind(mode), range.into());
        let found = found.map_err(|error| translate(&error.into()))?;
        let mode = match found.l_type {
            libc::F_UNLCK => return Ok(None),
            libc::F_RDLCK => Mode::Shared,
            _ => Mode::Exclusive,
        };
        let range = ByteRange::new(found.l_start as u64, found.l_len as u64)?;
        Ok(Some((range, mode)))
    }

    pub(crate) fn is_linked(&self) -> Result<bool, Error> {
        is_linked(&*self.0).map_err(|error| translate(&error))
    }

    pub(crate) fn comes_back(&self) -> bool {
        true
    }

    pub(crate) fn wait(&self, range: ByteRange, mode: Mode) -> Result<Arc<dyn Call>, Error> {
        Ok(Arc::new(SlicedWait {
            file: Arc::clone(&self.0),
            mode,
            range: Some(range.into()),
            cancelled: AtomicBool::new(false),
            stays: AtomicBool::new(false),
        }))
    }
}

/// A request that waits for a lock.
///
/// With locks of descriptions it waits in slices, since no signal ends a wait
/// for sure: one that comes just before the system call is lost. A wait for
/// `flock` cannot be ended at all.
struct SlicedWait {
    file: Arc<File>,
    mode: Mode,
    /// Some bytes instead of the whole file.
    range: Option<Range>,
    cancelled: AtomicBool,
    /// It is with `flock`, and ends with the lock only.
    stays: AtomicBool,
}

impl Call for SlicedWait {
    fn run(&self) -> Result<Waited, Error> {
        let file = self.file.as_fd();
        loop {
            // After `stays` is set, for `cancel` looks at them in the other
            // order.
            if self.cancelled.load(Ordering::SeqCst) {
                return Ok(Waited::Cancelled);
            }
            let waited = if self.stays.load(Ordering::SeqCst) {
                flock(file, operation(self.mode, true))
            } else {
                set_within_slice(file, kind(self.mode), self.range.unwrap_or(WHOLE))
            };
            match waited {
                Ok(()) => return Ok(Waited::Granted),
                Err(Errno::TIMEDOUT | Errno::INTR) => {}
                // `flock` knows no ranges.
                Err(Errno::NOTSUP)
                    if self.range.is_none() && !self.stays.swap(true, Ordering::SeqCst) => {}
                Err(error) => return Err(translate(&error.into())),
            }
        }
    }

    fn cancel(&self) -> Cancel {
        self.cancelled.store(true, Ordering::SeqCst);
        if self.stays.load(Ordering::SeqCst) {
            Cancel::Impossible
        } else {
            Cancel::Requested
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
