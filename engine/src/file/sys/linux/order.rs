//! The files on whose bytes hosts keep their order, and the directory they lie in.

use super::{
    file_system::file_system,
    lock::{conflict, lock_range, unlock_range},
    wait::{DescriptorCache, InterruptibleCall},
    wake,
};
use crate::{
    Error, ErrorKind, Mode,
    file::{
        FileSystem,
        error::translated,
        fair::FILES,
        kernel::{Bytes, Call, OrderBytes, Range},
    },
    sync::Mutex,
};
use rustix::{
    fs::{AtFlags, CWD, Mode as Permissions, OFlags},
    io::Errno,
};
use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The directory of this process.
static DIR: Mutex<Directory> = Mutex::new(Directory::Unchosen);

/// The files that were opened to look whether any host is in line.
static LOOK: Mutex<[Option<Arc<File>>; FILES]> = Mutex::new([const { None }; FILES]);

/// The name of a user's directory, before the number of the user.
const PREFIX: &str = "clasp-";

enum Directory {
    Unchosen,
    /// By the embedder; the path as it was given.
    Chosen(PathBuf, Arc<OwnedFd>),
    /// The user's default one.
    Default(Arc<OwnedFd>),
    /// There is none to be had.
    None,
}

pub(crate) fn choose_order_directory(path: &Path) -> Result<(), Error> {
    let mut directory = DIR.lock();
    if !matches!(*directory, Directory::Unchosen) {
        return Err(Error::new(
            ErrorKind::Unavailable,
            "the directory for the order of hosts was chosen before",
        ));
    }
    let opened = translated(open_directory(path, OFlags::empty()))?;
    *directory = Directory::Chosen(path.to_owned(), Arc::new(opened));
    Ok(())
}

/// Opens a directory whose locks are kept by this machine's kernel: a server, or a
/// user program, could make every host wait.
fn open_directory(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(CWD, path, flags, Permissions::empty())?;
    if file_system(&directory)? != FileSystem::Local {
        let why = format!(
            "{} is not on a local file system: the order of hosts needs one, such as tmpfs",
            path.display()
        );
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    Ok(directory)
}

/// The directory in use, which is the user's default one if none was chosen.
fn directory() -> io::Result<Arc<OwnedFd>> {
    let mut directory = DIR.lock();
    match &*directory {
        Directory::Chosen(_, opened) | Directory::Default(opened) => Ok(Arc::clone(opened)),
        Directory::None => Err(Errno::NOENT.into()),
        Directory::Unchosen => match default_directory() {
            Ok(opened) => {
                let opened = Arc::new(opened);
                *directory = Directory::Default(Arc::clone(&opened));
                Ok(opened)
            }
            Err(error) => {
                *directory = Directory::None;
                Err(error)
            }
        },
    }
}

/// The directory in use, opened again if it was removed: at logout, for example,
/// systemd-logind may remove all that a user has in `/dev/shm` (`RemoveIPC`).
fn refreshed_directory() -> io::Result<Arc<OwnedFd>> {
    let opened = directory()?;
    if rustix::fs::fstat(&opened)?.st_nlink > 0 {
        return Ok(opened);
    }
    let mut directory = DIR.lock();
    let fresh = match &*directory {
        Directory::Chosen(path, _) => {
            let fresh = Arc::new(open_directory(path, OFlags::empty())?);
            *directory = Directory::Chosen(path.clone(), Arc::clone(&fresh));
            fresh
        }
        _ => {
            let fresh = Arc::new(default_directory()?);
            *directory = Directory::Default(Arc::clone(&fresh));
            fresh
        }
    };
    Ok(fresh)
}

fn default_parent() -> &'static Path {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => memory,
        false => Path::new("/tmp"),
    }
}

