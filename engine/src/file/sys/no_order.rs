//! Systems on which the hosts that wait for a lock file have no order.

use crate::{Error, ErrorKind, file::kernel::OrderBytes};
use std::path::Path;

pub(crate) fn choose_order_directory(_: &Path) -> Result<(), Error> {
    Err(Error::new(
        ErrorKind::Unsupported,
        "hosts have no order on this operating system",
    ))
}

/// There are none.
pub(crate) fn order_file_numbers(_: usize) -> Vec<(u64, u64)> {
    Vec::new()
}

/// There is none.
pub(crate) fn order_file(_: usize) -> Option<Box<dyn OrderBytes>> {
    None
}
