//! The one error type of the engine.

use std::{borrow::Cow, fmt};

/// What went wrong, in the cases a guest can tell apart.
///
/// The list is that of `error-code` in the WIT package, plus
/// [`WouldBlock`](ErrorKind::WouldBlock), for which the interface returns
/// `none`. It is complete, so a `match` on it needs no wildcard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A try: another request holds the lock or waits for it.
    WouldBlock,
    /// The deadline of the request, or the longest wait allowed, has passed.
    Timeout,
    /// The wait could never end (S9).
    Deadlock,
    /// The operating system denies access.
    Access,
    /// The grant is for shared locks only.
    ReadOnly,
    /// The name leads out of the granted place.
    NotPermitted,
    /// The file is in use with locks of another family, which exclude nothing of
    /// this one (S16).
    FamilyMismatch,
    /// A directory is missing, or a file that may not be created.
    NoEntry,
    /// The name cannot name a lock.
    InvalidName,
    /// The name leads to a directory.
    IsDirectory,
    /// The name leads to a FIFO, a device or a socket.
    NotAFile,
    /// A quota of the owner is used up (S15).
    Quota,
    /// The host is short of a resource; the same call may succeed later.
    Unavailable,
    /// The platform or the file system cannot do this.
    Unsupported,
    /// The owner was closed: all its locks are released, and no call of it will
    /// succeed again.
    Closed,
    /// The name of the lock leads to another file, or to none (S11).
    Replaced,
    /// The back end has revoked the lock, for example because a lease has
    /// expired.
    Lost,
    /// An input/output error.
    Io,
}

impl ErrorKind {
    fn text(self) -> &'static str {
        match self {
            ErrorKind::WouldBlock => "another request holds the lock or waits for it",
            ErrorKind::Timeout => "timed out while waiting for the lock",
            ErrorKind::Deadlock => "the wait for the lock would never end",
            ErrorKind::Access => "the operating system denies access to the lock file",
            ErrorKind::ReadOnly => "only shared locks are granted here",
            ErrorKind::NotPermitted => "not permitted by the policy of the host",
            ErrorKind::FamilyMismatch => "the file is in use with locks of another family",
            ErrorKind::NoEntry => "no such file or directory",
            ErrorKind::InvalidName => "the name cannot name a lock",
            ErrorKind::IsDirectory => "the name leads to a directory",
            ErrorKind::NotAFile => "not a regular file",
            ErrorKind::Quota => "a quota is used up",
            ErrorKind::Unavailable => "the host is short of a resource",
            ErrorKind::Unsupported => "not supported here",
            ErrorKind::Closed => "the locks of this owner were closed",
            ErrorKind::Replaced => "the name of the lock leads to another file or to none",
            ErrorKind::Lost => "the lock was lost",
            ErrorKind::Io => "input/output error",
        }
    }
}

/// Why a lock operation failed: a [kind](ErrorKind) and, where they help,
/// details.
///
/// The details are for the host's logs; they may name things that a guest must
/// not learn (S17).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    detail: Option<Cow<'static, str>>,
}

impl Error {
    /// An error of a kind, with details.
    #[cold]
    pub fn new(kind: ErrorKind, detail: impl Into<Cow<'static, str>>) -> Error {
        Error {
            kind,
            detail: Some(detail.into()),
        }
    }

    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The details, for the host's logs.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Error {
        Error { kind, detail: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.text())?;
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}
