//! Systems whose locks the engine does not know: everything compiles and says
//! so.

pub(crate) use super::{no_order::*, no_ranges::*, no_signal::*};

use super::Numbers;
use crate::{
    Error, ErrorKind, LockName, Mode,
    file::{
        Family, FileSystem, Order,
        kernel::{Call, Kernel},
    },
};
use cap_std::fs::{Dir, Metadata, OpenOptions};
use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

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

pub(crate) fn keeps_creation_times() -> bool {
    true
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

pub(crate) fn path_of<T>(_: T) -> io::Result<PathBuf> {
    unsupported()
}

pub(crate) fn file_system<T>(_: T) -> io::Result<FileSystem> {
    unsupported()
}

#[cfg(feature = "conformance")]
pub(crate) fn try_lock(_: &File, _: Family, _: Mode) -> io::Result<bool> {
    unsupported()
}

#[cfg(feature = "conformance")]
pub(crate) fn lock(_: &File, _: Family, _: Mode) -> io::Result<()> {
    unsupported()
}

#[cfg(feature = "conformance")]
pub(crate) fn unlock(_: &File, _: Family) -> io::Result<()> {
    unsupported()
}

/// Never used: `file_system` fails before.
pub(crate) struct NativeFile;

impl NativeFile {
    pub(crate) fn new(_: File, _: Family, _: FileSystem) -> NativeFile {
        NativeFile
    }
}

fn no<T>() -> Result<T, Error> {
    Err(ErrorKind::Unsupported.into())
}

impl Kernel for NativeFile {
    fn try_lock(&self, _: Mode) -> Result<bool, Error> {
        no()
    }

    fn unlock(&self) -> Result<(), Error> {
        no()
    }

    fn is_free(&self) -> Result<bool, Error> {
        no()
    }

    fn is_linked(&self) -> Result<bool, Error> {
        no()
    }

    fn wait(&self, _: Mode) -> Result<Arc<dyn Call>, Error> {
        no()
    }
}
