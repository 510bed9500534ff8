//! The reference back end: locks in memory, with the rules of open file
//! descriptions.
//!
//! Managers that use spaces of one [`Memory`] exclude each other as processes
//! on one machine do. Its kernel has what makes the real one dangerous: a
//! description does not conflict with itself, and unlocking drops all it holds.

use super::{TestLine, permits::Semaphores};
use crate::{
    Error, ErrorKind, LockName, Mode,
    backend::{
        Access, Cancel, Caps, Creation, Identity, Op, OpId, Opened, Resource, Sink, Space, Started,
    },
    file::{
        fair::{self, Line},
        kernel::{Bytes, Call, Done, Kernel, OrderBytes, Range, Waited},
        resource::LockFile,
    },
    sync::{Condvar, Mutex, thread},
};
use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

/// A file system of locks in memory. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Memory(Arc<World>);

#[derive(Debug)]
struct World {
    realm: u64,
    fair: bool,
    threadless: bool,
    files: Mutex<Files>,
    changed: Condvar,
    semaphores: Arc<Semaphores>,
}

#[derive(Debug, Default)]
struct Files {
    names: HashMap<String, u64>,
    /// Which descriptions hold each file, and with which epoch.
    holders: HashMap<u64, HashMap<u64, (Mode, u64)>>,
    /// Where the loss of a description's lock is reported.
    sinks: HashMap<u64, Weak<dyn Sink>>,
    /// Locked bytes of each order file: first, last, description, mode.
    bytes: HashMap<usize, Vec<Segment>>,
    /// When each file was last touched.
    touched: HashMap<u64, SystemTime>,
    token: u64,
    next: u64,
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    first: i64,
    last: i64,
    description: u64,
    mode: Mode,
}

impl Segment {
    fn overlaps(&self, first: i64, last: i64) -> bool {
        self.first <= last && first <= self.last
    }
}

fn ends(range: Range) -> (i64, i64) {
    match range.len {
        0 => (range.start, i64::MAX),
        len => (range.start, range.start + (len - 1)),
    }
}

impl Files {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Takes or converts the lock of a description; a description does not
    /// conflict with itself.
    fn lock(&mut self, file: u64, description: u64, mode: Mode) -> bool {
        let epoch = self.number();
        let holders = self.holders.entry(file).or_default();
        let conflict = holders
            .iter()
            .any(|(other, (held, _))| *other != description && held.conflicts(mode));
        if !conflict {
            let held = holders.entry(description).or_insert((mode, epoch));
            held.0 = mode;
        }
        !conflict
    }

    fn conflict(&self, file: usize, description: u64, range: Range, mode: Mode) -> Option<Range> {
        let (first, last) = ends(range);
        let found = self.bytes.get(&file)?.iter().find(|held| {
            held.description != description
                && held.mode.conflicts(mode)
                && held.overlaps(first, last)
        })?;
        Some(Range {
            start: found.first,
            len: found.last - found.first + 1,
        })
    }

    fn unlock_bytes(&mut self, file: usize, description: u64, range: Range) {
        let (first, last) = ends(range);
        let held = self.bytes.entry(file).or_default();
        let mut kept = Vec::new();
        for segment in held.drain(..) {
            if segment.description != description || !segment.overlaps(first, last) {
                kept.push(segment);
                continue;
            }
            if segment.first < first {
                let last = first - 1;
                kept.push(Segment { last, ..segment });
            }
            if segment.last > last {
                let first = last + 1;
                kept.push(Segment { first, ..segment });
            }
        }
        *held = kept;
    }

    fn lock_bytes(&mut self, file: usize, description: u64, range: Range, mode: Mode) -> bool {
        if self.conflict(file, description, range, mode).is_some() {
            return false;
        }
        self.unlock_bytes(file, description, range);
        let (mut first, mut last) = ends(range);
        let held = self.bytes.entry(file).or_default();
        // Adjacent locks become one, as in the kernel.
        held.retain(|segment| {
            let own = segment.description == description && segment.mode == mode;
            let before = own && segment.last.checked_add(1) == Some(first);
            let after = own && last.checked_add(1) == Some(segment.first);
            if before {
                first = segment.first;
            }
            if after {
                last = segment.last;
            }
            !before && !after
        });
        held.push(Segment {
            first,
            last,
            description,
            mode,
        });
        true
    }
}

