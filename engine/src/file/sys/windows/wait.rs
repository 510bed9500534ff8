//! The native lock of one open lock file, and waits for it.

use super::{
    identity,
    lock::{self, is_free, try_lock, unlock},
    operation::Operation,
    polled::{self, Polled},
    port,
};
use crate::{
    Error, Mode,
    backend::Cancel,
    file::{
        Family, FileSystem,
        error::{translate, translated},
        kernel::{Call, Done, Kernel, Waited},
        times,
    },
};
use std::{
    fs::File,
    sync::{Arc, OnceLock},
    time::SystemTime,
};

/// One open file.
pub(crate) struct NativeFile {
    file: Arc<File>,
    family: Family,
    /// Whether the completion port has it, once that was tried.
    adopted: OnceLock<bool>,
}

impl NativeFile {
    pub(crate) fn new(file: File, family: Family, kind: FileSystem) -> NativeFile {
        NativeFile {
            file: Arc::new(file),
            family,
            adopted: match kind {
                FileSystem::Local | FileSystem::Foreign => OnceLock::new(),
                // A server that hangs would hold up all who share the port's
                // thread.
                FileSystem::User | FileSystem::Network => OnceLock::from(false),
            },
        }
    }
}

impl Kernel for NativeFile {
    fn try_lock(&self, mode: Mode) -> Result<bool, Error> {
        translated(try_lock(&self.file, self.family, mode))
    }

    fn unlock(&self) -> Result<(), Error> {
        translated(unlock(&self.file, self.family))
    }

    fn is_free(&self) -> Result<bool, Error> {
        translated(is_free(&self.file, self.family))
    }

    fn is_linked(&self) -> Result<bool, Error> {
        translated(identity::is_linked(&self.file))
    }

    fn touch(&self) -> Result<(), Error> {
        times::touch(&self.file)
    }

    fn last_touched(&self) -> Result<Option<SystemTime>, Error> {
        times::last_touched(&self.file)
    }

    fn wait(&self, mode: Mode) -> Result<Arc<dyn Call>, Error> {
        let file = Arc::clone(&self.file);
        Ok(Arc::new(if polled::is_needed() {
            Wait::Polled(Polled::new(file, mode))
        } else {
            Wait::Overlapped(Arc::new(lock::operation(file, mode)))
        }))
    }

    fn waits_by_itself(&self) -> bool {
        !polled::is_needed() && *self.adopted.get_or_init(|| port::adopt(&self.file))
    }

    fn start(&self, mode: Mode, done: Done) -> Result<Arc<dyn Call>, Error> {
        let operation = Arc::new(lock::operation(Arc::clone(&self.file), mode));
        translated(operation.start(done))?;
        Ok(Arc::new(Wait::Overlapped(operation)))
    }
}

/// Takes a lock and waits for it.
#[cfg(feature = "conformance")]
pub(crate) fn lock(file: &File, _: Family, mode: Mode) -> std::io::Result<()> {
    // A duplicate stands for the same open file, whose lock it is.
    let file = Arc::new(file.try_clone()?);
    if polled::is_needed() {
        Polled::new(file, mode).run()
    } else {
        lock::operation(file, mode).run()
    }
    .map(drop)
}

/// A request that waits for a lock.
enum Wait {
    Overlapped(Arc<Operation>),
    Polled(Polled),
}

impl Call for Wait {
    fn run(&self) -> Result<Waited, Error> {
        match self {
            Wait::Overlapped(operation) => operation.run(),
            Wait::Polled(polled) => polled.run(),
        }
        .map_err(|error| translate(&error))
    }

    fn cancel(&self) -> Cancel {
        match self {
            Wait::Overlapped(operation) => operation.cancel(),
            Wait::Polled(polled) => polled.cancel(),
        }
        Cancel::Requested
    }
}
