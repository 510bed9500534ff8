//! A back end whose operations take their time, as those of a server do, and
//! which hangs or fails when it is told to.

use super::memory::Memory;
use crate::{
    Error, ErrorKind, LockName, Mode,
    backend::{
        Access, Answer, Cancel, Caps, Creation, Identity, Op, OpId, Opened, Pending, Reply,
        Resource, Sink, Space, Started,
    },
    sync::{Condvar, Mutex},
};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

/// A [`Memory`] behind a slow line. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Delayed {
    memory: Memory,
    line: Arc<Line>,
}

#[derive(Debug)]
struct Line {
    random: AtomicU64,
    /// The longest latency of an operation, in microseconds.
    latency: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Operations do not go on.
    hangs: bool,
    /// Operations that do so.
    hanging: u32,
    /// How many of the operations to come that may fail do.
    failures: u32,
}

impl Delayed {
    /// Over a memory of the caller's, with random latencies up to `latency` and a
    /// seed for them.
    pub fn new(memory: Memory, latency: Duration, seed: u64) -> Delayed {
        Delayed {
            memory,
            line: Arc::new(Line {
                random: AtomicU64::new(seed.wrapping_mul(2) + 1),
                latency: latency.as_micros() as u64,
                state: Mutex::default(),
                changed: Condvar::default(),
            }),
        }
    }

    /// Whether operations hang from now on, those under way included.
    pub fn hang(&self, hangs: bool) {
        self.line.state.lock().hangs = hangs;
        self.line.changed.notify_all();
    }

    /// Waits until an operation hangs.
    pub fn wait_for_an_operation(&self) {
        let mut state = self.line.state.lock();
        while state.hanging == 0 {
            state = self.line.changed.wait(state);
        }
    }

    /// Has the next operations fail, unlocking apart.
    pub fn fail(&self, operations: u32) {
        self.line.state.lock().failures = operations;
    }

    fn slowly(&self, opened: Opened) -> Opened {
        Opened {
            resource: Arc::new(Slow {
                inner: opened.resource,
                line: Arc::clone(&self.line),
                answer: Mutex::default(),
            }),
            ..opened
        }
    }
}

impl Line {
    fn random(&self) -> u64 {
        // SplitMix64 (Steele, Lea and Flood 2014).
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut x = self.random.fetch_add(STEP, Ordering::Relaxed);
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    /// Lets a random time pass, and more while the line hangs.
    fn pass(&self) {
        let micros = self.random() % (self.latency + 1);
        let mut state = self.state.lock();
        if micros > 0 {
            (state, _) = self
                .changed
                .wait_timeout(state, Duration::from_micros(micros));
        }
        if !state.hangs {
            return;
        }
        state.hanging += 1;
        self.changed.notify_all();
        while state.hangs {
            state = self.changed.wait(state);
        }
        state.hanging -= 1;
    }

    fn check(&self, op: Op) -> Result<(), Error> {
        if matches!(op, Op::Unlock | Op::Give { .. } | Op::Leave) {
            return Ok(());
        }
        let mut state = self.state.lock();
        if state.failures > 0 {
            state.failures -= 1;
            let why = "a failure was asked for";
            return Err(Error::new(ErrorKind::Unavailable, why));
        }
        Ok(())
    }
}

impl Space for Delayed {
    fn open(
        &self,
        name: &LockName,
        access: Access,
        creation: &mut Creation,
    ) -> Result<Opened, Error> {
        let opened = self.memory.space().open(name, access, creation)?;
        Ok(self.slowly(opened))
    }

    fn open_semaphore(
        &self,
        name: &LockName,
        permits: u8,
        creation: &mut Creation,
    ) -> Result<Opened, Error> {
        let space = self.memory.space();
        let opened = space.open_semaphore(name, permits, creation)?;
        Ok(self.slowly(opened))
    }

    fn identify(&self, name: &LockName) -> Result<Option<Identity>, Error> {
        self.memory.space().identify(name)
    }
}

struct Slow {
    inner: Arc<dyn Resource>,
    line: Arc<Line>,
    /// Where the loss of the last lock is reported.
    answer: Mutex<Option<Arc<Inside>>>,
}

impl Resource for Slow {
    fn permits(&self, mode: Mode) -> bool {
        self.inner.permits(mode)
    }

