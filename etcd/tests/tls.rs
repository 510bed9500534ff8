//! Encrypted connections: whose certificates are accepted, and what is told of others.
#![cfg(all(feature = "testing", feature = "tls"))]
#![allow(missing_docs, reason = "tests")]

use clasp_engine::{Ceilings, ErrorKind, Grant, Limits, LockManager, Mode};
use clasp_etcd::{
    Cluster, Options, look,
    testing::{Certificates, LocalCluster},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use std::{fs, path::Path};

/// An authority that signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM form.
struct Signed {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Authority(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for this machine that is valid until a year.
    fn sign(&self, until: i32) -> Signed {
        let mut params = CertificateParams::new(["127.0.0.1".into()]).unwrap();
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Signed {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

/// A server with this certificate; clients need one of `clients`, if there is one.
fn start(directory: &Path, server: &Signed, clients: Option<&Authority>) -> LocalCluster {
    let file = |name: &str, text: &str| {
        let path = directory.join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let certificates = Certificates {
        certificate: file("server.pem", &server.certificate),
        key: file("server.key", &server.key),
        clients: clients.map(|authority| file("clients.pem", &authority.pem())),
    };
    LocalCluster::start_encrypted(1, certificates).expect("a cluster")
}

#[test]
fn hosts_and_servers_prove_who_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let server = authority.sign(4000);
    let cluster = start(directory.path(), &server, Some(&authority));
    let address = cluster.address("/tls");
    let trusting = || Options::default().authority(authority.pem().as_bytes());
    let host = authority.sign(4000);
    let known = trusting().identity(host.certificate.as_bytes(), host.key.as_bytes());

    let hosts = [(); 2].map(|()| Cluster::connect(&address, &known).unwrap());
    let manager = LockManager::new(Ceilings::default());
    let owner = manager.owner(Limits::default());
    let locks = hosts.map(|host| owner.open(&Grant::new(host.space()), "a").unwrap());
    let guard = locks[0].acquire_blocking(Mode::Exclusive, None).unwrap();
    assert!(locks[1].try_acquire(Mode::Shared).is_err());
    let found = look(&address, &known).unwrap();
    assert_eq!((found.len(), found[0].holders.len()), (1, 1));
    guard.release().unwrap();

    // Of another authority, and none.
    let stranger = Authority::new().sign(4000);
    let strange = trusting().identity(stranger.certificate.as_bytes(), stranger.key.as_bytes());
    for unknown in [strange, trusting()] {
        let error = look(&address, &unknown).unwrap_err();
        // The server may close the connection before the client has read why.
        assert!(error.to_string().contains("cert=FILE"), "{error}");
    }
    // The server is of no authority of the system.
    let error = Cluster::connect(&address, &Options::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Access, "{error}");
    assert!(error.to_string().contains("ca=FILE"), "{error}");
}

#[test]
fn an_expired_certificate_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let cluster = start(directory.path(), &authority.sign(2001), None);
    let options = Options::default().authority(authority.pem().as_bytes());
    let address = cluster.address("/tls");
    let error = Cluster::connect(&address, &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Access, "{error}");
    assert!(error.to_string().contains("expired"), "{error}");
    assert!(error.to_string().contains(&address.members()[0]), "{error}");
}
