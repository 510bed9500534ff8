//! The order of the hosts that wait for one lock file: tickets.
//!
//! Tickets are locks on bytes of files that serve nothing else, so nothing is
//! stored, and nothing is stale when a process ends. A lock file has a region of
//! such a file, found by its device and inode:
//!
//! ```text
//!   gate │ ticket ticket ticket ...
//! ```
//!
//! A host that has to wait takes the gate, locks one byte beyond all that are
//! held, its ticket, in the mode of its request, and leaves the gate. It then
//! waits for all bytes before its ticket, again in its mode, so that shared
//! requests do not wait for each other. Waits lead to lower bytes only, hence in
//! no circle.
//!
//! Tickets exclude no process: every holder has the native lock, so a mistake in
//! the order costs order alone. If two lock files share a region by chance, they
//! wait for each other's tickets, for no longer than [`PATIENCE`].

use super::kernel::{Call, OrderBytes, Range};
use crate::{Error, ErrorKind, Mode, sync::Mutex};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Files in the directory. The kernel keeps the locks of a file in one list, so
/// several keep it short where thousands of lock files are contended.
pub(crate) const FILES: usize = 256;

/// Bytes of a region, in bits. A ticket is drawn by a clock of microseconds:
/// these last two years since the machine was started, and then there is no
/// order until the line is empty once.
const REGION_BITS: u32 = 46;

/// Offsets have 63 bits; what a region leaves of them.
const REGIONS_BITS: u32 = 63 - REGION_BITS;

/// How long the host that is first in line may leave a lock unused that was seen
/// free, before others pass it. Longer than a busy machine keeps a process from
/// running.
const PATIENCE: Duration = if cfg!(shuttle) {
    // In a model any time may pass.
    Duration::ZERO
} else {
    Duration::from_millis(100)
};

/// How many looks at the line may pass before its file is checked. A check costs
/// as much as a look.
const CHECK_LOOKS: u32 = 64;

/// Which file serves a lock file, and where in it. All processes of a machine,
/// of whatever version, have to agree.
pub(crate) fn region(device: u64, inode: u128) -> (usize, Region) {
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
pub(crate) struct Region {
    gate: i64,
}

impl Region {
    fn gate(self) -> Range {
        Range::between(self.gate, self.gate + 1)
    }

    fn first(self) -> i64 {
        self.gate + 1
    }

    /// The last byte; the one after it may be no offset.
    fn last(self) -> i64 {
        self.gate + ((1 << REGION_BITS) - 1)
    }

    /// The bytes of all tickets.
    pub(super) fn tickets(self) -> std::ops::RangeInclusive<u64> {
        self.first() as u64..=self.last() as u64
    }

    /// The bytes from one on.
    fn from(self, start: i64) -> Range {
        Range {
            start,
            len: self.last() - start + 1,
        }
    }

    /// The ticket for a time.
    fn at(self, clock: u64) -> i64 {
        let tickets = (1 << REGION_BITS) - 1;
        self.first() + (clock % tickets) as i64
    }
}

/// A ticket that this host has drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticket {
    at: i64,
    mode: Mode,
}

#[derive(Debug, Default)]
struct State {
    ticket: Option<Ticket>,
    /// The ticket of a host that did not move and was passed. It is passed again
    /// without another wait until it is given back.
    passed: Option<i64>,
    /// Since the file was checked.
    looks: u32,
}

/// The line for one lock file, as one of its descriptions has it.
pub(crate) struct Line {
    bytes: Box<dyn OrderBytes>,
    region: Region,
    state: Mutex<State>,
}

impl Line {
    pub(crate) fn new(bytes: Box<dyn OrderBytes>, region: Region) -> Line {
        Line {
            bytes,
            region,
            state: Mutex::default(),
        }
    }

    /// Whether another host is in line whose request conflicts with `mode`, those
    /// apart that do not move. Errors count as an empty line.
    pub(crate) fn is_waited_for(&self, mode: Mode) -> bool {
        self.check_file();
        let found = |range: Range| matches!(self.bytes.conflict(range, mode), Ok(Some(_)));
        if !found(self.region.from(self.region.first())) {
            return false;
        }
        // What is held up to it is its own: all others have drawn later.
        let passed = self.passed();
        passed
            .is_none_or(|passed| passed < self.region.last() && found(self.region.from(passed + 1)))
    }

    /// The ticket that is passed, unless its host has moved.
    fn passed(&self) -> Option<i64> {
        let passed = self.state.lock().passed?;
        let byte = Range::between(passed, passed + 1);
        // In the mode of any ticket.
        if matches!(self.bytes.conflict(byte, Mode::Exclusive), Ok(Some(_))) {
            return Some(passed);
        }
        self.state.lock().passed = None;
        None
    }

