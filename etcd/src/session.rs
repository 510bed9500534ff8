//! The session of this process with a cluster: a lease, the key of the host, and the
//! locks that end with it.
//!
//! A host stops to claim its locks before the server can give them to others. It counts
//! from the moment before it sent the keep-alive that the server confirmed last, on a
//! clock that goes on during suspension; the server counts from a later moment. So only
//! the rates of the two clocks have to agree, within the margin.

use crate::{
    clock,
    connection::Connections,
    options::OnLoss,
    txn::{Fence, Id, Key},
};
use clasp_engine::{Error, ErrorKind, backend::Sink};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{mpsc::UnboundedReceiver, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

/// After this time another member is asked to keep the lease alive as well.
const HEDGE: Duration = Duration::from_millis(500);

/// How long before the end of the lease a host stops to claim its locks.
pub(crate) fn margin(ttl: Duration) -> Duration {
    (ttl / 10).max(Duration::from_millis(500))
}

/// A mutex whose holder does not panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) struct Session {
    lease: i64,
    ttl: Duration,
    host: Key,
    /// The revision that changed the key of the host last.
    fence: AtomicI64,
    /// When to stop claiming, by [`clock::now`], in nanoseconds.
    until: AtomicU64,
    numbers: AtomicU64,
    state: Mutex<State>,
    ended: watch::Sender<bool>,
    on_loss: Option<OnLoss>,
}

#[derive(Default)]
struct State {
    ended: Option<Error>,
    /// Who is told of the loss, by epoch.
    holders: HashMap<u64, Weak<dyn Sink>>,
}

impl Session {
    /// A session whose lease was asked for at `sent`, and whose key `revision` has put.
    pub(crate) fn new(
        lease: i64,
        ttl: Duration,
        host: Key,
        revision: i64,
        sent: Duration,
        on_loss: Option<OnLoss>,
    ) -> Session {
        let session = Session {
            lease,
            ttl,
            host,
            fence: AtomicI64::new(revision),
            until: AtomicU64::new(0),
            numbers: AtomicU64::new(1),
            state: Mutex::default(),
            ended: watch::Sender::new(false),
            on_loss,
        };
        session.confirmed(sent);
        session
    }

    pub(crate) fn lease(&self) -> i64 {
        self.lease
    }