impl Memory {
    /// An empty one, whose hosts have no order.
    pub fn new() -> Memory {
        Memory::with(false, false)
    }

    /// An empty one, whose hosts draw tickets.
    pub fn fair() -> Memory {
        Memory::with(true, false)
    }

    /// An empty one that needs no threads of the engine for its waits.
    pub fn threadless() -> Memory {
        Memory::with(false, true)
    }

    fn with(fair: bool, threadless: bool) -> Memory {
        static REALMS: AtomicU64 = AtomicU64::new(0);
        Memory(Arc::new(World {
            realm: REALMS.fetch_add(1, Ordering::Relaxed),
            fair,
            threadless,
            files: Mutex::default(),
            changed: Condvar::default(),
            semaphores: Semaphores::new(fair, threadless),
        }))
    }

    /// Its one directory.
    pub fn space(&self) -> Arc<dyn Space> {
        Arc::new(self.clone())
    }

    /// Removes a name. Locks on the file it led to live on without one.
    pub fn unlink(&self, name: &str) {
        let file = self.0.files.lock().names.remove(name);
        if let Some(file) = file {
            self.0.semaphores.unlink(file);
        }
    }

    /// Takes a lock away from all that hold it, as a server does when a lease
    /// runs out.
    pub fn lose(&self, name: &str) {
        let lost: Vec<_> = {
            let mut files = self.0.files.lock();
            let file = files.names.get(name).copied();
            let holders = file.and_then(|file| files.holders.remove(&file));
            let holders = holders.unwrap_or_default().into_iter();
            let permits = file.map(|file| self.0.semaphores.lose(file));
            let locks = holders.filter_map(|(description, (_, epoch))| {
                Some((files.sinks.get(&description)?.clone(), epoch))
            });
            locks.chain(permits.into_iter().flatten()).collect()
        };
        self.0.changed.notify_all();
        for (sink, epoch) in lost {
            if let Some(sink) = sink.upgrade() {
                sink.lost(epoch, Error::new(ErrorKind::Lost, "a loss was asked for"));
            }
        }
    }

    /// The line of the hosts that wait for a lock; `None` where hosts have no
    /// order.
    pub fn line(&self, name: &str) -> Option<TestLine> {
        let name = LockName::parse(name, usize::MAX).ok()?;
        let description = self.description(&name);
        description.line().map(TestLine::new)
    }

    fn create(&self, name: &LockName, creation: &mut Creation) -> Result<(), Error> {
        if !self.0.files.lock().names.contains_key(name.as_str()) {
            creation.check()?;
            creation.done();
        }
        Ok(())
    }

    fn description(&self, name: &LockName) -> Description {
        let mut files = self.0.files.lock();
        let fresh = files.number();
        let file = *files.names.entry(name.as_str().into()).or_insert(fresh);
        Description {
            world: Arc::clone(&self.0),
            file,
            description: files.number(),
        }
    }
}

impl Default for Memory {
    fn default() -> Memory {
        Memory::new()
    }
}

impl Space for Memory {
    fn open(&self, name: &LockName, _: Access, creation: &mut Creation) -> Result<Opened, Error> {
        self.create(name, creation)?;
        let description = self.description(name);
        let line = description.line();
        Ok(Opened {
            identity: Identity::Named {
                realm: self.0.realm,
                lock: description.file,
            },
            family: "memory",
            resource: Arc::new(MemoryLock {
                description: description.clone(),
                file: LockFile::new(description, line, Access::Any),
            }),
        })
    }

