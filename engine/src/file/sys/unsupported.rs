//! Systems whose locks the engine does not know: everything compiles and says
//! so.

use crate::{
    Error, ErrorKind, Mode,
    backend::{Cancel, Tickets, Turn, Wait, Waited},
    file::{Family, FileSystem},
};
use cap_std::fs::{Dir, Metadata, OpenOptions};
use std::{fs::File, io, path::Path, sync::Arc};

fn unsupported<T>() -> io::Result<T> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "file locks of this operating system are not implemented",
    ))
}

pub(crate) fn classify(_: &io::Error) -> Option<ErrorKind> {
    None
}

pub(crate) fn is_read_only(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

pub(crate) fn never_wait(_: &mut OpenOptions) {}

pub(crate) fn numbers(_: &Metadata) -> (u64, u64) {
    (0, 0)
}

pub(crate) fn plain_numbers(_: &Dir, _: &Path) -> Option<(u64, u64)> {
    None
}

pub(crate) fn is_linked(_: &File) -> io::Result<bool> {
    unsupported()
}

pub(crate) fn file_system<T>(_: T) -> io::Result<FileSystem> {
    unsupported()
}

pub(crate) fn try_lock(_: &File, _: Family, _: Mode) -> io::Result<bool> {
    unsupported()
}

#[cfg(feature = "conformance")]
pub(crate) fn lock(_: &File, _: Family, _: Mode) -> io::Result<()> {
    unsupported()
}

pub(crate) fn unlock(_: &File, _: Family) -> io::Result<()> {
    unsupported()
}

pub(crate) fn is_free(_: &File, _: Family) -> io::Result<bool> {
    unsupported()
}

pub(crate) fn downgrade(_: &File, _: Family) -> io::Result<bool> {
    unsupported()
}

pub(crate) fn choose_order_folder(_: &Path) -> Result<(), Error> {
    Err(ErrorKind::Unsupported.into())
}

pub(crate) fn choose_wake_signal(_: Option<i32>) -> Result<(), Error> {
    Err(ErrorKind::Unsupported.into())
}

#[derive(Debug, Default)]
pub(crate) struct Spare;

/// Never made: [`new`](KernelWait::new) always fails.
pub(crate) enum KernelWait {}

impl KernelWait {
    pub(crate) fn new(_: &File, _: &Arc<Spare>, _: Family, _: Mode) -> io::Result<KernelWait> {
        unsupported()
    }
}

impl Wait for KernelWait {
    fn run(&self) -> Result<Waited, Error> {
        match *self {}
    }

    fn cancel(&self) -> Cancel {
        match *self {}
    }
}

/// Never made: [`new`](FileTickets::new) has none.
pub(crate) enum FileTickets {}

impl FileTickets {
    pub(crate) fn new(_: u64, _: u64) -> Option<FileTickets> {
        None
    }
}

impl Tickets for FileTickets {
    fn others_wait(&self, _: Mode) -> bool {
        match *self {}
    }

    fn begin_turn(&self, _: Mode) -> Result<Arc<dyn Turn>, Error> {
        match *self {}
    }
}
