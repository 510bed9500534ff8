//! Tickets: the order of the hosts that wait for one lock file.
//!
//! They are locks on bytes of files that serve nothing else, so nothing is
//! stored, and nothing is stale when a process dies. A lock file has a region
//! of such a file, found by its device and inode:
//!
//! ```text
//!   gate │ ticket ticket ticket ...
//! ```
//!
//! Whoever has to wait takes the gate, finds the first byte with nothing held
//! at or above it, locks that, its ticket, in the mode of its request, and
//! leaves the gate. It then waits for all bytes before it, again in its mode,
//! so that shared requests do not wait for each other. Waits lead to lower
//! bytes only, hence in no circle.
//!
//! Two lock files whose regions are the same by chance wait for each other's
//! tickets, which costs time (see `PATIENCE`), and no exclusion.

use super::{
    lock::{Range, conflict, lock_range, unlock_range},
    wait::{Call, Spare},
    wake,
};
use crate::{
    Error, ErrorKind, Mode,
    backend::{Cancel, Tickets, Turn, Wait, Waited},
    sync::Mutex,
};
use rustix::{
    fs::{CWD, Mode as Permissions, OFlags},
    io::Errno,
};
use std::{
    array,
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::{Arc, LazyLock, OnceLock},
};

/// Files in the folder. The kernel keeps the locks of a file in one list, so
/// several keep it short where thousands of lock files are contended.
const FILES: usize = 256;

/// Bytes of a region, in bits: one is used up for each contended request as
/// long as somebody waits all the time; at 100,000 in a second these last
/// eight days, and then the order is the kernel's until nobody waits.
const REGION_BITS: u32 = 36;

/// Offsets have 63 bits; what a region leaves of them.
const REGIONS_BITS: u32 = 63 - REGION_BITS;

/// The folder, once there is a choice; `None` if there is none to be had.
static FOLDER: OnceLock<Option<OwnedFd>> = OnceLock::new();

/// Held while choosing.
static CHOOSING: Mutex<()> = Mutex::new(());

/// The files, for looking whether anybody waits.
static LOOK: LazyLock<[OnceLock<File>; FILES]> =
    LazyLock::new(|| array::from_fn(|_| OnceLock::new()));

pub(crate) fn choose_order_folder(path: &Path) -> Result<(), Error> {
    let _choosing = CHOOSING.lock();
    if FOLDER.get().is_some() {
        return Err(Error::new(
            ErrorKind::Unavailable,
            "the folder for the order of hosts was chosen before",
        ));
    }
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(path, flags, Permissions::empty())
        .map_err(|error| Error::from_io(&error.into()))?;
    FOLDER.get_or_init(|| Some(folder));
    Ok(())
}

/// The folder in use, which is the user's default one if nobody chose.
fn folder() -> Option<BorrowedFd<'static>> {
    let chosen = FOLDER.get().unwrap_or_else(|| {
        let _choosing = CHOOSING.lock();
        FOLDER.get_or_init(|| match default_folder() {
            Ok(folder) => Some(folder),
            Err(error) => {
                tracing::warn!(target: "clasp::order", %error, "no order between hosts: no folder for it");
                None
            }
        })
    });
    chosen.as_ref().map(AsFd::as_fd)
}

/// A folder in memory that every process of this user finds, whatever its
/// environment, and no other user can write to.
fn default_folder() -> io::Result<OwnedFd> {
    let user = rustix::process::geteuid();
    let parent = if Path::new("/dev/shm").is_dir() {
        "/dev/shm"
    } else {
        "/tmp"
    };
    let path = format!("{parent}/clasp-{}", user.as_raw());
    match rustix::fs::mkdir(&path, Permissions::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(CWD, &path, flags, Permissions::empty())?;
    let found = rustix::fs::fstat(&folder)?;
    let others = Permissions::RWXG | Permissions::RWXO;
    if found.st_uid != user.as_raw() || Permissions::from_raw_mode(found.st_mode).intersects(others)
    {
        return Err(io::Error::other(format!(
            "{path} is not a folder of this user alone; remove it"
        )));
    }
    Ok(folder)
}

fn open(number: usize) -> io::Result<File> {
    let folder = folder().ok_or(Errno::NOENT)?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // Of the umask's permissions; a folder that the user chose may be shared.
    let permissions = Permissions::from_raw_mode(0o666);
    let file = rustix::fs::openat(folder, format!("order-{number:02x}"), flags, permissions)?;
    Ok(file.into())
}

/// Which file, and where in it. All processes of a machine, of whatever
/// version, have to agree.
fn place(device: u64, inode: u128) -> (usize, Region) {
    // The finalizer of SplitMix64 (Steele, Lea and Flood 2014), for each.
    let mix = |mut x: u64| {
        x ^= x >> 30;
        x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x ^= x >> 27;
        x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    };
    let hash = mix(mix(device).wrapping_add(inode as u64));
    let file = (hash % FILES as u64) as usize;
    let region = hash >> (64 - REGIONS_BITS);
    let gate = (region << REGION_BITS) as i64;
    (file, Region { gate })
}

/// The bytes of one lock file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Region {
    gate: i64,
}

