//! What users of the engine hold: managers, owners, locks, guards and requests.

mod acquire;
mod cooperation;
mod guard;
mod lock;
mod manager;
mod opened;
mod owner;
mod ranges;
mod semaphore;

pub use acquire::Acquire;
pub use guard::{Guard, Loss};
pub use lock::Lock;
pub use manager::LockManager;
pub use opened::LockUse;
pub use owner::{Owner, OwnerHandle};
pub use ranges::RangeOwner;
pub use semaphore::{AcquirePermit, Permit, Semaphore};
