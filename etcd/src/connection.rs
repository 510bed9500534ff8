//! Connections to the members of a cluster, and the failover between them.

use crate::{Address, Options};
use clasp_engine::{Error, ErrorKind};
use etcd_client::{Channel, Client, ConnectOptions};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tokio::{sync::OnceCell, time::timeout};
use tonic::{Code, transport::Endpoint};

/// How long one member may take to answer before another is asked.
pub(crate) const ATTEMPT: Duration = Duration::from_secs(2);

/// The time between two attempts, so that a cluster that refuses is not asked in a loop.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);

/// Why a call has no answer.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// The server has refused it: it was not carried out and will not be.
    Refused(Error),
    /// No answer has come: it may have been carried out, or may be later.
    Unknown(Error),
}

/// The members of one cluster, as one thread uses them.
pub(crate) struct Connections {
    address: Address,
    options: Options,
    clients: Vec<OnceCell<Client>>,
    current: AtomicUsize,
}

impl Connections {
    pub(crate) fn new(address: &Address, options: &Options) -> Connections {
        Connections {
            address: address.clone(),
            options: options.clone(),
            clients: address.members().iter().map(|_| OnceCell::new()).collect(),
            current: AtomicUsize::new(0),
        }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// How many members there are.
    pub(crate) fn members(&self) -> usize {
        self.clients.len()
    }

    /// The member that is asked at present.
    pub(crate) fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    /// From now on another member is asked than `member`, which does not answer.
    pub(crate) fn leave(&self, member: usize) {
        let next = (member + 1) % self.members();
        let (order, failed) = (Ordering::Relaxed, Ordering::Relaxed);
        // Otherwise another call has left it.
        let _ = self.current.compare_exchange(member, next, order, failed);
    }

    /// The client of a member. Where there are users, it logs in first.
    pub(crate) async fn client(&self, member: usize) -> Result<Client, etcd_client::Error> {
        let cell = &self.clients[member % self.members()];
        let client = cell.get_or_try_init(|| self.connect(member)).await?;
        Ok(client.clone())
    }

    async fn connect(&self, member: usize) -> Result<Client, etcd_client::Error> {
        let scheme = if self.address.tls() { "https" } else { "http" };
        let uri = format!("{scheme}://{}", self.address.members()[member]);
        let endpoint = Endpoint::from_shared(uri)?
            .connect_timeout(ATTEMPT)
            .tcp_nodelay(true)
            // The shortest interval that a server allows by default.
            .http2_keep_alive_interval(Duration::from_secs(5))
            .keep_alive_timeout(ATTEMPT)
            .keep_alive_while_idle(true);
        #[cfg(feature = "tls")]
        let endpoint = match self.options.tls(self.address.tls()) {
            Some(tls) => endpoint.tls_config(tls)?,
            None => endpoint,
        };
        let channel = Channel::Tonic(endpoint.connect_lazy());
        let mut options = ConnectOptions::new().with_require_leader(true);
        if let Some((user, password)) = &self.options.user {
            options = options
                .with_user(user, password)
                .with_auto_token_refresh(true);
        }
        Client::from_channel(channel, Some(options)).await
    }

    /// Asks one member.
    ///
    /// # Errors
    /// Whether the call was refused, or its end is unknown.
    pub(crate) async fn call<T, F>(&self, call: impl FnOnce(Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let member = self.current();
        let client = match timeout(ATTEMPT, self.client(member)).await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => {
                let failure = self.failure(member, &error);
                if let Failure::Unknown(_) = failure {
                    self.leave(member);
                }
                return Err(failure);
            }
            Err(_) => return Err(self.silent(member)),
        };
        match timeout(ATTEMPT, call(client)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                let failure = self.failure(member, &error);
                if let Failure::Unknown(_) = failure {
                    self.leave(member);
                }
                Err(failure)
            }
            Err(_) => Err(self.silent(member)),
        }
    }

