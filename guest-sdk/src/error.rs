//! The error of every fallible call.

use std::{fmt, io, sync::Arc};

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The time given, or the longest wait that the host allows, has passed.
    Timeout,
    /// The wait could never have ended: this component holds the lock itself,
    /// or something that the lock's holder waits for.
    Deadlock,
    /// The operating system denies access to the lock file.
    Access,
    /// Only shared locks are granted here.
    ReadOnly,
    /// No lockspace is granted for the path, or the path leads out of it.
    NotPermitted,
    /// The file is in use with locks of another family, which would not exclude this
    /// one. The host has granted it twice, in different ways.
    FamilyMismatch,
    /// A directory of the path is missing, or the file is and may not be created.
    NoEntry,
    /// The path cannot name a lock, for example because of a `..` in it.
    InvalidName,
    /// The path leads to a directory.
    IsDirectory,
    /// The path leads to a FIFO, a device or a socket.
    NotAFile,
    /// A quota of this component is used up.
    Quota,
    /// The host is short of descriptors, threads, memory or kernel locks; the same
    /// call may succeed later.
    Unavailable,
    /// The host, its operating system, the file system or this family of locks cannot
    /// do it.
    Unsupported,
    /// The host has closed this component's locks: none is held any more, and no call
    /// will succeed again.
    Closed,
    /// The lock is held, but its path leads to another file, or to none: another
    /// program has replaced or removed the lock file. Release the lock and acquire
    /// again.
    Replaced,
    /// What keeps the lock has taken it away.
    Lost,
    /// Reading or writing the file system failed.
    Io,
    /// Anything else.
    Other,
}

impl ErrorKind {
    fn text(self) -> &'static str {
        match self {
            ErrorKind::Timeout => "not granted in time",
            ErrorKind::Deadlock => {
                "waiting would never end: this component holds the lock, or what its holder \
                 waits for"
            }
            ErrorKind::Access => "the operating system denies access to the lock file",
            ErrorKind::ReadOnly => "only shared locks are granted here",
            ErrorKind::NotPermitted => "the path leads out of the directory that is granted",
            ErrorKind::FamilyMismatch => {
                "the file is in use with locks of another family: the host has granted it twice, \
                 in different ways"
            }
            ErrorKind::NoEntry => {
                "a directory of the path is missing, or the file is and may not be created"
            }
            ErrorKind::InvalidName => {
                "the path cannot name a lock: it is empty, too long, or contains `..` or NUL"
            }
            ErrorKind::IsDirectory => "the path leads to a directory",
            ErrorKind::NotAFile => "the path leads to something that is not a regular file",
            ErrorKind::Quota => "a quota of this component is used up",
            ErrorKind::Unavailable => {
                "the host is short of descriptors, threads, memory or kernel locks; try again later"
            }
            ErrorKind::Unsupported => {
                "not supported by this host, its file system or this family of locks"
            }
            ErrorKind::Closed => "the host has closed the locks of this component",
            ErrorKind::Replaced => {
                "another program has replaced or removed the lock file: acquire the lock again"
            }
            ErrorKind::Lost => "the lock was lost",
            ErrorKind::Io => "input/output error",
            ErrorKind::Other => "unknown error",
        }
    }

    /// The kind that `std` would use.
    fn std(self) -> io::ErrorKind {
        match self {
            ErrorKind::Timeout => io::ErrorKind::TimedOut,
            ErrorKind::Deadlock => io::ErrorKind::Deadlock,
            ErrorKind::Access | ErrorKind::NotPermitted => io::ErrorKind::PermissionDenied,
            ErrorKind::ReadOnly => io::ErrorKind::ReadOnlyFilesystem,
            ErrorKind::NoEntry => io::ErrorKind::NotFound,
            ErrorKind::InvalidName | ErrorKind::NotAFile => io::ErrorKind::InvalidInput,
            ErrorKind::IsDirectory => io::ErrorKind::IsADirectory,
            ErrorKind::Quota => io::ErrorKind::QuotaExceeded,
            ErrorKind::Unavailable | ErrorKind::FamilyMismatch => io::ErrorKind::ResourceBusy,
            ErrorKind::Unsupported => io::ErrorKind::Unsupported,
            ErrorKind::Closed
            | ErrorKind::Replaced
            | ErrorKind::Lost
            | ErrorKind::Io
            | ErrorKind::Other => io::ErrorKind::Other,
        }
    }
}

/// What a back end answers: a kind and, where the kind does not say it all, the cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cause {
    pub(crate) kind: ErrorKind,
    pub(crate) text: Option<Arc<str>>,
}

impl Cause {
    pub(crate) fn new(kind: ErrorKind, text: impl Into<Arc<str>>) -> Cause {
        Cause {
            kind,
            text: Some(text.into()),
        }
    }
}

/// Of what `std` answers about the directories of a path.
impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Cause {
        let kind = match error.kind() {
            // A file stands where a directory should.
            io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::AlreadyExists => ErrorKind::NoEntry,
            io::ErrorKind::PermissionDenied => ErrorKind::Access,
            _ => ErrorKind::Io,
        };
        Cause::new(kind, error.to_string())
    }
}

impl From<ErrorKind> for Cause {
    fn from(kind: ErrorKind) -> Cause {
        Cause { kind, text: None }
    }
}

/// Why a lock could not be opened, taken, converted or released.
///
/// Its text names the lock and the cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    lock: Arc<str>,
    cause: Cause,
}

impl Error {
    pub(crate) fn new(lock: &Arc<str>, cause: impl Into<Cause>) -> Error {
        Error {
            lock: Arc::clone(lock),
            cause: cause.into(),
        }
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.cause.kind
    }

    /// The path of the lock, as it was given.
    pub fn lock(&self) -> &str {
        &self.lock
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.cause.text.as_deref();
        let text = text.unwrap_or(self.cause.kind.text());
        write!(f, "lock {:?}: {text}", self.lock)
    }
}

impl std::error::Error for Error {}

/// With the kind that `std` would use, so that functions which return
/// `std::io::Result` can use `?`.
impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        io::Error::new(error.kind().std(), error)
    }
}

/// A lock that was not converted. It is held as before, by the guard in here.
pub struct NotConverted<G> {
    pub(crate) guard: G,
    pub(crate) error: Option<Error>,
}

impl<G> NotConverted<G> {
    /// The guard of the lock, which holds it as before.
    pub fn into_guard(self) -> G {
        self.guard
    }

    /// Why it was not converted; `None` if another holder stands against it.
    pub fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }
}

impl<G> fmt::Debug for NotConverted<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotConverted")
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl<G> fmt::Display for NotConverted<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            Some(error) => error.fmt(f),
            None => f.write_str("another holder has the lock as well"),
        }
    }
}

impl<G> std::error::Error for NotConverted<G> {}

/// Releases the lock.
impl<G> From<NotConverted<G>> for io::Error {
    fn from(refused: NotConverted<G>) -> io::Error {
        match refused.error {
            Some(error) => error.into(),
            None => io::Error::new(
                io::ErrorKind::WouldBlock,
                "another holder has the lock as well",
            ),
        }
    }
}