    fn open_semaphore(
        &self,
        name: &LockName,
        permits: u8,
        creation: &mut Creation,
    ) -> Result<Opened, Error> {
        self.create(name, creation)?;
        let file = self.description(name).file;
        Ok(Opened {
            identity: Identity::Named {
                realm: self.0.realm,
                lock: file,
            },
            family: "memory semaphore",
            resource: self.0.semaphores.open(file, permits),
        })
    }

    fn identify(&self, name: &LockName) -> Result<Option<Identity>, Error> {
        let files = self.0.files.lock();
        Ok(files.names.get(name.as_str()).map(|file| Identity::Named {
            realm: self.0.realm,
            lock: *file,
        }))
    }
}

/// An open lock, whose loss can be reported.
struct MemoryLock {
    description: Description,
    file: LockFile<Description>,
}

impl Resource for MemoryLock {
    fn permits(&self, mode: Mode) -> bool {
        self.file.permits(mode)
    }

    fn caps(&self) -> Caps {
        self.file.caps()
    }

    fn start(&self, id: OpId, op: Op, sink: &Weak<dyn Sink>) -> Started {
        if let Op::Lock { .. } = op {
            let Description {
                world, description, ..
            } = &self.description;
            let mut files = world.files.lock();
            files.sinks.insert(*description, Weak::clone(sink));
        }
        self.file.start(id, op, sink)
    }

    fn is_linked(&self) -> Result<bool, Error> {
        self.file.is_linked()
    }

    fn touch(&self) -> Result<(), Error> {
        self.file.touch()
    }

    fn last_touched(&self) -> Result<Option<SystemTime>, Error> {
        self.file.last_touched()
    }
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        let Description {
            world, description, ..
        } = &self.description;
        world.files.lock().sinks.remove(description);
    }
}

/// An open file description, more or less.
#[derive(Debug, Clone)]
struct Description {
    world: Arc<World>,
    file: u64,
    description: u64,
}

impl Description {
    fn line(&self) -> Option<Line> {
        self.world.fair.then(|| {
            let (number, region) = fair::region(self.world.realm, self.file.into());
            let bytes = MemoryBytes {
                of: self.clone(),
                number,
            };
            Line::new(Box::new(bytes), region)
        })
    }

    fn call(&self, wants: Wants) -> Arc<MemoryCall> {
        Arc::new(MemoryCall {
            of: self.clone(),
            wants,
            flags: Mutex::default(),
        })
    }
}

impl Kernel for Description {
    fn try_lock(&self, mode: Mode) -> Result<bool, Error> {
        let mut files = self.world.files.lock();
        Ok(files.lock(self.file, self.description, mode))
    }

    fn unlock(&self) -> Result<(), Error> {
        let mut files = self.world.files.lock();
        if let Some(holders) = files.holders.get_mut(&self.file) {
            holders.remove(&self.description);
        }
        self.world.changed.notify_all();
        Ok(())
    }

    fn is_free(&self) -> Result<bool, Error> {
        let files = self.world.files.lock();
        let holders = files.holders.get(&self.file);
        Ok(holders.is_none_or(|holders| holders.keys().all(|of| *of == self.description)))
    }

    fn converts(&self) -> bool {
        true
    }

    fn convert(&self, to: Mode) -> Result<bool, Error> {
        let converted = self.try_lock(to);
        self.world.changed.notify_all();
        converted
    }

    fn has_tokens(&self) -> bool {
        true
    }

    fn token(&self) -> Result<u64, Error> {
        let mut files = self.world.files.lock();
        files.token += 1;
        Ok(files.token)
    }

    fn epoch(&self) -> u64 {
        let files = self.world.files.lock();
        let held = files.holders.get(&self.file);
        held.and_then(|held| held.get(&self.description))
            .map_or(0, |(_, epoch)| *epoch)
    }

    fn is_linked(&self) -> Result<bool, Error> {
        let files = self.world.files.lock();
        Ok(files.names.values().any(|file| *file == self.file))
    }

