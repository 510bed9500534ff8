//! Fencing tokens (S13), kept in an extended attribute of the lock file.
//!
//! The attribute is apart from the contents, so that programs which truncate or
//! write the file leave it alone, and in the file itself, so that hard links share
//! it. It is read and written by the holder of the exclusive lock only.

use crate::{Error, ErrorKind, file::error::translate};
use rustix::{
    fs::{XattrFlags, fgetxattr, fsetxattr},
    io::Errno,
};
use std::{
    fs::File,
    io,
    time::{SystemTime, UNIX_EPOCH},
};

/// The last token, and its complement, which tells a value that was damaged.
const ATTRIBUTE: &str = "user.clasp.token";
const BYTES: usize = 16;

/// A token that is greater than the last one and, in microseconds since 1970, than
/// the time by the system's clock.
///
/// Each of the two is a lower bound: the stored token if the clock was set back, the
/// clock if the file was replaced or restored from a backup.
pub(super) fn next(file: &File) -> Result<u64, Error> {
    let stored = stored(file).map_err(failed)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(0));
    let Some(token) = stored.unwrap_or(0).max(now).checked_add(1) else {
        let why = "no greater token is left: another program has written the attribute \
                   `user.clasp.token` of the lock file; remove it";
        return Err(Error::new(ErrorKind::Io, why));
    };
    let mut value = [0; BYTES];
    value[..8].copy_from_slice(&token.to_le_bytes());
    value[8..].copy_from_slice(&(!token).to_le_bytes());
    fsetxattr(file, ATTRIBUTE, &value, XattrFlags::empty()).map_err(failed)?;
    Ok(token)
}

/// The last token; `None` if there is none, or none that is whole.
fn stored(file: &File) -> Result<Option<u64>, Errno> {
    let mut value = [0; BYTES];
    let length = match fgetxattr(file, ATTRIBUTE, &mut value) {
        Ok(length) => length,
        Err(error) if is_absent(error) => return Ok(None),
        // It is longer.
        Err(Errno::RANGE) => 0,
        Err(error) => return Err(error),
    };
    let token = whole(&value).filter(|_| length == BYTES);
    if token.is_none() {
        tracing::warn!(target: "clasp::file", "the attribute `{ATTRIBUTE}` of a lock file is damaged; tokens go on from the system's clock");
    }
    Ok(token)
}

fn whole(value: &[u8; BYTES]) -> Option<u64> {
    let (token, complement) = value.split_at(8);
    let token = u64::from_le_bytes(token.try_into().ok()?);
    let complement = u64::from_le_bytes(complement.try_into().ok()?);
    (complement == !token).then_some(token)
}

fn is_absent(error: Errno) -> bool {
    #[cfg(target_os = "macos")]
    return error == Errno::NOATTR;
    #[cfg(not(target_os = "macos"))]
    return error == Errno::NODATA;
}

fn failed(error: Errno) -> Error {
    match error {
        Errno::NOTSUP => Error::new(
            ErrorKind::Unsupported,
            "the file system has no extended attributes of users, which keep the tokens",
        ),
        // The directory may be written, the file not.
        Errno::PERM => ErrorKind::Access.into(),
        error => translate(&io::Error::from(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A file on a file system with attributes, if there is one.
    fn file() -> Option<(tempfile::TempDir, File)> {
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let file = File::create(directory.path().join("a.lock")).unwrap();
        match next(&file) {
            Ok(_) => Some((directory, file)),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unsupported);
                None
            }
        }
    }

    fn set(file: &File, value: &[u8]) {
        fsetxattr(file, ATTRIBUTE, value, XattrFlags::empty()).unwrap();
    }

    fn pair(token: u64) -> Vec<u8> {
        [token.to_le_bytes(), (!token).to_le_bytes()].concat()
    }

    fn micros() -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        now.as_micros() as u64
    }

    #[test]
    fn tokens_increase_whatever_happens_to_the_contents() {
        let Some((directory, file)) = file() else {
            return;
        };
        let path = directory.path().join("a.lock");
        let mut last = next(&file).unwrap();
        for _ in 0..3 {
            fs::write(&path, "other contents").unwrap();
            File::create(&path).unwrap();
            let token = next(&file).unwrap();
            assert!(token > last);
            last = token;
        }
        // A hard link is the same file.
        let link = directory.path().join("b.lock");
        fs::hard_link(&path, &link).unwrap();
        assert!(next(&File::open(&link).unwrap()).unwrap() > last);
    }

    #[test]
    fn a_clock_that_was_set_back_repeats_no_token() {
        let Some((_directory, file)) = file() else {
            return;
        };
        let ahead = micros() + 3_600_000_000;
        set(&file, &pair(ahead));
        assert_eq!(next(&file).unwrap(), ahead + 1);
        assert_eq!(next(&file).unwrap(), ahead + 2);
    }

    #[test]
    fn a_file_that_was_replaced_or_restored_goes_on_from_the_clock() {
        let Some((directory, file)) = file() else {
            return;
        };
        let last = next(&file).unwrap();
        // A backup with the token that was the last then.
        set(&file, &pair(last - 5_000_000));
        assert!(next(&file).unwrap() > last);
        let fresh = File::create(directory.path().join("fresh.lock")).unwrap();
        assert!(next(&fresh).unwrap() > last);
    }

    #[test]
    fn a_damaged_token_is_told_from_a_whole_one() {
        let Some((_directory, file)) = file() else {
            return;
        };
        let mut torn = pair(u64::MAX / 2);
        torn[12] ^= 1;
        for damaged in [torn, vec![], vec![7; 15], vec![7; 40]] {
            set(&file, &damaged);
            let token = next(&file).unwrap();
            assert!(token.abs_diff(micros()) < 60_000_000, "{token}");
        }
        set(&file, &pair(u64::MAX));
        let error = next(&file).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("user.clasp.token"), "{error}");
    }
}