impl Region {
    fn gate(self) -> Range {
        Range {
            start: self.gate,
            len: 1,
        }
    }

    fn first(self) -> i64 {
        self.gate + 1
    }

    /// The last byte; the one after it may be no offset.
    fn last(self) -> i64 {
        self.gate + ((1 << REGION_BITS) - 1)
    }

    /// The tickets from one on.
    fn from(self, start: i64) -> Range {
        Range {
            start,
            len: self.last() - start + 1,
        }
    }
}

/// The tickets for one lock file, drawn by one of its descriptions.
pub(crate) struct FileTickets {
    number: usize,
    region: Region,
    look: &'static File,
    /// What this lock file's own ticket lies on, once it has had to wait.
    own: OnceLock<Arc<File>>,
    spare: Arc<Spare>,
}

impl FileTickets {
    /// `None` if there is no order to be had.
    pub(crate) fn new(device: u64, inode: u128) -> Option<FileTickets> {
        // Without it a wait could not be ended, and would keep others waiting.
        wake::is_possible().then_some(())?;
        folder()?;
        let (number, region) = place(device, inode);
        let look = match LOOK[number].get() {
            Some(look) => look,
            None => match open(number) {
                Ok(file) => LOOK[number].get_or_init(|| file),
                Err(error) => {
                    tracing::warn!(target: "clasp::order", %error, "no order between hosts");
                    return None;
                }
            },
        };
        Some(FileTickets {
            number,
            region,
            look,
            own: OnceLock::new(),
            spare: Arc::default(),
        })
    }

    fn own(&self) -> io::Result<&Arc<File>> {
        if let Some(own) = self.own.get() {
            return Ok(own);
        }
        let own = Arc::new(open(self.number)?);
        Ok(self.own.get_or_init(|| own))
    }
}

impl Tickets for FileTickets {
    fn others_wait(&self, mode: Mode) -> bool {
        // A description does not see its own tickets.
        let file = self.own.get().map_or(self.look, |own| own);
        let found = conflict(file, self.region.from(self.region.first()), mode);
        found.is_ok_and(|found| found.is_some())
    }

    fn begin_turn(&self, mode: Mode) -> Result<Arc<dyn Turn>, Error> {
        let turn = || -> io::Result<FileTurn> {
            let file = Arc::clone(self.own()?);
            Ok(FileTurn {
                call: Call::new(&file, &self.spare)?,
                file,
                region: self.region,
                mode,
                ticket: OnceLock::new(),
            })
        };
        Ok(Arc::new(turn().map_err(|error| Error::from_io(&error))?))
    }
}

/// One ticket and the wait for its turn.
struct FileTurn {
    call: Call,
    /// The description that the ticket lies on.
    file: Arc<File>,
    region: Region,
    mode: Mode,
    ticket: OnceLock<i64>,
}

impl FileTurn {
    /// Draws a ticket.
    fn draw(&self, file: BorrowedFd<'_>) -> Result<i64, Errno> {
        lock_range(file, self.region.gate(), Mode::Exclusive, true)?;
        let ticket = self.free_ticket(file).and_then(|ticket| {
            lock_range(file, Range::between(ticket, ticket + 1), self.mode, false)?;
            Ok(ticket)
        });
        unlock_range(file, self.region.gate())?;
        let ticket = ticket?;
        // For who looks into the order, such as the tests do.
        tracing::trace!(target: "clasp::order", number = ticket - self.region.gate, "drew a ticket");
        Ok(ticket)
    }

