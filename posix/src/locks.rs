//! The locks of this program, by its descriptors.

use crate::{
    errno::Errno,
    paths::{self, Paths},
    request::{Belongs, Mode},
};
use clasp_guest::bindings::{
    flock, lockspace_of,
    ranges::{LockedRange, RangeOwner},
    types::{self, ErrorCode, Guard, Lock},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

/// What tells a file from others, as this program sees it.
pub(crate) type FileId = (u64, u64);

/// What the locks need to ask of WASI.
pub(crate) trait Wasi {
    /// Of the file that a descriptor has open.
    fn of_descriptor(&self, fd: i32) -> Result<FileId, Errno>;

    /// Of the file that a path leads to.
    fn of_path(&self, path: &str) -> Result<FileId, Errno>;

    /// Whether a descriptor is open for reading and for writing.
    fn access(&self, fd: i32) -> Result<(bool, bool), Errno>;
}

#[derive(Default)]
struct Table {
    paths: Paths,
    /// The descriptors by which something was locked.
    used: HashMap<i32, Used>,
    /// The files on which this process has or had locks that belong to it.
    of_process: HashMap<FileId, Weak<RangeOwner>>,
}

/// A descriptor by which something was locked.
struct Used {
    readable: bool,
    writable: bool,
    /// The locks of the process on its file.
    process: Option<Arc<RangeOwner>>,
    /// The locks of its open file description.
    description: Option<RangeOwner>,
    flock: Option<Flock>,
}

struct Flock {
    lock: Lock,
    /// By which it was opened.
    path: Option<String>,
    guard: Option<(Guard, Mode)>,
}

static TABLE: Mutex<Option<Table>> = Mutex::new(None);

fn table() -> MutexGuard<'static, Option<Table>> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file or directory was opened by a path.
pub(crate) fn opened(fd: i32, directory: i32, of_preopen: Option<String>, path: &str) {
    let mut table = table();
    let table = table.get_or_insert_default();
    if let Some(path) = table.path(directory, of_preopen, path) {
        table.paths.insert(fd, path);
    }
}

/// Whether a descriptor was opened by a path; otherwise it is one that the program was
/// started with.
pub(crate) fn is_known(fd: i32) -> bool {
    table()
        .as_ref()
        .is_some_and(|table| table.paths.get(fd).is_some())
}

/// A descriptor was closed.
pub(crate) fn closed(fd: i32) {
    if let Some(table) = &mut *table() {
        table.paths.remove(fd);
        table.close(fd);
    }
}

/// A descriptor got another number, whose former file is closed.
pub(crate) fn renumbered(from: i32, to: i32) {
    if from != to
        && let Some(table) = &mut *table()
    {
        table.close(to);
        table.paths.renumber(from, to);
        if let Some(used) = table.used.remove(&from) {
            table.used.insert(to, used);
        }
    }
}

/// A path, with the directory that it is relative to and the path of this directory, if the
/// program was started with it.
pub(crate) struct Place<'a>(
    pub(crate) i32,
    pub(crate) Option<String>,
    pub(crate) &'a str,
);

/// A file or directory was given another path.
pub(crate) fn renamed(from: Place<'_>, to: Place<'_>) {
    if let Some(table) = &mut *table()
        && let Some(from) = table.path(from.0, from.1, from.2)
        && let Some(to) = table.path(to.0, to.1, to.2)
    {
        table.paths.rename(&from, &to);
    }
}

/// Locks bytes, or releases them.
pub(crate) fn set(
    wasi: &dyn Wasi,
    fd: i32,
    belongs: Belongs,
    mode: Option<Mode>,
    (start, len): (u64, u64),
    wait: bool,
) -> Result<(), Errno> {
    let mut table = table();
    let table = table.get_or_insert_default();
    let used = table.used(wasi, fd)?;
    let open_for_it = match mode {
        Some(Mode::Shared) => used.readable,
        Some(Mode::Exclusive) => used.writable,
        None => true,
    };
    if !open_for_it {
        return Err(Errno(libc::EBADF));
    }
    if mode.is_none() && !table.holds(wasi, fd, belongs)? {
        return Ok(());
    }
    let owner = table.owner(wasi, fd, belongs)?;
    let Some(mode) = mode else {
        return Ok(owner.unlock(start, len)?);
    };
    if wait {
        return Ok(owner.set(mode.into(), start, len, None)?);
    }
    match owner.try_set(mode.into(), start, len)? {
        true => Ok(()),
        false => Err(Errno(libc::EAGAIN)),
    }
}

