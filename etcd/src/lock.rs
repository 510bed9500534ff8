//! A lock of a cluster, as the engine takes it: operations of the engine as transactions.

use crate::{
    connection::Failure,
    line::Waiting,
    operation::{Operation, Patience, first_token, tenure},
    session::{Session, lock},
    shared::Shared,
    txn::{Found, Id, LockKeys},
    watch::{Event, Watch},
};
use clasp_engine::{
    Error, ErrorKind, LockName, Mode,
    backend::{Answer, Caps, Op, OpId, Reply, Resource, Sink, Started},
};
use std::sync::{Arc, Mutex, Weak};

/// One open lock.
pub(crate) struct EtcdLock(Arc<Inner>);

impl EtcdLock {
    pub(crate) fn new(shared: Arc<Shared>, name: &LockName) -> EtcdLock {
        EtcdLock(Arc::new(Inner {
            keys: LockKeys::new(shared.connections.address().prefix(), name),
            name: name.as_str().to_owned(),
            shared,
            state: Mutex::default(),
        }))
    }
}

struct Inner {
    shared: Arc<Shared>,
    keys: LockKeys,
    name: String,
    state: Mutex<State>,
}

/// What this host has at the server. Taken out by the operation that is under way.
#[derive(Default)]
struct State {
    hold: Option<Hold>,
    place: Option<Place>,
    watch: Option<Watch>,
}

/// The lock is held.
#[derive(Clone)]
struct Hold {
    session: Arc<Session>,
    /// The first has the lock; the others were put in line to join it.
    ids: Vec<Id>,
    /// The revision that put the first.
    created: i64,
    /// The revision that made it exclusive, if it is.
    exclusive: Option<i64>,
    /// How many tokens this revision has given.
    turns: u64,
    epoch: u64,
}

/// A place in line.
struct Place {
    session: Arc<Session>,
    waiting: Waiting,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.names.close(&self.name);
        let state = std::mem::take(&mut *lock(&self.state));
        let hold = state.hold.map(|hold| {
            hold.session.deregister(hold.epoch);
            (hold.session, hold.ids)
        });
        let place = state
            .place
            .map(|place| (place.session, vec![place.waiting.id().clone()]));
        for (session, ids) in hold.into_iter().chain(place) {
            self.shared.take_back_later(&session, self.keys.of(&ids));
        }
    }
}

impl Resource for EtcdLock {
    fn permits(&self, _: Mode) -> bool {
        true
    }

    fn caps(&self) -> Caps {
        Caps {
            immediate: false,
            order: true,
            downgrade: true,
            upgrade: true,
            tokens: true,
        }
    }

    fn start(&self, id: OpId, op: Op, sink: &Weak<dyn Sink>) -> Started {
        // A process that was stopped learns of what it lost before it goes on.
        self.0.look_at_the_clock();
        match op {
            Op::Token => return Started::Done(self.0.token()),
            // Only hosts in line could be before it.
            Op::Join { ahead: true, .. } => return Started::Done(Ok(Answer::Granted.into())),
            _ => {}
        }
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
    Granted(Place),
    Cancelled {
        place: Place,
        keep: bool,
    },
    /// The place is gone: with the session, or because its key was deleted.
    Gone,
}

impl Inner {
    /// Has the session end if its time is over.
    fn look_at_the_clock(&self) {
        self.holding();
    }

    async fn carry_out(
        &self,
        op: Op,
        operation: &Operation,
        sink: &Weak<dyn Sink>,
    ) -> Result<Reply, Error> {
        match op {
            Op::Lock {
                amount, wait: true, ..
            } => self.wait(amount, operation, sink).await,
            Op::Lock { amount, .. } => self.try_lock(amount, operation, sink).await,
            Op::Join { wait, .. } => self.join(wait, operation).await,
            Op::Convert { to: Mode::Shared } => self.downgrade().await,
            Op::Convert {
                to: Mode::Exclusive,
            } => self.upgrade().await,
            Op::Unlock => self.unlock().await,
            Op::Leave => self.leave().await,
            Op::Token => self.token(),
            Op::Take { .. } | Op::Give { .. } => Err(ErrorKind::Unsupported.into()),
        }
    }

