//! What an owner is granted and how much it may use.

mod grant;
mod quota;

pub use grant::Grant;
pub(crate) use quota::{Account, OwnerId, Permit, Quota};
pub use quota::{Ceilings, Limits};
