//! The error of every fallible call.

use crate::bindings::types::ErrorCode;
use std::{fmt, sync::Arc, time::Duration};

/// Why a lock could not be opened, taken or released.
///
/// Ask it what it is with the `is_` methods; its text names the lock and the
/// cause.
#[derive(Debug, Clone)]
pub struct Error {
    lock: Arc<str>,
    cause: Cause,
    timeout: Option<Duration>,
}

#[derive(Debug, Clone)]
pub(crate) enum Cause {
    Host(ErrorCode),
    /// No grant covers the path; what is granted.
    NotGranted(Vec<String>),
    NotUtf8,
}

impl Error {
    pub(crate) fn new(lock: Arc<str>, cause: Cause) -> Error {
        Error {
            lock,
            cause,
            timeout: None,
        }
    }

    pub(crate) fn host(lock: &Arc<str>, code: ErrorCode) -> Error {
        Error::new(Arc::clone(lock), Cause::Host(code))
    }

    pub(crate) fn with_timeout(mut self, timeout: Option<Duration>) -> Error {
        self.timeout = timeout;
        self
    }

    /// The path of the lock, as it was given.
    pub fn lock(&self) -> &str {
        &self.lock
    }

    fn is(&self, test: impl FnOnce(&ErrorCode) -> bool) -> bool {
        matches!(&self.cause, Cause::Host(code) if test(code))
    }

    /// The time given, or the longest wait that the host allows, has passed.
    pub fn is_timed_out(&self) -> bool {
        self.is(|c| matches!(c, ErrorCode::TimedOut))
    }

    /// The wait could never have ended: this component holds the lock itself,
    /// or something that the lock's holder waits for.
    pub fn is_deadlock(&self) -> bool {
        self.is(|c| matches!(c, ErrorCode::Deadlock))
    }

    /// The host's policy denies it, or no lockspace is granted for the path.
    pub fn is_not_permitted(&self) -> bool {
        matches!(self.cause, Cause::NotGranted(_))
            || self.is(|c| matches!(c, ErrorCode::NotPermitted))
    }

    /// The operating system denies access to the lock file.
    pub fn is_access(&self) -> bool {
        self.is(|c| matches!(c, ErrorCode::Access))
    }

    /// A directory of the path is missing, or the file is and may not be
    /// created.
    pub fn is_no_entry(&self) -> bool {
        self.is(|c| matches!(c, ErrorCode::NoEntry))
    }

    /// The path cannot name a lock, for example because of a `..` in it.
    pub fn is_invalid_name(&self) -> bool {
        matches!(self.cause, Cause::NotUtf8) || self.is(|c| matches!(c, ErrorCode::InvalidName))
    }

    /// The path leads to something that is not a regular file.
    pub fn is_not_a_file(&self) -> bool {
        self.is(|c| matches!(c, ErrorCode::NotAFile))
    }

    /// A quota of this component is used up.
    pub fn is_limit_exceeded(&self) -> bool {
        self.is(|c| matches!(c, ErrorCode::LimitExceeded))
    }

    /// The host is short of something; the same call may succeed later.
    pub fn is_unavailable(&self) -> bool {
        self.is(|c| matches!(c, ErrorCode::Unavailable))
    }

    /// The host, its operating system or the file system cannot do it.
    pub fn is_unsupported(&self) -> bool {
        self.is(|c| matches!(c, ErrorCode::Unsupported))
    }

    /// The lock was not held to the end, or its file was replaced meanwhile.
    pub fn is_lost(&self) -> bool {
        self.is(|c| matches!(c, ErrorCode::Lost))
    }

    /// Reading or writing the file system failed.
    pub fn is_io(&self) -> bool {
        self.is(|c| matches!(c, ErrorCode::Io))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lock {:?}: ", self.lock)?;
        let code = match &self.cause {
            Cause::NotUtf8 => return f.write_str("the path is not UTF-8"),
            Cause::NotGranted(granted) if granted.is_empty() => {
                return f.write_str("this component was granted no lockspace");
            }
            Cause::NotGranted(granted) => {
                return write!(
                    f,
                    "no lockspace is granted for this path, only for {}",
                    granted.join(", ")
                );
            }
            Cause::Host(code) => code,
        };
        f.write_str(match code {
            ErrorCode::WouldBlock => "another request holds the lock or waits for it",
            ErrorCode::TimedOut => match self.timeout {
                Some(timeout) => {
                    return write!(
                        f,
                        "not granted within {timeout:?} or the host's longest wait"
                    );
                }
                None => "not granted within the longest wait that the host allows",
            },
            ErrorCode::Deadlock => {
                "waiting would never end: this component holds it, or what its holder waits for"
            }
            ErrorCode::Access => "the operating system denies access to its file",
            ErrorCode::NotPermitted => "the host's policy does not permit it",
            ErrorCode::NoEntry => {
                "a directory of the path is missing, or the file is and may not be created"
            }
            ErrorCode::InvalidName => {
                "the path cannot name a lock: it is empty, too long, or contains `..` or NUL"
            }
            ErrorCode::NotAFile => "the path leads to something that is not a regular file",
            ErrorCode::LimitExceeded => "a quota of this component is used up",
            ErrorCode::Unavailable => {
                "the host is short of descriptors, threads, memory or kernel locks"
            }
            ErrorCode::Unsupported => "not supported by this host or file system",
            ErrorCode::Lost => {
                "lost: the host has closed the locks, or another file took the lock file's name"
            }
            ErrorCode::Io => "input/output error",
            ErrorCode::Other(text) => text.as_deref().unwrap_or("unknown error"),
        })
    }
}

impl std::error::Error for Error {}

/// The kind that `std` would use, so that functions which return
/// `std::io::Result` can use `?`.
impl From<Error> for std::io::Error {
    fn from(error: Error) -> std::io::Error {
        use std::io::ErrorKind as Kind;
        let kind = match &error.cause {
            Cause::NotUtf8 => Kind::InvalidInput,
            Cause::NotGranted(_) => Kind::PermissionDenied,
            Cause::Host(code) => match code {
                ErrorCode::WouldBlock => Kind::WouldBlock,
                ErrorCode::TimedOut => Kind::TimedOut,
                ErrorCode::Deadlock => Kind::Deadlock,
                ErrorCode::Access | ErrorCode::NotPermitted => Kind::PermissionDenied,
                ErrorCode::NoEntry => Kind::NotFound,
                ErrorCode::InvalidName | ErrorCode::NotAFile => Kind::InvalidInput,
                ErrorCode::LimitExceeded => Kind::QuotaExceeded,
                ErrorCode::Unavailable => Kind::ResourceBusy,
                ErrorCode::Unsupported => Kind::Unsupported,
                ErrorCode::Lost => Kind::StaleNetworkFileHandle,
                ErrorCode::Io | ErrorCode::Other(_) => Kind::Other,
            },
        };
        std::io::Error::new(kind, error)
    }
}
