//! A semaphore of a cluster, as the engine takes it: operations of the engine as
//! transactions.

use crate::{
    connection::Failure,
    operation::{Operation, Patience, first_token, tenure},
    permits::{self, InLine, Next},
    session::{Session, lock},
    shared::Shared,
    txn::{Found, Id, Key, SemaphoreKeys},
    watch::{Event, Watch},
};
use clasp_engine::{
    Error, ErrorKind, LockName, Mode, Permits,
    backend::{Answer, Caps, Op, OpId, Reply, Resource, Sink, Started},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, Weak},
};

/// One open semaphore.
pub(crate) struct EtcdSemaphore(Arc<Inner>);

impl EtcdSemaphore {
    pub(crate) fn new(shared: Arc<Shared>, name: &LockName, permits: u8) -> EtcdSemaphore {
        EtcdSemaphore(Arc::new(Inner {
            keys: SemaphoreKeys::new(shared.connections.address().prefix(), name),
            name: name.as_str().to_owned(),
            permits,
            shared,
            state: Mutex::default(),
        }))
    }
}

struct Inner {
    shared: Arc<Shared>,
    keys: SemaphoreKeys,
    name: String,
    /// How many there are.
    permits: u8,
    state: Mutex<State>,
}

/// What this host has at the server.
#[derive(Default)]
struct State {
    hold: Option<Hold>,
    /// Permits that other hosts had when that was read last.
    others: Permits,
    place: Option<Place>,
    watch: Option<Watch>,
}

/// Permits are held.
struct Hold {
    session: Arc<Session>,
    /// The key of each, by its number.
    keys: BTreeMap<u8, Key>,
    /// Of the last acquisition.
    epoch: u64,
}

/// A place in line.
struct Place {
    session: Arc<Session>,
    waiting: InLine,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.names.close(&self.name);
        let state = std::mem::take(&mut *lock(&self.state));
        let hold = state.hold.map(|hold| {
            hold.session.deregister(hold.epoch);
            (hold.session, hold.keys.into_values().collect())
        });
        let place = state.place.map(|place| {
            let key = self.keys.request(place.waiting.id());
            (place.session, vec![key])
        });
        for (session, keys) in hold.into_iter().chain(place) {
            self.shared.take_back_later(&session, keys);
        }
    }
}

impl Resource for EtcdSemaphore {
    fn permits(&self, _: Mode) -> bool {
        true
    }

    fn caps(&self) -> Caps {
        Caps {
            immediate: false,
            order: true,
            downgrade: false,
            upgrade: false,
            tokens: true,
        }
    }

    fn start(&self, id: OpId, op: Op, sink: &Weak<dyn Sink>) -> Started {
        // A process that was stopped learns of what it lost before it goes on.
        self.0.look_at_the_clock();
        let (inner, to) = (Arc::clone(&self.0), Weak::clone(sink));
        Operation::start(&self.0.shared, id, sink, |running| async move {
            inner.carry_out(op, &running, &to).await
        })
    }

    fn is_linked(&self) -> Result<bool, Error> {
        self.0.look_at_the_clock();
        Ok(true)
    }
}

/// How a stay in line ended.
enum Stay {
    Granted(Arc<Session>, Grant),
    Cancelled(Place, bool),
    /// The place is gone: with the session, or because its key was deleted.
    Gone,
}

/// Permits that a transaction has taken.
struct Grant {
    id: Id,
    permits: Permits,
    revision: i64,
}

/// What a transaction has read of the line and of the permits that are held.
fn read(answer: &[Vec<Found>]) -> Option<(&[Found], &[Found])> {
    match answer {
        [.., line, held] => Some((line, held)),
        _ => None,
    }
}

impl Inner {
    /// Has the session end if its time is over.
    fn look_at_the_clock(&self) {
        let session = {
            let state = lock(&self.state);
            state.hold.as_ref().map(|hold| Arc::clone(&hold.session))
        };
        // Not under the mutex: if the session has ended, the engine is told.
        if let Some(session) = session {
            session.is_alive();
        }
    }

    async fn carry_out(
        &self,
        op: Op,
        operation: &Operation,
        sink: &Weak<dyn Sink>,
    ) -> Result<Reply, Error> {
        match op {
            Op::Take {
                count, wait: true, ..
            } => self.wait(count, operation, sink).await,
            Op::Take { count, .. } => {
                let taken = self.try_take(count, operation, sink).await?;
                Ok(taken.unwrap_or(Answer::Busy.into()))
            }
            Op::Give { permits } => self.give(permits).await,
            Op::Leave => self.leave().await,
            _ => Err(ErrorKind::Unsupported.into()),
        }
    }

