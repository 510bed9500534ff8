//! Linux.

mod lock;
mod tickets;
mod wait;
mod wake;

#[cfg(feature = "conformance")]
pub(crate) use lock::lock;
pub(crate) use lock::{downgrade, is_free, try_lock, unlock};
pub(crate) use tickets::{FileTickets, choose_order_folder};
pub(crate) use wait::{KernelWait, Spare};
pub(crate) use wake::choose_wake_signal;

use crate::{ErrorKind, file::FileSystem};
use cap_std::fs::{Dir, Metadata, MetadataExt, OpenOptions, OpenOptionsExt};
use rustix::{
    fs::{AtFlags, FileType, FsWord, OFlags},
    io::Errno,
};
use std::{
    fs::File,
    io,
    os::fd::AsFd,
    path::{Component, Path},
};

/// What an error number means for a lock, if the number says more than
/// `io::ErrorKind` does.
pub(crate) fn classify(error: &io::Error) -> Option<ErrorKind> {
    Some(match Errno::from_io_error(error)? {
        Errno::ROFS => ErrorKind::Access,
        Errno::NOTDIR => ErrorKind::NoEntry,
        Errno::ISDIR | Errno::NXIO | Errno::NODEV => ErrorKind::NotAFile,
        Errno::NAMETOOLONG => ErrorKind::InvalidName,
        // Symlinks that go round in a circle lead nowhere.
        Errno::LOOP => ErrorKind::NoEntry,
        Errno::MFILE | Errno::NFILE | Errno::NOLCK | Errno::NOMEM | Errno::NOSPC | Errno::DQUOT => {
            ErrorKind::Unavailable
        }
        // A file with a lease, opened so as not to wait for its holder.
        Errno::AGAIN => ErrorKind::Unavailable,
        Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL => ErrorKind::Unsupported,
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

/// No open waits for a FIFO's other end or a lease, or makes a terminal ours.
pub(crate) fn never_wait(options: &mut OpenOptions) {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    options.custom_flags(flags.bits() as i32);
}

/// Device and inode.
pub(crate) fn numbers(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Device and inode of what a name in a folder leads to, unless there is more
/// to the name than one component that is no symlink.
#[doc(alias = "fstatat")]
pub(crate) fn plain_numbers(folder: &Dir, name: &Path) -> Option<(u64, u64)> {
    let mut components = name.components();
    let (Some(Component::Normal(_)), None) = (components.next(), components.next()) else {
        return None;
    };
    let found = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    let symlink = FileType::from_raw_mode(found.st_mode).is_symlink();
    (!symlink).then_some((found.st_dev, found.st_ino))
}

/// Whether the file still has a name.
#[doc(alias = "fstat")]
pub(crate) fn is_linked(file: &File) -> io::Result<bool> {
    Ok(rustix::fs::fstat(file)?.st_nlink > 0)
}

/// Types of file systems on which a server or a user program answers, from
/// the kernel's `linux/magic.h` and the file systems' own headers.
mod magic {
    use super::FsWord;

    pub(super) const FOREIGN: [FsWord; 2] = [
        0x6573_5546, // FUSE
        0xca45_1a4e, // bcachefs: subvolumes share a device number
    ];
    pub(super) const NETWORK: [FsWord; 15] = [
        0x6969,      // NFS
        0x517b,      // SMB
        0xff53_4d42, // CIFS
        0xfe53_4d42, // SMB2
        0x564c,      // NCP
        0x5346_414f, // AFS
        0x6b41_4653, // kAFS
        0x7375_7245, // Coda
        0x0102_1997, // 9P
        0x00c3_6400, // Ceph
        0x0bd0_0bd0, // Lustre
        0x4750_4653, // GPFS
        0x7461_636f, // OCFS2
        0x0116_1970, // GFS2
        0x786f_4256, // VirtualBox shared folders
    ];
}

/// What kind of file system a file or directory is on.
pub(crate) fn file_system(file: impl AsFd) -> io::Result<FileSystem> {
    let kind = rustix::fs::fstatfs(file)?.f_type;
    Ok(match kind {
        kind if magic::FOREIGN.contains(&kind) => FileSystem::Foreign,
        kind if magic::NETWORK.contains(&kind) => FileSystem::Network,
        _ => FileSystem::Local,
    })
}
