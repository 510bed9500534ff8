//! The reference back end: locks in memory, with the rules of open file
//! descriptions.
//!
//! Managers that use spaces of one [`Memory`] exclude each other as processes
//! on one machine do. It is for tests, and it says in few lines what the file
//! back end does with the kernel's help.

use crate::{
    Error, ErrorKind, LockName, Mode,
    backend::{
        Access, Cancel, Done, Identity, Opened, Resource, Space, Tickets, Turn, Wait, Waited,
    },
    sync::{Condvar, Mutex, thread},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
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
}

#[derive(Debug, Default)]
struct Files {
    names: HashMap<String, u64>,
    /// Who holds each file: descriptions, each in one mode.
    holders: HashMap<u64, HashMap<u64, Mode>>,
    /// Who waits for each file, of the descriptions that go by tickets.
    tickets: HashMap<u64, BTreeMap<u64, (u64, Mode)>>,
    next: u64,
}

impl Files {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Takes or converts the lock of a description; a description never
    /// conflicts with itself.
    fn lock(&mut self, file: u64, description: u64, mode: Mode) -> bool {
        let holders = self.holders.entry(file).or_default();
        let conflict = holders
            .iter()
            .any(|(other, held)| *other != description && held.conflicts(mode));
        if !conflict {
            holders.insert(description, mode);
        }
        !conflict
    }

