//! Which lock a path names (S19): the same file that `std::fs` would open.

/// Finds the granted lockspace for a path and the name in it.
///
/// This is what wasi-libc does for files: a relative path starts at the current
/// directory; leading `/` and `./` count for nothing, in paths as in grants;
/// of the grants that are a prefix at a component boundary the longest counts,
/// and of equal ones the last. `..` stays where it is, for the host to refuse.
pub(crate) fn resolve<'a, S: AsRef<str>>(
    path: &'a str,
    current_dir: &str,
    grants: impl IntoIterator<Item = S>,
) -> Option<(usize, String)> {
    let full;
    let path: &'a str = if path.starts_with('/') || strip(current_dir).is_empty() {
        strip(path)
    } else {
        full = format!("{current_dir}/{}", strip(path));
        return find(strip(&full), grants);
    };
    find(path, grants)
}

fn find<S: AsRef<str>>(path: &str, grants: impl IntoIterator<Item = S>) -> Option<(usize, String)> {
    grants
        .into_iter()
        .enumerate()
        .filter_map(|(at, grant)| {
            let prefix = strip(grant.as_ref()).trim_end_matches('/');
            let rest = below(path, prefix)?;
            Some((prefix.len(), at, rest.to_owned()))
        })
        .max_by_key(|(length, at, _)| (*length, *at))
        .map(|(_, at, rest)| (at, rest))
}

/// What of `path` is below `prefix`.
fn below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(prefix)?;
    if prefix.is_empty() {
        return Some(rest);
    }
    match rest.strip_prefix('/') {
        Some(name) => Some(name.trim_start_matches('/')),
        None => rest.is_empty().then_some(""),
    }
}

/// The path without what counts for nothing at its front.
fn strip(mut path: &str) -> &str {
    loop {
        path = match path.strip_prefix('/').or_else(|| path.strip_prefix("./")) {
            Some(rest) => rest,
            None if path == "." => "",
            None => return path,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::resolve;

    fn at(path: &str, cwd: &str, grants: &[&str]) -> Option<(usize, String)> {
        resolve(path, cwd, grants)
    }

    fn found(at: usize, name: &str) -> Option<(usize, String)> {
        Some((at, name.into()))
    }

    #[test]
    fn spellings_of_the_front_count_for_nothing() {
        for path in ["data/a", "/data/a", "./data/a", "//data/a", "././data/a"] {
            for grant in ["data", "/data", "./data", "data/", "/data//"] {
                assert_eq!(at(path, "/", &[grant]), found(0, "a"), "{path} {grant}");
            }
        }
    }

    #[test]
    fn everything_is_below_the_root_and_the_current_directory() {
        for grant in [".", "/", "", "./"] {
            assert_eq!(at("a/b", "/", &[grant]), found(0, "a/b"));
            assert_eq!(at("/a/b", "/", &[grant]), found(0, "a/b"));
        }
    }

    #[test]
    fn the_longest_grant_counts_at_a_component_boundary() {
        let grants = ["data", "data/deep", "."];
        assert_eq!(at("data/deep/a", "/", &grants), found(1, "a"));
        assert_eq!(at("data/deeper/a", "/", &grants), found(0, "deeper/a"));
        assert_eq!(at("database/a", "/", &grants), found(2, "database/a"));
        assert_eq!(at("database/a", "/", &["data"]), None);
        assert_eq!(at("data/a", "/", &["data", "/data"]), found(1, "a"));
    }

    #[test]
    fn relative_paths_start_at_the_current_directory() {
        assert_eq!(at("a", "/data", &["data"]), found(0, "a"));
        assert_eq!(at("./a", "/data/x", &["data"]), found(0, "x/a"));
        assert_eq!(at("/a", "/data", &["data"]), None);
    }

    #[test]
    fn dots_are_left_to_the_host() {
        assert_eq!(at("data/../a", "/", &["data"]), found(0, "../a"));
        assert_eq!(at("data", "/", &["data"]), found(0, ""));
        assert_eq!(at("../a", "/data", &["data"]), found(0, "../a"));
    }
}
