//! The space of a cluster: its locks and semaphores by name.

use crate::{lock::EtcdLock, semaphore::EtcdSemaphore, shared::Handle};
use clasp_engine::{
    Error, LockName,
    backend::{Access, Creation, Identity, Opened, Space},
};
use std::sync::Arc;

/// The locks and semaphores below one prefix.
pub(crate) struct EtcdSpace {
    /// Keeps the session.
    handle: Arc<Handle>,
}

impl EtcdSpace {
    pub(crate) fn new(handle: Arc<Handle>) -> EtcdSpace {
        EtcdSpace { handle }
    }
}

/// Nothing is created: there are keys only while something is held or waited for.
impl Space for EtcdSpace {
    fn open(&self, name: &LockName, _: Access, _: &mut Creation) -> Result<Opened, Error> {
        let shared = &self.handle.0;
        Ok(Opened {
            identity: shared.names.open(name.as_str()),
            family: "etcd",
            resource: Arc::new(EtcdLock::new(Arc::clone(shared), name)),
        })
    }

    fn open_semaphore(
        &self,
        name: &LockName,
        permits: u8,
        _: &mut Creation,
    ) -> Result<Opened, Error> {
        let shared = &self.handle.0;
        Ok(Opened {
            identity: shared.names.open(name.as_str()),
            family: "etcd semaphore",
            resource: Arc::new(EtcdSemaphore::new(Arc::clone(shared), name, permits)),
        })
    }

    fn identify(&self, name: &LockName) -> Result<Option<Identity>, Error> {
        // A process that was stopped learns here of what it has lost.
        self.handle.0.live_session();
        Ok(self.handle.0.names.find(name.as_str()))
    }
}