    /// The session. What belonged to the last one is forgotten once the engine was told.
    async fn session(&self) -> Result<Arc<Session>, Error> {
        let session = self.shared.session().await?;
        let last = {
            let mut state = lock(&self.state);
            let other = |hold: &mut Hold| !Arc::ptr_eq(&hold.session, &session);
            state.hold.take_if(other)
        };
        if let Some(last) = last {
            last.session.ended().await;
        }
        Ok(session)
    }

    /// Notes what was read.
    fn note(&self, held: &[Found]) {
        let held = permits::held(&self.keys, held);
        let mut state = lock(&self.state);
        state.others = held.without(state.own());
    }

    /// Permits that seem to be free, so many.
    fn free(&self, count: u8) -> Option<Permits> {
        let state = lock(&self.state);
        let all = Permits::first(self.permits);
        all.without(state.others).without(state.own()).choose(count)
    }

    /// Permits were taken. `None` if they were lost meanwhile.
    fn granted(
        &self,
        session: &Arc<Session>,
        grant: &Grant,
        sink: &Weak<dyn Sink>,
    ) -> Option<Reply> {
        let epoch = session.register(sink)?;
        let mut state = lock(&self.state);
        let keys = self.keys.held(grant.permits, &grant.id);
        let keys = grant.permits.iter().zip(keys);
        match &mut state.hold {
            Some(hold) => {
                session.deregister(std::mem::replace(&mut hold.epoch, epoch));
                hold.keys.extend(keys);
            }
            none => {
                *none = Some(Hold {
                    session: Arc::clone(session),
                    keys: keys.collect(),
                    epoch,
                });
            }
        }
        state.others = state.others.without(grant.permits);
        Some(Reply {
            epoch,
            permits: grant.permits,
            tenure: Some(tenure()),
            token: first_token(grant.revision),
            ..Answer::Granted.into()
        })
    }

    /// Takes permits if they are free and nobody stands in line.
    async fn try_take(
        &self,
        count: u8,
        operation: &Operation,
        sink: &Weak<dyn Sink>,
    ) -> Result<Option<Reply>, Error> {
        let patience = Patience::begin();
        let mut fresh = false;
        while !operation.is_cancelled() {
            let session = self.session().await?;
            let Some(permits) = self.free(count) else {
                if fresh {
                    break;
                }
                self.look(&session).await?;
                fresh = true;
                continue;
            };
            let id = session.id();
            let txn = || self.keys.try_take(&session.fence(), &id, permits);
            match self.shared.send_fenced(&session, txn).await {
                Ok(Some(answer)) if answer.held => {
                    let grant = Grant {
                        id,
                        permits,
                        revision: answer.revision,
                    };
                    if let Some(reply) = self.granted(&session, &grant, sink) {
                        return Ok(Some(reply));
                    }
                }
                Ok(Some(answer)) => {
                    let Some((line, held)) = read(&answer.found) else {
                        break;
                    };
                    if let Some(revision) = self.done(permits, &id, held) {
                        let grant = Grant {
                            id,
                            permits,
                            revision,
                        };
                        if let Some(reply) = self.granted(&session, &grant, sink) {
                            return Ok(Some(reply));
                        }
                        continue;
                    }
                    self.note(held);
                    fresh = true;
                    if !line.is_empty() {
                        break;
                    }
                }
                Ok(None) => {}
                Err(failure) => {
                    if let Failure::Unknown(_) = failure {
                        let keys = self.keys.held(permits, &id);
                        self.shared.take_back(&session, keys).await?;
                    }
                    patience.spend(&self.shared, failure).await?;
                }
            }
        }
        Ok(None)
    }

    /// The revision by which a request has taken permits, if they are among those that are held:
    /// its transaction was carried out, and again before the answer came.
    fn done(&self, permits: Permits, id: &Id, held: &[Found]) -> Option<i64> {
        let own = self.keys.held(permits, id);
        let done = held.iter().find(|found| own.contains(&found.key));
        done.map(|found| found.created)
    }

