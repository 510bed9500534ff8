//! The lockspaces of a guest, and what is opened in them, for all versions of the interface.

use crate::{CallError, LocksCtxView, ctx::Granted};
use clasp_engine::{Error, ErrorKind, Lock, RangeOwner, Semaphore};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use wasmtime::component::Resource;

/// The resource `lockspace`. It has no entry in the table: the handle's number
/// is the place of the grant in the context, so that a guest cannot fill the
/// table with handles that no quota counts.
#[derive(Debug)]
pub struct LockspaceResource;

impl LocksCtxView<'_> {
    /// What `get-lockspaces` answers.
    pub(crate) fn lockspaces(&self) -> Vec<(Resource<LockspaceResource>, String)> {
        let spaces = self.ctx.spaces.iter().enumerate();
        spaces
            .map(|(at, granted)| (Resource::new_own(at as u32), granted.path.clone()))
            .collect()
    }

    pub(crate) fn open_lock(
        &self,
        space: &Resource<LockspaceResource>,
        name: &str,
    ) -> Result<Lock, CallError> {
        Ok(self.ctx.owner.open(&self.granted(space)?.grant, name)?)
    }

    pub(crate) fn open_flock_lock(
        &self,
        space: &Resource<LockspaceResource>,
        name: &str,
    ) -> Result<Lock, CallError> {
        let Some(grant) = &self.granted(space)?.flock else {
            let why = "the back end of the lockspace has no locks of `flock`";
            return Err(Error::new(ErrorKind::Unsupported, why).into());
        };
        Ok(self.ctx.owner.open(grant, name)?)
    }

    pub(crate) fn open_range_owner(
        &self,
        space: &Resource<LockspaceResource>,
        name: &str,
    ) -> Result<RangeOwner, CallError> {
        let grant = &self.granted(space)?.grant;
        Ok(self.ctx.owner.open_ranges(grant, name)?)
    }

    pub(crate) fn open_semaphore(
        &self,
        space: &Resource<LockspaceResource>,
        name: &str,
        permits: u32,
    ) -> Result<Semaphore, CallError> {
        let grant = &self.granted(space)?.grant;
        let permits = amount(permits);
        Ok(self.ctx.owner.open_semaphore(grant, name, permits)?)
    }

    fn granted(&self, space: &Resource<LockspaceResource>) -> Result<&Granted, CallError> {
        let granted = self.ctx.spaces.get(space.rep() as usize);
        granted.ok_or_else(|| {
            let why = "the lockspace is not granted";
            Error::new(ErrorKind::NotPermitted, why).into()
        })
    }
}

/// A number of permits for the engine, which refuses it if it is too great.
pub(crate) fn amount(permits: u32) -> u8 {
    u8::try_from(permits).unwrap_or(u8::MAX)
}

/// The time since 1970. What is before that is long past in any case.
pub(crate) fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}
