//! Which path each descriptor was opened by. A WASI guest cannot ask for that, and locks are
//! opened by path.

use std::collections::HashMap;

/// The paths of the descriptors that are open: absolute, without `.` and `..`.
#[derive(Debug, Default)]
pub(crate) struct Paths(HashMap<i32, String>);

impl Paths {
    pub(crate) fn get(&self, fd: i32) -> Option<&str> {
        self.0.get(&fd).map(String::as_str)
    }

    pub(crate) fn insert(&mut self, fd: i32, path: String) {
        self.0.insert(fd, path);
    }

    pub(crate) fn remove(&mut self, fd: i32) {
        self.0.remove(&fd);
    }

    pub(crate) fn renumber(&mut self, from: i32, to: i32) {
        match self.0.remove(&from) {
            Some(path) => self.insert(to, path),
            None => self.remove(to),
        }
    }

    /// A file or directory has another path now, and all that is below it.
    pub(crate) fn rename(&mut self, old: &str, new: &str) {
        for path in self.0.values_mut() {
            if let Some(rest) = path.strip_prefix(old)
                && (rest.is_empty() || rest.starts_with('/'))
            {
                *path = format!("{new}{rest}");
            }
        }
    }
}

/// The path of what `path` names in a directory. `..` is taken for the directory above in the
/// text: where symbolic links make that wrong, the file found there is another one, and the
/// caller compares.
pub(crate) fn join(directory: &str, path: &str) -> String {
    let mut joined = String::new();
    for part in directory.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => joined.truncate(joined.rfind('/').unwrap_or(0)),
            part => {
                joined.push('/');
                joined.push_str(part);
            }
        }
    }
    if joined.is_empty() {
        joined.push('/');
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_and_plain() {
        assert_eq!(join("data", "a/./b"), "/data/a/b");
        assert_eq!(join("/", "a//b/../c"), "/a/c");
        assert_eq!(join(".", "a"), "/a");
        assert_eq!(join("/data/", "../../x"), "/x");
        assert_eq!(join("/", "."), "/");
    }

    #[test]
    fn renames_are_followed() {
        let mut paths = Paths::default();
        for (fd, path) in [(4, "/d"), (5, "/d/a"), (6, "/d/ab"), (7, "/e")] {
            paths.insert(fd, path.into());
        }
        paths.rename("/d/a", "/f");
        paths.rename("/d", "/g/h");
        let found = [4, 5, 6, 7].map(|fd| paths.get(fd));
        assert_eq!(
            found,
            [Some("/g/h"), Some("/f"), Some("/g/h/ab"), Some("/e")]
        );
        paths.renumber(5, 7);
        paths.renumber(9, 6);
        assert_eq!([5, 6, 7].map(|fd| paths.get(fd)), [None, None, Some("/f")]);
        paths.remove(7);
        assert_eq!(paths.get(7), None);
    }
}
