//! An open lock file as a resource of the engine: the native lock of one open
//! file description and, where hosts have an order, its place in line.

use super::{
    fair::{Line, Stall},
    kernel::{Call, Kernel, Waited},
    waiter::{Stop, Waiter},
};
use crate::{
    Error, ErrorKind, Mode,
    backend::{
        Access, Answer, Blocking, Cancel, Caps, Op, OpId, Pending, Reply, Resource, Sink, Started,
        Tenure,
    },
};
use std::{
    sync::{Arc, Weak},
    time::{Instant, SystemTime},
};

/// One open file description.
pub(crate) struct LockFile<K>(Arc<Description<K>>);

struct Description<K> {
    kernel: K,
    line: Option<Line>,
    /// Exclusive locks need a file that is open for writing, in some families.
    exclusive: bool,
    /// A call on the file may hang.
    may_hang: bool,
}

impl<K: Kernel> LockFile<K> {
    pub(crate) fn new(kernel: K, line: Option<Line>, access: Access) -> LockFile<K> {
        LockFile(Arc::new(Description {
            kernel,
            line,
            exclusive: access == Access::Any,
            may_hang: false,
        }))
    }

    /// Has every operation run on a thread that may hang with it. There is no
    /// order then.
    pub(super) fn may_hang(kernel: K, access: Access) -> LockFile<K> {
        LockFile(Arc::new(Description {
            kernel,
            line: None,
            exclusive: access == Access::Any,
            may_hang: true,
        }))
    }
}

impl<K: Kernel> Resource for LockFile<K> {
    fn permits(&self, mode: Mode) -> bool {
        mode == Mode::Shared || self.0.exclusive
    }

    fn caps(&self) -> Caps {
        Caps {
            immediate: !self.0.may_hang,
            order: self.0.line.is_some(),
            downgrade: self.0.kernel.converts(),
            upgrade: self.0.kernel.converts(),
            tokens: self.0.kernel.has_tokens(),
        }
    }

    fn start(&self, id: OpId, op: Op, sink: &Weak<dyn Sink>) -> Started {
        if op.waits() {
            return match Wait::start(&self.0, id, op, sink) {
                Ok(started) => started,
                Err(error) => Started::Done(Err(error)),
            };
        }
        if self.0.may_hang {
            return Started::Blocking(Arc::new(Short {
                description: Arc::clone(&self.0),
                op,
            }));
        }
        Started::Done(self.0.carry_out(op))
    }

    fn is_linked(&self) -> Result<bool, Error> {
        self.0.kernel.is_linked()
    }

    fn touch(&self) -> Result<(), Error> {
        self.0.kernel.touch()
    }

    fn last_touched(&self) -> Result<Option<SystemTime>, Error> {
        self.0.kernel.last_touched()
    }

    #[cfg(unix)]
    fn descriptor(&self) -> Result<std::os::fd::OwnedFd, Error> {
        self.0.kernel.descriptor()
    }
}

impl<K: Kernel> Description<K> {
    /// An operation that does not wait.
    fn carry_out(&self, op: Op) -> Result<Reply, Error> {
        Ok(match op {
            Op::Lock { amount, ahead, .. } => return self.try_lock(amount, ahead),
            Op::Join { ahead, .. } => match self.kernel.is_linked()? {
                false => Answer::Gone,
                true if ahead || !self.is_waited_for(Mode::Shared) => Answer::Granted,
                true => Answer::Busy,
            },
            Op::Convert { to } => match self.kernel.convert(to)? {
                true => Answer::Granted,
                false => Answer::Busy,
            },
            Op::Unlock => {
                self.kernel.unlock()?;
                Answer::Granted
            }
            Op::Take { .. } | Op::Give { .. } => return Err(ErrorKind::Unsupported.into()),
            Op::Leave => {
                if let Some(line) = &self.line {
                    line.leave()?;
                }
                Answer::Granted
            }
            Op::Token => {
                return Ok(Reply {
                    token: Some(self.kernel.token()?),
                    ..Answer::Granted.into()
                });
            }
        }
        .into())
    }

    fn is_waited_for(&self, mode: Mode) -> bool {
        let line = self.line.as_ref();
        line.is_some_and(|line| line.is_waited_for(mode))
    }

