//! The semaphores of the reference back end.

use crate::{
    Error, ErrorKind, Mode, Permits,
    backend::{
        Answer, Blocking, Cancel, Caps, Op, OpId, Pending, Reply, Resource, Sink, Started, Tenure,
    },
    sync::{Condvar, Mutex, thread},
};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Weak},
    time::Instant,
};

/// All semaphores of one memory.
#[derive(Debug)]
pub(super) struct Semaphores {
    /// Whether hosts are served in the order in which they came.
    fair: bool,
    /// Whether waits need no threads of the engine.
    threadless: bool,
    files: Mutex<Files>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Files {
    semaphores: HashMap<u64, State>,
    /// Numbers for descriptions and epochs.
    next: u64,
}

/// One semaphore.
#[derive(Debug, Default)]
struct State {
    /// What each description has.
    taken: HashMap<u64, Permits>,
    /// Descriptions in line.
    line: VecDeque<u64>,
    /// Where a loss is reported, and with the epoch of which grant.
    sinks: HashMap<u64, (Weak<dyn Sink>, u64)>,
    /// The file has no name any more.
    unlinked: bool,
}

impl State {
    fn leave(&mut self, description: u64) {
        self.line.retain(|other| *other != description);
    }
}

impl Files {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl Semaphores {
    pub(super) fn new(fair: bool, threadless: bool) -> Arc<Semaphores> {
        Arc::new(Semaphores {
            fair,
            threadless,
            files: Mutex::default(),
            changed: Condvar::default(),
        })
    }

    /// Opens that of a file.
    pub(super) fn open(self: &Arc<Self>, file: u64, permits: u8) -> Arc<dyn Resource> {
        Arc::new(MemorySemaphore(Arc::new(Description {
            all: Arc::clone(self),
            file,
            description: self.files.lock().number(),
            permits,
        })))
    }

    /// The file has lost its name.
    pub(super) fn unlink(&self, file: u64) {
        let mut files = self.files.lock();
        files.semaphores.entry(file).or_default().unlinked = true;
    }

    /// Takes the permits of a file away from all that have some, and answers who is to be
    /// told.
    pub(super) fn lose(&self, file: u64) -> Vec<(Weak<dyn Sink>, u64)> {
        let mut files = self.files.lock();
        let state = files.semaphores.entry(file).or_default();
        let taken = std::mem::take(&mut state.taken);
        let has_some = taken.iter().filter(|(_, permits)| !permits.is_empty());
        let told = has_some.filter_map(|(description, _)| state.sinks.get(description).cloned());
        let told = told.collect();
        self.changed.notify_all();
        told
    }
}

/// An open semaphore.
struct MemorySemaphore(Arc<Description>);

struct Description {
    all: Arc<Semaphores>,
    file: u64,
    description: u64,
    /// How many permits there are.
    permits: u8,
}

impl Resource for MemorySemaphore {
    fn permits(&self, _: Mode) -> bool {
        true
    }

    fn caps(&self) -> Caps {
        Caps {
            immediate: true,
            order: self.0.all.fair,
            downgrade: false,
            upgrade: false,
            tokens: true,
        }
    }

    fn start(&self, id: OpId, op: Op, sink: &Weak<dyn Sink>) -> Started {
        let of = &self.0;
        let mut files = of.all.files.lock();
        let state = files.semaphores.entry(of.file).or_default();
        let reply = match op {
            Op::Take { count, wait, ahead } => {
                let tries = !wait || ahead;
                match tries.then(|| of.take(&mut files, count, ahead, sink)) {
                    Some(Some(reply)) => reply,
                    _ if wait => {
                        drop(files);
                        return of.wait(id, count, sink);
                    }
                    _ => Answer::Busy.into(),
                }
            }
            Op::Give { permits } => {
                if let Some(taken) = state.taken.get_mut(&of.description) {
                    *taken = taken.without(permits);
                }
                Answer::Granted.into()
            }
            Op::Leave => {
                state.leave(of.description);
                Answer::Granted.into()
            }
            Op::Lock { .. } | Op::Join { .. } | Op::Convert { .. } | Op::Unlock | Op::Token => {
                return Started::Done(Err(ErrorKind::Unsupported.into()));
            }
        };
        of.all.changed.notify_all();
        Started::Done(Ok(reply))
    }