/// A lock in the way of a request, if there is one.
pub(crate) fn test(
    wasi: &dyn Wasi,
    fd: i32,
    belongs: Belongs,
    mode: Mode,
    (start, len): (u64, u64),
) -> Result<Option<LockedRange>, Errno> {
    let mut table = table();
    let table = table.get_or_insert_default();
    table.used(wasi, fd)?;
    let owner = table.owner(wasi, fd, belongs)?;
    Ok(owner.test(mode.into(), start, len)?)
}

/// Locks a file as a whole, or releases it.
///
/// A lock of the interface follows its name to another file, and creates it; this one stays with
/// the file that is open. So the name has to lead there before and after.
pub(crate) fn flock(wasi: &dyn Wasi, fd: i32, mode: Option<Mode>, wait: bool) -> Result<(), Errno> {
    let mut table = table();
    let table = table.get_or_insert_default();
    let Some(mode) = mode else {
        if let Some(flock) = &mut table.used(wasi, fd)?.flock {
            flock.guard = None;
        }
        return Ok(());
    };
    let path = table.paths.get(fd).map(str::to_owned);
    let used = table.used(wasi, fd)?;
    if let Some(flock) = &mut used.flock {
        if let Some((guard, held)) = &flock.guard
            && *held == mode
        {
            return match guard.check() {
                // `replaced` is no loss: the file that is open is locked.
                Ok(()) | Err(ErrorCode::Replaced) => Ok(()),
                Err(error) => Err(error.into()),
            };
        }
        // As the kernel does, which converts by releasing one lock and taking the other.
        flock.guard = None;
        if flock.path != path {
            used.flock = None;
        }
    }
    let taken = table.take_flock(wasi, fd, mode, wait, path);
    if !matches!(taken, Ok(()) | Err(Errno(libc::EAGAIN))) {
        // It may have followed the name to another file.
        table.used(wasi, fd)?.flock = None;
    }
    match taken {
        // Another may have locked the file that is open. Programs that remove their lock file
        // open it anew and try again.
        Err(Errno(libc::ESTALE)) if !wait && table.is_replaced(wasi, fd)? => {
            Err(Errno(libc::EAGAIN))
        }
        taken => taken,
    }
}

/// An error unless a path leads to this file.
fn check(wasi: &dyn Wasi, file: FileId, path: Option<&str>) -> Result<(), Errno> {
    // A descriptor without a path is one such as standard output, or a pipe.
    match wasi.of_path(path.ok_or(Errno(libc::ENOTSUP))?) {
        Ok(found) if found == file => Ok(()),
        _ => Err(Errno(libc::ESTALE)),
    }
}

impl From<Mode> for types::Mode {
    fn from(mode: Mode) -> types::Mode {
        match mode {
            Mode::Shared => types::Mode::Shared,
            Mode::Exclusive => types::Mode::Exclusive,
        }
    }
}

impl Table {
    fn path(&self, directory: i32, of_preopen: Option<String>, path: &str) -> Option<String> {
        let directory = match of_preopen {
            Some(directory) => directory,
            None => self.paths.get(directory)?.to_owned(),
        };
        Some(paths::join(&directory, path))
    }

    /// Whether the path of a descriptor leads to another file by now, or to none.
    fn is_replaced(&self, wasi: &dyn Wasi, fd: i32) -> Result<bool, Errno> {
        let Some(path) = self.paths.get(fd) else {
            return Ok(false);
        };
        let file = wasi.of_descriptor(fd)?;
        Ok(match wasi.of_path(path) {
            Ok(found) => found != file,
            Err(Errno(error)) => error == libc::ENOENT,
        })
    }

