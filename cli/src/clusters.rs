//! The option `--locks etcd://...`: locks on a cluster, for guests on several machines.

use crate::{
    durations, grants,
    output::{self, say},
};
use anyhow::{Context, Result, bail};
use clasp_etcd::{Address, Cluster, Options};
use std::{
    fs,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

/// The exit code after locks were lost, unless they are only reported.
pub(crate) const LOST: u8 = 123;

/// `etcd[s]://HOST[:PORT][,HOST...]/PREFIX::GUEST[,ttl=TIME][,on-lost=stop|report]`
/// `[,ca=FILE][,cert=FILE,key=FILE][,shared-only]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClusterLocks {
    address: Address,
    pub(crate) guest: String,
    ttl: Option<Duration>,
    reports: bool,
    authority: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    pub(crate) shared_only: bool,
}

impl FromStr for ClusterLocks {
    type Err = String;

    fn from_str(text: &str) -> Result<ClusterLocks, String> {
        let usage = || format!("{text:?}: write etcd://HOST:2379,HOST:2379/PREFIX::GUEST");
        // The members have commas between them as well.
        let members = text.find("://").map_or(0, |at| at + 3);
        let path = text.get(members..).and_then(|rest| rest.find('/'));
        let (cluster, rest) = text.split_at(members + path.ok_or_else(usage)?);
        let mut options = grants::parts(rest).into_iter();
        let place = options.next().unwrap_or_default();
        let (prefix, guest) = place.split_once("::").ok_or_else(usage)?;
        if guest.is_empty() {
            return Err(usage());
        }
        let mut locks = ClusterLocks {
            address: format!("{cluster}{prefix}").parse()?,
            guest: guest.into(),
            ttl: None,
            reports: false,
            authority: None,
            certificate: None,
            key: None,
            shared_only: false,
        };
        for option in options {
            match option.split_once('=').unwrap_or((&option, "")) {
                ("ttl", ttl) => locks.ttl = Some(durations::parse(ttl)?),
                ("on-lost", "stop") => locks.reports = false,
                ("on-lost", "report") => locks.reports = true,
                ("ca", file) if !file.is_empty() => locks.authority = Some(file.into()),
                ("cert", file) if !file.is_empty() => locks.certificate = Some(file.into()),
                ("key", file) if !file.is_empty() => locks.key = Some(file.into()),
                ("shared-only", "") => locks.shared_only = true,
                ("family" | "order" | "no-create" | "network", _) => {
                    return Err(format!(
                        "`{option}` is for locks on files, and {cluster} is a cluster"
                    ));
                }
                _ => {
                    return Err(grants::unknown(
                        &option,
                        "`ttl=TIME`, `on-lost=stop|report`, `ca=FILE`, `cert=FILE`, `key=FILE` \
                         or `shared-only`",
                    ));
                }
            }
        }
        if locks.certificate.is_some() != locks.key.is_some() {
            return Err("`cert=FILE` and `key=FILE` belong together".into());
        }
        let encrypts = locks.authority.is_some() || locks.certificate.is_some();
        if encrypts && !locks.address.tls() {
            return Err(
                "`ca`, `cert` and `key` are for encrypted connections: write `etcds://`".into(),
            );
        }
        Ok(locks)
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", output::path(file)))
}

/// A variable of the environment, if it is set.
fn variable(name: &str) -> Result<Option<String>> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => bail!("{name} is not UTF-8"),
    }
}

/// The user and the password, which do not belong on a command line.
fn user() -> Result<Option<(String, String)>> {
    let Some(user) = variable("CLASP_ETCD_USER")? else {
        return Ok(None);
    };
    let password = match variable("CLASP_ETCD_PASSWORD_FILE")? {
        Some(file) => String::from_utf8(read(Path::new(&file))?)?
            .trim_end()
            .to_owned(),
        None => variable("CLASP_ETCD_PASSWORD")?.context(
            "CLASP_ETCD_USER is set; set CLASP_ETCD_PASSWORD or CLASP_ETCD_PASSWORD_FILE as well",
        )?,
    };
    Ok(Some((user, password)))
}

impl ClusterLocks {
    /// Connects to the cluster. `stops` says what is stopped when locks are lost.
    pub(crate) fn connect(&self, stops: String) -> Result<Cluster> {
        let reports = self.reports;
        let mut options = Options::default().on_loss(move |why| {
            if reports {
                return say!("{why}");
            }
            say!("{why}; {stops} is stopped");
            std::process::exit(LOST.into());
        });
        if let Some(ttl) = self.ttl {
            options = options.ttl(ttl);
        }
        if let Some((user, password)) = user()? {
            options = options.user(user, password);
        }
        if let Some(file) = &self.authority {
            options = options.authority(&read(file)?);
        }
        if let (Some(certificate), Some(key)) = (&self.certificate, &self.key) {
            options = options.identity(&read(certificate)?, &read(key)?);
        }
        Cluster::connect(&self.address, &options)
            .with_context(|| format!("cannot use {} for --locks", self.address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_follow_members_and_prefix() {
        let all = "etcds://a,b:1/p/q::data,ttl=30,on-lost=report,ca=x,,y,cert=c,key=k,shared-only";
        let locks: ClusterLocks = all.parse().unwrap();
        assert_eq!(locks.address.to_string(), "etcds://a:2379,b:1/p/q");
        assert_eq!(
            (&*locks.guest, locks.ttl),
            ("data", Some(Duration::from_secs(30)))
        );
        assert!(locks.reports && locks.shared_only);
        assert_eq!(locks.authority, Some("x,y".into()));
        let plain: ClusterLocks = "etcd://[::1]:5/p::data".parse().unwrap();
        assert_eq!(plain.address.to_string(), "etcd://[::1]:5/p");
        assert!(!plain.reports && !plain.shared_only);
    }

    #[test]
    fn mistakes_are_told() {
        for (wrong, told) in [
            ("etcd://a", "PREFIX::GUEST"),
            ("etcd://a/p", "PREFIX::GUEST"),
            ("etcd://a/p::", "PREFIX::GUEST"),
            ("etcd://a/p::data,family=flock", "for locks on files"),
            ("etcd://a/p::data,on-lost=ignore", "use `ttl"),
            ("etcd://a/p::data,ca=x", "etcds://"),
            ("etcds://a/p::data,cert=x", "belong together"),
            ("etcd://u:p@a/p::data", "CLASP_ETCD_PASSWORD"),
        ] {
            let error = wrong.parse::<ClusterLocks>().unwrap_err();
            assert!(error.contains(told), "{wrong}: {error}");
        }
    }
}
