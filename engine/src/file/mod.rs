//! Locks on the files of a directory, taken as the operating system's own.

mod error;
pub(crate) mod fair;
mod family;
pub(crate) mod kernel;
mod order;
mod ranges;
pub(crate) mod resource;
pub(crate) mod semaphore;
pub(crate) mod sys;
#[allow(dead_code, reason = "a system without locks touches nothing")]
mod times;
mod waiter;

pub use family::Family;
pub use order::{Order, WaitingLine, waiting_lines};
pub use sys::{set_order_directory, set_wake_signal};

use crate::sync::Mutex;
use crate::{
    Error, ErrorKind, LockName,
    backend::{Access, Creation, Identity, Opened, OpenedRanges, Resource, Space},
};
use cap_std::fs::{Dir, File, Metadata, OpenOptions};
use error::{translate, translated};
use fair::Line;
use ranges::FileRanges;
use resource::LockFile;
use semaphore::SemaphoreFile;
use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// How far a file system's answers can be relied on.
#[allow(dead_code, reason = "not every operating system has each")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileSystem {
    /// Local: inode numbers identify files, the kernel keeps the locks.
    Local,
    /// Local, but inode numbers do not identify files.
    Foreign,
    /// A program of this machine serves it (FUSE): inode numbers are its own,
    /// and any request may hang with it.
    User,
    /// A server keeps the locks, or the type is not known.
    Network,
}

/// A file that was opened to be locked.
struct Found {
    file: std::fs::File,
    access: Access,
    kind: FileSystem,
    numbers: sys::Numbers,
}

/// A directory whose files are locks.
///
/// Lock files are created on demand, with mode `0666` less the umask unless
/// [`creation_mode`](FileSpace::creation_mode) says otherwise. Their contents are
/// never written or truncated, and they are never removed. Names are resolved by `cap-std`,
/// which keeps them below the directory, symlinks included.
///
/// A clone refers to the same directory and has its own options.
#[derive(Debug, Clone)]
pub struct FileSpace {
    dir: Arc<Dir>,
    family: Family,
    order: Order,
    create: bool,
    network: bool,
    directories: bool,
    write: bool,
    mode: u32,
    /// Tells files of different spaces apart where inode numbers do not.
    number: u64,
    /// The devices seen by `open`. A device that it has not seen cannot be
    /// that of an open lock.
    devices: Arc<Mutex<HashMap<u64, FileSystem>>>,
}

impl FileSpace {
    /// The files below `dir`: the default family and order of the operating
    /// system, created on demand, not on network file systems.
    pub fn new(dir: Dir) -> FileSpace {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        FileSpace {
            dir: Arc::new(dir),
            family: Family::default(),
            order: Order::default(),
            create: true,
            network: false,
            directories: false,
            write: true,
            mode: 0o666,
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            devices: Arc::default(),
        }
    }

    /// Which family of locks carries the exclusion.
    pub fn family(mut self, family: Family) -> FileSpace {
        self.family = family;
        self
    }

    /// In which order hosts get a lock. If this host opens a file through
    /// grants with different orders, the order of the first grant applies.
    pub fn order(mut self, order: Order) -> FileSpace {
        self.order = order;
        self
    }

    /// Whether missing lock files may be created. A [grant](crate::Grant) of shared
    /// locks only creates none in any case.
    pub fn create(mut self, create: bool) -> FileSpace {
        self.create = create;
        self
    }

    /// Whether lock files may lie on a network file system, or on one that is not
    /// known to be local, where any request may hang, `flock` may be `fcntl`
    /// underneath, and a server decides.
    ///
    /// Waits for such a lock run on helper threads, so a timeout is reported even
    /// if the file system hangs. But the name of the lock is looked up on the
    /// calling thread, which hangs for as long as the file system does not answer.
    /// Other locks are not affected.
    pub fn network(mut self, network: bool) -> FileSpace {
        self.network = network;
        self
    }

    /// Whether directories can be locked, as users of flock(1) do. Only the family
    /// `flock` supports this. A guest of `clasp-host` never can (S12).
    pub fn directories(mut self, directories: bool) -> FileSpace {
        self.directories = directories;
        self
    }