    /// The first ticket of another description before `ticket` that conflicts.
    fn first_before(&self, of: &Description, ticket: u64, mode: Mode) -> Option<u64> {
        let tickets = self.tickets.get(&of.file)?;
        tickets
            .range(..ticket)
            .find(|(_, (other, held))| *other != of.description && held.conflicts(mode))
            .map(|(number, _)| *number)
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

    /// An empty one that needs no threads of the engine for its waits; with or
    /// without tickets.
    pub fn threadless(fair: bool) -> Memory {
        Memory::with(fair, true)
    }

    fn with(fair: bool, threadless: bool) -> Memory {
        static REALMS: AtomicU64 = AtomicU64::new(0);
        Memory(Arc::new(World {
            realm: REALMS.fetch_add(1, Ordering::Relaxed),
            fair,
            threadless,
            files: Mutex::default(),
            changed: Condvar::default(),
        }))
    }

    /// Its one directory.
    pub fn space(&self) -> Arc<dyn Space> {
        Arc::new(self.clone())
    }

    /// Removes a name. Locks on the file it led to live on without one.
    pub fn unlink(&self, name: &str) {
        self.0.files.lock().names.remove(name);
    }
}

impl Default for Memory {
    fn default() -> Memory {
        Memory::new()
    }
}

impl Space for Memory {
    fn open(&self, name: &LockName, _: Access) -> Result<Opened, Error> {
        let mut files = self.0.files.lock();
        let fresh = files.number();
        let file = *files.names.entry(name.as_str().into()).or_insert(fresh);
        let description = Description {
            world: Arc::clone(&self.0),
            file,
            description: files.number(),
        };
        Ok(Opened {
            identity: Identity::Named {
                realm: self.0.realm,
                lock: file,
            },
            family: "memory",
            resource: Arc::new(description),
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

/// An open file description, more or less.
#[derive(Clone)]
struct Description {
    world: Arc<World>,
    file: u64,
    description: u64,
}

impl Resource for Description {
    fn permits(&self, _: Mode) -> bool {
        true
    }

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

    fn is_linked(&self) -> Result<bool, Error> {
        let files = self.world.files.lock();
        Ok(files.names.values().any(|file| *file == self.file))
    }

    fn begin_wait(&self, mode: Mode) -> Result<Arc<dyn Wait>, Error> {
        Ok(Arc::new(MemoryWait {
            of: self.clone(),
            mode,
            cancelled: Cancelled::default(),
        }))
    }

    fn is_free(&self) -> Result<bool, Error> {
        let files = self.world.files.lock();
        Ok(files.holders.get(&self.file).is_none_or(HashMap::is_empty))
    }

    fn downgrade(&self) -> Result<bool, Error> {
        let converted = self.try_lock(Mode::Shared);
        self.world.changed.notify_all();
        converted
    }

    fn tickets(&self) -> Option<&dyn Tickets> {
        self.world.fair.then_some(self)
    }
}

impl Tickets for Description {
    fn others_wait(&self, mode: Mode) -> bool {
        let files = self.world.files.lock();
        files.first_before(self, u64::MAX, mode).is_some()
    }

    fn begin_turn(&self, mode: Mode) -> Result<Arc<dyn Turn>, Error> {
        Ok(Arc::new(MemoryTurn {
            of: self.clone(),
            mode,
            ticket: Mutex::new(None),
            cancelled: Cancelled::default(),
        }))
    }
}

/// Set under the mutex of the files, so that nobody misses it.
#[derive(Default)]
struct Cancelled(AtomicBool);

impl Cancelled {
    fn set(&self, world: &World) -> Cancel {
        let _files = world.files.lock();
        self.0.store(true, Ordering::SeqCst);
        world.changed.notify_all();
        Cancel::Prompt
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// What a completion port is to a kernel: whoever started the wait goes on.
fn run_elsewhere(wait: Arc<dyn Wait>, done: Done) -> Result<(), Error> {
    let run = thread::Builder::new().spawn(move || done(wait.run()));
    run.map(drop)
        .map_err(|error| Error::new(ErrorKind::Unavailable, error.to_string()))
}

struct MemoryTurn {
    of: Description,
    mode: Mode,
    ticket: Mutex<Option<u64>>,
    cancelled: Cancelled,
}

impl Wait for MemoryTurn {
    fn run(&self) -> Result<Waited, Error> {
        let world = &self.of.world;
        let mut files = world.files.lock();
        if self.cancelled.is_set() {
            return Ok(Waited::Cancelled);
        }
        let tickets = files.tickets.entry(self.of.file).or_default();
        let ticket = tickets.last_key_value().map_or(0, |(last, _)| last + 1);
        tickets.insert(ticket, (self.of.description, self.mode));
        *self.ticket.lock() = Some(ticket);
        loop {
            if self.cancelled.is_set() {
                return Ok(Waited::Cancelled);
            }
            if files.first_before(&self.of, ticket, self.mode).is_none() {
                return Ok(Waited::Granted);
            }
            files = world.changed.wait(files);
        }
    }

    fn needs_thread(&self) -> bool {
        !self.of.world.threadless
    }

    fn start(self: Arc<Self>, done: Done) -> Result<(), Error> {
        run_elsewhere(self, done)
    }

    fn cancel(&self) -> Cancel {
        self.cancelled.set(&self.of.world)
    }
}

impl Turn for MemoryTurn {
    fn head(&self) -> Option<u64> {
        let files = self.of.world.files.lock();
        let ticket = (*self.ticket.lock())?;
        files.first_before(&self.of, ticket, self.mode)
    }

    fn end(&self) {
        let mut files = self.of.world.files.lock();
        if let Some(ticket) = self.ticket.lock().take()
            && let Some(tickets) = files.tickets.get_mut(&self.of.file)
        {
            tickets.remove(&ticket);
        }
        self.of.world.changed.notify_all();
    }
}

struct MemoryWait {
    of: Description,
    mode: Mode,
    cancelled: Cancelled,
}

impl Wait for MemoryWait {
    fn run(&self) -> Result<Waited, Error> {
        let Description {
            world,
            file,
            description,
        } = &self.of;
        let mut files = world.files.lock();
        loop {
            if self.cancelled.is_set() {
                return Ok(Waited::Cancelled);
            }
            if files.lock(*file, *description, self.mode) {
                return Ok(Waited::Granted);
            }
            files = world.changed.wait(files);
        }
    }

    fn needs_thread(&self) -> bool {
        !self.of.world.threadless
    }

    fn start(self: Arc<Self>, done: Done) -> Result<(), Error> {
        run_elsewhere(self, done)
    }

    fn cancel(&self) -> Cancel {
        self.cancelled.set(&self.of.world)
    }
}

/// A back end that fails where it is told to, for tests of what becomes of
/// errors.
#[derive(Debug, Clone, Default)]
pub struct Faulty {
    memory: Memory,
    fault: Arc<Mutex<Option<ErrorKind>>>,
    waits_fail: Arc<AtomicBool>,
}

impl Faulty {
    /// From now on whatever can fail answers this error; `None` heals it.
    pub fn fail(&self, kind: Option<ErrorKind>) {
        *self.fault.lock() = kind;
    }

    /// A back end over a memory of the caller's.
    pub fn new(memory: Memory) -> Faulty {
        Faulty {
            memory,
            ..Faulty::default()
        }
    }

    /// Whether waits for the lock cannot begin, though all else works.
    pub fn fail_waits(&self, fail: bool) {
        self.waits_fail.store(fail, Ordering::SeqCst);
    }

    fn check(&self) -> Result<(), Error> {
        match *self.fault.lock() {
            Some(kind) => Err(Error::new(kind, "a fault was asked for")),
            None => Ok(()),
        }
    }
}

impl Space for Faulty {
    fn open(&self, name: &LockName, access: Access) -> Result<Opened, Error> {
        self.check()?;
        let opened = self.memory.open(name, access)?;
        Ok(Opened {
            resource: Arc::new(FaultyResource {
                inner: opened.resource,
                space: self.clone(),
            }),
            ..opened
        })
    }

    fn identify(&self, name: &LockName) -> Result<Option<Identity>, Error> {
        self.check()?;
        self.memory.identify(name)
    }
}

struct FaultyResource {
    inner: Arc<dyn Resource>,
    space: Faulty,
}

impl Resource for FaultyResource {
    fn permits(&self, mode: Mode) -> bool {
        self.inner.permits(mode)
    }

    fn try_lock(&self, mode: Mode) -> Result<bool, Error> {
        self.space.check()?;
        self.inner.try_lock(mode)
    }

    fn unlock(&self) -> Result<(), Error> {
        self.inner.unlock()
    }

    fn is_linked(&self) -> Result<bool, Error> {
        self.space.check()?;
        self.inner.is_linked()
    }

    fn begin_wait(&self, mode: Mode) -> Result<Arc<dyn Wait>, Error> {
        self.space.check()?;
        if self.space.waits_fail.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "waits are to fail"));
        }
        self.inner.begin_wait(mode)
    }

    fn is_free(&self) -> Result<bool, Error> {
        self.space.check()?;
        self.inner.is_free()
    }

    fn downgrade(&self) -> Result<bool, Error> {
        self.space.check()?;
        self.inner.downgrade()
    }

    fn tickets(&self) -> Option<&dyn Tickets> {
        self.inner.tickets()
    }
}
