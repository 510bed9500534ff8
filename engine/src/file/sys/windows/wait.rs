//! Waits for a lock.

use super::{
    lock,
    operation::Operation,
    polled::{self, Polled},
    port,
};
use crate::{
    Error, Mode,
    backend::{Cancel, Done, Wait, Waited},
    file::{Family, FileSystem},
};
use std::{
    fs::File,
    io,
    sync::{Arc, OnceLock},
};

/// What the waits of one open file share: whether the completion port has it.
#[derive(Debug)]
pub(crate) struct Spare(OnceLock<bool>);

impl Spare {
    pub(crate) fn new(kind: FileSystem) -> Spare {
        Spare(match kind {
            FileSystem::Local | FileSystem::Foreign => OnceLock::new(),
            // A server that hangs would hold up all who share the port's thread.
            FileSystem::User | FileSystem::Network => OnceLock::from(false),
        })
    }
}

/// A request that waits for a lock.
pub(crate) struct KernelWait(Way);

enum Way {
    Overlapped {
        operation: Arc<Operation>,
        needs_thread: bool,
    },
    Polled(Polled),
}

impl KernelWait {
    pub(crate) fn new(
        file: &Arc<File>,
        spare: &Arc<Spare>,
        _: Family,
        mode: Mode,
    ) -> io::Result<KernelWait> {
        let file = Arc::clone(file);
        if polled::is_needed() {
            return Ok(KernelWait(Way::Polled(Polled::new(file, mode))));
        }
        let needs_thread = !*spare.0.get_or_init(|| port::adopt(&file));
        Ok(KernelWait(Way::Overlapped {
            operation: Arc::new(lock::operation(file, mode)),
            needs_thread,
        }))
    }
}

impl Wait for KernelWait {
    fn run(&self) -> Result<Waited, Error> {
        match &self.0 {
            Way::Overlapped { operation, .. } => operation.run(),
            Way::Polled(polled) => polled.run(),
        }
        .map_err(|error| Error::from_io(&error))
    }

    fn needs_thread(&self) -> bool {
        match &self.0 {
            Way::Overlapped { needs_thread, .. } => *needs_thread,
            Way::Polled(_) => true,
        }
    }

    fn start(self: Arc<Self>, done: Done) -> Result<(), Error> {
        match &self.0 {
            Way::Overlapped { operation, .. } => operation
                .start(done)
                .map_err(|error| Error::from_io(&error)),
            // It needs a thread.
            Way::Polled(_) => Err(crate::ErrorKind::Unsupported.into()),
        }
    }

    fn cancel(&self) -> Cancel {
        match &self.0 {
            Way::Overlapped { operation, .. } => operation.cancel(),
            Way::Polled(polled) => polled.cancel(),
        }
        Cancel::Prompt
    }
}