    fn close(&mut self, fd: i32) {
        let Some(used) = self.used.remove(&fd) else {
            return;
        };
        // POSIX: closing a descriptor of a file releases all locks that the process has on it.
        if let Some(process) = used.process {
            let _ = process.unlock(0, 0);
        }
        self.of_process.retain(|_, owner| owner.strong_count() > 0);
    }

    fn used(&mut self, wasi: &dyn Wasi, fd: i32) -> Result<&mut Used, Errno> {
        if !self.used.contains_key(&fd) {
            let (readable, writable) = wasi.access(fd)?;
            let used = Used {
                readable,
                writable,
                process: None,
                description: None,
                flock: None,
            };
            self.used.insert(fd, used);
        }
        self.used.get_mut(&fd).ok_or(Errno(libc::EBADF))
    }

    /// Whether something may be locked by this descriptor. A lock of the process may have
    /// been taken by another one.
    fn holds(&mut self, wasi: &dyn Wasi, fd: i32, belongs: Belongs) -> Result<bool, Errno> {
        let used = self.used(wasi, fd)?;
        Ok(match belongs {
            Belongs::Process => {
                used.process.is_some() || self.of_process.contains_key(&wasi.of_descriptor(fd)?)
            }
            Belongs::Description => used.description.is_some(),
        })
    }

    /// What holds the locks of a descriptor; opened when it is needed first.
    fn owner(&mut self, wasi: &dyn Wasi, fd: i32, belongs: Belongs) -> Result<&RangeOwner, Errno> {
        let used = self.used(wasi, fd)?;
        match belongs {
            Belongs::Process if used.process.is_none() => {
                let file = wasi.of_descriptor(fd)?;
                let known = self.of_process.get(&file).and_then(Weak::upgrade);
                let owner = match known {
                    Some(owner) => owner,
                    None => Arc::new(self.open(wasi, fd, RangeOwner::open)?),
                };
                self.of_process.insert(file, Arc::downgrade(&owner));
                self.used(wasi, fd)?.process = Some(owner);
            }
            Belongs::Description if used.description.is_none() => {
                let owner = self.open(wasi, fd, RangeOwner::open)?;
                self.used(wasi, fd)?.description = Some(owner);
            }
            _ => {}
        }
        let used = self.used(wasi, fd)?;
        let owner = match belongs {
            Belongs::Process => used.process.as_deref(),
            Belongs::Description => used.description.as_ref(),
        };
        owner.ok_or(Errno(libc::EIO))
    }

    fn take_flock(
        &mut self,
        wasi: &dyn Wasi,
        fd: i32,
        mode: Mode,
        wait: bool,
        path: Option<String>,
    ) -> Result<(), Errno> {
        let file = wasi.of_descriptor(fd)?;
        if self.used(wasi, fd)?.flock.is_none() {
            let lock = self.open(wasi, fd, |space, name| flock::open(space, name))?;
            let path = path.clone();
            self.used(wasi, fd)?.flock = Some(Flock {
                lock,
                path,
                guard: None,
            });
        }
        let flock = self.used(wasi, fd)?.flock.as_mut();
        let flock = flock.ok_or(Errno(libc::EIO))?;
        check(wasi, file, path.as_deref())?;
        let guard = match wait {
            true => flock.lock.acquire(mode.into(), None)?,
            false => {
                let guard = flock.lock.try_acquire(mode.into())?;
                guard.ok_or(Errno(libc::EAGAIN))?
            }
        };
        guard.check()?;
        check(wasi, file, path.as_deref())?;
        flock.guard = Some((guard, mode));
        Ok(())
    }

    /// Opens a lock on the file of a descriptor by its path, if the path leads to this file
    /// before and after.
    fn open<T>(
        &self,
        wasi: &dyn Wasi,
        fd: i32,
        open: impl FnOnce(&types::Lockspace, &str) -> Result<T, types::ErrorCode>,
    ) -> Result<T, Errno> {
        let file = wasi.of_descriptor(fd)?;
        let path = self.paths.get(fd);
        check(wasi, file, path)?;
        let path = path.ok_or(Errno(libc::ENOTSUP))?;
        let (space, name) = lockspace_of(path).ok_or(Errno(libc::ENOTSUP))?;
        let opened = open(space, &name)?;
        check(wasi, file, Some(path))?;
        Ok(opened)
    }
}
