//! Systems whose locks the engine does not know: everything compiles and says
//! so.

pub(crate) use super::{no_order::*, no_signal::*};

use super::Numbers;
use crate::{
    Error, ErrorKind, LockName, Mode,
    backend::{Cancel, Wait, Waited},
    file::{Family, FileSystem, Order},
};
use cap_std::fs::{Dir, Metadata, OpenOptions};
use std::{fs::File, io, path::Path, sync::Arc};

/// None works, and `file_system` says so first.
pub(crate) const FAMILIES: &[Family] = &[Family::Posix, Family::Flock, Family::Both];
pub(crate) const ORDERS: &[Order] = &[Order::Kernel, Order::Fair];

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

pub(crate) fn check_name(_: &LockName) -> Result<(), Error> {
    Ok(())
}

pub(crate) fn prepare(_: &mut OpenOptions) {}

pub(crate) fn set_creation_mode(_: &mut OpenOptions, _: u32) {}

pub(crate) fn numbers(_: &File, _: &Metadata) -> io::Result<Numbers> {
    unsupported()
}

pub(crate) fn look_up(_: &Dir, _: &Path) -> io::Result<Numbers> {
    unsupported()
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

#[derive(Debug, Default)]
pub(crate) struct Spare;

impl Spare {
    pub(crate) fn new(_: FileSystem) -> Spare {
        Spare
    }
}

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
