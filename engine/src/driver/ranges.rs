//! A file whose bytes one owner locks, and its waits for them.
//!
//! The kernel decides alone: there is no queue of this host. This keeps note of what the
//! kernel was asked for, to count it, to release it, and to take back what a wait is granted
//! that nobody awaits any more.

use super::{registry::Host, request::wake};
use crate::{
    ByteRange, Error, ErrorKind, LockName, Mode,
    backend::{Answer, Blocking, Identity, RangeLocks, Reply},
    core::{HeldRanges, Piece},
    policy::{Account, Grant, Permit},
    pool::Runs,
    sync::{Condvar, Mutex, MutexGuard},
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Poll, Waker},
    time::Duration,
};

/// How long a wait that was withdrawn may take to end. The kernel lets go of it in
/// microseconds, on macOS in 10 ms.
const CONFIRM: Duration = Duration::from_millis(100);

/// One open file description, on which one owner locks bytes.
pub(crate) struct RangeFile {
    host: Arc<Host>,
    account: Arc<Account>,
    name: LockName,
    identity: Identity,
    families: &'static [&'static str],
    shared_only: bool,
    resource: Arc<dyn RangeLocks>,
    state: Mutex<State>,
    /// Told when a wait has ended.
    waited: Condvar,
    _permits: [Permit; 2],
}

struct State {
    held: HeldRanges,
    /// One of the owner's held locks for each piece.
    charge: Charge,
    /// The wait that the kernel has. The kernel merges what it grants to one description, so
    /// nothing else is requested until it has ended, also if nobody awaits it any more.
    wait: Option<Arc<RangeWait>>,
    /// The owner has dropped the file.
    ended: bool,
}

/// Some of the locks that an owner may hold or wait for; given back on drop.
struct Charge {
    account: Arc<Account>,
    count: usize,
}

impl Charge {
    fn new(account: &Arc<Account>) -> Charge {
        Charge {
            account: Arc::clone(account),
            count: 0,
        }
    }

    fn grow(&mut self, to: usize) -> Result<(), Error> {
        while self.count < to {
            self.account.held_locks.charge()?;
            self.count += 1;
        }
        Ok(())
    }

    fn shrink(&mut self, to: usize) {
        while self.count > to {
            self.account.held_locks.give_back();
            self.count -= 1;
        }
    }