    /// The lock was taken by the transaction of this revision. `None` if it was lost
    /// meanwhile.
    fn granted(
        &self,
        session: &Arc<Session>,
        id: Id,
        mode: Mode,
        revision: i64,
        sink: &Weak<dyn Sink>,
    ) -> Option<Reply> {
        let epoch = session.register(sink)?;
        lock(&self.state).hold = Some(Hold {
            session: Arc::clone(session),
            ids: vec![id],
            created: revision,
            exclusive: (mode == Mode::Exclusive).then_some(revision),
            turns: 0,
            epoch,
        });
        Some(Reply {
            epoch,
            tenure: Some(tenure()),
            ..Answer::Granted.into()
        })
    }

    async fn try_lock(
        &self,
        mode: Mode,
        operation: &Operation,
        sink: &Weak<dyn Sink>,
    ) -> Result<Reply, Error> {
        let patience = Patience::begin();
        while !operation.is_cancelled() {
            let session = self.shared.session().await?;
            let id = session.id();
            let txn = || self.keys.try_lock(&session.fence(), &id, mode);
            match self.shared.send_fenced(&session, txn).await {
                Ok(Some(answer)) if answer.held => {
                    if let Some(reply) = self.granted(&session, id, mode, answer.revision, sink) {
                        return Ok(reply);
                    }
                }
                Ok(Some(_)) => break,
                Ok(None) => {}
                Err(failure) => {
                    if let Failure::Unknown(_) = failure {
                        let keys = self.keys.of(&[id]);
                        self.shared.take_back(&session, keys).await?;
                    }
                    patience.spend(&self.shared, failure).await?;
                }
            }
        }
        Ok(Answer::Busy.into())
    }

    /// Waits in line for the lock.
    async fn wait(
        &self,
        mode: Mode,
        operation: &Operation,
        sink: &Weak<dyn Sink>,
    ) -> Result<Reply, Error> {
        loop {
            let place = lock(&self.state).place.take();
            let place = match self.line_up(mode, place, operation).await? {
                Some(place) => place,
                None => return Ok(Answer::Busy.into()),
            };
            match self.stay(place, operation).await? {
                Stay::Granted(Place { session, waiting }) => {
                    let (id, revision) = (waiting.id().clone(), waiting.revision());
                    if let Some(reply) = self.granted(&session, id, mode, revision, sink) {
                        return Ok(reply);
                    }
                }
                Stay::Cancelled { place, keep } => {
                    self.give_up(place, keep).await?;
                    return Ok(Answer::Busy.into());
                }
                Stay::Gone => {}
            }
        }
    }

    /// Gets a place in line, in place of the one that there was. `None` if cancelled.
    async fn line_up(
        &self,
        mode: Mode,
        mut old: Option<Place>,
        operation: &Operation,
    ) -> Result<Option<Place>, Error> {
        let patience = Patience::begin();
        loop {
            let session = self.shared.session().await?;
            let usable =
                |place: &Place| Arc::ptr_eq(&place.session, &session) && !place.waiting.is_gone();
            if let Some(place) = old.take_if(|place| usable(place) && place.waiting.mode() == mode)
            {
                return Ok(Some(place));
            }
            let instead: Vec<_> = old
                .iter()
                .filter(|place| usable(place))
                .map(|place| place.waiting.id().clone())
                .collect();
            if operation.is_cancelled() {
                if !instead.is_empty() {
                    let keys = self.keys.of(&instead);
                    self.shared.take_back(&session, keys).await?;
                }
                return Ok(None);
            }
            // Before the request: otherwise the server has to look for events of the past.
            self.watch();
            let id = session.id();
            let txn = || {
                self.keys
                    .stand_in_line(&session.fence(), &id, mode, &instead)
            };
            match self.shared.send_fenced(&session, txn).await {
                Ok(Some(answer)) if answer.held => {
                    let found = answer.found.first().map_or(&[][..], |found| found);
                    let waiting = Waiting::new(&self.keys, id, mode, answer.revision, found);
                    return Ok(Some(Place { session, waiting }));
                }
                Ok(_) => {}
                Err(failure) => {
                    if let Failure::Unknown(_) = failure {
                        let keys = self.keys.of(&[vec![id], instead].concat());
                        self.shared.take_back(&session, keys).await?;
                        old = None;
                    }
                    patience.spend(&self.shared, failure).await?;
                }
            }
        }
    }

