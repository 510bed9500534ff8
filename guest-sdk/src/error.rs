//! The error of every fallible call.

use std::{fmt, io, sync::Arc};

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The timeout, or the longest wait that the host allows, has passed.
    Timeout,
    /// The wait would never end: this component itself holds the lock, or holds a
    /// lock that the holder waits for.
    Deadlock,
    /// The operating system denies access to the lock file.
    Access,
    /// The host grants shared locks only in this directory.
    ReadOnly,
    /// The host has granted no locks in a directory that contains the path.
    NotGranted,
    /// The path leads out of the granted directory, for example through a symbolic
    /// link.
    NotPermitted,
    /// The host uses the file with locks of another family, which would not exclude
    /// this one: it has granted the file twice, with different families.
    FamilyMismatch,
    /// A directory in the path does not exist; or the file does not exist, and the host
    /// does not allow this component to create it.
    NoEntry,
    /// The path cannot name a lock, for example because it contains `..`.
    InvalidName,
    /// The path refers to a directory.
    IsDirectory,
    /// The path refers to a FIFO, a device or a socket.
    NotAFile,
    /// The call would exceed a quota of this component.
    Quota,
    /// The host lacks a resource: file descriptors, threads, memory, or locks in the
    /// kernel. The same call may succeed later.
    Unavailable,
    /// The host, its operating system, the file system or the family of locks does not
    /// support this.
    Unsupported,
    /// The host has closed this component's locks. The component holds none any more,
    /// and no call will succeed again.
    Closed,
    /// The lock is held, but its path now refers to another file, or to none: another
    /// program has replaced or removed the lock file. Release the lock and acquire it
    /// again.
    Replaced,
    /// The lock is not held any more: the server that keeps it has revoked it.
    Lost,
    /// An operation on the file system or server failed.
    Io,
    /// Any other failure.
    Other,
}

impl ErrorKind {
    fn text(self) -> &'static str {
        match self {
            ErrorKind::Timeout => "not granted in time",
            ErrorKind::Deadlock => {
                "the wait would never end: this component holds the lock, or a lock that the \
                 holder waits for"
            }
            ErrorKind::Access => {
                "the operating system denies access to the lock file, or to lock it in this mode \
                 (exclusive locks need permission to write)"
            }
            ErrorKind::ReadOnly => "the host grants shared locks only in this directory",
            ErrorKind::NotGranted => {
                "the host has granted no locks in a directory of this path (`clasp run --locks`)"
            }
            ErrorKind::NotPermitted => "the path leads out of the granted directory",
            ErrorKind::FamilyMismatch => {
                "the host uses the file with locks of another family: it has granted the file \
                 twice, with different families"
            }
            ErrorKind::NoEntry => {
                "a directory in the path does not exist; or the file does not exist, and the \
                 host does not allow this component to create it"
            }
            ErrorKind::InvalidName => {
                "the path cannot name a lock: it is empty, too long, or contains `..` or NUL"
            }
            ErrorKind::IsDirectory => "the path refers to a directory",
            ErrorKind::NotAFile => "the path refers to a FIFO, a device or a socket",
            ErrorKind::Quota => "the call would exceed a quota of this component",
            ErrorKind::Unavailable => {
                "the host lacks file descriptors, threads, memory, or locks in the kernel; try \
                 again later"
            }
            ErrorKind::Unsupported => {
                "not supported by the host, its file system or the family of locks"
            }
            ErrorKind::Closed => "the host has closed the locks of this component",
            ErrorKind::Replaced => {
                "another program has replaced or removed the lock file: acquire the lock again"
            }
            ErrorKind::Lost => "the server that keeps the lock has revoked it",
            ErrorKind::Io => "input/output error",
            ErrorKind::Other => "unknown error",
        }
    }

    /// The kind that `std` would use.
    fn std(self) -> io::ErrorKind {
        match self {
            ErrorKind::Timeout => io::ErrorKind::TimedOut,
            ErrorKind::Deadlock => io::ErrorKind::Deadlock,
            ErrorKind::Access | ErrorKind::NotGranted | ErrorKind::NotPermitted => {
                io::ErrorKind::PermissionDenied
            }
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

/// What a back end returns: a kind and, where the kind does not say enough, the cause.
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

/// For errors of `std` about the directories of a path.
impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Cause {
        let kind = match error.kind() {
            // A file stands where a directory should.
            io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::AlreadyExists => ErrorKind::NoEntry,
            io::ErrorKind::PermissionDenied => ErrorKind::Access,
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidFilename => ErrorKind::InvalidName,
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
/// Its text names the lock and the cause. `Debug` prints the same text, because a program
/// whose `main` returns an error prints it that way.
#[derive(Clone, PartialEq, Eq)]
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

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
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
    pub(crate) lock: Arc<str>,
    pub(crate) error: Option<Error>,
}

impl<G> NotConverted<G> {
    /// The guard of the lock, which holds it as before.
    pub fn into_guard(self) -> G {
        self.guard
    }

    /// Why it was not converted; `None` if there is another holder.
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
            None => f.write_str("the lock has another holder"),
        }
    }
}

impl<G> std::error::Error for NotConverted<G> {}

/// Releases the lock. If there was another holder, the kind is
/// [`Timeout`](ErrorKind::Timeout), as for a lock that is not granted at once.
impl<G> From<NotConverted<G>> for Error {
    fn from(refused: NotConverted<G>) -> Error {
        let NotConverted { lock, error, .. } = refused;
        error.unwrap_or_else(|| {
            let cause = Cause::new(ErrorKind::Timeout, "the lock has another holder");
            Error::new(&lock, cause)
        })
    }
}

/// Releases the lock.
impl<G> From<NotConverted<G>> for io::Error {
    fn from(refused: NotConverted<G>) -> io::Error {
        match refused.error {
            Some(error) => error.into(),
            None => io::Error::new(io::ErrorKind::WouldBlock, "the lock has another holder"),
        }
    }
}
