//! Systems on which no signal ends a wait.

use crate::{Error, ErrorKind};

pub(crate) fn choose_wake_signal(_: Option<i32>) -> Result<(), Error> {
    Err(Error::new(
        ErrorKind::Unsupported,
        "no signal is needed to end waits on this operating system",
    ))
}
