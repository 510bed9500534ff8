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

pub(crate) use super::unix::*;
use crate::file::{Family, FileSystem, Order};
use rustix::fs::FsWord;
use std::{io, os::fd::AsFd};

/// The default first.
pub(crate) const FAMILIES: &[Family] = &[Family::Posix, Family::Flock, Family::Both];

/// The default first.
pub(crate) const ORDERS: &[Order] = &[Order::Fair, Order::Kernel];

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
