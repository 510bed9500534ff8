//! The guests that are parts of the command `clasp`.

use crate::shell::{root, target};
use anyhow::Result;
use std::fs;

/// Gives the command `clasp` a guest of its demo.
pub(crate) fn give(name: &str) -> Result<()> {
    let built = fs::read(target().join(format!("guests/wasm32-wasip2/release/{name}.wasm")))?;
    let asset = root().join(format!("cli/assets/{name}.wasm"));
    // A file that is written anew has `clasp` built anew.
    if fs::read(&asset).ok().as_ref() != Some(&built) {
        fs::write(asset, built)?;
    }
    Ok(())
}