    /// Now and then: a file that was removed is not the one that others use.
    fn check_file(&self) {
        let due = {
            let mut state = self.state.lock();
            state.looks += 1;
            let due = state.looks >= CHECK_LOOKS && state.ticket.is_none();
            if due {
                state.looks = 0;
            }
            due
        };
        if due {
            // It is looked at again, and an error told, when a ticket is drawn.
            let _ = self.bytes.refresh(false);
        }
    }

    /// Prepares to draw a ticket: what to wait for before [`draw`](Self::draw), or
    /// nothing if there is a ticket in this mode already.
    pub(crate) fn begin(&self, mode: Mode) -> Result<Option<Arc<dyn Call>>, Error> {
        let ticket = self.state.lock().ticket;
        match ticket {
            Some(ticket) if ticket.mode == mode => return Ok(None),
            Some(_) => self.leave()?,
            None => {}
        }
        match self.bytes.refresh(true) {
            Ok(false) => {}
            Ok(true) => {
                tracing::info!(target: "clasp::order", "the directory of the order was removed; using the new one");
            }
            Err(error) => {
                tracing::warn!(target: "clasp::order", %error, "the order between hosts is out of reach");
            }
        }
        let gate = self.bytes.wait(self.region.gate(), Mode::Exclusive)?;
        Ok(Some(gate))
    }

    /// Draws a ticket. The gate is held, and left.
    pub(crate) fn draw(&self, mode: Mode) -> Result<(), Error> {
        let drawn = self.free_ticket().and_then(|at| {
            let byte = Range::between(at, at + 1);
            match self.bytes.lock(byte, mode)? {
                true => Ok(Ticket { at, mode }),
                false => Err(Error::new(ErrorKind::Io, "a ticket was drawn twice")),
            }
        });
        self.bytes.unlock(self.region.gate())?;
        let ticket = drawn?;
        self.state.lock().ticket = Some(ticket);
        // For programs that look into the order, such as the tests.
        tracing::trace!(target: "clasp::order", number = ticket.at - self.region.gate, "drew a ticket");
        Ok(())
    }

    /// The first byte from the present time on with nothing held at or above it.
    /// Since it is found by a clock, no ticket is drawn twice: a host that
    /// remembers one of a stopped host would else take a later host for it.
    fn free_ticket(&self) -> Result<i64, Error> {
        let mut ticket = self.region.at(self.bytes.clock());
        while ticket <= self.region.last() {
            let above = self.region.from(ticket);
            match self.bytes.conflict(above, Mode::Exclusive)? {
                None => return Ok(ticket),
                // To the end of all files: none of ours.
                Some(Range { len: 0, .. }) => break,
                Some(taken) => ticket = taken.start + taken.len,
            }
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            "the tickets of this lock file are used up until no host waits for it",
        ))
    }

    /// What to wait for to have the turn of the ticket; `None` if that is had
    /// already. A host that is passed is left out, with all that it holds.
    pub(crate) fn turn(&self) -> Result<Option<Arc<dyn Call>>, Error> {
        let Some(ticket) = self.state.lock().ticket else {
            return Ok(None);
        };
        let first = match self.passed() {
            Some(passed) if passed < ticket.at => passed + 1,
            _ => self.region.first(),
        };
        if first >= ticket.at {
            return Ok(None);
        }
        let range = Range::between(first, ticket.at);
        self.bytes.wait(range, ticket.mode).map(Some)
    }

    /// Names what this host waits for: the first of the earlier tickets that
    /// conflict, or the gate while it has no ticket.
    pub(crate) fn head(&self) -> Option<i64> {
        let Some(ticket) = self.state.lock().ticket else {
            return Some(self.region.gate);
        };
        let lowest = match self.passed() {
            Some(passed) => passed + 1,
            None => self.region.first(),
        };
        let (mut first, mut end) = (None, ticket.at);
        while end > lowest {
            let before = Range::between(lowest, end);
            let Some(found) = self.bytes.conflict(before, ticket.mode).ok()? else {
                break;
            };
            // By its last byte: a host that has its turn holds all before, too.
            first = Some(found.start + found.len - 1);
            end = found.start;
        }
        first
    }

    /// Remembers that the host with this ticket does not move.
    pub(crate) fn pass(&self, head: i64) {
        if head != self.region.gate {
            self.state.lock().passed = Some(head);
        }
    }

    /// Looks again at hosts that were passed.
    pub(crate) fn forget_passed(&self) {
        self.state.lock().passed = None;
    }

    /// Gives the ticket back, whatever has become of it, and the gate: a draw may
    /// have been interrupted.
    pub(crate) fn leave(&self) -> Result<(), Error> {
        self.state.lock().ticket = None;
        self.bytes.unlock(self.region.from(self.region.gate))
    }

    /// Waits for this line no longer, but keeps the ticket.
    pub(crate) fn pause(&self) -> Result<(), Error> {
        let ticket = self.state.lock().ticket;
        match ticket {
            Some(ticket) => self
                .bytes
                .unlock(Range::between(self.region.gate, ticket.at)),
            None => self.leave(),
        }
    }
}