    /// Whether files that exist are opened for writing, if that is permitted; the default
    /// is yes. Without, the family `flock` takes any lock, and the others shared locks
    /// only. Linux does not execute a program whose file is open for writing.
    pub fn write(mut self, write: bool) -> FileSpace {
        self.write = write;
        self
    }

    /// The permissions of lock files that are created, less the umask: `0o666`
    /// unless set. They have no meaning on Windows.
    ///
    /// Every user who may open a lock file, even only for reading, can hold its
    /// lock for any time. If you do not trust all users of the machine with
    /// this, set `0o600`, or `0o660` for a group.
    pub fn creation_mode(mut self, mode: u32) -> FileSpace {
        self.mode = mode;
        self
    }

    /// By which name this directory leads to a file that is open, and what the file is. The
    /// name is that of now: another process may give it to another file at any time.
    ///
    /// # Errors
    /// [`NoEntry`](ErrorKind::NoEntry) if the file was removed;
    /// [`NotPermitted`](ErrorKind::NotPermitted) if it does not lie below this directory;
    /// [`InvalidName`](ErrorKind::InvalidName) for one that is no name of a lock;
    /// [`Unsupported`](ErrorKind::Unsupported) where the operating system does not tell, as on
    /// Windows; and [`Io`](ErrorKind::Io).
    pub fn name_of(&self, file: &std::fs::File) -> Result<(String, Identity), Error> {
        // Paths first: the system tells them without asking the file system, which may hang.
        let directory = translated(sys::path_of(&*self.dir))?;
        let path = translated(sys::path_of(file))?;
        let below = path.strip_prefix(&directory).map_err(|_| {
            let why = "the file does not lie below the directory";
            Error::new(ErrorKind::NotPermitted, why)
        })?;
        let below = below.to_str().ok_or(ErrorKind::InvalidName)?;
        let name = LockName::parse(below, usize::MAX)?;
        let metadata = translated(Metadata::from_file(file))?;
        if !translated(sys::is_linked(file))? {
            return Err(ErrorKind::NoEntry.into());
        }
        let numbers = translated(sys::numbers(file, &metadata))?;
        let kind = translated(sys::file_system(file))?;
        let identity = self.identity(numbers, kind, &name);
        Ok((below.to_owned(), identity))
    }

    /// The space for a [`Grant`](crate::Grant).
    pub fn into_space(self) -> Arc<dyn Space> {
        Arc::new(self)
    }

    /// Opens the file for as much of `access` as the file system permits.
    fn open_file(
        &self,
        name: &LockName,
        access: Access,
        creation: &mut Creation,
    ) -> Result<(File, Access), Error> {
        if access == Access::Any {
            let (options, access) = match self.write {
                true => (writable(), Access::Any),
                false => (readable(), Access::Shared),
            };
            match self.dir.open_with(name.as_path(), &options) {
                Ok(file) => return Ok((file, access)),
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.create => {
                    creation.check()?;
                    self.check_parent(name)?;
                    return Ok((translated(self.create_file(name, creation))?, Access::Any));
                }
                // A file that may only be read can still be locked shared, and a
                // directory is opened for reading in any case.
                Err(error) if sys::is_read_only(&error) => {}
                Err(error) if self.directories && error.kind() == io::ErrorKind::IsADirectory => {}
                Err(error) => return Err(translate(&error)),
            }
        }
        let file = self.dir.open_with(name.as_path(), &readable());
        Ok((translated(file)?, Access::Shared))
    }

    /// Nothing is to be created where it will be refused: the directory of the file
    /// may be on another file system than the granted one.
    fn check_parent(&self, name: &LockName) -> Result<(), Error> {
        let parent = name.as_path().parent();
        if let Some(parent) = parent.filter(|parent| !parent.as_os_str().is_empty()) {
            let parent = translated(self.dir.open_dir(parent))?;
            self.check_network(sys::file_system(&parent), name)?;
        }
        Ok(())
    }

