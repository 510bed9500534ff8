//! What a benchmark does with a lock while it is held.

use anyhow::{Result, ensure};
use clap::ValueEnum;
use clasp_engine::{Guard, Mode, file::Family, testing::native};
use rustix::fs::{XattrFlags, fgetxattr, fsetxattr};
use std::fs::File;

/// One step between an acquisition and its release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Step {
    Nothing,
    Downgrade,
    /// An upgrade that fails, because another process holds the lock too.
    FailedUpgrade,
    Token,
}

impl Step {
    /// By the system calls alone.
    pub(crate) fn natively(self, file: &File, family: Family) -> Result<()> {
        match self {
            Step::Nothing => {}
            Step::Downgrade => native::lock(file, family, Mode::Shared)?,
            Step::FailedUpgrade => ensure!(!native::try_lock(file, family, Mode::Exclusive)?),
            Step::Token => {
                let mut value = [0; 16];
                // The first time there is none.
                let _ = fgetxattr(file, "user.clasp.token", &mut value);
                fsetxattr(file, "user.clasp.token", &value, XattrFlags::empty())?;
            }
        }
        Ok(())
    }

    /// By the engine.
    pub(crate) fn with(self, guard: &mut Guard) -> Result<()> {
        match self {
            Step::Nothing => {}
            Step::Downgrade => guard.downgrade()?,
            Step::FailedUpgrade => ensure!(!guard.try_upgrade()?),
            Step::Token => {
                guard.token()?;
            }
        }
        Ok(())
    }
}
