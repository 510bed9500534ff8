//! Where cargo puts what it builds.

use std::path::PathBuf;

/// Where cargo puts what it builds.
///
/// # Panics
/// If the test program does not lie in a target directory.
pub fn target() -> PathBuf {
    let program = std::env::current_exe().expect("the path of this program");
    let target = program
        .ancestors()
        .find(|directory| directory.join("guests").is_dir());
    target
        .expect("no guests are built: run `cargo xtask test`, or `cargo xtask guests` first")
        .to_owned()
}
