//! Waits outside: the thread that runs one, and what becomes of its result.

use super::*;

/// A helper thread that passes on the result of its wait. What waits next is
/// given to it: a request that has its turn must not lose its thread, and its
/// owner's share, to another before it waits for the lock.
pub(super) struct Helper {
    pub(super) charge: Option<Charge>,
    pub(super) next: Option<WaitJob>,
}

/// What a [`WaitJob`] waits for.
pub(super) enum Awaited {
    Lock(Arc<dyn Wait>, Arc<dyn Resource>),
    Turn(Arc<dyn Turn>),
}

impl Awaited {
    fn wait(&self) -> &dyn Wait {
        match self {
            Awaited::Lock(wait, _) => &**wait,
            Awaited::Turn(turn) => &**turn,
        }
    }
}

/// One wait, for the thread that is to run it: both steps, in order.
pub(crate) struct WaitJob {
    entry: Arc<Entry>,
    id: u64,
    awaited: Awaited,
    /// The share of the owner's helper threads, if it runs on one.
    charge: Option<Charge>,
    result: Option<Result<Waited, Error>>,
}

impl Job for WaitJob {
    fn wait(&mut self) {
        self.result = Some(self.awaited.wait().run());
    }

    fn finish(self: Box<Self>) -> Option<Box<dyn Job>> {
        let WaitJob {
            entry,
            id,
            awaited,
            charge,
            result,
        } = *self;
        let result = result?;
        let next = entry.update(|state, wakers| {
            // A share belongs to a helper.
            let helper = charge.map(|charge| Helper {
                charge: Some(charge),
                next: None,
            });
            state.helper = helper;
            match &awaited {
                Awaited::Lock(_, of) => state.wait_ended(&entry, id, result, &**of, wakers),
                Awaited::Turn(of) => state.turn_ended(&entry, id, result, &**of, wakers),
            }
            state.helper.take()?.next
        });
        next.map(|job| Box::new(job) as Box<dyn Job>)
    }
}

impl WaitJob {
    /// Waits without a thread, for a wait that does not need one.
    fn start(mut self) -> Result<(), Error> {
        let wait = match &self.awaited {
            Awaited::Lock(wait, _) => Arc::clone(wait),
            Awaited::Turn(turn) => Arc::clone(turn) as Arc<dyn Wait>,
        };
        wait.start(Box::new(move |result| {
            self.result = Some(result);
            // What is next finds its own way: this is no helper thread.
            Box::new(self).finish();
        }))
    }
}

impl State {
    /// Sends the front request into the kernel to wait for the lock.
    pub(super) fn start_wait(
        &mut self,
        entry: &Arc<Entry>,
        ticket: Ticket,
        wakers: &mut Wakers,
    ) -> Result<(), Error> {
        let Some((_, front)) = self.queue.front() else {
            return Ok(());
        };
        let mode = front.mode;
        let resource = Arc::clone(self.resource(mode)?);
        let wait = resource.begin_wait(mode)?;
        let awaited = Awaited::Lock(Arc::clone(&wait), Arc::clone(&resource));
        let id = match self.dispatch(entry, awaited, wakers) {
            Ok(id) => id,
            Err(error) => {
                self.unlock(entry, &*resource);
                return Err(error);
            }
        };
        self.outside = Outside::Waiting {
            id,
            ticket,
            wait,
            resource,
            mode,
        };
        Ok(())
    }

    /// Has the front request's wait run on its owner's thread, on none, or on a
    /// helper; answers its number.
    pub(super) fn dispatch(
        &mut self,
        entry: &Arc<Entry>,
        awaited: Awaited,
        wakers: &mut Wakers,
    ) -> Result<u64, Error> {
        self.waits += 1;
        let id = self.waits;
        let Some((_, front)) = self.queue.front() else {
            return Ok(id);
        };
        let mut job = WaitJob {
            entry: Arc::clone(entry),
            id,
            awaited,
            charge: None,
            result: None,
        };
        if front.request.runs_own_wait {
            wakers.extend(front.request.offer(job));
        } else if !job.awaited.wait().needs_thread() {
            job.start()?;
        } else {
            let quota = &front.owner.waiter_threads;
            let helper = self.helper.as_mut().filter(|h| h.next.is_none());
            if let Some(helper) = helper {
                let own = helper.charge.take().filter(|charge| charge.is_of(quota));
                job.charge = Some(own.map_or_else(|| quota.take(), Ok)?);
                helper.next = Some(job);
            } else {
                job.charge = Some(quota.take()?);
                let manager = entry.manager.upgrade().ok_or(ErrorKind::Lost)?;
                manager.threads.spawn(Box::new(job))?;
            }
        }
        Ok(id)
    }

    /// A kernel wait has ended. Anything that is not ours any more, such as
    /// the grant of a wait that was given up, is unlocked.
    pub(super) fn wait_ended(
        &mut self,
        entry: &Arc<Entry>,
        ended: u64,
        result: Result<Waited, Error>,
        of: &dyn Resource,
        wakers: &mut Wakers,
    ) {
        match std::mem::replace(&mut self.outside, Outside::Free) {
            Outside::Waiting {
                id,
                ticket,
                resource,
                mode,
                ..
            } if id == ended => self.waited(entry, ticket, result, (resource, mode), wakers),
            Outside::Cancelling { id, resource, then } if id == ended => {
                // A grant may have raced with the cancellation, and the
                // description may live on in a forked child.
                self.unlock(entry, &*resource);
                self.settle(entry, then, wakers);
            }
            other => {
                self.outside = other;
                if let Err(error) = of.unlock() {
                    tracing::error!(target: "clasp", lock = ?entry.identity, %error, "cannot unlock");
                }
                return;
            }
        }
        self.advance(entry, wakers);
    }

    /// The wait of the front request has ended and was not cancelled.
    pub(super) fn waited(
        &mut self,
        entry: &Arc<Entry>,
        ticket: Ticket,
        result: Result<Waited, Error>,
        (resource, mode): (Arc<dyn Resource>, Mode),
        wakers: &mut Wakers,
    ) {
        let kept = match result {
            Ok(Waited::Granted) => self.keep_if_linked(entry, resource, mode),
            // Nobody cancelled it: `advance` tries again.
            Ok(Waited::Cancelled) => Ok(Take::Busy),
            Err(error) => {
                // Half of it may be held, where a lock has two halves.
                self.unlock(entry, &*resource);
                Err(error)
            }
        };
        match kept {
            Ok(Take::Taken | Take::Busy) => {}
            Ok(Take::Unlinked) => self.retire(entry, wakers),
            Err(error) => self.fail(ticket, error, wakers),
        }
    }

    /// Gives back the share of threads of a wait that has ended for good, before
    /// its owner learns of it and asks for more.
    pub(super) fn give_share_back(&mut self) {
        if let Some(helper) = &mut self.helper {
            helper.charge = None;
        }
    }
}
