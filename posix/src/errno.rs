//! Errors of the host as error numbers of POSIX.

use clasp_guest::bindings::types::ErrorCode;

/// An error number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) i32);

impl From<ErrorCode> for Errno {
    /// None of those for a failure is `EACCES` or `EAGAIN`: programs take these for "locked by
    /// another" and try again, some for ever. SQLite does so with `ENOLCK` as well, until its
    /// busy timeout. `flock` without waiting makes `EAGAIN` of `ESTALE`, since another may have
    /// locked the file.
    fn from(code: ErrorCode) -> Errno {
        Errno(match code {
            ErrorCode::Timeout => libc::EAGAIN,
            ErrorCode::Deadlock => libc::EDEADLK,
            ErrorCode::ReadOnly => libc::EROFS,
            ErrorCode::Access | ErrorCode::NotPermitted => libc::EPERM,
            ErrorCode::NoEntry | ErrorCode::Replaced => libc::ESTALE,
            ErrorCode::IsDirectory => libc::EISDIR,
            ErrorCode::NotAFile => libc::EINVAL,
            ErrorCode::InvalidName | ErrorCode::FamilyMismatch | ErrorCode::Unsupported => {
                libc::ENOTSUP
            }
            ErrorCode::Quota | ErrorCode::Unavailable => libc::ENOLCK,
            ErrorCode::Closed | ErrorCode::Lost | ErrorCode::Io | ErrorCode::Other(_) => libc::EIO,
        })
    }
}
