//! How to connect, and how long a lease is.

use crate::Address;
use clasp_engine::{Error, ErrorKind};
use std::{fmt, sync::Arc, time::Duration};

/// The shortest lease: shorter ones end during the election of a leader.
const SHORTEST: Duration = Duration::from_secs(5);

/// Who is told that locks are lost.
pub(crate) type OnLoss = Arc<dyn Fn(&Error) + Send + Sync>;

/// The name of this machine and the number of this process.
fn label() -> String {
    let process = std::process::id();
    #[cfg(unix)]
    let machine = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    #[cfg(not(unix))]
    let machine = std::env::var("COMPUTERNAME").unwrap_or_default();
    format!("{machine} {process}")
}

/// How to connect to a cluster.
#[derive(Clone)]
pub struct Options {
    pub(crate) ttl: Duration,
    pub(crate) user: Option<(String, String)>,
    pub(crate) label: String,
    pub(crate) on_loss: Option<OnLoss>,
    #[cfg(feature = "tls")]
    tls: etcd_client::TlsOptions,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            ttl: Duration::from_secs(10),
            user: None,
            label: label(),
            on_loss: None,
            #[cfg(feature = "tls")]
            tls: etcd_client::TlsOptions::new().with_native_roots(),
        }
    }
}

impl Options {
    /// How long the locks of a host outlive it if it ends without releasing them: whole
    /// seconds, at least 5; 10 unless it is set. A host that is cut off from the cluster
    /// for longer than nine tenths of it loses its locks.
    pub fn ttl(mut self, ttl: Duration) -> Options {
        self.ttl = ttl;
        self
    }

    /// The user, where the cluster has users.
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Options {
        self.user = Some((name.into(), password.into()));
        self
    }

    /// What the keys of this host have as value, for people who look at them; the name of
    /// the machine and the number of the process unless it is set.
    pub fn label(mut self, label: impl Into<String>) -> Options {
        self.label = label.into();
        self
    }

    /// Calls `told` after locks were lost that this process held, from a thread of the
    /// cluster, which must not be held up. Every guard tells of its own loss as well.
    pub fn on_loss(mut self, told: impl Fn(&Error) + Send + Sync + 'static) -> Options {
        self.on_loss = Some(Arc::new(told));
        self
    }

    /// The certificates that are trusted for `etcds://`, in PEM form, instead of the
    /// system's.
    #[cfg(feature = "tls")]
    pub fn authority(mut self, pem: &[u8]) -> Options {
        let authority = etcd_client::Certificate::from_pem(pem);
        self.tls = etcd_client::TlsOptions::new().ca_certificate(authority);
        self
    }

    /// The certificate of this host and its key, in PEM form, where the cluster asks for
    /// one. To be set after [`authority`](Options::authority).
    #[cfg(feature = "tls")]
    pub fn identity(mut self, certificate: &[u8], key: &[u8]) -> Options {
        let identity = etcd_client::Identity::from_pem(certificate, key);
        self.tls = self.tls.identity(identity);
        self
    }

    #[cfg(feature = "tls")]
    pub(crate) fn tls(&self, wanted: bool) -> Option<etcd_client::TlsOptions> {
        wanted.then(|| self.tls.clone())
    }

    /// Whether a connection can be tried with them at all.
    pub(crate) fn check(&self, address: &Address) -> Result<(), Error> {
        if self.ttl < SHORTEST || self.ttl.subsec_nanos() != 0 {
            let why = format!(
                "a lease of {:?}: choose whole seconds, at least {}",
                self.ttl,
                SHORTEST.as_secs()
            );
            return Err(Error::new(ErrorKind::Unsupported, why));
        }
        if address.tls() && cfg!(not(feature = "tls")) {
            let why = "encrypted connections are not in this build; build with the feature `tls`";
            return Err(Error::new(ErrorKind::Unsupported, why));
        }
        Ok(())
    }
}

/// Without the password.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("ttl", &self.ttl)
            .field("user", &self.user.as_ref().map(|(name, _)| name))
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_leases_are_refused_and_passwords_not_shown() {
        let address = "etcd://a/p".parse().unwrap();
        for (ttl, valid) in [(4000, false), (5000, true), (5500, false)] {
            let options = Options::default().ttl(Duration::from_millis(ttl));
            assert_eq!(options.check(&address).is_ok(), valid, "{ttl}");
        }
        let shown = format!("{:?}", Options::default().user("u", "secret"));
        assert!(shown.contains("u") && !shown.contains("secret"), "{shown}");
    }
}