    /// Begins to watch the keys of the lock, unless it does.
    fn watch(&self) {
        let mut state = lock(&self.state);
        if state.watch.is_none() {
            state.watch = Some(self.shared.watch(self.keys.all()));
        }
    }

    /// Stays in line until the lock is granted.
    async fn stay(&self, mut place: Place, operation: &Operation) -> Result<Stay, Error> {
        self.watch();
        let watch = lock(&self.state).watch.take();
        let Some(mut watch) = watch else {
            return Ok(Stay::Gone);
        };
        let stay = loop {
            if !place.session.is_alive() || place.waiting.is_gone() {
                break Stay::Gone;
            }
            if place.waiting.is_granted() {
                break Stay::Granted(place);
            }
            let event = match watch.try_next() {
                Some(event) => event,
                None => tokio::select! {
                    biased;
                    event = watch.next() => match event {
                        Some(event) => event,
                        None => break Stay::Gone,
                    },
                    keep = operation.cancelled() => break Stay::Cancelled { place, keep },
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

    /// Reads the line again after events may have been missed.
    async fn look_again(&self, place: &mut Place) -> Result<(), Error> {
        let waiting = &mut place.waiting;
        let txn = self.keys.look(Some(waiting.id()), waiting.mode());
        let lease = place.session.lease();
        let looked = self.shared.send_until_answered(lease, &txn).await;
        let answer = match looked {
            Ok(answer) => answer,
            Err(error) => {
                let keys = self.keys.of(std::slice::from_ref(waiting.id()));
                self.shared.take_back_later(&place.session, keys);
                return Err(error);
            }
        };
        if let [found, own] = &answer.found[..] {
            waiting.read_again(found, own);
        }
        Ok(())
    }

    /// Gives a place in line up, or keeps it for the next request.
    async fn give_up(&self, place: Place, keep: bool) -> Result<(), Error> {
        if keep {
            lock(&self.state).place = Some(place);
            return Ok(());
        }
        let keys = self.keys.of(std::slice::from_ref(place.waiting.id()));
        self.shared.remove(&place.session, keys).await
    }

    /// One more shared holder of this host.
    async fn join(&self, wait: bool, operation: &Operation) -> Result<Reply, Error> {
        let Some(session) = self.holding() else {
            return Ok(Answer::Busy.into());
        };
        if lock(&self.state).place.is_none() {
            let txn = self.keys.look(None, Mode::Shared);
            let answer = self
                .shared
                .send_until_answered(session.lease(), &txn)
                .await?;
            if answer.found.iter().all(Vec::is_empty) {
                return Ok(Answer::Granted.into());
            }
            if !wait {
                return Ok(Answer::Busy.into());
            }
        }
        let place = lock(&self.state).place.take();
        let Some(place) = self.line_up(Mode::Shared, place, operation).await? else {
            return Ok(Answer::Busy.into());
        };
        match self.stay(place, operation).await? {
            Stay::Granted(place) => {
                let mut state = lock(&self.state);
                let holds = state
                    .hold
                    .as_mut()
                    .filter(|hold| Arc::ptr_eq(&hold.session, &place.session));
                match holds {
                    Some(hold) => {
                        hold.ids.push(place.waiting.id().clone());
                        Ok(Answer::Granted.into())
                    }
                    // Lost meanwhile: the place is for the request that follows.
                    None => {
                        state.place = Some(place);
                        Ok(Answer::Busy.into())
                    }
                }
            }
            Stay::Cancelled { place, keep } => {
                self.give_up(place, keep).await?;
                Ok(Answer::Busy.into())
            }
            Stay::Gone => Ok(Answer::Busy.into()),
        }
    }

    /// The session of the lock that is held.
    fn holding(&self) -> Option<Arc<Session>> {
        let session = {
            let state = lock(&self.state);
            state.hold.as_ref().map(|hold| Arc::clone(&hold.session))
        };
        // Not under the mutex: if the session has ended, the engine is told.
        session.filter(|session| session.is_alive())
    }

    async fn unlock(&self) -> Result<Reply, Error> {
        let hold = lock(&self.state).hold.take();
        if let Some(hold) = hold {
            hold.session.deregister(hold.epoch);
            let keys = self.keys.of(&hold.ids);
            self.shared.remove(&hold.session, keys).await?;
        }
        Ok(Answer::Granted.into())
    }

    async fn leave(&self) -> Result<Reply, Error> {
        let place = lock(&self.state).place.take();
        if let Some(place) = place {
            self.give_up(place, false).await?;
        }
        Ok(Answer::Granted.into())
    }

    async fn downgrade(&self) -> Result<Reply, Error> {
        let hold = lock(&self.state).hold.clone();
        let Some((hold, first)) = hold.and_then(|hold| {
            let first = hold.ids.first().cloned()?;
            Some((hold, first))
        }) else {
            return Err(ErrorKind::Lost.into());
        };
        let txn = self.keys.downgrade(&first);
        let answer = self
            .shared
            .send_until_answered(hold.session.lease(), &txn)
            .await?;
        self.still_there(&hold, answer.found.first())?;
        if let Some(hold) = &mut lock(&self.state).hold {
            hold.exclusive = None;
        }
        Ok(Answer::Granted.into())
    }

    /// Checks that the request that holds the lock was found.
    fn still_there(&self, hold: &Hold, found: Option<&Vec<Found>>) -> Result<(), Error> {
        let there = found.is_some_and(|found| found.iter().any(|key| key.created == hold.created));
        if there {
            return Ok(());
        }
        let why = Error::new(ErrorKind::Lost, "the key of the request was deleted");
        hold.session.end(why.clone());
        Err(why)
    }

    async fn upgrade(&self) -> Result<Reply, Error> {
        let patience = Patience::begin();
        loop {
            let hold = lock(&self.state).hold.clone();
            let Some(hold) = hold.filter(|hold| hold.session.is_alive()) else {
                return Err(ErrorKind::Lost.into());
            };
            let Some(first) = hold.ids.first() else {
                return Err(ErrorKind::Lost.into());
            };
            let session = &hold.session;
            let txn = || self.keys.upgrade(&session.fence(), &hold.ids, hold.created);
            match self.shared.send_fenced(session, txn).await {
                Ok(Some(answer)) if answer.held => {
                    self.upgraded(answer.revision);
                    return Ok(Answer::Granted.into());
                }
                Ok(Some(answer)) => {
                    self.still_there(&hold, answer.found.get(1))?;
                    return Ok(Answer::Busy.into());
                }
                Ok(None) => {}
                Err(failure @ Failure::Refused(_)) => {
                    patience.spend(&self.shared, failure).await?;
                }
                Err(failure) => {
                    // It may have been done, or may be done later.
                    let txn = || self.keys.upgraded(&session.fence(), first);
                    let asked = self.shared.send_fenced(session, txn).await;
                    let Ok(Some(answer)) = asked else {
                        patience.spend(&self.shared, failure).await?;
                        continue;
                    };
                    session.fenced(answer.revision);
                    if let Some(done) = answer.found.first().and_then(|found| found.first()) {
                        self.upgraded(done.created);
                        return Ok(Answer::Granted.into());
                    }
                }
            }
        }
    }

    /// The lock is exclusive since this revision.
    fn upgraded(&self, revision: i64) {
        if let Some(hold) = &mut lock(&self.state).hold {
            hold.exclusive = Some(revision);
            hold.turns = 0;
            hold.ids.truncate(1);
        }
    }

    /// The revision that made the lock exclusive, and the turn since.
    fn token(&self) -> Result<Reply, Error> {
        let lost = || Error::from(ErrorKind::Lost);
        self.holding().ok_or_else(lost)?;
        let mut state = lock(&self.state);
        let hold = state.hold.as_mut().ok_or_else(lost)?;
        let turn = hold.turns;
        let token = hold
            .exclusive
            .and_then(first_token)
            .filter(|_| turn < Op::TOKENS)
            .map(|first| first + turn);
        let Some(token) = token else {
            let why = "all tokens of this acquisition are given";
            return Err(Error::new(ErrorKind::Unavailable, why));
        };
        hold.turns += 1;
        Ok(Reply {
            token: Some(token),
            ..Answer::Granted.into()
        })
    }
}
