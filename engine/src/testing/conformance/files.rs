//! What the suite needs of a file system.

use super::LIVENESS_TIMEOUT;
use std::{ffi::OsString, fs, path::Path, process::Command, thread, time::Instant};

/// The prefix of Wine, if this runs on it: `cargo xtask test --windows` sets it.
fn wine() -> Option<OsString> {
    std::env::var_os("WINEPREFIX").filter(|_| cfg!(windows))
}

/// Whether waits for lock files need threads on this system, see
/// [`World::waits_need_threads`](super::World::waits_need_threads).
pub fn waits_need_threads() -> bool {
    cfg!(not(windows)) || wine().is_some()
}

/// Whether a file's time of creation is what it says. Where it is not, a lock file
/// counts as touched when it was created.
pub fn keeps_creation_times() -> bool {
    wine().is_none()
}

/// Takes a file's name away at once, also while programs have the file open.
///
/// Windows and Unix do so when a file is removed. Wine 8.0 waits until the last
/// program has closed it; there the name is removed by the system below, for
/// files in the C: drive of the prefix that `WINEPREFIX` names.
///
/// # Panics
/// If it cannot be taken away.
pub fn remove_name(file: &Path) {
    let Some(prefix) = wine() else {
        return fs::remove_file(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    };
    let inside = file.to_str().and_then(|file| file.strip_prefix("C:"));
    let inside = inside.expect("a file in the prefix").replace('\\', "/");
    let below = format!("{}/drive_c{inside}", prefix.display());
    // It is no child that could be waited for.
    drop(Command::new(r"Z:\bin\rm").arg(below).spawn().expect("rm"));
    let begun = Instant::now();
    while file.exists() {
        assert!(
            begun.elapsed() < LIVENESS_TIMEOUT,
            "{} is there",
            file.display()
        );
        thread::yield_now();
    }
}