    fn touch(&self) -> Result<(), Error> {
        let mut files = self.world.files.lock();
        files.touched.insert(self.file, SystemTime::now());
        Ok(())
    }

    fn last_touched(&self) -> Result<Option<SystemTime>, Error> {
        Ok(self.world.files.lock().touched.get(&self.file).copied())
    }

    fn wait(&self, mode: Mode) -> Result<Arc<dyn Call>, Error> {
        Ok(self.call(Wants::Lock(mode)))
    }

    fn waits_by_itself(&self) -> bool {
        self.world.threadless
    }

    fn start(&self, mode: Mode, done: Done) -> Result<Arc<dyn Call>, Error> {
        let call = self.call(Wants::Lock(mode));
        let runs = Arc::clone(&call);
        // What a completion port is to a kernel.
        let started = thread::Builder::new().spawn(move || {
            done(loop {
                match runs.run() {
                    Ok(Waited::Interrupted) => {}
                    ended => break ended,
                }
            });
        });
        match started {
            Ok(_) => Ok(call),
            Err(error) => Err(Error::new(ErrorKind::Unavailable, error.to_string())),
        }
    }
}

/// The bytes of an order file, as one description has them.
struct MemoryBytes {
    of: Description,
    number: usize,
}

impl Bytes for MemoryBytes {
    fn conflict(&self, range: Range, mode: Mode) -> Result<Option<Range>, Error> {
        let files = self.of.world.files.lock();
        Ok(files.conflict(self.number, self.of.description, range, mode))
    }

    fn lock(&self, range: Range, mode: Mode) -> Result<bool, Error> {
        let mut files = self.of.world.files.lock();
        Ok(files.lock_bytes(self.number, self.of.description, range, mode))
    }

    fn unlock(&self, range: Range) -> Result<(), Error> {
        let mut files = self.of.world.files.lock();
        files.unlock_bytes(self.number, self.of.description, range);
        self.of.world.changed.notify_all();
        Ok(())
    }

    fn wait(&self, range: Range, mode: Mode) -> Result<Arc<dyn Call>, Error> {
        Ok(self.of.call(Wants::Bytes(self.number, range, mode)))
    }
}

impl OrderBytes for MemoryBytes {
    fn refresh(&self, _: bool) -> Result<bool, Error> {
        Ok(false)
    }

    fn clock(&self) -> u64 {
        self.of.world.files.lock().number()
    }
}

/// What a wait is for.
enum Wants {
    Lock(Mode),
    Bytes(usize, Range, Mode),
}

/// Changed under the mutex of the files, so that no waiter misses it.
#[derive(Default)]
struct Flags {
    cancelled: bool,
    interrupted: bool,
}

struct MemoryCall {
    of: Description,
    wants: Wants,
    flags: Mutex<Flags>,
}

impl MemoryCall {
    fn flag(&self, set: impl FnOnce(&mut Flags)) {
        let _files = self.of.world.files.lock();
        set(&mut self.flags.lock());
        self.of.world.changed.notify_all();
    }
}

impl Call for MemoryCall {
    fn run(&self) -> Result<Waited, Error> {
        let Description {
            world,
            file,
            description,
        } = &self.of;
        let mut files = world.files.lock();
        loop {
            {
                let mut flags = self.flags.lock();
                if flags.cancelled {
                    return Ok(Waited::Cancelled);
                }
                if std::mem::take(&mut flags.interrupted) {
                    return Ok(Waited::Interrupted);
                }
            }
            let granted = match self.wants {
                Wants::Lock(mode) => files.lock(*file, *description, mode),
                Wants::Bytes(number, range, mode) => {
                    files.lock_bytes(number, *description, range, mode)
                }
            };
            if granted {
                return Ok(Waited::Granted);
            }
            files = world.changed.wait(files);
        }
    }

    fn cancel(&self) -> Cancel {
        self.flag(|flags| flags.cancelled = true);
        Cancel::Requested
    }

    fn interrupt(&self) {
        self.flag(|flags| flags.interrupted = true);
    }
}
