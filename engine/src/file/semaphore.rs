//! A semaphore as a resource of the engine. Its permits are the first bytes of a file, each
//! locked by the open file description that has it, so that the kernel takes back those of a
//! process that ends. Where hosts have an order, only the first of them waits for bytes: for
//! all that it lacks, with a thread for each.

use super::{
    fair::{Line, Stall},
    kernel::{Call, PermitFile, Range, Waited},
    waiter::{Stop, Waiter},
};
use crate::{
    Error, ErrorKind, Mode, Permits,
    backend::{
        Answer, Blocking, Cancel, Caps, Op, OpId, Pending, Reply, Resource, Sink, Started, Tenure,
    },
    pool::{Pool, Runs},
    sync::{Condvar, Mutex},
};
use std::{
    sync::{Arc, LazyLock, Weak},
    time::Instant,
};

/// Threads that wait for single bytes. The engine charges them to the owner of the request.
static HELPERS: LazyLock<Pool> = LazyLock::new(Pool::default);

/// One open file description.
pub(crate) struct SemaphoreFile<F>(Arc<Description<F>>);

struct Description<F> {
    file: F,
    line: Option<Line>,
    /// How many permits there are.
    permits: u8,
    state: Mutex<State>,
    /// Told when no byte is waited for any more.
    quiet: Condvar,
}

#[derive(Default)]
struct State {
    /// What the description is to hold. It may hold others for a moment, which a wait was
    /// granted that is over.
    held: Permits,
    /// The bytes that threads wait for. Some may still do so when their wait is over.
    waited_for: Permits,
}

/// A host that waits for several permits locks this byte first. Otherwise two hosts could each
/// have some and wait for those of the other: hosts without an order, or with orders of their own.
const GATE: Range = Range {
    start: Permits::MOST as i64,
    len: 1,
};

fn byte(permit: u8) -> Range {
    Range {
        start: permit.into(),
        len: 1,
    }
}

impl<F: PermitFile> SemaphoreFile<F> {
    pub(crate) fn new(file: F, line: Option<Line>, permits: u8) -> SemaphoreFile<F> {
        SemaphoreFile(Arc::new(Description {
            file,
            line,
            permits,
            state: Mutex::default(),
            quiet: Condvar::default(),
        }))
    }
}

impl<F: PermitFile> Resource for SemaphoreFile<F> {
    fn permits(&self, _: Mode) -> bool {
        true
    }

    fn caps(&self) -> Caps {
        Caps {
            immediate: true,
            order: self.0.line.is_some(),
            downgrade: false,
            upgrade: false,
            tokens: false,
        }
    }

    fn start(&self, _: OpId, op: Op, _: &Weak<dyn Sink>) -> Started {
        match op {
            Op::Take { wait: true, .. } if !self.0.file.comes_back() => {
                let why = "a wait for permits needs the wake signal, which this process has \
                           switched off";
                Started::Done(Err(Error::new(ErrorKind::Unsupported, why)))
            }
            Op::Take {
                count,
                wait: true,
                ahead,
            } => Started::Blocking(Arc::new(Wait {
                bytes: Arc::new(AnyBytes {
                    description: Arc::clone(&self.0),
                    count,
                    progress: Mutex::default(),
                    over: Condvar::default(),
                }),
                tries: ahead,
                waiter: Waiter::default(),
            })),
            _ => Started::Done(self.0.carry_out(op)),
        }
    }

    fn is_linked(&self) -> Result<bool, Error> {
        self.0.file.is_linked()
    }
}

impl<F: PermitFile> Description<F> {
    /// An operation that does not wait.
    fn carry_out(&self, op: Op) -> Result<Reply, Error> {
        match op {
            Op::Take { count, ahead, .. } => {
                if !ahead && self.is_waited_for() {
                    return Ok(Answer::Busy.into());
                }
                match self.take(count)? {
                    Some(taken) => self.taken(taken, !ahead),
                    None => Ok(Answer::Busy.into()),
                }
            }
            Op::Give { permits } => {
                self.give(permits)?;
                Ok(Answer::Granted.into())
            }
            Op::Leave => {
                if let Some(line) = &self.line {
                    line.leave()?;
                }
                Ok(Answer::Granted.into())
            }
            _ => Err(ErrorKind::Unsupported.into()),
        }
    }