    /// Reads which permits are held.
    async fn look(&self, session: &Session) -> Result<(), Error> {
        let txn = self.keys.look();
        let answer = self
            .shared
            .send_until_answered(session.lease(), &txn)
            .await?;
        if let Some((_, held)) = read(&answer.found) {
            self.note(held);
        }
        Ok(())
    }

    /// Tries, then waits in line for permits.
    async fn wait(
        &self,
        count: u8,
        operation: &Operation,
        sink: &Weak<dyn Sink>,
    ) -> Result<Reply, Error> {
        if lock(&self.state).place.is_none()
            && let Some(reply) = self.try_take(count, operation, sink).await?
        {
            return Ok(reply);
        }
        loop {
            let place = lock(&self.state).place.take();
            let place = match self.line_up(place, operation).await? {
                Some(place) => place,
                None => return Ok(Answer::Busy.into()),
            };
            match self.stay(place, count, operation).await? {
                Stay::Granted(session, grant) => {
                    if let Some(reply) = self.granted(&session, &grant, sink) {
                        return Ok(reply);
                    }
                }
                Stay::Cancelled(place, keep) => {
                    self.give_up(place, keep).await?;
                    return Ok(Answer::Busy.into());
                }
                Stay::Gone => {}
            }
        }
    }

    /// Gets a place in line, unless there is one. `None` if cancelled.
    async fn line_up(
        &self,
        mut old: Option<Place>,
        operation: &Operation,
    ) -> Result<Option<Place>, Error> {
        let patience = Patience::begin();
        loop {
            let session = self.session().await?;
            let usable =
                |place: &Place| Arc::ptr_eq(&place.session, &session) && !place.waiting.is_gone();
            if let Some(place) = old.take().filter(usable) {
                return Ok(Some(place));
            }
            if operation.is_cancelled() {
                return Ok(None);
            }
            // Before the request: otherwise the server has to look for events of the past.
            self.watch();
            let id = session.id();
            let txn = || self.keys.stand_in_line(&session.fence(), &id);
            match self.shared.send_fenced(&session, txn).await {
                Ok(Some(answer)) if answer.held => {
                    let (line, held) = read(&answer.found).unwrap_or_default();
                    let (of, revision) = (self.permits, answer.revision);
                    let waiting = InLine::new(&self.keys, id, of, revision, line, held);
                    return Ok(Some(Place { session, waiting }));
                }
                Ok(_) => {}
                Err(failure) => {
                    if let Failure::Unknown(_) = failure {
                        let keys = vec![self.keys.request(&id)];
                        self.shared.take_back(&session, keys).await?;
                    }
                    patience.spend(&self.shared, failure).await?;
                }
            }
        }
    }

    /// Begins to watch the keys of the semaphore, unless it does.
    fn watch(&self) {
        let mut state = lock(&self.state);
        if state.watch.is_none() {
            state.watch = Some(self.shared.watch(self.keys.all()));
        }
    }

    /// Stays in line until permits are taken.
    async fn stay(
        &self,
        mut place: Place,
        count: u8,
        operation: &Operation,
    ) -> Result<Stay, Error> {
        self.watch();
        let watch = lock(&self.state).watch.take();
        let Some(mut watch) = watch else {
            return Ok(Stay::Gone);
        };
        let stay = loop {
            if !place.session.is_alive() {
                break Stay::Gone;
            }
            match place.waiting.next(count) {
                Next::Gone => break Stay::Gone,
                Next::Look => {
                    self.look_again(&mut place).await?;
                    continue;
                }
                Next::Take(permits) => {
                    if let Some(grant) = self.take(&mut place, permits).await? {
                        break Stay::Granted(place.session, grant);
                    }
                    continue;
                }
                Next::Wait => {}
            }
            let event = match watch.try_next() {
                Some(event) => event,
                None => tokio::select! {
                    biased;
                    event = watch.next() => match event {
                        Some(event) => event,
                        None => break Stay::Gone,
                    },
                    keep = operation.cancelled() => break Stay::Cancelled(place, keep),
                    () = place.session.ended() => break Stay::Gone,
                },
            };
            match event {
                Event::Deleted(key) => place.waiting.deleted(&key),
                Event::Opened(revision) if place.waiting.watched_since(revision) => {
                    self.look_again(&mut place).await?;
                }
                Event::Opened(_) => {}
            }
        };
        lock(&self.state).watch = Some(watch);
        Ok(stay)
    }

