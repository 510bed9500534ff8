//! Locks on ranges of the bytes of a file, by one open file description.

use super::{
    kernel::{Bytes, Call, PermitFile, Range, Waited},
    sys::NativeRanges,
};
use crate::{
    ByteRange, Error, Mode,
    backend::{Access, Answer, Blocking, Cancel, Pending, RangeLocks, Reply},
};
use std::sync::Arc;

/// One open file description.
pub(super) struct FileRanges {
    native: NativeRanges,
    exclusive: bool,
}

impl FileRanges {
    pub(super) fn new(native: NativeRanges, access: Access) -> FileRanges {
        FileRanges {
            native,
            exclusive: access == Access::Any,
        }
    }
}

impl RangeLocks for FileRanges {
    fn permits(&self, mode: Mode) -> bool {
        mode == Mode::Shared || self.exclusive
    }

    fn try_set(&self, range: ByteRange, mode: Option<Mode>) -> Result<bool, Error> {
        self.native.try_set(range, mode)
    }

    fn conflict(&self, range: ByteRange, mode: Mode) -> Result<Option<(ByteRange, Mode)>, Error> {
        self.native.conflict(range, mode)
    }

    fn wait(&self, range: ByteRange, mode: Mode) -> Result<Arc<dyn Blocking>, Error> {
        Ok(Arc::new(Wait {
            call: self.native.wait(range, mode)?,
            comes_back: self.native.comes_back(),
        }))
    }
}

struct Wait {
    call: Arc<dyn Call>,
    comes_back: bool,
}

impl Pending for Wait {
    fn cancel(&self, _: bool) -> Cancel {
        self.call.cancel()
    }
}

impl Blocking for Wait {
    fn comes_back(&self) -> bool {
        self.comes_back
    }

    fn run(&self) -> Result<Reply, Error> {
        loop {
            match self.call.run()? {
                Waited::Granted => return Ok(Answer::Granted.into()),
                Waited::Cancelled => return Ok(Answer::Busy.into()),
                Waited::Interrupted => {}
            }
        }
    }
}

impl Bytes for NativeRanges {
    fn conflict(&self, range: Range, mode: Mode) -> Result<Option<Range>, Error> {
        let found = NativeRanges::conflict(self, range.try_into()?, mode)?;
        Ok(found.map(|(range, _)| range.into()))
    }

    fn lock(&self, range: Range, mode: Mode) -> Result<bool, Error> {
        self.try_set(range.try_into()?, Some(mode))
    }

    fn unlock(&self, range: Range) -> Result<(), Error> {
        self.try_set(range.try_into()?, None).map(drop)
    }

    fn wait(&self, range: Range, mode: Mode) -> Result<Arc<dyn Call>, Error> {
        NativeRanges::wait(self, range.try_into()?, mode)
    }
}

impl PermitFile for NativeRanges {
    fn comes_back(&self) -> bool {
        NativeRanges::comes_back(self)
    }

    fn is_linked(&self) -> Result<bool, Error> {
        NativeRanges::is_linked(self)
    }
}