    /// Creates the file, or opens it if it is there by now. It was missing a moment
    /// ago: Linux refuses `O_CREAT` for a file of another user in a sticky directory,
    /// though the file exists (`fs.protected_regular`).
    fn create_file(&self, name: &LockName, creation: &mut Creation) -> io::Result<File> {
        let mut options = writable();
        sys::set_creation_mode(&mut options, self.mode);
        match self.dir.open_with(name.as_path(), options.create_new(true)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(file) => {
                creation.done();
                return Ok(file);
            }
        }
        match self.dir.open_with(name.as_path(), &writable()) {
            // A symlink that leads to nothing yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let options = options.create_new(false).create(true);
                let file = self.dir.open_with(name.as_path(), options)?;
                creation.done();
                Ok(file)
            }
            opened => opened,
        }
    }

    /// Opens the file that a name leads to, after all that is to be checked.
    fn find(
        &self,
        name: &LockName,
        access: Access,
        creation: &mut Creation,
    ) -> Result<Found, Error> {
        sys::check_name(name)?;
        // Opening a device can have effects of its own, so look first. The
        // check that counts comes after.
        match self.dir.metadata(name.as_path()) {
            Ok(found) if !self.can_be_locked(&found) => return Err(not_a_file(&found, name)),
            _ => {}
        }
        self.check_network(sys::file_system(&*self.dir), name)?;
        let (file, access) = self.open_file(name, access, creation)?;
        let metadata = translated(file.metadata())?;
        if !self.can_be_locked(&metadata) {
            return Err(not_a_file(&metadata, name));
        }
        let file = file.into_std();
        let kind = self.check_network(sys::file_system(&file), name)?;
        let numbers = translated(sys::numbers(&file, &metadata))?;
        self.devices.lock().insert(numbers.0, kind);
        Ok(Found {
            file,
            access,
            kind,
            numbers,
        })
    }

    /// Locks on ranges are requested on the thread of the call, which must not hang.
    fn check_local(&self, kind: io::Result<FileSystem>, name: &LockName) -> Result<(), Error> {
        match translated(kind)? {
            FileSystem::Local | FileSystem::Foreign => Ok(()),
            FileSystem::User | FileSystem::Network => Err(Error::new(
                ErrorKind::Unsupported,
                format!("{name:?} is not on a local file system: there are no locks on its bytes"),
            )),
        }
    }

    fn can_be_locked(&self, found: &Metadata) -> bool {
        let directory = self.directories && self.family == Family::Flock && found.is_dir();
        found.is_file() || directory
    }

    fn check_network(
        &self,
        kind: io::Result<FileSystem>,
        name: &LockName,
    ) -> Result<FileSystem, Error> {
        let kind = translated(kind)?;
        if kind == FileSystem::Network && !self.network {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "{name:?} is on a network file system, or on one of an unknown type, where \
                     a request may hang; the grant must opt in"
                ),
            ));
        }
        Ok(kind)
    }

    /// Wrongly split identities are safe, wrongly merged ones are not: where
    /// inode numbers cannot be trusted, the name joins them (S3).
    fn identity(&self, numbers: sys::Numbers, kind: FileSystem, name: &LockName) -> Identity {
        let (device, inode) = numbers;
        let path =
            (!is_identified(numbers, kind)).then(|| format!("{}:{name}", self.number).into());
        Identity::File {
            device,
            inode,
            path,
        }
    }
}

/// Whether a file's numbers tell it from all others. Some programs that serve
/// file systems number all files alike.
fn is_identified((_, inode): sys::Numbers, kind: FileSystem) -> bool {
    kind == FileSystem::Local && ![0, u64::MAX.into(), u128::MAX].contains(&inode)
}

/// The line of the hosts that wait for a file, if there is one to be had.
fn line(device: u64, inode: u128) -> Option<Line> {
    let (number, region) = fair::region(device, inode);
    Some(Line::new(sys::order_file(number)?, region))
}

/// Options to open a file for shared requests, and for all of the family `flock`.
fn readable() -> OpenOptions {
    let mut options = open_options();
    options.read(true);
    options
}

/// Options to open a file for any request.
fn writable() -> OpenOptions {
    let mut options = open_options();
    options.read(true).write(true);
    options
}

/// Options under which no open waits or acquires a terminal, whatever the name
/// leads to.
fn open_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    sys::prepare(&mut options);
    options
}

