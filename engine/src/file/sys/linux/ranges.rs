//! Locks on ranges of the bytes of one file.

use super::{
    lock::{conflict, lock_range, unlock_range},
    wait::{DescriptorCache, InterruptibleCall},
    wake,
};
use crate::{
    ByteRange, Error, Mode,
    backend::Cancel,
    file::{
        error::translated,
        kernel::{Call, Range, Waited},
    },
};
use rustix::io::Errno;
use std::{
    fs::File,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// One open file description.
pub(crate) struct NativeRanges {
    file: File,
    cache: Arc<DescriptorCache>,
}

impl NativeRanges {
    pub(crate) fn new(file: File) -> NativeRanges {
        NativeRanges {
            file,
            cache: Arc::default(),
        }
    }

    pub(crate) fn try_set(&self, range: ByteRange, mode: Option<Mode>) -> Result<bool, Error> {
        let range = Range::from(range);
        let set = match mode {
            Some(mode) => lock_range(&self.file, range, mode, false),
            None => unlock_range(&self.file, range),
        };
        match set {
            Ok(()) => Ok(true),
            Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
            Err(error) => translated(Err(error.into())),
        }
    }

    pub(crate) fn conflict(
        &self,
        range: ByteRange,
        mode: Mode,
    ) -> Result<Option<(ByteRange, Mode)>, Error> {
        let found = translated(conflict(&self.file, range.into(), mode).map_err(Into::into))?;
        let found = found.map(|(range, mode)| (ByteRange::try_from(range), mode));
        found.map(|(range, mode)| Ok((range?, mode))).transpose()
    }

    pub(crate) fn is_linked(&self) -> Result<bool, Error> {
        translated(super::is_linked(&self.file))
    }

    pub(crate) fn comes_back(&self) -> bool {
        wake::is_possible()
    }

    pub(crate) fn wait(&self, range: ByteRange, mode: Mode) -> Result<Arc<dyn Call>, Error> {
        let range = Range::from(range);
        let granted = Arc::new(AtomicBool::new(false));
        let grants = Arc::clone(&granted);
        let call = InterruptibleCall::new(&self.file, &self.cache, move |file| {
            lock_range(file, range, mode, true)?;
            grants.store(true, Ordering::SeqCst);
            Ok(())
        });
        let call = translated(call)?;
        Ok(Arc::new(RangeWait { call, granted }))
    }
}

/// A wait that tells whether it was granted before it was cancelled.
struct RangeWait<C> {
    call: C,
    granted: Arc<AtomicBool>,
}

impl<C: Call> Call for RangeWait<C> {
    fn run(&self) -> Result<Waited, Error> {
        let waited = self.call.run()?;
        // The call runs on this thread.
        match self.granted.load(Ordering::SeqCst) {
            true => Ok(Waited::Granted),
            false => Ok(waited),
        }
    }

    fn cancel(&self) -> Cancel {
        self.call.cancel()
    }
}