    fn is_waited_for(&self) -> bool {
        let line = self.line.as_ref();
        line.is_some_and(|line| line.is_waited_for(Mode::Exclusive))
    }

    /// Takes so many permits, or none.
    fn take(&self, count: u8) -> Result<Option<Permits>, Error> {
        let taken = self.take_some(count)?;
        if taken.len() == count {
            return Ok(Some(taken));
        }
        self.give(taken)?;
        Ok(None)
    }

    /// Takes permits that are free, so many at the most.
    fn take_some(&self, most: u8) -> Result<Permits, Error> {
        let mut state = self.state.lock();
        let mut taken = Permits::NONE;
        let mut failed = None;
        for permit in Permits::first(self.permits).without(state.held).iter() {
            if taken.len() == most {
                break;
            }
            match self.file.lock(byte(permit), Mode::Exclusive) {
                Ok(true) => taken = taken.with(Permits::one(permit)),
                Ok(false) => {}
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        state.held = state.held.with(taken);
        drop(state);
        match failed {
            None => Ok(taken),
            Some(error) => {
                self.give(taken)?;
                Err(error)
            }
        }
    }

    /// Whether another could take a permit now.
    fn is_any_free(&self) -> bool {
        let others = Permits::first(self.permits).without(self.state.lock().held);
        let is_free = |permit| {
            let conflict = self.file.conflict(byte(permit), Mode::Exclusive);
            matches!(conflict, Ok(None))
        };
        others.iter().any(is_free)
    }

    fn give(&self, permits: Permits) -> Result<(), Error> {
        let mut state = self.state.lock();
        state.held = state.held.without(permits);
        let unlocked = permits.iter().map(|permit| self.file.unlock(byte(permit)));
        // Each of them, whatever becomes of the others.
        unlocked.fold(Ok(()), Result::and)
    }

    /// The permits were just taken: they are kept if the file still has a name (S11).
    fn taken(&self, permits: Permits, begins_tenure: bool) -> Result<Reply, Error> {
        match self.file.is_linked() {
            Ok(true) => {
                let tenure = begins_tenure && self.line.is_some();
                Ok(Reply {
                    permits,
                    tenure: tenure.then(|| Tenure::begin(Instant::now())),
                    ..Answer::Granted.into()
                })
            }
            linked => match self.give(permits) {
                Ok(()) => linked.map(|_| Answer::Gone.into()),
                // Closing the description releases what it holds.
                Err(_) => Ok(Answer::Gone.into()),
            },
        }
    }

    /// Releases a byte that a wait may have been granted, unless it is to be held.
    fn drop_unless_held(&self, permit: u8) {
        let state = self.state.lock();
        if state.held.without(Permits::one(permit)) == state.held
            && let Err(error) = self.file.unlock(byte(permit))
        {
            tracing::error!(target: "clasp::wait", %error, "cannot give a permit back");
        }
    }

    /// Waits until no thread of a wait that is over is left, then notes the bytes that are
    /// not held as waited for.
    fn wait_for_others(&self) -> Permits {
        let mut state = self.state.lock();
        while !state.waited_for.is_empty() {
            state = self.quiet.wait(state);
        }
        state.waited_for = Permits::first(self.permits).without(state.held);
        state.waited_for
    }
}

impl<F> Description<F> {
    /// A thread waits for this byte no longer.
    fn has_waited(&self, permit: u8) {
        let mut state = self.state.lock();
        state.waited_for = state.waited_for.without(Permits::one(permit));
        if state.waited_for.is_empty() {
            self.quiet.notify_all();
        }
    }
}

/// A request that waits: for its turn among the hosts, then for permits.
struct Wait<F> {
    bytes: Arc<AnyBytes<F>>,
    /// A try comes first.
    tries: bool,
    waiter: Waiter,
}

impl<F: PermitFile> Wait<F> {
    fn take(&self) -> Result<Reply, Stop> {
        let AnyBytes {
            description, count, ..
        } = &*self.bytes;
        if self.tries
            && let Some(taken) = description.take(*count)?
        {
            return Ok(description.taken(taken, true)?);
        }
        if let Some(line) = &description.line {
            if *count > 1 {
                // A host that was passed may go on and collect: this one stays behind it.
                line.forget_passed();
            }
            let pass = |stall: &mut Stall| self.pass(line, stall);
            if let Some(reply) = self.waiter.wait_for_turn(line, Mode::Exclusive, pass)? {
                return Ok(reply);
            }
        }
        if *count == 1 {
            return self.collect();
        }
        let gate = description.file.wait(GATE, Mode::Exclusive)?;
        let waited = loop {
            match self.waiter.wait(Arc::clone(&gate)) {
                Ok(Waited::Interrupted) => {}
                waited => break waited,
            }
        };
        let collected = waited.and_then(|_| self.collect());
        if let Err(error) = description.file.unlock(GATE) {
            if let Ok(reply) = collected {
                description.give(reply.permits)?;
            }
            return Err(error.into());
        }
        collected
    }

    /// Waits for permits, and keeps each that becomes free until there are enough.
    fn collect(&self) -> Result<Reply, Stop> {
        let description = &self.bytes.description;
        let call = Arc::new(AnyBytesCall(Arc::clone(&self.bytes)));
        match self.waiter.wait(call) {
            Ok(_) => Ok(description.taken(self.bytes.take_got(), true)?),
            Err(stop) => match description.give(self.bytes.take_got()) {
                Ok(()) => Err(stop),
                Err(_) => Ok(Answer::Gone.into()),
            },
        }
    }

    /// Takes permits without the turn if the host that is first does not move.
    fn pass(&self, line: &Line, stall: &mut Stall) -> Result<Option<Reply>, Error> {
        let AnyBytes {
            description, count, ..
        } = &*self.bytes;
        let Some(head) = line.head() else {
            return Ok(None);
        };
        // The first takes each permit that becomes free, however many it wants.
        if !stall.look(head, || description.is_any_free(), Instant::now()) {
            return Ok(None);
        }
        let Some(taken) = description.take(*count)? else {
            return Ok(None);
        };
        line.pass(head);
        tracing::debug!(target: "clasp::order", "passed a host that does not move");
        description.taken(taken, true).map(Some)
    }
}

impl<F: PermitFile> Pending for Wait<F> {
    fn cancel(&self, keep_place: bool) -> Cancel {
        self.waiter.cancel(keep_place)
    }

    fn sweep(&self) {
        self.waiter.sweep();
    }
}

impl<F: PermitFile> Blocking for Wait<F> {
    fn helpers(&self) -> usize {
        usize::from(self.bytes.description.permits) - 1
    }

    fn run(&self) -> Result<Reply, Error> {
        let taken = self.take();
        let line = self.bytes.description.line.as_ref();
        self.waiter.end(line, taken)
    }
}

/// A wait for any bytes, so many of them.
struct AnyBytes<F> {
    description: Arc<Description<F>>,
    count: u8,
    progress: Mutex<Progress>,
    /// Told when [`Progress::over`] is set.
    over: Condvar,
}

#[derive(Default)]
struct Progress {
    /// Permits that the description holds since, for this wait.
    got: Permits,
    over: bool,
    failed: Option<Error>,
    /// The waits for single bytes, that of the thread of the request first.
    calls: Vec<Arc<dyn Call>>,
}

impl<F: PermitFile> AnyBytes<F> {
    fn take_got(&self) -> Permits {
        std::mem::take(&mut self.progress.lock().got)
    }

    /// Waits for one byte, until it is granted or the wait for all of them is over.
    fn wait_for(&self, permit: u8, call: &dyn Call) {
        let result = loop {
            match call.run() {
                Ok(Waited::Interrupted) if !self.progress.lock().over => {}
                result => break result,
            }
        };
        let mut progress = self.progress.lock();
        match result {
            Ok(Waited::Granted) if !progress.over => {
                let mut state = self.description.state.lock();
                state.held = state.held.with(Permits::one(permit));
                drop(state);
                progress.got = progress.got.with(Permits::one(permit));
                progress.over = progress.got.len() == self.count;
            }
            Err(error) if !progress.over => {
                progress.failed = Some(error);
                progress.over = true;
                self.description.drop_unless_held(permit);
            }
            _ => self.description.drop_unless_held(permit),
        }
        if progress.over {
            let calls = std::mem::take(&mut progress.calls);
            drop(progress);
            self.end(calls);
        } else {
            drop(progress);
        }
        self.description.has_waited(permit);
    }

    /// Calls all threads back.
    fn end(&self, calls: Vec<Arc<dyn Call>>) -> Cancel {
        self.over.notify_all();
        let mut cancelled = Cancel::Requested;
        for call in calls {
            if call.cancel() == Cancel::Impossible {
                cancelled = Cancel::Impossible;
            }
        }
        cancelled
    }

    /// Has helpers wait for all bytes but the first, for which the calling thread does.
    fn wait_for_all(self: &Arc<Self>, permits: Permits) -> Result<(), Error> {
        let file = &self.description.file;
        let call = |permit| Ok((permit, file.wait(byte(permit), Mode::Exclusive)?));
        let calls: Result<Vec<_>, Error> = permits.iter().map(call).collect();
        let calls = calls.inspect_err(|_| {
            permits.iter().for_each(|p| self.description.has_waited(p));
        })?;
        let mut waits = calls.into_iter();
        {
            let mut progress = self.progress.lock();
            // A cancellation may have come meanwhile: the calls are not begun then.
            if progress.over {
                drop(progress);
                waits.for_each(|(permit, _)| self.description.has_waited(permit));
                return Ok(());
            }
            let calls = waits.as_slice().iter().map(|(_, call)| Arc::clone(call));
            progress.calls = calls.collect();
        }
        let own = waits.next();
        for (permit, call) in waits {
            let helper = Helper {
                wait: Some(Arc::clone(self)),
                permit,
                call,
            };
            if let Err((error, _helper)) = HELPERS.spawn(Box::new(helper)) {
                // Nobody would see that its byte becomes free.
                let mut progress = self.progress.lock();
                progress.over = true;
                progress.failed = Some(error);
                let calls = std::mem::take(&mut progress.calls);
                drop(progress);
                self.end(calls);
            }
        }
        if let Some((permit, call)) = own {
            self.wait_for(permit, &*call);
        }
        Ok(())
    }
}

/// The wait as a call of its request, whose thread is one of those that wait.
struct AnyBytesCall<F>(Arc<AnyBytes<F>>);

impl<F: PermitFile> Call for AnyBytesCall<F> {
    fn run(&self) -> Result<Waited, Error> {
        let wait = &self.0;
        let free = wait.description.take_some(wait.count)?;
        {
            let mut progress = wait.progress.lock();
            progress.got = free;
            progress.over |= free.len() == wait.count;
        }
        if free.len() < wait.count {
            let others = wait.description.wait_for_others();
            wait.wait_for_all(others)?;
        }
        let mut progress = wait.progress.lock();
        while !progress.over {
            progress = wait.over.wait(progress);
        }
        match progress.failed.take() {
            Some(error) => Err(error),
            None if progress.got.len() == wait.count => Ok(Waited::Granted),
            None => Ok(Waited::Cancelled),
        }
    }

    fn cancel(&self) -> Cancel {
        let mut progress = self.0.progress.lock();
        progress.over = true;
        let calls = std::mem::take(&mut progress.calls);
        drop(progress);
        self.0.end(calls)
    }
}

/// A wait for one byte, for a thread of its own.
struct Helper<F> {
    /// `None` once it has begun.
    wait: Option<Arc<AnyBytes<F>>>,
    permit: u8,
    call: Arc<dyn Call>,
}

impl<F: PermitFile> Runs for Helper<F> {
    fn run(mut self: Box<Self>) {
        if let Some(wait) = self.wait.take() {
            wait.wait_for(self.permit, &*self.call);
        }
    }

    fn disarm(self: Box<Self>) {}
}

impl<F> Drop for Helper<F> {
    fn drop(&mut self) {
        if let Some(wait) = self.wait.take() {
            wait.description.has_waited(self.permit);
        }
    }
}
