//! What the locks of one cluster share in this process: its threads, its session, and the
//! transactions on it.

use crate::{
    Address, Options, clock,
    connection::{ATTEMPT, Connections, Failure, PAUSE},
    names::Names,
    options::OnLoss,
    session::{self, Session, lock},
    txn::{self, Answer, Found, Key, Keys, Step, Test, Txn, host_key},
    watch::{Event, Watch, Watches},
};
use clasp_engine::{Error, ErrorKind};
use etcd_client::{
    Compare, CompareOp, DeleteOptions, GetOptions, PutOptions, TxnOp, TxnOpResponse,
};
use std::{
    sync::{Arc, Mutex, mpsc},
    thread::{self, ThreadId},
    time::Duration,
};
use tokio::{
    runtime,
    sync::{
        mpsc::{UnboundedSender, unbounded_channel},
        oneshot,
    },
    time::{Instant, sleep, timeout},
};

/// How long an operation that does not wait for other hosts may take: longer than the
/// election of a leader.
pub(crate) const PATIENCE: Duration = Duration::from_secs(6);

/// How long the end of the process may be held up to give the lease back.
const FAREWELL: Duration = Duration::from_secs(1);

/// The oldest version with the repairs that locks need.
const VERSION: [u32; 3] = [3, 5, 13];

/// What clones of the cluster and spaces share; operations that are under way do not.
pub(crate) struct Handle(pub(crate) Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close();
    }
}

pub(crate) struct Shared {
    pub(crate) connections: Arc<Connections>,
    pub(crate) runtime: runtime::Handle,
    ttl: Duration,
    label: Vec<u8>,
    on_loss: Option<OnLoss>,
    pub(crate) names: Names,
    watches: Watches,
    /// Held while a session is begun.
    beginning: tokio::sync::Mutex<()>,
    session: Mutex<Option<Arc<Session>>>,
    keeper: UnboundedSender<Arc<Session>>,
    end: Mutex<Option<End>>,
}

/// How the thread is ended.
struct End {
    lease: oneshot::Sender<Option<i64>>,
    ended: mpsc::Receiver<()>,
    thread: ThreadId,
}

/// An error of the operating system, such as of starting a thread.
pub(crate) fn io(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, error.to_string())
}

impl Shared {
    pub(crate) fn start(address: &Address, options: &Options) -> Result<Shared, Error> {
        let build = || runtime::Builder::new_current_thread().enable_all().build();

        let (works, keeps) = (build().map_err(io)?, build().map_err(io)?);
        let connections = Arc::new(Connections::new(address, options));
        // Keep-alives have connections and a thread of their own: they are not held up by
        // anything else.
        let others = Arc::new(Connections::new(address, options));
        let (keeper, sessions) = unbounded_channel();
        thread::Builder::new()
            .name("clasp-etcd-lease".into())
            .spawn(move || keeps.block_on(session::keep(others, sessions)))
            .map_err(io)?;

        let runtime = works.handle().clone();
        let watches = Watches::start(Arc::clone(&connections), &runtime);
        let (lease, last) = oneshot::channel();
        let (ends, ended) = mpsc::channel();
        let gives_back = Arc::clone(&connections);
        let thread = thread::Builder::new()
            .name("clasp-etcd".into())
            .spawn(move || {
                works.block_on(async {
                    if let Ok(Some(lease)) = last.await {
                        let revoke = gives_back.call(|client| async move {
                            client.lease_client().revoke(lease).await.map(drop)
                        });
                        // Otherwise it expires.
                        let _ = timeout(FAREWELL, revoke).await;
                    }
                });
                works.shutdown_background();
                let _ = ends.send(());
            })
            .map_err(io)?;
        Ok(Shared {
            connections,
            runtime,
            ttl: options.ttl,
            label: options.label.clone().into_bytes(),
            on_loss: options.on_loss.clone(),
            names: Names::new(),
            watches,
            beginning: tokio::sync::Mutex::default(),
            session: Mutex::default(),
            keeper,
            end: Mutex::new(Some(End {
                lease,
                ended,
                thread: thread.thread().id(),
            })),
        })
    }

    pub(crate) fn close(&self) {
        let Some(end) = lock(&self.end).take() else {
            return;
        };
        let session = lock(&self.session).take();
        if let Some(session) = &session {
            session.close();
        }
        let _ = end.lease.send(session.map(|session| session.lease()));
        if thread::current().id() != end.thread {
            let _ = end.ended.recv_timeout(FAREWELL);
        }
    }

    /// Looks at the server, then begins the session.
    pub(crate) async fn begin(self: &Arc<Self>) -> Result<(), Error> {
        let status = self
            .persist(|| {
                self.connections
                    .call(|client| async move { client.maintenance_client().status().await })
            })
            .await?;
        check_version(status.version(), self.connections.address())?;
        self.session().await.map(drop)
    }

