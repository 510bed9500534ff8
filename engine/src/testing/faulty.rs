//! A back end that fails where it is told to, for tests of what becomes of
//! errors.

use super::memory::Memory;
use crate::{
    Error, ErrorKind, LockName, Mode,
    backend::{Access, Caps, Creation, Identity, Op, OpId, Opened, Resource, Sink, Space, Started},
    sync::Mutex,
};
use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

/// A [`Memory`] that fails.
#[derive(Debug, Clone, Default)]
pub struct Faulty {
    memory: Memory,
    fault: Arc<Mutex<Option<ErrorKind>>>,
    waits_fail: Arc<AtomicBool>,
    unlocks_fail: Arc<AtomicBool>,
}

impl Faulty {
    /// From now on whatever can fail answers this error, unlocking apart; `None`
    /// heals it.
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

    /// Whether locks cannot be released.
    pub fn fail_unlocks(&self, fail: bool) {
        self.unlocks_fail.store(fail, Ordering::SeqCst);
    }

    fn check(&self) -> Result<(), Error> {
        match *self.fault.lock() {
            Some(kind) => Err(Error::new(kind, "a fault was asked for")),
            None => Ok(()),
        }
    }

    fn check_op(&self, op: Op) -> Result<(), Error> {
        let unavailable = |why| Err(Error::new(ErrorKind::Unavailable, why));
        match op {
            Op::Unlock if self.unlocks_fail.load(Ordering::SeqCst) => {
                unavailable("unlocking is to fail")
            }
            Op::Unlock | Op::Leave => Ok(()),
            op if op.waits() && self.waits_fail.load(Ordering::SeqCst) => {
                unavailable("waits are to fail")
            }
            _ => self.check(),
        }
    }
}

impl Space for Faulty {
    fn open(
        &self,
        name: &LockName,
        access: Access,
        creation: &mut Creation,
    ) -> Result<Opened, Error> {
        self.check()?;
        let opened = self.memory.space().open(name, access, creation)?;
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
        self.memory.space().identify(name)
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

    fn caps(&self) -> Caps {
        self.inner.caps()
    }

    fn start(&self, id: OpId, op: Op, sink: &Weak<dyn Sink>) -> Started {
        match self.space.check_op(op) {
            Ok(()) => self.inner.start(id, op, sink),
            Err(error) => Started::Done(Err(error)),
        }
    }

    fn is_linked(&self) -> Result<bool, Error> {
        self.space.check()?;
        self.inner.is_linked()
    }

    fn touch(&self) -> Result<(), Error> {
        self.space.check()?;
        self.inner.touch()
    }

    fn last_touched(&self) -> Result<Option<SystemTime>, Error> {
        self.space.check()?;
        self.inner.last_touched()
    }
}
