//! Names of locks (S12): relative paths that stay below their directory.

use crate::{Error, ErrorKind};
use std::{fmt, path::Path};

/// The name of a lock: a relative UTF-8 path with at least one component and
/// without `.`, `..`, empty components or NUL.
///
/// ```
/// use clasp_engine::LockName;
/// assert_eq!(LockName::parse("./locks//a.lock", 64)?.as_str(), "locks/a.lock");
/// assert!(LockName::parse("../a.lock", 64).is_err());
/// # Ok::<(), clasp_engine::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct LockName(Box<str>);

impl LockName {
    /// Parses `text`, which may be at most `max_len` bytes long.
    ///
    /// `.` and empty components are dropped. `..` is refused and never
    /// resolved: with symlinks about, `a/../b` need not be `b`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidName`] with the reason.
    pub fn parse(text: &str, max_len: usize) -> Result<LockName, Error> {
        let refuse = |why: String| Err(Error::new(ErrorKind::InvalidName, why));
        if text.is_empty() {
            return refuse("the name is empty".into());
        }
        if text.len() > max_len {
            // The name itself is left out: it is hostile and long.
            return refuse(format!(
                "the name has {} bytes, {max_len} are allowed",
                text.len()
            ));
        }
        if text.contains('\0') {
            return refuse("the name contains a NUL".into());
        }
        if text.starts_with('/') {
            return refuse(format!(
                "{text:?} is absolute; names are relative to their lockspace"
            ));
        }
        if text.ends_with('/') {
            return refuse(format!("{text:?} names a directory"));
        }
        let mut name = String::with_capacity(text.len());
        for part in text.split('/') {
            match part {
                "" | "." => continue,
                ".." => return refuse(format!("{text:?} contains `..`")),
                _ => {}
            }
            if !name.is_empty() {
                name.push('/');
            }
            name.push_str(part);
        }
        // `a/.` names the directory `a`, not a file in it.
        if name.is_empty() || text.ends_with("/.") {
            return refuse(format!("{text:?} names a directory"));
        }
        Ok(LockName(name.into()))
    }

    /// The name with `/` between its components.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as a path relative to its directory.
    pub fn as_path(&self) -> &Path {
        Path::new(&*self.0)
    }
}

impl fmt::Display for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> Option<ErrorKind> {
        LockName::parse(text, 64).err().map(|e| e.kind())
    }

    #[test]
    fn spellings_of_one_name_become_one() {
        for text in ["a/b", "./a/b", "a//b", "a/./b", ".//a/./b"] {
            assert_eq!(LockName::parse(text, 64).unwrap().as_str(), "a/b", "{text}");
        }
    }

    #[test]
    fn hostile_names_are_refused() {
        for text in [
            "", ".", "./", "/", "/a", "//a", "..", "../a", "a/..", "a/../b", "a\0b", "a/", "a/.",
        ] {
            assert_eq!(kind(text), Some(ErrorKind::InvalidName), "{text:?}");
        }
        assert_eq!(kind(&"a".repeat(65)), Some(ErrorKind::InvalidName));
        assert_eq!(kind(&"a".repeat(64)), None);
    }

    #[test]
    fn unusual_names_are_names() {
        for text in ["...", "..a", "a..", " ", "-", "ä/ö.lock", "a\\b"] {
            assert_eq!(kind(text), None, "{text:?}");
        }
    }
}