    /// Repeats a call until there is an answer, no longer than a user's patience. Only for
    /// calls that may be carried out twice.
    async fn persist<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let begun = Instant::now();
        loop {
            match call().await {
                Ok(answer) => return Ok(answer),
                Err(Failure::Refused(error)) => return Err(error),
                Err(Failure::Unknown(error)) if begun.elapsed() > PATIENCE => {
                    return Err(self.connections.unavailable(&error, PATIENCE));
                }
                Err(Failure::Unknown(error)) => {
                    tracing::debug!(target: "clasp::etcd", %error, "no answer");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// The session, if there is one that has not ended.
    pub(crate) fn live_session(&self) -> Option<Arc<Session>> {
        let session = lock(&self.session).clone();
        session.filter(|session| session.is_alive())
    }

    /// The session; begins one if the last has ended.
    pub(crate) async fn session(self: &Arc<Self>) -> Result<Arc<Session>, Error> {
        if let Some(session) = self.live_session() {
            return Ok(session);
        }
        let _beginning = self.beginning.lock().await;
        if let Some(session) = self.live_session() {
            return Ok(session);
        }
        let seconds = i64::try_from(self.ttl.as_secs()).unwrap_or(i64::MAX);
        let (lease, ttl, sent) = self
            .persist(|| async {
                let sent = clock::now();
                let grant = self
                    .connections
                    .call(|client| async move { client.lease_client().grant(seconds, None).await });
                let grant = grant.await?;
                let ttl = Duration::from_secs(grant.ttl().try_into().unwrap_or(0));
                Ok((grant.id(), ttl, sent))
            })
            .await?;
        let host = host_key(self.connections.address().prefix(), lease);
        let put = Txn {
            then: vec![Step::Put(host.clone())],
            ..Txn::default()
        };
        let put = self.persist(|| self.send(lease, &put)).await?;
        let on_loss = self.on_loss.clone();
        let session = Session::new(lease, ttl, host.clone(), put.revision, sent, on_loss);
        let session = Arc::new(session);
        let last = lock(&self.session).replace(Arc::clone(&session));
        if let Some(last) = last {
            self.give_back(last.lease());
        }
        let _ = self.keeper.send(Arc::clone(&session));
        let mut watch = self.watches.watch(host.clone());
        let watched = Arc::clone(&session);
        self.runtime.spawn(async move {
            let deleted = async {
                while let Some(event) = watch.next_quietly().await {
                    if event == Event::Deleted(host.clone()) {
                        return;
                    }
                }
            };
            tokio::select! {
                () = deleted => {
                    let why = "the lease was revoked, or the key of the host was deleted";
                    watched.end(Error::new(ErrorKind::Lost, why));
                }
                () = watched.ended() => {}
            }
        });
        Ok(session)
    }

    /// Revokes a lease that is not used any more. Otherwise it would expire.
    fn give_back(self: &Arc<Self>, lease: i64) {
        let shared = Arc::clone(self);
        self.runtime.spawn(async move {
            let revoke = shared
                .connections
                .call(|client| async move { client.lease_client().revoke(lease).await.map(drop) });
            let _ = revoke.await;
        });
    }

    /// Watches the keys that begin with this.
    pub(crate) fn watch(&self, prefix: Key) -> Watch {
        self.watches.watch(prefix)
    }

    /// Sends a transaction once. Its keys are bound to the lease.
    pub(crate) async fn send(&self, lease: i64, txn: &Txn) -> Result<Answer, Failure> {
        let request = self.request(lease, txn);
        let answer = self
            .connections
            .call(|client| async move { client.kv_client().txn(request).await })
            .await?;
        Ok(read(&answer))
    }

    /// Sends a transaction until it is answered, which may be carried out twice.
    pub(crate) async fn send_until_answered(&self, lease: i64, txn: &Txn) -> Result<Answer, Error> {
        self.persist(|| self.send(lease, txn)).await
    }

    /// Takes keys away that are there, unless they ended with their session.
    pub(crate) async fn remove(
        self: &Arc<Self>,
        session: &Arc<Session>,
        keys: Vec<Key>,
    ) -> Result<(), Error> {
        if !session.is_alive() {
            return Ok(());
        }
        let txn = txn::release(&keys);
        let removed = self.send_until_answered(session.lease(), &txn).await;
        if removed.is_err() {
            self.take_back_later(session, keys);
        }
        removed.map(drop)
    }

    /// Sends a transaction that is fenced by the key of the host, until the fence holds.
    /// `None` if the session has ended.
    pub(crate) async fn send_fenced(
        &self,
        session: &Session,
        txn: impl Fn() -> Txn,
    ) -> Result<Option<Answer>, Failure> {
        loop {
            let asked = session.fence().at;
            let answer = self.send(session.lease(), &txn()).await?;
            if answer.held {
                return Ok(Some(answer));
            }
            // What was read first is the key of the host.
            match answer.found.first().and_then(|found| found.first()) {
                Some(host) if host.changed == asked => return Ok(Some(answer)),
                Some(host) => session.fenced(host.changed),
                None => {
                    let why = "the lease was revoked or has expired";
                    session.end(Error::new(ErrorKind::Lost, why));
                    return Ok(None);
                }
            }
        }
    }

    /// Takes keys away of requests whose fate is unknown, and makes sure that they do not
    /// appear later. If that does not succeed now, it goes on in the background.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if the cluster does not answer.
    pub(crate) async fn take_back(
        self: &Arc<Self>,
        session: &Arc<Session>,
        keys: Vec<Key>,
    ) -> Result<(), Error> {
        let taken = self.persist(|| self.take_back_once(session, &keys)).await;
        if taken.is_err() {
            self.take_back_later(session, keys);
        }
        taken
    }

    /// Takes keys away in the background.
    pub(crate) fn take_back_later(self: &Arc<Self>, session: &Arc<Session>, keys: Vec<Key>) {
        let (shared, session) = (Arc::clone(self), Arc::clone(session));
        self.runtime.spawn(async move {
            while session.is_alive() {
                match shared.take_back_once(&session, &keys).await {
                    Ok(()) => return,
                    Err(_) => sleep(ATTEMPT / 4).await,
                }
            }
        });
    }

    async fn take_back_once(&self, session: &Session, keys: &[Key]) -> Result<(), Failure> {
        let take_back = || txn::take_back(&session.fence(), keys);
        if let Some(answer) = self.send_fenced(session, take_back).await?
            && answer.held
        {
            session.fenced(answer.revision);
        }
        Ok(())
    }

    fn request(&self, lease: i64, txn: &Txn) -> etcd_client::Txn {
        let compares: Vec<_> = txn.tests.iter().map(compare).collect();
        let steps = |steps: &[Step]| -> Vec<TxnOp> {
            steps
                .iter()
                .map(|step| self.operation(lease, step))
                .collect()
        };
        etcd_client::Txn::new()
            .when(compares)
            .and_then(steps(&txn.then))
            .or_else(steps(&txn.otherwise))
    }

    fn operation(&self, lease: i64, step: &Step) -> TxnOp {
        match step {
            Step::Put(key) => {
                let options = PutOptions::new().with_lease(lease);
                TxnOp::put(key.clone(), self.label.clone(), Some(options))
            }
            Step::Delete(keys) => {
                let (key, end) = range(keys);
                let options = end.map(|end| DeleteOptions::new().with_range(end));
                TxnOp::delete(key, options)
            }
            Step::Get(keys) => {
                let (key, end) = range(keys);
                let mut options = GetOptions::new().with_keys_only();
                if let Some(end) = end {
                    options = options.with_range(end);
                }
                TxnOp::get(key, Some(options))
            }
        }
    }
}

fn range(keys: &Keys) -> (Vec<u8>, Option<Vec<u8>>) {
    match keys {
        Keys::One(key) => (key.clone(), None),
        keys => {
            let (from, to) = keys.ends();
            (from, Some(to))
        }
    }
}

fn compare(test: &Test) -> Compare {
    match test {
        Test::Absent(keys) => {
            let (key, end) = range(keys);
            let compare = Compare::create_revision(key, CompareOp::Equal, 0);
            match end {
                Some(end) => compare.with_range(end),
                None => compare,
            }
        }
        Test::CreatedAt(key, revision) => {
            Compare::create_revision(key.clone(), CompareOp::Equal, *revision)
        }
        Test::ChangedAt(key, revision) => {
            Compare::mod_revision(key.clone(), CompareOp::Equal, *revision)
        }
    }
}

fn read(answer: &etcd_client::TxnResponse) -> Answer {
    let mut read = Answer {
        revision: answer.header().map_or(0, |header| header.revision()),
        held: answer.succeeded(),
        ..Answer::default()
    };
    for response in answer.op_responses() {
        match response {
            TxnOpResponse::Get(get) => {
                let found = get.kvs().iter().map(|kv| Found {
                    key: kv.key().to_vec(),
                    created: kv.create_revision(),
                    changed: kv.mod_revision(),
                });
                read.found.push(found.collect());
            }
            TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => {}
        }
    }
    read
}

fn check_version(version: &str, address: &Address) -> Result<(), Error> {
    let numbers = version
        .split(['.', '-'])
        .map(|number| number.parse().unwrap_or(0));
    let numbers: Vec<u32> = numbers.take(3).collect();
    if numbers.as_slice() >= &VERSION[..] {
        return Ok(());
    }
    let why = format!(
        "{address} runs etcd {version}, and locks need 3.5.13 or later: older servers revoke \
         leases that are kept alive"
    );
    Err(Error::new(ErrorKind::Unsupported, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_refused() {
        let address = "etcd://a/p".parse().unwrap();
        for old in ["3.4.23", "3.5.12", "3.5", "2", ""] {
            let error = check_version(old, &address).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{old}");
        }
        for new in ["3.5.13", "3.5.16", "3.6.0", "3.6.0-rc.1", "4.0.0"] {
            assert_eq!(check_version(new, &address), Ok(()), "{new}");
        }
    }
}
