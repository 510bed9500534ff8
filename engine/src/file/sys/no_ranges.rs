//! Systems without locks on ranges that other programs would respect as those of `fcntl`.

use crate::{ByteRange, Error, ErrorKind, Mode, file::kernel::Call};
use std::{fs::File, sync::Arc};

pub(crate) const HAS_RANGES: bool = false;

pub(crate) const FAMILIES_OF_RANGES: &[&str] = &[];

/// Never used: `HAS_RANGES` is asked before.
pub(crate) struct NativeRanges;

fn no<T>() -> Result<T, Error> {
    Err(ErrorKind::Unsupported.into())
}

impl NativeRanges {
    pub(crate) fn new(_: File) -> NativeRanges {
        NativeRanges
    }

    pub(crate) fn try_set(&self, _: ByteRange, _: Option<Mode>) -> Result<bool, Error> {
        no()
    }

    pub(crate) fn conflict(
        &self,
        _: ByteRange,
        _: Mode,
    ) -> Result<Option<(ByteRange, Mode)>, Error> {
        no()
    }

    pub(crate) fn is_linked(&self) -> Result<bool, Error> {
        no()
    }

    pub(crate) fn comes_back(&self) -> bool {
        true
    }

    pub(crate) fn wait(&self, _: ByteRange, _: Mode) -> Result<Arc<dyn Call>, Error> {
        no()
    }
}