    fn silent(&self, member: usize) -> Failure {
        self.leave(member);
        let member = &self.address.members()[member];
        let why = format!("{member} has not answered within {} s", ATTEMPT.as_secs());
        Failure::Unknown(Error::new(ErrorKind::Unavailable, why))
    }

    /// What an error of the client of a member means.
    fn failure(&self, member: usize, error: &etcd_client::Error) -> Failure {
        use etcd_client::Error::{GRpcStatus, InvalidArgs, InvalidUri};

        let status = match error {
            GRpcStatus(status) => status,
            InvalidArgs(_) | InvalidUri(_) => {
                return Failure::Refused(Error::new(ErrorKind::Unavailable, error.to_string()));
            }
            _ => return self.no_answer(member, with_cause(&error.to_string(), error)),
        };
        let told = status.message();
        let refused = |kind, why: String| Failure::Refused(Error::new(kind, why));
        match status.code() {
            Code::Unauthenticated | Code::InvalidArgument
                if told.contains("authentication failed") =>
            {
                refused(
                    ErrorKind::Access,
                    "etcd does not accept the user name or the password; \
                 see CLASP_ETCD_USER and CLASP_ETCD_PASSWORD"
                        .into(),
                )
            }
            Code::InvalidArgument if told.contains("user name is empty") => refused(
                ErrorKind::Access,
                "etcd requires a user; set CLASP_ETCD_USER and CLASP_ETCD_PASSWORD".into(),
            ),
            Code::PermissionDenied => refused(
                ErrorKind::Access,
                format!(
                    "the role of the user does not permit it; grant `readwrite --prefix {}/`",
                    self.address.prefix()
                ),
            ),
            Code::ResourceExhausted => refused(
                ErrorKind::Unavailable,
                format!(
                    "the cluster is full or overloaded ({told}); \
                     turn auto-compaction on, then compact, defragment and disarm the alarm"
                ),
            ),
            Code::InvalidArgument
            | Code::NotFound
            | Code::FailedPrecondition
            | Code::OutOfRange => refused(ErrorKind::Unavailable, format!("etcd refuses: {told}")),
            _ => self.no_answer(member, with_cause(told, status)),
        }
    }

    /// A member could not be asked, or has not told what it did.
    fn no_answer(&self, member: usize, why: String) -> Failure {
        let member = &self.address.members()[member % self.members()];
        let why = format!("{member}: {why}");
        // Rustls tells in such words what it does not accept itself, and what the server
        // does not accept.
        let is_distrust = ["certificate", "fatal alert"].map(|word| why.contains(word));
        let kind = match self.address.tls() && is_distrust.contains(&true) {
            true => ErrorKind::Access,
            false => ErrorKind::Unavailable,
        };
        Failure::Unknown(Error::new(kind, why))
    }

    /// The error for a user after nothing has come of several attempts.
    pub(crate) fn unavailable(&self, last: &Error, patience: Duration) -> Error {
        let kind = last.kind();
        let last = last.detail().unwrap_or("no member has answered");
        if kind == ErrorKind::Access {
            let why = format!(
                "{last}; `ca=FILE` has the authority of the servers' certificates, and \
                 `cert=FILE,key=FILE` the certificate of this host; the dates and names in \
                 certificates must fit"
            );
            return Error::new(kind, why);
        }
        let mut why = format!(
            "no answer from {} within {:?}; a majority of the members must be up and \
             reachable. The last error: {last}",
            self.address, patience
        );
        // It may have closed the connection before it could tell why.
        if self.address.tls() {
            why += ". A server that asks for a certificate closes connections without one: see \
                    `cert=FILE,key=FILE`";
        }
        Error::new(ErrorKind::Unavailable, why)
    }
}

/// What an error tells, and its first cause, such as a refused connection.
fn with_cause(told: &str, error: &dyn std::error::Error) -> String {
    let mut cause = error.source();
    while let Some(deeper) = cause.and_then(std::error::Error::source) {
        cause = Some(deeper);
    }
    match cause {
        Some(cause) => format!("{told}: {cause}"),
        None => told.to_owned(),
    }
}