    fn try_lock(&self, mode: Mode, ahead: bool) -> Result<Reply, Error> {
        if !ahead && self.is_waited_for(mode) || !self.kernel.try_lock(mode)? {
            return Ok(Answer::Busy.into());
        }
        self.taken(!ahead)
    }

    /// The lock was just taken: it is kept if its file still has a name (S11).
    fn taken(&self, begins_tenure: bool) -> Result<Reply, Error> {
        match self.kernel.is_linked() {
            Ok(true) => {
                let tenure = begins_tenure && self.line.is_some();
                Ok(Reply {
                    epoch: self.kernel.epoch(),
                    tenure: tenure.then(|| Tenure::begin(Instant::now())),
                    ..Answer::Granted.into()
                })
            }
            linked => self.undo(linked.map(|_| Answer::Gone.into())),
        }
    }

    /// Ends an operation with nothing held. Where that cannot be had, the
    /// description is given up like one whose file is gone: closing it releases
    /// what it holds.
    fn undo(&self, result: Result<Reply, Error>) -> Result<Reply, Error> {
        match self.kernel.unlock() {
            Ok(()) => result,
            Err(_) => Ok(Answer::Gone.into()),
        }
    }
}

/// An operation that does not wait, on a file that may hang.
struct Short<K> {
    description: Arc<Description<K>>,
    op: Op,
}

impl<K: Kernel> Pending for Short<K> {
    fn cancel(&self, _: bool) -> Cancel {
        // It ends by itself, unless it hangs.
        Cancel::Requested
    }
}

impl<K: Kernel> Blocking for Short<K> {
    fn run(&self) -> Result<Reply, Error> {
        self.description.carry_out(self.op)
    }
}

/// A request that waits: for its turn among the hosts, then for the lock.
struct Wait<K> {
    description: Arc<Description<K>>,
    mode: Mode,
    /// The description holds the lock, for others of this host.
    joins: bool,
    /// A try comes first.
    tries: bool,
    waiter: Waiter,
}

impl<K: Kernel> Wait<K> {
    fn start(
        description: &Arc<Description<K>>,
        id: OpId,
        op: Op,
        sink: &Weak<dyn Sink>,
    ) -> Result<Started, Error> {
        let (mode, joins, ahead) = match op {
            Op::Lock { amount, ahead, .. } => (amount, false, ahead),
            Op::Join { ahead, .. } => (Mode::Shared, true, ahead),
            _ => (Mode::Shared, true, false),
        };
        if joins && (ahead || description.line.is_none()) {
            // There is no turn to wait for.
            let op = Op::Join {
                wait: false,
                ahead: true,
            };
            if description.may_hang {
                let description = Arc::clone(description);
                return Ok(Started::Blocking(Arc::new(Short { description, op })));
            }
            return Ok(Started::Done(description.carry_out(op)));
        }
        if description.line.is_none() && description.kernel.waits_by_itself() {
            return Wait::start_by_itself(description, id, mode, sink);
        }
        Ok(Started::Blocking(Arc::new(Wait {
            description: Arc::clone(description),
            mode,
            joins,
            tries: ahead || description.may_hang,
            waiter: Waiter::default(),
        })))
    }

    fn start_by_itself(
        description: &Arc<Description<K>>,
        id: OpId,
        mode: Mode,
        sink: &Weak<dyn Sink>,
    ) -> Result<Started, Error> {
        let (sink, of) = (Weak::clone(sink), Arc::clone(description));
        let done = move |result| {
            let reply = of.waited(result);
            if let Some(sink) = sink.upgrade() {
                sink.done(id, reply);
            }
        };
        let call = description.kernel.start(mode, Box::new(done))?;
        Ok(Started::Pending(Arc::new(ByItself(call))))
    }

    /// Takes the lock without the turn if the host that is first does not move.
    fn pass(&self, line: &Line, stall: &mut Stall) -> Result<Option<Reply>, Error> {
        if self.joins {
            // The first host waits for this one to unlock.
            return Ok(None);
        }
        let description = &*self.description;
        let kernel = &description.kernel;
        let Some(head) = line.head() else {
            return Ok(None);
        };
        let is_free = || kernel.is_free().unwrap_or(false);
        if !stall.look(head, is_free, Instant::now()) {
            return Ok(None);
        }
        // More readers must not pass a host that waits for readers to go.
        if self.mode == Mode::Shared && !kernel.is_free()? || !kernel.try_lock(self.mode)? {
            return Ok(None);
        }
        line.pass(head);
        tracing::debug!(target: "clasp::order", "passed a host that does not move");
        description.taken(true).map(Some)
    }

