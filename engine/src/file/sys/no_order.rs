//! Systems on which the hosts that wait for a lock file have no order.

use crate::{
    Error, ErrorKind, Mode,
    backend::{Tickets, Turn},
};
use std::{path::Path, sync::Arc};

pub(crate) fn choose_order_folder(_: &Path) -> Result<(), Error> {
    Err(Error::new(
        ErrorKind::Unsupported,
        "hosts have no order on this operating system",
    ))
}

/// Never made: [`new`](FileTickets::new) has none.
pub(crate) enum FileTickets {}

impl FileTickets {
    pub(crate) fn new(_: u64, _: u128) -> Option<FileTickets> {
        None
    }
}

impl Tickets for FileTickets {
    fn others_wait(&self, _: Mode) -> bool {
        match *self {}
    }

    fn begin_turn(&self, _: Mode) -> Result<Arc<dyn Turn>, Error> {
        match *self {}
    }
}
