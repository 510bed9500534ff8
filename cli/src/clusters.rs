//! The option `--locks etcd://...`: locks on a cluster, for guests on several machines.

use crate::{
    durations, options,
    output::{self, say},
};
use anyhow::{Context, Result, bail};
use clasp_etcd::{Address, Cluster, LockUse, Options};
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

/// The members, and what follows them: a place and its options, with commas between them.
fn split(text: &str) -> Option<(&str, Vec<String>)> {
    // The members have commas between them as well.
    let members = text.find("://")? + 3;
    let path = text.get(members..)?.find('/')?;
    let (members, rest) = text.split_at_checked(members + path)?;
    Some((members, options::parts(rest)))
}

impl FromStr for ClusterLocks {
    type Err = String;

    fn from_str(text: &str) -> Result<ClusterLocks, String> {
        let usage = || format!("{text:?}: write etcd://HOST:2379,HOST:2379/PREFIX::GUEST");
        let (cluster, parts) = split(text).ok_or_else(usage)?;
        let (place, options) = parts.split_first().ok_or_else(usage)?;
        let (prefix, guest) = place.split_once("::").ok_or_else(usage)?;
        if guest.is_empty() {
            return Err(usage());
        }
        ClusterLocks::new(cluster, prefix, guest, options)
    }
}

impl ClusterLocks {
    /// One lock, `etcd[s]://HOST[:PORT][,HOST...]/PREFIX/NAME`, and its name.
    pub(crate) fn of_lock(text: &str) -> Result<(ClusterLocks, String), String> {
        let usage = || format!("{text:?}: write etcd://HOST:2379,HOST:2379/PREFIX/NAME");
        let (cluster, parts) = split(text).ok_or_else(usage)?;
        let (place, options) = parts.split_first().ok_or_else(usage)?;
        let (prefix, name) = place.rsplit_once('/').ok_or_else(usage)?;
        if prefix.is_empty() || name.is_empty() {
            return Err(usage());
        }
        let locks = ClusterLocks::new(cluster, prefix, name, options)?;
        Ok((locks, name.to_owned()))
    }

    /// What is to be looked at, `etcd[s]://HOST[:PORT][,HOST...]/PREFIX[/NAME]`.
    pub(crate) fn of_status(text: &str) -> Result<ClusterLocks, String> {
        let usage = || format!("{text:?}: write etcd://HOST:2379,HOST:2379/PREFIX");
        let (cluster, parts) = split(text).ok_or_else(usage)?;
        let (prefix, options) = parts.split_first().ok_or_else(usage)?;
        let known = ["ca", "cert", "key"];
        let is_known = |option: &&String| known.iter().any(|name| option.starts_with(name));
        match options.iter().find(|option| !is_known(option)) {
            Some(option) => Err(options::unknown(
                option,
                "`ca=FILE`, `cert=FILE` or `key=FILE`",
            )),
            None => ClusterLocks::new(cluster, prefix, "", options),
        }
    }

    fn new(
        cluster: &str,
        prefix: &str,
        guest: &str,
        options: &[String],
    ) -> Result<ClusterLocks, String> {
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
            match option.split_once('=').unwrap_or((option, "")) {
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
                    return Err(options::unknown(
                        option,
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
    /// Connects to the cluster. When locks are lost, the user is told, and unless this is
    /// all that is to be done, `stop` is called.
    pub(crate) fn connect(&self, stop: impl Fn() + Send + Sync + 'static) -> Result<Cluster> {
        let reports = self.reports;
        let mut options = Options::default().on_loss(move |why| {
            say!("{why}");
            if !reports {
                stop();
            }
        });
        if let Some(ttl) = self.ttl {
            options = options.ttl(ttl);
        }
        Cluster::connect(&self.address, &self.secrets(options)?).with_context(|| self.cannot_use())
    }

    /// Who holds its locks, and who waits for them.
    pub(crate) fn look(&self) -> Result<Vec<LockUse>> {
        let options = self.secrets(Options::default())?;
        clasp_etcd::look(&self.address, &options).with_context(|| self.cannot_use())
    }

    /// The address without its prefix.
    pub(crate) fn members(&self) -> String {
        let address = self.address.to_string();
        address[..address.len() - self.address.prefix().len()].to_owned()
    }

    fn cannot_use(&self) -> String {
        format!("cannot use {}", self.address)
    }

    /// With what the servers ask for and check.
    fn secrets(&self, mut options: Options) -> Result<Options> {
        if let Some((user, password)) = user()? {
            options = options.user(user, password);
        }
        if let Some(file) = &self.authority {
            options = options.authority(&read(file)?);
        }
        if let (Some(certificate), Some(key)) = (&self.certificate, &self.key) {
            options = options.identity(&read(certificate)?, &read(key)?);
        }
        Ok(options)
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
        let (one, name) = ClusterLocks::of_lock("etcd://a,b/p/q/x.lock,ttl=5").unwrap();
        assert_eq!((one.address.prefix(), &*name), ("/p/q", "x.lock"));
        assert_eq!(one.ttl, Some(Duration::from_secs(5)));
        for wrong in ["etcd://a", "etcd://a/x", "etcd://a/p/", "etcd://a/p/x,ttl"] {
            assert!(ClusterLocks::of_lock(wrong).is_err(), "{wrong}");
        }
        let looked_at = ClusterLocks::of_status("etcds://a,b/p/q,ca=x").unwrap();
        assert_eq!(looked_at.members(), "etcds://a:2379,b:2379");
        for wrong in ["etcd://a", "etcd://a/p,ttl=5", "etcd://a/p,"] {
            assert!(ClusterLocks::of_status(wrong).is_err(), "{wrong}");
        }
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