    fn take(&self) -> Result<Reply, Stop> {
        let description = &*self.description;
        if self.tries && !self.joins {
            let tried = description.try_lock(self.mode, true)?;
            if tried.answer != Answer::Busy {
                return Ok(tried);
            }
        }
        if let Some(line) = &description.line {
            let pass = |stall: &mut Stall| self.pass(line, stall);
            if let Some(reply) = self.waiter.wait_for_turn(line, self.mode, pass)? {
                return Ok(reply);
            }
        }
        if self.joins {
            return Ok(match description.kernel.is_linked()? {
                true => Answer::Granted.into(),
                false => Answer::Gone.into(),
            });
        }
        let call = description.kernel.wait(self.mode)?;
        loop {
            match self.waiter.wait(Arc::clone(&call)) {
                Ok(Waited::Interrupted) => {}
                Ok(waited) => return Ok(description.waited(Ok(waited))?),
                Err(stop) => {
                    // A grant may have raced, and the description may live on in
                    // a forked child.
                    return match description.undo(Ok(Answer::Busy.into()))? {
                        Reply {
                            answer: Answer::Busy,
                            ..
                        } => Err(stop),
                        given_up => Ok(given_up),
                    };
                }
            }
        }
    }
}

impl<K: Kernel> Description<K> {
    /// The end of a wait for the lock.
    fn waited(&self, result: Result<Waited, Error>) -> Result<Reply, Error> {
        match result {
            Ok(Waited::Granted) => self.taken(true),
            Ok(_) => self.undo(Ok(Answer::Busy.into())),
            // Half of it may be held, where a lock has two halves.
            Err(error) => self.undo(Err(error)),
        }
    }
}

impl<K: Kernel> Pending for Wait<K> {
    fn cancel(&self, keep_place: bool) -> Cancel {
        self.waiter.cancel(keep_place)
    }

    fn sweep(&self) {
        self.waiter.sweep();
    }
}

impl<K: Kernel> Blocking for Wait<K> {
    fn comes_back(&self) -> bool {
        self.description.kernel.comes_back()
    }

    fn run(&self) -> Result<Reply, Error> {
        let taken = self.take();
        self.waiter.end(self.description.line.as_ref(), taken)
    }
}

/// A wait that needs no thread.
struct ByItself(Arc<dyn Call>);