    fn is_linked(&self) -> Result<bool, Error> {
        let files = self.0.all.files.lock();
        let state = files.semaphores.get(&self.0.file);
        Ok(state.is_none_or(|state| !state.unlinked))
    }
}

impl Description {
    /// Takes permits if so many are free and no other host is to have them first.
    fn take(
        &self,
        files: &mut Files,
        count: u8,
        ahead: bool,
        sink: &Weak<dyn Sink>,
    ) -> Option<Reply> {
        let epoch = files.number();
        let state = files.semaphores.entry(self.file).or_default();
        let first = state.line.front().is_none_or(|of| *of == self.description);
        if self.all.fair && !first && !ahead {
            return None;
        }
        let taken = state.taken.values().copied();
        let free = taken.fold(Permits::first(self.permits), Permits::without);
        let chosen = free.choose(count)?;
        state.leave(self.description);
        if state.unlinked {
            return Some(Answer::Gone.into());
        }
        let taken = state.taken.entry(self.description).or_default();
        *taken = taken.with(chosen);
        state
            .sinks
            .insert(self.description, (Weak::clone(sink), epoch));
        let begins = self.all.fair && !ahead;
        Some(Reply {
            epoch,
            permits: chosen,
            tenure: begins.then(|| Tenure::begin(Instant::now())),
            token: Some(epoch * Op::TOKENS),
            ..Answer::Granted.into()
        })
    }

    fn wait(self: &Arc<Self>, id: OpId, count: u8, sink: &Weak<dyn Sink>) -> Started {
        let wait = Arc::new(Wait {
            of: Arc::clone(self),
            count,
            sink: Weak::clone(sink),
            cancelled: Mutex::default(),
        });
        if !self.all.threadless {
            return Started::Blocking(wait);
        }
        let (runs, sink) = (Arc::clone(&wait), Weak::clone(sink));
        let started = thread::Builder::new().spawn(move || {
            let ended = runs.run();
            if let Some(sink) = sink.upgrade() {
                sink.done(id, ended);
            }
        });
        match started {
            Ok(_) => Started::Pending(wait),
            Err(error) => Started::Done(Err(Error::new(ErrorKind::Unavailable, error.to_string()))),
        }
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        let mut files = self.all.files.lock();
        let state = files.semaphores.entry(self.file).or_default();
        state.taken.remove(&self.description);
        state.sinks.remove(&self.description);
        state.leave(self.description);
        self.all.changed.notify_all();
    }
}

struct Wait {
    of: Arc<Description>,
    count: u8,
    sink: Weak<dyn Sink>,
    /// If so, whether the place in line is kept. Changed under the mutex of the files, so
    /// that no waiter misses it.
    cancelled: Mutex<Option<bool>>,
}

impl Pending for Wait {
    fn cancel(&self, keep_place: bool) -> Cancel {
        let _files = self.of.all.files.lock();
        *self.cancelled.lock() = Some(keep_place);
        self.of.all.changed.notify_all();
        Cancel::Requested
    }
}

impl Blocking for Wait {
    fn run(&self) -> Result<Reply, Error> {
        let Description {
            all,
            file,
            description,
            ..
        } = &*self.of;
        let mut files = all.files.lock();
        let line = &mut files.semaphores.entry(*file).or_default().line;
        if !line.contains(description) {
            line.push_back(*description);
        }
        loop {
            let cancelled = *self.cancelled.lock();
            let ended = match cancelled {
                Some(keep) => {
                    if !keep {
                        let state = files.semaphores.entry(*file).or_default();
                        state.leave(*description);
                    }
                    Some(Answer::Busy.into())
                }
                None => self.of.take(&mut files, self.count, false, &self.sink),
            };
            if let Some(reply) = ended {
                // Those behind may have enough as well.
                all.changed.notify_all();
                return Ok(reply);
            }
            files = all.changed.wait(files);
        }
    }
}