    fn take(&mut self, other: &mut Charge) {
        self.count += std::mem::take(&mut other.count);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

impl RangeFile {
    /// Opens a file, within the owner's quota.
    pub(crate) fn open(
        host: &Arc<Host>,
        account: &Arc<Account>,
        grant: &Grant,
        name: &str,
    ) -> Result<RangeFile, Error> {
        account.check_open()?;
        let name = LockName::parse(name, account.limits.name_bytes)?;
        let permits = [account.open_locks.take()?, host.lock_files.take()?];
        let opened = host.open_ranges(account, grant, &name)?;
        Ok(RangeFile {
            host: Arc::clone(host),
            account: Arc::clone(account),
            name,
            identity: opened.identity,
            families: opened.families,
            shared_only: grant.shared_only,
            resource: opened.resource,
            state: Mutex::new(State {
                held: HeldRanges::default(),
                charge: Charge::new(account),
                wait: None,
                ended: false,
            }),
            waited: Condvar::default(),
            _permits: permits,
        })
    }

    pub(crate) fn name(&self) -> &LockName {
        &self.name
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    pub(crate) fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// Whether a lock of this family on the whole file excludes these.
    pub(crate) fn excludes(&self, family: &str) -> bool {
        self.families.contains(&family)
    }

    /// The first piece that it holds and that excludes a request of somebody else.
    pub(crate) fn holding(&self, range: ByteRange, mode: Mode) -> Option<Piece> {
        self.state.lock().held.conflict(range, mode)
    }

    /// What is held and what is waited for.
    pub(crate) fn uses(&self) -> (Vec<Piece>, Vec<Piece>) {
        let state = self.state.lock();
        let waits = state.wait.iter().filter(|wait| !wait.slot.lock().abandoned);
        let waits = waits.map(|wait| wait.wanted).collect();
        (state.held.pieces().to_vec(), waits)
    }

    fn check(&self, mode: Mode) -> Result<(), Error> {
        if mode == Mode::Exclusive && self.shared_only {
            return Err(ErrorKind::ReadOnly.into());
        }
        if !self.resource.permits(mode) {
            let why = "the file could be opened for reading only";
            return Err(Error::new(ErrorKind::Access, why));
        }
        Ok(())
    }

    /// Locks or releases bytes at once; `false` if that is not possible.
    pub(crate) fn try_set(&self, range: ByteRange, mode: Option<Mode>) -> Result<bool, Error> {
        if let Some(mode) = mode {
            self.check(mode)?;
        }
        let mut state = self.without_wait()?;
        let state = &mut *state;
        // `close` sets its flag before it comes here.
        self.account.check_open()?;
        let held = state.held.with(range, mode);
        let grown = state.charge.grow(held.pieces().len());
        let set = grown.and_then(|()| self.resource.try_set(range, mode));
        if let Ok(true) = set {
            state.held = held;
        }
        state.charge.shrink(state.held.pieces().len());
        set
    }

    /// The state, once a wait that was withdrawn has ended. The kernel lets go of it at once.
    fn without_wait(&self) -> Result<MutexGuard<'_, State>, Error> {
        let mut state = self.state.lock();
        while state.wait.is_some() {
            let late;
            (state, late) = self.waited.wait_timeout(state, CONFIRM);
            if late && state.wait.is_some() {
                let why = "an earlier request for bytes of this file has not ended";
                return Err(Error::new(ErrorKind::Unavailable, why));
            }
        }
        Ok(state)
    }

    /// A lock of another description in the way of a request.
    pub(crate) fn test(
        &self,
        range: ByteRange,
        mode: Mode,
    ) -> Result<Option<(ByteRange, Mode)>, Error> {
        self.account.check_open()?;
        self.resource.conflict(range, mode)
    }

    /// Begins to wait. The wait runs on a helper thread or, if `on_thread`, in
    /// [`run`](RangeFile::run).
    pub(crate) fn wait(
        self: &Arc<Self>,
        range: ByteRange,
        mode: Mode,
        on_thread: bool,
    ) -> Result<Arc<RangeWait>, Error> {
        let mut charge = Charge::new(&self.account);
        let call = self.resource.wait(range, mode)?;
        if !call.comes_back() {
            // Whenever it were granted, it would change what the description holds.
            let why = "a wait for bytes could not be ended: the process has no wake signal";
            return Err(Error::new(ErrorKind::Unsupported, why));
        }
        let permits = match on_thread {
            true => None,
            false => Some([
                self.account.waiter_threads.take()?,
                self.host.services.waiter_threads.take()?,
            ]),
        };
        let wait = {
            let mut state = self.without_wait()?;
            self.account.check_open()?;
            let held = state.held.pieces().len();
            let after = state.held.with(range, Some(mode)).pieces().len();
            charge.grow(after.saturating_sub(held).max(1))?;
            let wait = Arc::new(RangeWait {
                wanted: Piece { range, mode },
                call,
                slot: Mutex::new(Slot {
                    charge,
                    cancelled: None,
                    abandoned: false,
                    outcome: None,
                    before: Vec::new(),
                    waker: None,
                }),
            });
            state.wait = Some(Arc::clone(&wait));
            wait
        };
        if let Some(permits) = permits {
            let job = Box::new(WaitJob {
                file: Arc::clone(self),
                wait: Some(Arc::clone(&wait)),
                permits: Some(permits),
            });
            if let Err((error, _job)) = self.host.services.pool.spawn(job) {
                wait.cancel(error);
            }
        }
        Ok(wait)
    }

    /// Carries a wait out on the calling thread.
    pub(crate) fn run(&self, wait: &Arc<RangeWait>) {
        self.finish(wait, wait.call());
    }

    /// Gives up a wait that was to run on the calling thread and has not begun.
    pub(crate) fn give_up(&self, wait: &Arc<RangeWait>) {
        self.finish(wait, Ok(Answer::Busy.into()));
    }

    fn finish(&self, wait: &Arc<RangeWait>, result: Result<Reply, Error>) {
        let mut locked = self.state.lock();
        let state = &mut *locked;
        state.wait.take_if(|other| Arc::ptr_eq(other, wait));
        let mut slot = wait.slot.lock();
        let mut weaker = Vec::new();
        let granted = matches!(&result, Ok(reply) if reply.answer == Answer::Granted);
        let outcome = match result {
            Ok(_) if granted && (slot.abandoned || state.ended || self.account.is_closed()) => {
                let noted = state.held.within(wait.wanted.range);
                weaker = self.put_back(state, noted);
                Err(Account::closed())
            }
            Ok(_) if granted => {
                let Piece { range, mode } = wait.wanted;
                slot.before = state.held.within(range);
                state.held = state.held.with(range, Some(mode));
                state.charge.take(&mut slot.charge);
                state.charge.shrink(state.held.pieces().len());
                Ok(())
            }
            Ok(_) => Err(slot.cancelled.take().unwrap_or_else(Account::closed)),
            Err(error) => Err(error),
        };
        slot.charge.shrink(0);
        if !slot.abandoned {
            slot.outcome = Some(outcome);
        }
        let waker = slot.waker.take();
        drop(slot);
        drop(locked);
        self.waited.notify_all();
        self.tell_weaker(&weaker);
        wake(waker.into_iter().collect());
    }

    /// Ends a wait whose outcome nobody wants any more. What it was granted is taken back.
    pub(crate) fn abandon(&self, wait: &RangeWait) {
        let (ended, weaker) = {
            let mut state = self.state.lock();
            let mut slot = wait.slot.lock();
            slot.waker = None;
            slot.abandoned = true;
            slot.charge.shrink(0);
            let outcome = slot.outcome.take();
            let before = std::mem::take(&mut slot.before);
            drop(slot);
            let weaker = match outcome {
                Some(Ok(())) if !self.account.is_closed() => self.put_back(&mut state, before),
                _ => Vec::new(),
            };
            (outcome.is_some(), weaker)
        };
        self.tell_weaker(&weaker);
        if !ended {
            let _ = wait.call.cancel(false);
        }
    }

    /// Has bytes held as they were before a grant that nobody awaits. Answers those for which
    /// that was not possible: they were held exclusively, were converted, and another process
    /// has locked some of them shared since.
    fn put_back(&self, state: &mut State, parts: Vec<(ByteRange, Option<Mode>)>) -> Vec<ByteRange> {
        let mut weaker = Vec::new();
        for (part, mode) in parts {
            let mut held = mode;
            if !matches!(self.resource.try_set(part, mode), Ok(true)) {
                weaker.push(part);
                held = Some(Mode::Shared);
            }
            state.held = state.held.with(part, held);
        }
        let pieces = state.held.pieces().len();
        // There is a share for each piece that was held before.
        let _ = state.charge.grow(pieces);
        state.charge.shrink(pieces);
        weaker
    }

    fn tell_weaker(&self, parts: &[ByteRange]) {
        for part in parts {
            tracing::error!(target: "clasp", lock = %self.name, range = %part, "bytes that were held exclusively before a wait are held shared after it");
        }
    }

    /// Ends what the owner holds and waits for; it is closed.
    pub(crate) fn evict(&self) {
        self.end(false);
    }

    /// The owner has dropped the file. A helper thread may still have it.
    pub(crate) fn drop_all(&self) {
        self.end(true);
    }

    fn end(&self, for_good: bool) {
        let (released, wait) = {
            let mut state = self.state.lock();
            state.ended |= for_good;
            (self.release(&mut state), state.wait.clone())
        };
        if let Err(error) = released {
            tracing::error!(target: "clasp", lock = %self.name, %error, "cannot unlock; the open file is given up");
        }
        if let Some(wait) = wait {
            wait.cancel(Account::closed());
        }
    }

    fn release(&self, state: &mut State) -> Result<(), Error> {
        let mut released = Ok(true);
        if !state.held.pieces().is_empty() {
            // An explicit unlock: a forked child may share the description.
            released = self.resource.try_set(ByteRange::ALL, None);
            state.held = HeldRanges::default();
        }
        state.charge.shrink(0);
        released.map(drop)
    }
}

impl Drop for RangeFile {
    fn drop(&mut self) {
        self.end(true);
        self.host.close_ranges(&self.identity);
    }
}

/// A wait for bytes.
pub(crate) struct RangeWait {
    wanted: Piece,
    call: Arc<dyn Blocking>,
    slot: Mutex<Slot>,
}

struct Slot {
    charge: Charge,
    /// With what it ends, unless it is granted first.
    cancelled: Option<Error>,
    /// Nobody awaits it: what it is granted is given back.
    abandoned: bool,
    outcome: Option<Result<(), Error>>,
    /// How the bytes were held before they were granted.
    before: Vec<(ByteRange, Option<Mode>)>,
    waker: Option<Waker>,
}

impl RangeWait {
    fn call(&self) -> Result<Reply, Error> {
        // A subscriber of `tracing` may panic in it.
        let run = catch_unwind(AssertUnwindSafe(|| self.call.run()));
        run.unwrap_or_else(|_| Err(Error::new(ErrorKind::Io, "the wait has panicked")))
    }

    /// Ends the wait with an error, unless it is granted first.
    pub(crate) fn cancel(&self, error: Error) {
        self.slot.lock().cancelled.get_or_insert(error);
        let _ = self.call.cancel(false);
    }

    /// How it ended, or registers `waker`.
    pub(crate) fn poll(&self, waker: &Waker) -> Poll<Result<(), Error>> {
        let mut slot = self.slot.lock();
        if let Some(outcome) = slot.outcome.take() {
            return Poll::Ready(outcome);
        }
        let old = slot.waker.replace(waker.clone());
        drop(slot);
        // It may own the last of something that locks; not under the slot.
        drop(old);
        Poll::Pending
    }
}

/// A wait for the helper thread that is to run it. Dropping it ends the wait.
struct WaitJob {
    file: Arc<RangeFile>,
    wait: Option<Arc<RangeWait>>,
    permits: Option<[Permit; 2]>,
}

impl Runs for WaitJob {
    fn run(mut self: Box<Self>) {
        if let Some(wait) = self.wait.take() {
            let result = wait.call();
            // Before the owner learns of the end, and asks for more.
            self.permits = None;
            self.file.finish(&wait, result);
        }
    }

    fn disarm(mut self: Box<Self>) {
        self.wait = None;
    }
}

impl Drop for WaitJob {
    fn drop(&mut self) {
        if let Some(wait) = self.wait.take() {
            self.permits = None;
            self.file.finish(&wait, Ok(Answer::Busy.into()));
        }
    }
}
