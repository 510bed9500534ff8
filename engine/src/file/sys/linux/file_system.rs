//! Which file systems are local, decided by an allow list: a type that is not
//! in the list counts as a network file system.

use crate::file::FileSystem;
use rustix::fs::FsWord;
use std::{fs, io, os::fd::AsFd};

/// The one magic number of all FUSE file systems.
const FUSE: FsWord = 0x6573_5546;

/// Types whose locks the kernel keeps, from `linux/magic.h` and the sources of
/// the file systems. The flag says whether inode numbers identify files.
const LOCAL: &[(FsWord, &str, bool)] = &[
    (0xef53, "ext2, ext3 and ext4", true),
    (0x5846_5342, "XFS", true),
    (0x9123_683e, "Btrfs", true),
    (0x0102_1994, "tmpfs", true),
    (0x8584_58f6, "ramfs", true),
    (0x794c_7630, "overlayfs", true),
    (0xf2f5_2010, "F2FS", true),
    (0x2fc1_2fc1, "ZFS", true),
    (0x3153_464a, "JFS", true),
    (0x5265_4973, "ReiserFS", true),
    (0x3434, "NILFS2", true),
    (0x2405_1905, "UBIFS", true),
    (0x7371_7368, "SquashFS", true),
    (0xe0f5_e1e2, "EROFS", true),
    (0xf15f, "eCryptfs", true),
    // Its subvolumes share a device number and have inode numbers of their own.
    (0xca45_1a4e, "bcachefs", false),
    // The kernel makes up inode numbers when it reads a file's entry.
    (0x4d44, "FAT", false),
    (0x2011_bab0, "exFAT", false),
    (0x7366_746e, "NTFS", false),
    (0x5346_544e, "NTFS", false),
    (0x9660, "ISO 9660", false),
    (0x6265_6572, "sysfs", false),
];

/// FUSE file systems that serve files of this machine, by the type that
/// `/proc/self/mountinfo` names. `fuseblk` is one on a block device.
const LOCAL_FUSE: &[&str] = &[
    "fuseblk",
    "fuse.fuse-overlayfs",
    "fuse.ntfs-3g",
    "fuse.gocryptfs",
    "fuse.encfs",
    "fuse.cryfs",
    "fuse.securefs",
];

/// What kind of file system a file or directory is on.
pub(crate) fn file_system(file: impl AsFd) -> io::Result<FileSystem> {
    let kind = rustix::fs::fstatfs(&file)?.f_type;
    if kind != FUSE {
        return Ok(by_magic(kind));
    }
    let device = rustix::fs::fstat(&file)?.st_dev;
    // Without the table the daemon stays unknown, and with it what it serves.
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let numbers = (rustix::fs::major(device), rustix::fs::minor(device));
    Ok(by_fuse_type(fuse_type(&mounts, numbers)))
}

fn by_magic(kind: FsWord) -> FileSystem {
    match LOCAL.iter().find(|(magic, ..)| *magic == kind) {
        Some((_, _, true)) => FileSystem::Local,
        Some((_, _, false)) => FileSystem::Foreign,
        None => FileSystem::Network,
    }
}

fn by_fuse_type(kind: Option<&str>) -> FileSystem {
    match kind {
        Some(kind) if LOCAL_FUSE.contains(&kind) => FileSystem::User,
        _ => FileSystem::Network,
    }
}

/// The type of the mount with a device number, as `proc_pid_mountinfo(5)`
/// describes its lines: `36 35 0:59 / /mnt rw - fuse.sshfs source options`.
fn fuse_type(mounts: &str, (major, minor): (u32, u32)) -> Option<&str> {
    let device = format!("{major}:{minor}");
    mounts.lines().find_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        let matches = mount.split(' ').nth(2) == Some(&*device);
        source.split(' ').next().filter(|_| matches)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is not known to be local must be opted in: each of these has a
    /// server, or a user program, that may hang or hand out inode numbers anew.
    #[test]
    fn network_and_unknown_types_are_not_local() {
        let remote = [
            (0x6969, "NFS"),
            (0x517b, "SMB"),
            (0xff53_4d42, "CIFS"),
            (0xfe53_4d42, "SMB2"),
            (0x564c, "NCP"),
            (0x5346_414f, "AFS"),
            (0x6b41_4653, "kAFS"),
            (0x7375_7245, "Coda"),
            (0x0102_1997, "9P"),
            (0x00c3_6400, "Ceph"),
            (0x0bd0_0bd0, "Lustre"),
            (0x4750_4653, "GPFS"),
            (0x7461_636f, "OCFS2"),
            (0x0116_1970, "GFS2"),
            (0x786f_4256, "VirtualBox"),
            (0x1983_0326, "BeeGFS"),
            (0x2003_0528, "OrangeFS"),
            (0xbacb_acbc, "vmhgfs"),
            (0xaad7_aaea, "PanFS"),
            (0xcd71_cd71, "a type of the future"),
            (FUSE, "FUSE without its subtype"),
        ];
        for (magic, name) in remote {
            assert_eq!(by_magic(magic), FileSystem::Network, "{name}");
        }
    }

    #[test]
    fn common_local_types_are_local() {
        for (magic, name) in [
            (0xef53, "ext4"),
            (0x0102_1994, "tmpfs"),
            (0x794c_7630, "overlay"),
        ] {
            assert_eq!(by_magic(magic), FileSystem::Local, "{name}");
        }
        for (magic, name) in [(0xca45_1a4e, "bcachefs"), (0x4d44, "FAT")] {
            assert_eq!(by_magic(magic), FileSystem::Foreign, "{name}");
        }
    }

    #[test]
    fn a_fuse_file_system_is_judged_by_its_subtype() {
        const MOUNTS: &str = "\
22 28 0:21 / /proc rw,nosuid shared:12 - proc proc rw\n\
96 28 0:59 / /home/u/remote rw,nosuid shared:40 - fuse.sshfs u@host:/ rw,user_id=0\n\
97 28 0:60 / /merged rw - fuse.fuse-overlayfs fuse-overlayfs rw\n\
98 28 8:17 / /usb rw - fuseblk /dev/sdb1 rw\n\
99 28 0:61 / /share rw - virtiofs share rw\n\
100 28 0:62 / /cloud rw - fuse.rclone remote: rw\n";
        let kind = |minor| by_fuse_type(fuse_type(MOUNTS, (0, minor)));
        assert_eq!(kind(59), FileSystem::Network, "sshfs");
        assert_eq!(kind(60), FileSystem::User, "fuse-overlayfs");
        assert_eq!(kind(61), FileSystem::Network, "virtiofs");
        assert_eq!(kind(62), FileSystem::Network, "rclone");
        assert_eq!(kind(63), FileSystem::Network, "not in the table");
        let usb = by_fuse_type(fuse_type(MOUNTS, (8, 17)));
        assert_eq!(usb, FileSystem::User, "ntfs-3g on a disk");
    }
}