    /// Reads the line and the permits again.
    async fn look_again(&self, place: &mut Place) -> Result<(), Error> {
        let txn = self.keys.look();
        let lease = place.session.lease();
        let looked = self.shared.send_until_answered(lease, &txn).await;
        let answer = looked.inspect_err(|_| self.forget(place, Permits::NONE))?;
        self.read_again(place, &answer.found);
        Ok(())
    }

    fn read_again(&self, place: &mut Place, found: &[Vec<Found>]) {
        if let Some((line, held)) = read(found) {
            place.waiting.read_again(line, held);
            self.note(held);
        }
    }

    /// Takes a place back in the background, and permits that it may have taken.
    fn forget(&self, place: &Place, permits: Permits) {
        let id = place.waiting.id();
        let mut keys = self.keys.held(permits, id);
        keys.push(self.keys.request(id));
        self.shared.take_back_later(&place.session, keys);
    }

    /// Takes permits for the first in line. `None` if that has to be decided again.
    async fn take(&self, place: &mut Place, permits: Permits) -> Result<Option<Grant>, Error> {
        let patience = Patience::begin();
        let session = Arc::clone(&place.session);
        let id = place.waiting.id().clone();
        let created = place.waiting.revision();
        let grant = |revision| Grant {
            id: id.clone(),
            permits,
            revision,
        };
        loop {
            let txn = || self.keys.take(&session.fence(), &id, created, permits);
            let failure = match self.shared.send_fenced(&session, txn).await {
                Ok(Some(answer)) if answer.held => return Ok(Some(grant(answer.revision))),
                Ok(Some(answer)) => {
                    let (_, held) = read(&answer.found).unwrap_or_default();
                    if let Some(revision) = self.done(permits, &id, held) {
                        return Ok(Some(grant(revision)));
                    }
                    self.read_again(place, &answer.found);
                    return Ok(None);
                }
                Ok(None) => return Ok(None),
                Err(failure) => failure,
            };
            if let Failure::Unknown(_) = failure {
                // It may have been done, or may be done later.
                let txn = || self.keys.taken(&session.fence());
                if let Ok(Some(answer)) = self.shared.send_fenced(&session, txn).await
                    && answer.held
                {
                    session.fenced(answer.revision);
                    let (_, held) = read(&answer.found).unwrap_or_default();
                    if let Some(revision) = self.done(permits, &id, held) {
                        return Ok(Some(grant(revision)));
                    }
                    self.read_again(place, &answer.found);
                    return Ok(None);
                }
            }
            let spent = patience.spend(&self.shared, failure).await;
            spent.inspect_err(|_| self.forget(place, permits))?;
        }
    }

    async fn give(&self, permits: Permits) -> Result<Reply, Error> {
        let given = {
            let mut state = lock(&self.state);
            state.hold.as_mut().map(|hold| {
                let numbers = permits.iter();
                let keys: Vec<_> = numbers.filter_map(|n| hold.keys.remove(&n)).collect();
                (Arc::clone(&hold.session), keys)
            })
        };
        if let Some((session, keys)) = given {
            self.end_hold();
            self.shared.remove(&session, keys).await?;
        }
        Ok(Answer::Granted.into())
    }

    /// If no permit is left, there is none to lose.
    fn end_hold(&self) {
        let mut state = lock(&self.state);
        let ended = state.hold.take_if(|hold| hold.keys.is_empty());
        if let Some(hold) = ended {
            hold.session.deregister(hold.epoch);
        }
    }

    /// Gives a place in line up, or keeps it for the next request.
    async fn give_up(&self, place: Place, keep: bool) -> Result<(), Error> {
        if keep {
            lock(&self.state).place = Some(place);
            return Ok(());
        }
        let key = self.keys.request(place.waiting.id());
        self.shared.remove(&place.session, vec![key]).await
    }

    async fn leave(&self) -> Result<Reply, Error> {
        let place = lock(&self.state).place.take();
        if let Some(place) = place {
            self.give_up(place, false).await?;
        }
        Ok(Answer::Granted.into())
    }
}

impl State {
    /// The permits that this host has.
    fn own(&self) -> Permits {
        let keys = self.hold.iter().flat_map(|hold| hold.keys.keys());
        let ones = keys.map(|number| Permits::one(*number));
        ones.fold(Permits::NONE, Permits::with)
    }
}
