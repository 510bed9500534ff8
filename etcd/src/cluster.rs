//! One cluster, as users of this crate have it.

use crate::{
    Address, Options,
    shared::{Handle, Shared},
    space::EtcdSpace,
};
use clasp_engine::{Error, ErrorKind, backend::Space};
use std::{
    fmt,
    sync::{Arc, mpsc},
};

/// A cluster of etcd servers. Clones are the same one.
///
/// A process has one session with it, which begins with the connection. When the last
/// clone and the last space are dropped, the session ends and all its locks are released.
/// This takes up to a second if the cluster does not answer.
#[derive(Clone)]
pub struct Cluster(Arc<Handle>);

impl Cluster {
    /// Connects to a cluster and begins a session.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if no majority of the members answers
    /// within seconds, [`Access`](ErrorKind::Access) if the user, the password or the role
    /// does not suffice, [`Unsupported`](ErrorKind::Unsupported) if the server is older than
    /// 3.5.13, [`Io`](ErrorKind::Io) if the threads cannot be started.
    pub fn connect(address: &Address, options: &Options) -> Result<Cluster, Error> {
        options.check(address)?;
        let shared = Arc::new(Shared::start(address, options)?);
        let handle = Arc::new(Handle(Arc::clone(&shared)));
        let (send, receive) = mpsc::channel();
        let begins = Arc::clone(&shared);
        shared.runtime.spawn(async move {
            let _ = send.send(begins.begin().await);
        });
        let closed = || Error::new(ErrorKind::Io, "the thread of the cluster has ended");
        receive.recv().map_err(|_| closed())??;
        Ok(Cluster(handle))
    }

    /// The place in which its locks are opened.
    pub fn space(&self) -> Arc<dyn Space> {
        Arc::new(EtcdSpace::new(Arc::clone(&self.0)))
    }

    /// Ends the session, as is done when the last clone is dropped; for programs that end
    /// without dropping.
    pub fn close(&self) {
        self.0.0.close();
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.0.0.connections.address();
        f.debug_tuple("Cluster")
            .field(&address.to_string())
            .finish()
    }
}