    fn caps(&self) -> Caps {
        Caps {
            immediate: false,
            ..self.inner.caps()
        }
    }

    fn start(&self, id: OpId, op: Op, sink: &Weak<dyn Sink>) -> Started {
        let shared = Arc::new(Operation::default());
        let answer = Arc::new(Inside {
            operation: Arc::clone(&shared),
            sink: Weak::clone(sink),
        });
        if let Op::Lock { .. } | Op::Take { .. } = op {
            *self.answer.lock() = Some(Arc::clone(&answer));
        }
        let (inner, line, operation) = (
            Arc::clone(&self.inner),
            Arc::clone(&self.line),
            Arc::clone(&shared),
        );
        let run = move || {
            line.pass();
            if operation.is_cancelled() {
                return answer.done(id, Ok(Answer::Busy.into()));
            }
            if let Err(error) = line.check(op) {
                return answer.done(id, Err(error));
            }
            let as_sink: Weak<dyn Sink> = Arc::downgrade(&answer) as Weak<dyn Sink>;
            let result = match inner.start(id, op, &as_sink) {
                Started::Done(result) => result,
                Started::Blocking(blocking) => {
                    operation.set(Arc::clone(&blocking) as Arc<dyn Pending>);
                    blocking.run()
                }
                Started::Pending(pending) => {
                    operation.set(pending);
                    operation.wait()
                }
            };
            line.pass();
            answer.done(id, result);
        };
        match thread::Builder::new().spawn(run) {
            Ok(_) => Started::Pending(shared),
            Err(error) => Started::Done(Err(Error::new(ErrorKind::Unavailable, error.to_string()))),
        }
    }

    fn is_linked(&self) -> Result<bool, Error> {
        self.inner.is_linked()
    }

    fn touch(&self) -> Result<(), Error> {
        self.inner.touch()
    }

    fn last_touched(&self) -> Result<Option<SystemTime>, Error> {
        self.inner.last_touched()
    }
}

/// One operation on the line.
#[derive(Default)]
struct Operation {
    state: Mutex<OperationState>,
    ended: Condvar,
}

#[derive(Default)]
struct OperationState {
    cancelled: Option<bool>,
    inner: Option<Arc<dyn Pending>>,
    results: VecDeque<Result<Reply, Error>>,
}

impl Operation {
    fn is_cancelled(&self) -> bool {
        self.state.lock().cancelled.is_some()
    }

    fn set(&self, inner: Arc<dyn Pending>) {
        let cancelled = {
            let mut state = self.state.lock();
            state.inner = Some(Arc::clone(&inner));
            state.cancelled
        };
        if let Some(keep_place) = cancelled {
            inner.cancel(keep_place);
        }
    }

    fn wait(&self) -> Result<Reply, Error> {
        let mut state = self.state.lock();
        loop {
            if let Some(result) = state.results.pop_front() {
                return result;
            }
            state = self.ended.wait(state);
        }
    }
}

impl Pending for Operation {
    fn cancel(&self, keep_place: bool) -> Cancel {
        let inner = {
            let mut state = self.state.lock();
            state.cancelled = Some(keep_place);
            state.inner.clone()
        };
        match inner {
            Some(inner) => inner.cancel(keep_place),
            None => Cancel::Requested,
        }
    }

    fn sweep(&self) {
        let inner = self.state.lock().inner.clone();
        if let Some(inner) = inner {
            inner.sweep();
        }
    }
}

/// Where the inner back end reports.
struct Inside {
    operation: Arc<Operation>,
    sink: Weak<dyn Sink>,
}

impl Inside {
    fn done(&self, id: OpId, result: Result<Reply, Error>) {
        if let Some(sink) = self.sink.upgrade() {
            sink.done(id, result);
        }
    }
}

impl Sink for Inside {
    fn done(&self, _: OpId, result: Result<Reply, Error>) {
        self.operation.state.lock().results.push_back(result);
        self.operation.ended.notify_all();
    }

    fn lost(&self, epoch: u64, why: Error) {
        if let Some(sink) = self.sink.upgrade() {
            sink.lost(epoch, why);
        }
    }
}
