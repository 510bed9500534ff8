//! What Linux and macOS have in common: opening files and telling them apart.

use super::Numbers;
use crate::{Error, ErrorKind, LockName, Mode};
use cap_std::fs::{Dir, Metadata, MetadataExt, OpenOptions, OpenOptionsExt};
use rustix::{
    fs::{AtFlags, FileType, FlockOperation, OFlags},
    io::Errno,
};
use std::{
    ffi::OsString,
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::{Component, Path, PathBuf},
};

/// What an error number means for a lock, if the number says more than
/// `io::ErrorKind` does.
pub(crate) fn classify(error: &io::Error) -> Option<ErrorKind> {
    Some(match Errno::from_io_error(error)? {
        Errno::ROFS => ErrorKind::Access,
        Errno::NOTDIR => ErrorKind::NoEntry,
        Errno::ISDIR => ErrorKind::IsDirectory,
        Errno::NXIO | Errno::NODEV => ErrorKind::NotAFile,
        Errno::NAMETOOLONG => ErrorKind::InvalidName,
        // Symlinks that go round in a circle lead nowhere.
        Errno::LOOP => ErrorKind::NoEntry,
        Errno::MFILE | Errno::NFILE | Errno::NOLCK | Errno::NOMEM | Errno::NOSPC | Errno::DQUOT => {
            ErrorKind::Unavailable
        }
        // A file with a lease, opened so as not to wait for its holder.
        Errno::AGAIN => ErrorKind::Unavailable,
        Errno::NOSYS | Errno::INVAL => ErrorKind::Unsupported,
        // One number on Linux, two on macOS.
        error if error == Errno::OPNOTSUPP || error == Errno::NOTSUP => ErrorKind::Unsupported,
        _ => return None,
    })
}

/// Whether a file could perhaps be opened if only for reading.
pub(crate) fn is_read_only(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::ACCESS | Errno::ROFS | Errno::PERM | Errno::TXTBSY)
    )
}

/// A name that a guest may use may be used here.
pub(crate) fn check_name(_: &LockName) -> Result<(), Error> {
    Ok(())
}

/// No open waits for a FIFO's other end or a lease, or makes a terminal ours.
pub(crate) fn prepare(options: &mut OpenOptions) {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    options.custom_flags(flags.bits() as i32);
}

/// Whether a file's time of creation is what it says, where there is one.
pub(crate) fn keeps_creation_times() -> bool {
    true
}

/// With which permissions, less the umask, a missing file is created.
pub(crate) fn set_creation_mode(options: &mut OpenOptions, mode: u32) {
    options.mode(mode);
}

/// A copy of a descriptor that is not closed when another program is executed.
pub(crate) fn inheritable(file: &File) -> io::Result<OwnedFd> {
    Ok(rustix::io::dup(file)?)
}

/// What tells an open file from others.
pub(crate) fn numbers(_: &File, metadata: &Metadata) -> io::Result<Numbers> {
    Ok((metadata.dev(), metadata.ino().into()))
}

/// The path of an open file or directory now, or its last one if it was removed.
#[doc(alias = "F_GETPATH")]
pub(crate) fn path_of(file: impl AsFd) -> io::Result<PathBuf> {
    #[cfg(target_os = "macos")]
    let path = rustix::fs::getpath(&file)?;
    #[cfg(not(target_os = "macos"))]
    let path = {
        use std::os::fd::AsRawFd;
        let link = format!("/proc/thread-self/fd/{}", file.as_fd().as_raw_fd());
        // Missing where /proc is not mounted: the file itself is open.
        rustix::fs::readlink(link, Vec::new()).map_err(|_| io::ErrorKind::Unsupported)?
    };
    Ok(PathBuf::from(OsString::from_vec(path.into_bytes())))
}

/// What tells the file a name leads to from others.
pub(crate) fn look_up(directory: &Dir, name: &Path) -> io::Result<Numbers> {
    if let Some(numbers) = plain_numbers(directory, name) {
        return Ok(numbers);
    }
    let metadata = directory.metadata(name)?;
    Ok((metadata.dev(), metadata.ino().into()))
}

/// One system call instead of three for what most names are: no directory on the
/// way, no symlink at the end, so nothing that could lead out.
#[doc(alias = "fstatat")]
fn plain_numbers(directory: &Dir, name: &Path) -> Option<Numbers> {
    let mut components = name.components();
    let (Some(Component::Normal(_)), None) = (components.next(), components.next()) else {
        return None;
    };
    let found = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    let symlink = FileType::from_raw_mode(found.st_mode).is_symlink();
    (!symlink).then_some((found.st_dev as u64, found.st_ino.into()))
}

/// Whether the file still has a name.
#[doc(alias = "fstat")]
pub(crate) fn is_linked(file: &File) -> io::Result<bool> {
    Ok(rustix::fs::fstat(file)?.st_nlink > 0)
}

/// How `flock` is told what to do.
pub(super) fn operation(mode: Mode, wait: bool) -> FlockOperation {
    match (mode, wait) {
        (Mode::Shared, false) => FlockOperation::NonBlockingLockShared,
        (Mode::Shared, true) => FlockOperation::LockShared,
        (Mode::Exclusive, false) => FlockOperation::NonBlockingLockExclusive,
        (Mode::Exclusive, true) => FlockOperation::LockExclusive,
    }
}
