//! The native lock of one open lock file.

use super::{
    lock::{self, lock_interruptibly},
    wait::{DescriptorCache, InterruptibleCall},
    wake,
};
use crate::{
    Error, Mode,
    file::{
        Family,
        error::translated,
        kernel::{Call, Kernel},
        sys::{token, unix},
        times,
    },
};
use std::{fs::File, os::fd::OwnedFd, sync::Arc, time::SystemTime};

/// One open file description.
pub(crate) struct NativeFile {
    file: File,
    family: Family,
    cache: Arc<DescriptorCache>,
}

impl NativeFile {
    pub(crate) fn new(file: File, family: Family, _: crate::file::FileSystem) -> NativeFile {
        NativeFile {
            file,
            family,
            cache: Arc::default(),
        }
    }
}

impl Kernel for NativeFile {
    fn try_lock(&self, mode: Mode) -> Result<bool, Error> {
        translated(lock::try_lock(&self.file, self.family, mode))
    }

    fn unlock(&self) -> Result<(), Error> {
        translated(lock::unlock(&self.file, self.family))
    }

    fn is_free(&self) -> Result<bool, Error> {
        translated(lock::is_free(&self.file, self.family))
    }

    fn converts(&self) -> bool {
        // `flock` drops the one lock to take the other.
        self.family == Family::Posix
    }

    fn convert(&self, to: Mode) -> Result<bool, Error> {
        self.try_lock(to)
    }

    fn is_linked(&self) -> Result<bool, Error> {
        translated(unix::is_linked(&self.file))
    }

    fn touch(&self) -> Result<(), Error> {
        times::touch(&self.file)
    }

    fn last_touched(&self) -> Result<Option<SystemTime>, Error> {
        times::last_touched(&self.file)
    }

    fn descriptor(&self) -> Result<OwnedFd, Error> {
        translated(unix::inheritable(&self.file))
    }

    fn has_tokens(&self) -> bool {
        true
    }

    fn token(&self) -> Result<u64, Error> {
        token::next(&self.file)
    }

    fn comes_back(&self) -> bool {
        wake::is_possible()
    }

    fn wait(&self, mode: Mode) -> Result<Arc<dyn Call>, Error> {
        let family = self.family;
        let call = InterruptibleCall::new(&self.file, &self.cache, move |file| {
            lock_interruptibly(file, family, mode)
        });
        Ok(Arc::new(translated(call)?))
    }
}