impl Space for FileSpace {
    fn open(
        &self,
        name: &LockName,
        access: Access,
        creation: &mut Creation,
    ) -> Result<Opened, Error> {
        self.family.check()?;
        self.order.check()?;
        let Found {
            file,
            access,
            kind,
            numbers,
        } = self.find(name, access, creation)?;
        let (device, inode) = numbers;
        let native = sys::NativeFile::new(file, self.family, kind);
        let access = match self.family.writes() {
            true => access,
            false => Access::Any,
        };
        let resource: Arc<dyn Resource> = match kind {
            FileSystem::User | FileSystem::Network => Arc::new(LockFile::may_hang(native, access)),
            FileSystem::Local | FileSystem::Foreign => {
                // Only what identifies the file finds its tickets.
                let fair = self.order == Order::Fair && is_identified(numbers, kind);
                let line = fair.then(|| line(device, inode)).flatten();
                Arc::new(LockFile::new(native, line, access))
            }
        };
        Ok(Opened {
            identity: self.identity(numbers, kind, name),
            family: self.family.name(),
            resource,
        })
    }

    /// Always with the locks of `fcntl`, whatever the family: `flock` has one for each file.
    fn open_semaphore(
        &self,
        name: &LockName,
        permits: u8,
        creation: &mut Creation,
    ) -> Result<Opened, Error> {
        // Before anything is created.
        self.order.check()?;
        if !sys::HAS_RANGES {
            let why = "this operating system has no locks for semaphores on files";
            return Err(Error::new(ErrorKind::Unsupported, why));
        }
        self.check_local(sys::file_system(&*self.dir), name)?;
        let found = self.find(name, Access::Any, creation)?;
        self.check_local(Ok(found.kind), name)?;
        if found.access != Access::Any {
            let why = "the file could be opened for reading only: a semaphore needs permission \
                       to write";
            return Err(Error::new(ErrorKind::Access, why));
        }
        let (device, inode) = found.numbers;
        let fair = self.order == Order::Fair && is_identified(found.numbers, found.kind);
        let line = fair.then(|| line(device, inode)).flatten();
        let file = sys::NativeRanges::new(found.file);
        Ok(Opened {
            identity: self.identity(found.numbers, found.kind, name),
            family: "semaphore",
            resource: Arc::new(SemaphoreFile::new(file, line, permits)),
        })
    }

    fn open_ranges(
        &self,
        name: &LockName,
        access: Access,
        creation: &mut Creation,
    ) -> Result<OpenedRanges, Error> {
        // Before anything is created.
        if !sys::HAS_RANGES {
            let why = "this operating system has no locks on ranges that `fcntl` would respect";
            return Err(Error::new(ErrorKind::Unsupported, why));
        }
        self.check_local(sys::file_system(&*self.dir), name)?;
        let found = self.find(name, access, creation)?;
        self.check_local(Ok(found.kind), name)?;
        let ranges = sys::NativeRanges::new(found.file);
        Ok(OpenedRanges {
            identity: self.identity(found.numbers, found.kind, name),
            families: sys::FAMILIES_OF_RANGES,
            resource: Arc::new(FileRanges::new(ranges, found.access)),
        })
    }

    fn identify(&self, name: &LockName) -> Result<Option<Identity>, Error> {
        match sys::look_up(&self.dir, name.as_path()) {
            Ok((device, inode)) => {
                let seen = self.devices.lock().get(&device).copied();
                let kind = seen.unwrap_or(FileSystem::Local);
                Ok(Some(self.identity((device, inode), kind, name)))
            }
            Err(error) => match translate(&error) {
                error if leads_nowhere(error.kind()) => Ok(None),
                error => Err(error),
            },
        }
    }
}

/// Whether an error says that a name leads to nothing that could be locked,
/// rather than that it cannot be told.
fn leads_nowhere(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::NoEntry
            | ErrorKind::NotPermitted
            | ErrorKind::IsDirectory
            | ErrorKind::NotAFile
            | ErrorKind::InvalidName
    )
}

fn not_a_file(found: &Metadata, name: &LockName) -> Error {
    let (kind, what) = match found.is_dir() {
        true => (ErrorKind::IsDirectory, "a directory"),
        false => (ErrorKind::NotAFile, "something that is not a regular file"),
    };
    Error::new(kind, format!("{name:?} leads to {what}"))
}
