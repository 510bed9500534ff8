//! Linux.

mod file_system;
mod lock;
mod tickets;
mod wait;
mod wake;

pub(crate) use file_system::file_system;
#[cfg(feature = "conformance")]
pub(crate) use lock::lock;
pub(crate) use lock::{downgrade, is_free, try_lock, unlock};
pub(crate) use tickets::{FileTickets, choose_order_folder};
pub(crate) use wait::{KernelWait, Spare};
pub(crate) use wake::choose_wake_signal;

pub(crate) use super::unix::*;
use crate::file::{Family, Order};

/// The default first.
pub(crate) const FAMILIES: &[Family] = &[Family::Posix, Family::Flock, Family::Both];

/// The default first.
pub(crate) const ORDERS: &[Order] = &[Order::Fair, Order::Kernel];
