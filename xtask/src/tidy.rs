//! Checks.
use anyhow::Result;
pub(crate) fn run(_fix: bool) -> Result<()> {
    Ok(())
}