impl Pending for ByItself {
    fn cancel(&self, _: bool) -> Cancel {
        self.0.cancel()
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::{ErrorKind, sync::Mutex};
    use std::{
        sync::{
            atomic::{AtomicBool, AtomicUsize, Ordering},
            mpsc::{Receiver, Sender, channel},
        },
        thread,
    };

    /// A kernel with one lock, whose file cannot be looked at or unlocked when it is
    /// told so.
    #[derive(Default)]
    struct Failing {
        looks_fail: AtomicBool,
        unlocks_fail: AtomicBool,
    }

    fn check(fails: &AtomicBool) -> Result<(), Error> {
        match fails.load(Ordering::SeqCst) {
            true => Err(ErrorKind::Io.into()),
            false => Ok(()),
        }
    }

    impl Kernel for Failing {
        fn try_lock(&self, _: Mode) -> Result<bool, Error> {
            Ok(true)
        }

        fn unlock(&self) -> Result<(), Error> {
            check(&self.unlocks_fail)
        }

        fn is_free(&self) -> Result<bool, Error> {
            Ok(true)
        }

        fn converts(&self) -> bool {
            true
        }

        fn convert(&self, _: Mode) -> Result<bool, Error> {
            Ok(true)
        }

        fn is_linked(&self) -> Result<bool, Error> {
            check(&self.looks_fail).map(|()| true)
        }

        fn wait(&self, _: Mode) -> Result<Arc<dyn Call>, Error> {
            Err(ErrorKind::Io.into())
        }
    }

    const TRY: Op = Op::Lock {
        amount: Mode::Exclusive,
        wait: false,
        ahead: true,
    };

    /// The engine takes an operation that failed for one that holds nothing. If the
    /// lock cannot be given back, the file is given up, as if its name were gone.
    #[test]
    fn a_file_whose_lock_cannot_be_given_back_is_given_up() {
        let file = LockFile::new(Failing::default(), None, Access::Any);
        let (kernel, answer) = (&file.0.kernel, |result: Result<Reply, Error>| {
            result.map(|reply| reply.answer)
        });
        kernel.looks_fail.store(true, Ordering::SeqCst);
        assert_eq!(answer(file.0.carry_out(TRY)), Err(ErrorKind::Io.into()));
        kernel.unlocks_fail.store(true, Ordering::SeqCst);
        assert_eq!(answer(file.0.carry_out(TRY)), Ok(Answer::Gone));
        for ended in [
            Ok(Waited::Cancelled),
            Ok(Waited::Granted),
            Err(ErrorKind::Io.into()),
        ] {
            assert_eq!(answer(file.0.waited(ended)), Ok(Answer::Gone));
        }
    }

    /// Whatever is asked of a file that may hang, no call on it is made by the
    /// thread that starts the operation.
    #[test]
    fn no_operation_on_a_file_that_may_hang_runs_at_once() {
        struct Unused;
        impl Sink for Unused {
            fn done(&self, _: OpId, _: Result<Reply, Error>) {}
            fn lost(&self, _: u64, _: Error) {}
        }
        let file = LockFile::may_hang(Failing::default(), Access::Any);
        let (wait, to) = (true, Mode::Shared);
        let mut all = vec![Op::Unlock, Op::Leave, Op::Token, Op::Convert { to }];
        for ahead in [false, true] {
            let amount = Mode::Shared;
            for wait in [wait, false] {
                all.push(Op::Join { wait, ahead });
                all.push(Op::Lock {
                    amount,
                    wait,
                    ahead,
                });
            }
        }
        let sink: Weak<dyn Sink> = Weak::<Unused>::new();
        for op in all {
            let started = file.start(OpId(1), op, &sink);
            assert!(matches!(started, Started::Blocking(_)), "{op:?}");
        }
    }

    /// A lock that another process holds until the test says otherwise.
    struct Held(Arc<HeldCall>);

    struct HeldCall {
        begun: Sender<()>,
        release: Mutex<Receiver<()>>,
        interrupted: AtomicUsize,
    }

    impl Kernel for Held {
        fn try_lock(&self, _: Mode) -> Result<bool, Error> {
            Ok(false)
        }

        fn unlock(&self) -> Result<(), Error> {
            Ok(())
        }

        fn is_free(&self) -> Result<bool, Error> {
            Ok(false)
        }

        fn is_linked(&self) -> Result<bool, Error> {
            Ok(true)
        }

        fn wait(&self, _: Mode) -> Result<Arc<dyn Call>, Error> {
            Ok(Arc::clone(&self.0) as Arc<dyn Call>)
        }
    }

    impl Call for HeldCall {
        fn run(&self) -> Result<Waited, Error> {
            self.begun.send(()).unwrap();
            self.release.lock().recv().unwrap();
            Ok(Waited::Granted)
        }

        fn cancel(&self) -> Cancel {
            Cancel::Requested
        }

        fn interrupt(&self) {
            self.interrupted.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Beside native programs the kernel's queue decides, whose places an interruption
    /// would give away.
    #[test]
    fn a_wait_for_the_lock_itself_is_not_interrupted() {
        let (begun, has_begun) = channel();
        let (release, released) = channel();
        let call = Arc::new(HeldCall {
            begun,
            release: Mutex::new(released),
            interrupted: AtomicUsize::new(0),
        });
        let LockFile(description) = LockFile::new(Held(Arc::clone(&call)), None, Access::Any);
        let wait = Arc::new(Wait {
            description,
            mode: Mode::Exclusive,
            joins: false,
            tries: false,
            waiter: Waiter::default(),
        });
        let waiting = Arc::clone(&wait);
        let thread = thread::spawn(move || waiting.run().unwrap().answer);
        has_begun.recv().unwrap();
        wait.sweep();
        release.send(()).unwrap();
        assert_eq!(thread.join().unwrap(), Answer::Granted);
        assert_eq!(call.interrupted.load(Ordering::Relaxed), 0);
    }
}