    /// The id of a new request.
    pub(crate) fn id(&self) -> Id {
        Id::new(self.lease, self.numbers.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn fence(&self) -> Fence {
        Fence {
            key: self.host.clone(),
            at: self.fence.load(Ordering::SeqCst),
        }
    }

    /// The key of the host was changed by this revision, or by a later one.
    pub(crate) fn fenced(&self, revision: i64) {
        self.fence.fetch_max(revision, Ordering::SeqCst);
    }

    /// The server has confirmed a keep-alive that was sent at this time.
    fn confirmed(&self, sent: Duration) {
        let until = sent + self.ttl.saturating_sub(margin(self.ttl));
        let until = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX);
        self.until.fetch_max(until, Ordering::SeqCst);
    }

    /// How long it may still claim its locks.
    fn left(&self) -> Duration {
        Duration::from_nanos(self.until.load(Ordering::SeqCst)).saturating_sub(clock::now())
    }

    /// Whether it may claim its locks. Looks at the clock first, so that a process which
    /// was stopped learns of it before it does anything.
    pub(crate) fn is_alive(&self) -> bool {
        if self.left().is_zero() {
            let why = format!(
                "the cluster has not confirmed the lease for {:?}",
                self.ttl.saturating_sub(margin(self.ttl))
            );
            self.end(Error::new(ErrorKind::Lost, why));
        }
        lock(&self.state).ended.is_none()
    }

    /// Ends it: all its locks are lost.
    pub(crate) fn end(&self, why: Error) {
        let holders = {
            let mut state = lock(&self.state);
            if state.ended.is_some() {
                return;
            }
            state.ended = Some(why.clone());
            std::mem::take(&mut state.holders)
        };
        let locks = holders.len();
        for (epoch, sink) in holders {
            if let Some(sink) = sink.upgrade() {
                sink.lost(epoch, why.clone());
            }
        }
        self.ended.send_replace(true);
        if locks > 0 {
            tracing::debug!(target: "clasp::etcd", locks, error = %why, "locks are lost");
            if let Some(told) = &self.on_loss {
                told(&why);
            }
        }
    }

    /// Ends it without telling of its locks, which are released with it.
    pub(crate) fn close(&self) {
        lock(&self.state).holders.clear();
        self.end(Error::new(ErrorKind::Lost, "the connection was closed"));
    }

    /// Completes when it has ended, and those that are to be told of a loss have been told.
    pub(crate) async fn ended(&self) {
        let mut ended = self.ended.subscribe();
        // The sender lives as long as this.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// From now on `sink` is told if what was just acquired is lost, by the epoch that this
    /// answers; `None` if the session has ended.
    pub(crate) fn register(&self, sink: &Weak<dyn Sink>) -> Option<u64> {
        static EPOCHS: AtomicU64 = AtomicU64::new(1);
        if !self.is_alive() {
            return None;
        }
        let mut state = lock(&self.state);
        if state.ended.is_some() {
            return None;
        }
        let epoch = EPOCHS.fetch_add(1, Ordering::Relaxed);
        state.holders.insert(epoch, Weak::clone(sink));
        Some(epoch)
    }

    /// The lock of this epoch is released.
    pub(crate) fn deregister(&self, epoch: u64) {
        lock(&self.state).holders.remove(&epoch);
    }
}

/// Keeps sessions alive, one after the other, until no more come.
pub(crate) async fn keep(
    connections: Arc<Connections>,
    mut sessions: UnboundedReceiver<Arc<Session>>,
) {
    while let Some(session) = sessions.recv().await {
        tokio::select! {
            () = keep_alive(&connections, &session) => {}
            () = session.ended() => {}
        }
    }
}

async fn keep_alive(connections: &Arc<Connections>, session: &Arc<Session>) {
    while session.is_alive() {
        sleep(session.ttl / 5).await;
        match timeout(session.left(), confirm(connections, session.lease)).await {
            Ok(Ok(sent)) => session.confirmed(sent),
            Ok(Err(why)) => session.end(Error::new(ErrorKind::Lost, why)),
            // The loop looks at the clock.
            Err(_) => {}
        }
    }
}

/// Has the lease kept alive by the first member that does. Answers when it was asked, or
/// that there is no such lease any more.
async fn confirm(connections: &Arc<Connections>, lease: i64) -> Result<Duration, String> {
    let mut asked = JoinSet::new();
    let mut member = connections.current();
    loop {
        let (asks, at) = (Arc::clone(connections), member);
        member = (member + 1) % connections.members();
        asked.spawn(async move {
            let client = match timeout(crate::connection::ATTEMPT, asks.client(at)).await {
                Ok(Ok(client)) => client,
                Ok(Err(error)) => return (at, Err(error)),
                Err(_) => {
                    let why = "no answer to the log-in".into();
                    return (at, Err(etcd_client::Error::LeaseKeepAliveError(why)));
                }
            };
            let sent = clock::now();
            let answer = client.lease_client().keep_alive(lease).await;
            (at, answer.map(|_| sent))
        });
        let answered = tokio::select! {
            answered = asked.join_next() => answered,
            () = sleep(HEDGE) => None,
        };
        match answered {
            Some(Ok((_, Ok(sent)))) => return Ok(sent),
            Some(Ok((_, Err(etcd_client::Error::LeaseKeepAliveError(why)))))
                if why.contains("not found") =>
            {
                return Err("the lease was revoked or has expired".into());
            }
            Some(Ok((at, Err(error)))) => {
                tracing::debug!(target: "clasp::etcd", %error, "a keep-alive failed");
                connections.leave(at);
                sleep(crate::connection::PAUSE).await;
            }
            Some(Err(_)) | None => connections.leave(at),
        }
    }
}