/// A directory in memory that every process of this user finds, whatever its
/// environment, and no other user can write to.
fn default_directory() -> io::Result<OwnedFd> {
    let user = rustix::process::geteuid();
    let path = default_parent().join(format!("{PREFIX}{}", user.as_raw()));
    match rustix::fs::mkdir(&path, Permissions::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let directory = open_directory(&path, OFlags::NOFOLLOW)?;
    let found = rustix::fs::fstat(&directory)?;
    let others = Permissions::RWXG | Permissions::RWXO;
    if found.st_uid != user.as_raw() || Permissions::from_raw_mode(found.st_mode).intersects(others)
    {
        return Err(io::Error::other(format!(
            "{} is not a directory of this user alone; remove it",
            path.display()
        )));
    }
    Ok(directory)
}

/// Opens a file of the directory, and creates it if it is missing, for all who may
/// write to the directory.
fn open(directory: &OwnedFd, number: usize) -> io::Result<File> {
    let name = format!("order-{number:02x}");
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // Without `CREATE` first: in a sticky directory Linux refuses that for the file
    // of another user, though it exists (`fs.protected_regular`).
    match rustix::fs::openat(directory, &name, flags, Permissions::empty()) {
        Err(Errno::NOENT) => {}
        opened => return Ok(opened?.into()),
    }
    let flags = flags | OFlags::CREATE;
    let file = rustix::fs::openat(
        directory,
        &name,
        flags,
        Permissions::RUSR | Permissions::WUSR,
    )?;
    // As the directory permits, whatever the umask of the process that is first.
    let found = rustix::fs::fstat(directory)?;
    let permissions = Permissions::from_raw_mode(found.st_mode & 0o666);
    match rustix::fs::fchmod(&file, permissions) {
        // Another user's: created in between.
        Ok(()) | Err(Errno::PERM) => Ok(file.into()),
        Err(error) => Err(error.into()),
    }
}

/// The device and inode of an order file, in each directory that this process may know of:
/// the chosen one, or that of its user, and for root those of all users. Nothing is created.
pub(crate) fn order_file_numbers(number: usize) -> Vec<(u64, u64)> {
    let name = format!("order-{number:02x}");
    let directories = match &*DIR.lock() {
        Directory::Chosen(path, _) => vec![path.clone()],
        _ => default_directories(),
    };
    let numbers = directories.iter().filter_map(|directory| {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let found = rustix::fs::statat(CWD, directory.join(&name), flags).ok()?;
        Some((found.st_dev, found.st_ino))
    });
    numbers.collect()
}

/// That of this user, and for root those of all users.
fn default_directories() -> Vec<PathBuf> {
    let (parent, user) = (default_parent(), rustix::process::geteuid());
    let own = parent.join(format!("{PREFIX}{}", user.as_raw()));
    let mut directories = vec![own];
    if user.is_root() {
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
        let is_a_users = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str());
            let number = name.and_then(|name| name.strip_prefix(PREFIX));
            number.is_some_and(|number| number.parse::<u32>().is_ok())
        };
        let others = entries.map(|entry| entry.path()).filter(is_a_users);
        directories.extend(
            others
                .filter(|path| *path != directories[0])
                .collect::<Vec<_>>(),
        );
    }
    directories
}

/// The file for a look, which all lock files of the process share.
fn look(number: usize) -> io::Result<Arc<File>> {
    if let Some(file) = &LOOK.lock()[number] {
        return Ok(Arc::clone(file));
    }
    let file = Arc::new(open(&*directory()?, number)?);
    LOOK.lock()[number] = Some(Arc::clone(&file));
    Ok(file)
}

/// The order file with a number, as one lock file uses it.
pub(crate) struct OrderFile {
    number: usize,
    files: Mutex<Files>,
}

struct Files {
    /// Shared with other lock files, until this one has a ticket for the first
    /// time: a description does not see its own tickets.
    file: Arc<File>,
    own: bool,
    cache: Arc<DescriptorCache>,
}

/// Opens the order file with a number. `None` if there is no order to be had, of
/// which the log tells.
pub(crate) fn order_file(number: usize) -> Option<Box<dyn OrderBytes>> {
    // Without a signal a wait could not be ended, and would keep others waiting.
    wake::is_possible().then_some(())?;
    match look(number) {
        Ok(file) => Some(Box::new(OrderFile {
            number,
            files: Mutex::new(Files {
                file,
                own: false,
                cache: Arc::default(),
            }),
        })),
        Err(error) => {
            tracing::warn!(target: "clasp::order", %error, "no order between hosts");
            None
        }
    }
}

impl OrderFile {
    fn file(&self) -> Arc<File> {
        Arc::clone(&self.files.lock().file)
    }
}

impl Bytes for OrderFile {
    fn conflict(&self, range: Range, mode: Mode) -> Result<Option<Range>, Error> {
        let found = translated(conflict(self.file(), range, mode).map_err(Into::into))?;
        Ok(found.map(|(range, _)| range))
    }

    fn lock(&self, range: Range, mode: Mode) -> Result<bool, Error> {
        match lock_range(self.file(), range, mode, false) {
            Ok(()) => Ok(true),
            Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
            Err(error) => translated(Err(error.into())),
        }
    }

    fn unlock(&self, range: Range) -> Result<(), Error> {
        translated(unlock_range(self.file(), range).map_err(Into::into))
    }

    fn wait(&self, range: Range, mode: Mode) -> Result<Arc<dyn Call>, Error> {
        let files = self.files.lock();
        let call = InterruptibleCall::new(&files.file, &files.cache, move |file| {
            lock_range(file, range, mode, true)
        });
        Ok(Arc::new(translated(call)?))
    }
}

impl OrderBytes for OrderFile {
    fn refresh(&self, own: bool) -> Result<bool, Error> {
        let refreshed = || -> io::Result<bool> {
            let (current, is_own) = {
                let files = self.files.lock();
                (Arc::clone(&files.file), files.own)
            };
            let removed = rustix::fs::fstat(&current)?.st_nlink == 0;
            if !removed && (is_own || !own) {
                return Ok(false);
            }
            let directory = if removed {
                refreshed_directory()?
            } else {
                directory()?
            };
            let file = Arc::new(open(&directory, self.number)?);
            if removed {
                // The others look at the new one as well.
                LOOK.lock()[self.number] = Some(Arc::new(open(&directory, self.number)?));
            }
            *self.files.lock() = Files {
                file,
                own: true,
                cache: Arc::default(),
            };
            Ok(removed)
        };
        translated(refreshed())
    }

    fn clock(&self) -> u64 {
        let mut now = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: `now` is valid for writes; Linux has had this clock since 2.6.39.
        unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
        now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000
    }
}