    /// The first byte with nothing held at or above it.
    fn free_ticket(&self, file: BorrowedFd<'_>) -> Result<i64, Errno> {
        let mut ticket = self.region.first();
        while ticket <= self.region.last() {
            match conflict(file, self.region.from(ticket), Mode::Exclusive)? {
                None => return Ok(ticket),
                // To the end of all files: none of ours.
                Some(Range { len: 0, .. }) => break,
                Some(taken) => ticket = taken.start + taken.len,
            }
        }
        // Used up: there is an order again once nobody waits.
        Err(Errno::NOLCK)
    }

    fn before(&self, ticket: i64) -> Range {
        Range::between(self.region.first(), ticket)
    }
}

impl Wait for FileTurn {
    fn run(&self) -> Result<Waited, Error> {
        self.call.run(|file| {
            let ticket = match self.ticket.get() {
                Some(ticket) => *ticket,
                None => {
                    let ticket = self.draw(file)?;
                    *self.ticket.get_or_init(|| ticket)
                }
            };
            if ticket == self.region.first() {
                return Ok(());
            }
            lock_range(file, self.before(ticket), self.mode, true)
        })
    }

    fn cancel(&self) -> Cancel {
        self.call.cancel()
    }
}

impl Turn for FileTurn {
    fn head(&self) -> Option<u64> {
        let Some(ticket) = self.ticket.get() else {
            // It waits at the gate.
            return Some(self.region.gate as u64);
        };
        let (mut first, mut end) = (None, *ticket);
        while end > self.region.first() {
            let found = conflict(&self.file, self.before(end), self.mode).ok()?;
            let Some(found) = found else { break };
            // By its last byte: whoever has its turn holds all before, too.
            first = Some((found.start + found.len - 1) as u64);
            end = found.start;
        }
        first
    }

    fn end(&self) {
        // The gate as well: a draw may have been interrupted.
        if let Err(error) = unlock_range(&self.file, self.region.from(self.region.gate)) {
            tracing::error!(target: "clasp::order", %error, "cannot give a ticket back");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_fit_into_offsets_and_do_not_overlap() {
        let last = Region {
            gate: (((1_u64 << REGIONS_BITS) - 1) << REGION_BITS) as i64,
        };
        assert_eq!(last.last(), i64::MAX);
        let next = Region {
            gate: 1 << REGION_BITS,
        };
        assert_eq!(Region { gate: 0 }.last() + 1, next.gate);
        assert_eq!(next.from(next.first()).len, (1 << REGION_BITS) - 1);
    }

    /// A process that is stopped in the midst of drawing is passed like any
    /// other: what does not move has a name.
    #[test]
    fn who_waits_at_the_gate_knows_what_for() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name| {
            let path = folder.path().join(name);
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            Arc::new(options.open(path).unwrap())
        };
        let region = Region { gate: 0 };
        let stopped = file("order");
        assert!(lock_range(&*stopped, region.gate(), Mode::Exclusive, false).is_ok());
        let own = file("order");
        let turn = Arc::new(FileTurn {
            call: Call::new(&own, &Arc::default()).unwrap(),
            file: own,
            region,
            mode: Mode::Exclusive,
            ticket: OnceLock::new(),
        });
        let running = std::thread::spawn({
            let turn = Arc::clone(&turn);
            move || turn.run().unwrap()
        });
        assert_eq!((turn.head(), turn.head()), (Some(0), Some(0)));
        assert!(unlock_range(&*stopped, region.gate()).is_ok());
        assert_eq!(running.join().unwrap(), Waited::Granted);
        assert_eq!(turn.head(), None);
        turn.end();
    }

    /// Hosts of different versions must find the same place.
    #[test]
    fn the_place_of_a_file_is_fixed() {
        assert_eq!(place(0, 0), (0, Region { gate: 0 }));
        let (file, region) = place(2049, 131_073);
        assert_eq!((file, region.gate >> REGION_BITS), PINNED);
    }

    const PINNED: (usize, i64) = (228, 23_950_125);
}
