//! The order in which hosts take one lock.

use super::{fair, sys};
use crate::{Error, ErrorKind};
use std::{fmt, ops::RangeInclusive, str::FromStr};

/// In which order requests of different processes get a lock.
///
/// Within one host it is always first come first served. The default is
/// [`Fair`](Order::Fair) on Linux, and [`Kernel`](Order::Kernel) elsewhere,
/// where there is no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Order {
    /// First come first served among the hosts of one user: once a request has
    /// its place, each other host has at most one tenure before it (64 turns or
    /// 250 us; in an asynchronous host 128 turns or 500 us), and readers do not starve
    /// writers. The first acquisition of each tenure costs one system call more.
    ///
    /// The order is kept in a directory of the user, by locks that vanish with the
    /// processes; see [`set_order_directory`](crate::file::set_order_directory).
    /// Where there is no such directory, and where inode numbers do not identify
    /// files (FUSE, network file systems), the order is the kernel's.
    Fair,
    /// No ordering guarantee. A process that releases the lock and asks again at
    /// once usually gets it again.
    Kernel,
}

impl Order {
    /// Those of this operating system, the default first.
    pub fn supported() -> &'static [Order] {
        sys::ORDERS
    }

    /// Whether this operating system has it.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) with what to use instead.
    pub fn check(self) -> Result<(), Error> {
        if Order::supported().contains(&self) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unsupported,
            format!("this operating system has no `{self}` order between hosts: use `kernel`"),
        ))
    }

    /// The name, as in options: `fair` or `kernel`.
    pub fn name(self) -> &'static str {
        match self {
            Order::Fair => "fair",
            Order::Kernel => "kernel",
        }
    }
}

/// Where the hosts that wait for one lock file have their places.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WaitingLine {
    /// The device of the file on which they hold locks, one byte each.
    pub device: u64,
    /// The inode of that file.
    pub inode: u64,
    /// The bytes that belong to this lock file. A host with a lower byte comes first.
    /// It holds the byte shared if it waits for a shared lock.
    pub places: RangeInclusive<u64>,
}

/// Where hosts wait for a lock file, which its device and inode tell from others. This
/// is for tools that list the locks of a machine: `/proc/PID/fdinfo` has the locks of a
/// process.
///
/// The places are looked for in the order directory of this process, which is that of its
/// user unless another was chosen. If none was chosen, root gets a line for each user. A
/// line is missing if no host has used this part of the order yet, and there are none on
/// systems where hosts have no order.
pub fn waiting_lines(device: u64, inode: u64) -> Vec<WaitingLine> {
    let (number, region) = fair::region(device, inode.into());
    let lines = sys::order_file_numbers(number).into_iter();
    let line = |(device, inode)| WaitingLine {
        device,
        inode,
        places: region.tickets(),
    };
    lines.map(line).collect()
}

impl Default for Order {
    fn default() -> Order {
        Order::supported()[0]
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Order {
    type Err = String;

    fn from_str(text: &str) -> Result<Order, String> {
        match text {
            "fair" => Ok(Order::Fair),
            "kernel" => Ok(Order::Kernel),
            other => Err(format!(
                "unknown order {other:?}: use `fair` (first come first served between hosts) \
                 or `kernel`"
            )),
        }
    }
}
