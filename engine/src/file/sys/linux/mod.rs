//! Linux.

mod file_system;
mod lock;
mod native;
mod order;
mod ranges;
mod wait;
mod wake;

pub(crate) use file_system::file_system;
#[cfg(feature = "conformance")]
pub(crate) use lock::{lock, try_lock, unlock};
pub(crate) use native::NativeFile;
pub(crate) use order::{choose_order_directory, order_file, order_file_numbers};
pub(crate) use ranges::NativeRanges;
pub(crate) use wake::choose_wake_signal;

pub(crate) use super::unix::{
    check_name, classify, is_linked, is_read_only, keeps_creation_times, look_up, numbers, path_of,
    prepare, set_creation_mode,
};
use crate::file::{Family, Order};

/// The default first.
pub(crate) const FAMILIES: &[Family] = &[Family::Posix, Family::Flock, Family::Both];

/// The default first.
pub(crate) const ORDERS: &[Order] = &[Order::Fair, Order::Kernel];

pub(crate) const HAS_RANGES: bool = true;

/// Whole files that are locked so and ranges of their bytes exclude each other.
pub(crate) const FAMILIES_OF_RANGES: &[&str] = &["posix", "both"];
