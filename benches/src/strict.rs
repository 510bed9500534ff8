//! Strict tickets, to compare the order `fair` with: a host has one turn, and
//! then the next in line has the lock.

use clasp_engine::{
    Error, LockName, Mode,
    backend::{
        Access, Blocking, Cancel, Caps, Creation, Identity, Op, OpId, Opened, Pending, Reply,
        Resource, Sink, Space, Started, Tenure,
    },
};
use std::{
    sync::{Arc, Weak},
    time::{Instant, SystemTime},
};

/// A space whose locks are granted for one turn.
pub(crate) fn strict(space: Arc<dyn Space>) -> Arc<dyn Space> {
    Arc::new(Strict(space))
}

struct Strict<T: ?Sized>(Arc<T>);

/// Ends the tenure that a reply grants.
fn without_tenure(reply: Reply) -> Reply {
    Reply {
        tenure: reply.tenure.map(|_| Tenure {
            turns: 0,
            until: Instant::now(),
        }),
        ..reply
    }
}

impl Space for Strict<dyn Space> {
    fn open(
        &self,
        name: &LockName,
        access: Access,
        creation: &mut Creation,
    ) -> Result<Opened, Error> {
        let opened = self.0.open(name, access, creation)?;
        let resource = Arc::new(Strict(opened.resource));
        Ok(Opened { resource, ..opened })
    }

    fn identify(&self, name: &LockName) -> Result<Option<Identity>, Error> {
        self.0.identify(name)
    }
}

impl Resource for Strict<dyn Resource> {
    fn permits(&self, mode: Mode) -> bool {
        self.0.permits(mode)
    }

    fn caps(&self) -> Caps {
        self.0.caps()
    }

    fn start(&self, id: OpId, op: Op, sink: &Weak<dyn Sink>) -> Started {
        match self.0.start(id, op, sink) {
            Started::Done(result) => Started::Done(result.map(without_tenure)),
            Started::Blocking(operation) => Started::Blocking(Arc::new(Strict(operation))),
            // Files with an order have none of these.
            pending @ Started::Pending(_) => pending,
        }
    }

    fn is_linked(&self) -> Result<bool, Error> {
        self.0.is_linked()
    }

    fn touch(&self) -> Result<(), Error> {
        self.0.touch()
    }

    fn last_touched(&self) -> Result<Option<SystemTime>, Error> {
        self.0.last_touched()
    }
}

impl Pending for Strict<dyn Blocking> {
    fn cancel(&self, keep_place: bool) -> Cancel {
        self.0.cancel(keep_place)
    }

    fn sweep(&self) {
        self.0.sweep();
    }
}

impl Blocking for Strict<dyn Blocking> {
    fn comes_back(&self) -> bool {
        self.0.comes_back()
    }

    fn run(&self) -> Result<Reply, Error> {
        self.0.run().map(without_tenure)
    }
}