/// Whether the host that is first in line does not move: the lock was seen free
/// once, and the same host is first [`PATIENCE`] later. Holders in between do not
/// count for it or against it.
#[derive(Debug, Default)]
pub(super) struct Stall {
    head: Option<i64>,
    free_at: Option<Instant>,
}

impl Stall {
    /// Takes a look; `true` if the head does not move.
    pub(crate) fn look(&mut self, head: i64, is_free: impl FnOnce() -> bool, now: Instant) -> bool {
        if self.head != Some(head) {
            (self.head, self.free_at) = (Some(head), None);
        }
        match self.free_at {
            Some(at) => now.saturating_duration_since(at) >= PATIENCE,
            None => {
                self.free_at = is_free().then_some(now);
                false
            }
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
        for clock in [
            0,
            1,
            (1 << REGION_BITS) - 2,
            (1 << REGION_BITS) - 1,
            u64::MAX,
        ] {
            let ticket = next.at(clock);
            assert!((next.first()..=next.last()).contains(&ticket), "{clock}");
        }
    }

    /// Hosts of different versions must find the same place.
    #[test]
    fn the_region_of_a_file_is_fixed() {
        assert_eq!(region(0, 0), (0, Region { gate: 0 }));
        let (file, region) = region(2049, 131_073);
        assert_eq!((file, region.gate >> REGION_BITS), (228, 23_388));
    }

    /// A head that waits while the lock is rightly held is not stalled, however
    /// long that takes; one that leaves a free lock alone is.
    #[test]
    fn a_head_is_stalled_only_if_the_lock_was_seen_free() {
        let begin = Instant::now();
        let at = |steps| begin + PATIENCE * steps;
        let mut stall = Stall::default();
        for step in 0..10 {
            assert!(!stall.look(1, || false, at(step)), "held at {step}");
        }
        assert!(!stall.look(1, || true, at(10)));
        // A holder in between does not count.
        assert!(stall.look(1, || false, at(11)));
        // Another head begins anew.
        assert!(!stall.look(2, || true, at(12)));
        assert!(!stall.look(3, || true, at(13)));
        assert!(stall.look(3, || false, at(14)));
    }

    #[cfg(feature = "conformance")]
    mod over_a_fake_kernel {
        use crate::{
            Mode::{Exclusive, Shared},
            testing::memory::Memory,
        };

        #[test]
        fn a_ticket_is_never_drawn_twice() {
            let memory = Memory::fair();
            let (ours, theirs) = (memory.line("a").unwrap(), memory.line("a").unwrap());
            ours.draw(Exclusive);
            theirs.draw(Exclusive);
            let first = theirs.head();
            assert!(first.is_some());
            ours.leave();
            assert_eq!(theirs.head(), None);
            theirs.leave();
            // The line was empty, and the next ticket is another all the same.
            ours.draw(Exclusive);
            theirs.draw(Exclusive);
            assert_ne!(theirs.head(), first);
        }

        #[test]
        fn the_head_is_the_first_ticket_that_conflicts() {
            let memory = Memory::fair();
            let [reader, writer, last] = [(); 3].map(|()| memory.line("a").unwrap());
            reader.draw(Shared);
            writer.draw(Exclusive);
            last.draw(Shared);
            let head = last.head();
            assert!(head.is_some(), "the writer");
            reader.leave();
            assert_eq!(last.head(), head);
            writer.leave();
            assert_eq!(last.head(), None);
        }

        #[test]
        fn a_host_that_was_passed_is_remembered_until_it_moves() {
            let memory = Memory::fair();
            let [stopped, other, next] = [(); 3].map(|()| memory.line("a").unwrap());
            stopped.draw(Exclusive);
            stopped.wait();
            other.draw(Exclusive);
            let head = other.head().unwrap();
            other.leave();
            other.pass(head);
            assert!(!other.is_waited_for(Exclusive));
            next.draw(Shared);
            assert!(other.is_waited_for(Exclusive), "behind it");
            assert!(!other.is_waited_for(Shared));
            next.leave();
            // It has its turn, and is in line again.
            stopped.leave();
            stopped.draw(Exclusive);
            assert!(other.is_waited_for(Exclusive), "it has moved");
        }
    }
}
