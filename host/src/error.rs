//! How a host function fails.

use clasp_engine::{Error, ErrorKind};
use wasmtime::component::ResourceTableError;

/// Why a host function failed: with an error for the guest, or with a trap.
#[derive(Debug)]
pub enum CallError {
    /// The guest receives the kind of the error. The details stay in the host,
    /// because they may contain what a guest must not learn.
    Answer(Error),
    /// The guest has used a handle that the canonical ABI would not have let it use.
    Trap(wasmtime::Error),
}

impl From<Error> for CallError {
    fn from(error: Error) -> CallError {
        CallError::Answer(error)
    }
}

impl From<ResourceTableError> for CallError {
    /// A full table is a quota like any other.
    fn from(error: ResourceTableError) -> CallError {
        match error {
            ResourceTableError::Full => {
                CallError::Answer(Error::new(ErrorKind::Quota, error.to_string()))
            }
            error => CallError::Trap(error.into()),
        }
    }
}

/// Translates modes and errors for one of the generated modules `types`, which have the same
/// types under different names.
macro_rules! answers {
    ($types:ident) => {
        impl From<$types::Mode> for Mode {
            fn from(mode: $types::Mode) -> Mode {
                match mode {
                    $types::Mode::Shared => Mode::Shared,
                    $types::Mode::Exclusive => Mode::Exclusive,
                }
            }
        }

        impl From<Mode> for $types::Mode {
            fn from(mode: Mode) -> $types::Mode {
                match mode {
                    Mode::Shared => $types::Mode::Shared,
                    Mode::Exclusive => $types::Mode::Exclusive,
                }
            }
        }

        impl From<Error> for $types::ErrorCode {
            fn from(error: Error) -> $types::ErrorCode {
                tracing::debug!(target: "clasp", %error, "answered");
                match error.kind() {
                    ErrorKind::Timeout => $types::ErrorCode::Timeout,
                    ErrorKind::Deadlock => $types::ErrorCode::Deadlock,
                    ErrorKind::Access => $types::ErrorCode::Access,
                    ErrorKind::ReadOnly => $types::ErrorCode::ReadOnly,
                    ErrorKind::NotPermitted => $types::ErrorCode::NotPermitted,
                    ErrorKind::FamilyMismatch => $types::ErrorCode::FamilyMismatch,
                    ErrorKind::NoEntry => $types::ErrorCode::NoEntry,
                    ErrorKind::InvalidName => $types::ErrorCode::InvalidName,
                    ErrorKind::IsDirectory => $types::ErrorCode::IsDirectory,
                    ErrorKind::NotAFile => $types::ErrorCode::NotAFile,
                    ErrorKind::Quota => $types::ErrorCode::Quota,
                    // Only tries end so, and they are answered with nothing.
                    ErrorKind::WouldBlock | ErrorKind::Unavailable => {
                        $types::ErrorCode::Unavailable
                    }
                    ErrorKind::Unsupported => $types::ErrorCode::Unsupported,
                    ErrorKind::Closed => $types::ErrorCode::Closed,
                    ErrorKind::Replaced => $types::ErrorCode::Replaced,
                    ErrorKind::Lost => $types::ErrorCode::Lost,
                    ErrorKind::Io => $types::ErrorCode::Io,
                }
            }
        }

        impl $types::Host for LocksCtxView<'_> {
            fn convert_error_code(&mut self, error: CallError) -> Trappable<$types::ErrorCode> {
                match error {
                    CallError::Answer(error) => Ok(error.into()),
                    CallError::Trap(error) => Err(error),
                }
            }
        }
    };
}
pub(crate) use answers;
