//! The guests that are parts of the command `clasp`.

use crate::{programs, shell::root};
use anyhow::Result;
use std::fs;

/// Gives the command `clasp` a guest of its demo.
pub(crate) fn give(name: &str) -> Result<()> {
    let built = fs::read(programs::path(name))?;
    let asset = root().join(format!("cli/assets/{name}.wasm"));
    // A file that is written anew has `clasp` built anew.
    if fs::read(&asset).ok().as_ref() != Some(&built) {
        fs::write(asset, built)?;
    }
    Ok(())
}
