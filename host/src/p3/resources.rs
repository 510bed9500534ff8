//! What the guest's handles stand for. Several calls may use one at the same time, and none
//! holds the store while it waits, so they are shared.

use async_lock::Mutex;
use clasp_engine::{Guard, Lock, Mode, Permit, RangeOwner, Semaphore, backend::Identity};
use std::sync::Arc;

/// The resource `lock`.
#[derive(Debug)]
pub struct LockResource(pub(super) Arc<Lock>);

/// The resource `guard`.
#[derive(Debug)]
pub struct GuardResource {
    /// Calls that convert the lock follow one after the other.
    pub(super) guard: Arc<Mutex<Guard>>,
    /// How it was held when that was last seen.
    pub(super) mode: Mode,
}

/// The resource `range-owner`.
#[derive(Debug)]
pub struct RangeOwnerResource {
    /// Calls that lock or release follow one after the other.
    pub(super) ranges: Arc<Mutex<RangeOwner>>,
    pub(super) file: Identity,
}

/// The resource `semaphore`.
#[derive(Debug)]
pub struct SemaphoreResource(pub(super) Arc<Semaphore>);

/// The resource `permit`.
#[derive(Debug)]
pub struct PermitResource(pub(super) Arc<Permit>);
