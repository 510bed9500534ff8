//! Errors of the operating system as errors of the engine.

use super::sys;
use crate::{Error, ErrorKind};
use std::io;

/// Translates an error of the operating system. The platform knows its error
/// numbers; `io::ErrorKind` decides about the others.
#[cold]
pub(super) fn translate(error: &io::Error) -> Error {
    let kind = sys::classify(error).unwrap_or(match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::NoEntry,
        // cap-std reports a path that leads out of its directory so, with an
        // error number of its own making: none.
        io::ErrorKind::PermissionDenied if error.raw_os_error().is_none() => {
            ErrorKind::NotPermitted
        }
        io::ErrorKind::PermissionDenied => ErrorKind::Access,
        io::ErrorKind::OutOfMemory => ErrorKind::Unavailable,
        io::ErrorKind::Unsupported => ErrorKind::Unsupported,
        _ => ErrorKind::Io,
    });
    Error::new(kind, error.to_string())
}

/// [`translate`], out of the way of what succeeds.
pub(super) fn translated<T>(result: io::Result<T>) -> Result<T, Error> {
    result.map_err(|error| translate(&error))
}
