//! The options `--dir` and `--locks`: which directories and clusters of the host a guest
//! gets, and under which names.

#[cfg(feature = "etcd")]
use crate::clusters::ClusterLocks;
#[cfg(not(feature = "etcd"))]
use crate::options::without_etcd;
use crate::options::{parts, unknown};
use clasp_host::{Family, Order};
use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

/// `HOST[::GUEST]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directory {
    pub(crate) host: PathBuf,
    pub(crate) guest: String,
}

impl FromStr for Directory {
    type Err = String;

    fn from_str(text: &str) -> Result<Directory, String> {
        let (host, guest) = text.split_once("::").unwrap_or((text, text));
        if host.is_empty() || guest.is_empty() {
            return Err(format!(
                "{text:?}: write HOST or HOST::GUEST, such as `./data::data`"
            ));
        }
        Ok(Directory {
            host: host.into(),
            guest: guest.into(),
        })
    }
}

/// What to do if the directory of the order cannot be opened. All its users create files in
/// it.
pub(crate) fn cannot_open_order(directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "cannot open {directory} for --order-dir; if it is missing, `install -d -m 1777 {directory}`"
    )
}

/// A directory and options.
fn split(text: &str) -> Result<(Directory, Vec<String>), String> {
    let mut parts = parts(text);
    let options = parts.split_off(1);
    Ok((parts.concat().parse()?, options))
}

/// `HOST[::GUEST][,read-only]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) directory: Directory,
    pub(crate) read_only: bool,
}

impl FromStr for Files {
    type Err = String;

    fn from_str(text: &str) -> Result<Files, String> {
        let (directory, options) = split(text)?;
        let mut files = Files {
            directory,
            read_only: false,
        };
        for option in options {
            match &*option {
                "read-only" => files.read_only = true,
                _ => return Err(unknown(&option, "`read-only`")),
            }
        }
        Ok(files)
    }
}

/// Where a guest finds locks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Locks {
    /// On the files of a directory.
    Files(FileLocks),
    /// On a cluster.
    #[cfg(feature = "etcd")]
    Cluster(ClusterLocks),
}

impl Locks {
    /// The directory, if it is one.
    pub(crate) fn directory(&self) -> Option<&Directory> {
        match self {
            Locks::Files(files) => Some(&files.directory),
            #[cfg(feature = "etcd")]
            Locks::Cluster(_) => None,
        }
    }

    /// The path by which the guest knows it.
    pub(crate) fn guest(&self) -> &str {
        match self {
            Locks::Files(files) => &files.directory.guest,
            #[cfg(feature = "etcd")]
            Locks::Cluster(cluster) => &cluster.guest,
        }
    }
}

impl FromStr for Locks {
    type Err = String;

    fn from_str(text: &str) -> Result<Locks, String> {
        if text.starts_with("etcd://") || text.starts_with("etcds://") {
            #[cfg(feature = "etcd")]
            return text.parse().map(Locks::Cluster);
            #[cfg(not(feature = "etcd"))]
            return Err(without_etcd(text));
        }
        text.parse().map(Locks::Files)
    }
}

/// `HOST[::GUEST][,family=posix|flock|both|lockfileex][,order=fair|kernel]`
/// `[,shared-only][,no-create][,network]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileLocks {
    pub(crate) directory: Directory,
    pub(crate) family: Family,
    pub(crate) order: Order,
    pub(crate) shared_only: bool,
    pub(crate) create: bool,
    pub(crate) network: bool,
}

impl FromStr for FileLocks {
    type Err = String;

    fn from_str(text: &str) -> Result<FileLocks, String> {
        let (directory, options) = split(text)?;
        let mut locks = FileLocks {
            directory,
            family: Family::default(),
            order: Order::default(),
            shared_only: false,
            create: true,
            network: false,
        };
        for option in options {
            match option.split_once('=').unwrap_or((&option, "")) {
                ("family", family) => locks.family = family.parse()?,
                ("order", order) => locks.order = order.parse()?,
                ("shared-only", "") => locks.shared_only = true,
                ("no-create", "") => locks.create = false,
                ("network", "") => locks.network = true,
                _ => {
                    return Err(unknown(
                        &option,
                        "`family=posix|flock|both|lockfileex`, `order=fair|kernel`, \
                         `shared-only`, `no-create` or `network`",
                    ));
                }
            }
        }
        // Rather now than when the guest asks for its first lock.
        let system = locks.family.check().and_then(|()| locks.order.check());
        system.map_err(|error| error.detail().unwrap_or_default().to_owned())?;
        Ok(locks)
    }
}

/// The family that excludes most programs.
pub(crate) fn widest_family() -> Family {
    match Family::supported().contains(&Family::Both) {
        true => Family::Both,
        false => Family::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locks(text: &str) -> Result<FileLocks, String> {
        text.parse()
    }

    #[test]
    fn a_directory_has_the_same_name_inside_unless_it_is_given() {
        let same: Directory = "./data".parse().unwrap();
        assert_eq!((same.host, same.guest), ("./data".into(), "./data".into()));
        let other: Directory = "/srv/x::data".parse().unwrap();
        assert_eq!((other.host, other.guest), ("/srv/x".into(), "data".into()));
        for wrong in ["", "::data", "data::"] {
            let error = wrong.parse::<Directory>().unwrap_err();
            assert!(error.contains("./data::data"), "{error}");
        }
    }

    #[test]
    fn options_follow_the_directory() {
        let plain = locks("data").unwrap();
        assert_eq!(plain.family, Family::default());
        assert_eq!(plain.order, Order::default());
        assert!(plain.create && !plain.shared_only && !plain.network);
        let family = Family::supported().last().unwrap();
        let options = "order=kernel,shared-only,no-create,network";
        let full = locks(&format!("a::b,family={family},{options}")).unwrap();
        assert_eq!(full.directory.guest, "b");
        assert_eq!((full.family, full.order), (*family, Order::Kernel));
        assert!(!full.create && full.shared_only && full.network);
    }

    #[test]
    fn a_comma_in_a_name_is_doubled() {
        let odd = locks("a,,b::c,,d,no-create").unwrap();
        assert_eq!(odd.directory.host, PathBuf::from("a,b"));
        assert_eq!(odd.directory.guest, "c,d");
        assert!(!odd.create);
        let files: Files = "a,,b,read-only".parse().unwrap();
        assert_eq!(files.directory.guest, "a,b");
        assert!(files.read_only);
        let plain: Files = "data".parse().unwrap();
        assert!(!plain.read_only);
        for wrong in ["a,b", "a,read-only=1", "a,"] {
            let error = wrong.parse::<Files>().unwrap_err();
            assert!(error.contains("use `read-only`"), "{wrong}: {error}");
        }
    }

    #[test]
    fn mistakes_are_told_with_what_to_type() {
        for wrong in [
            "data,family=ofd",
            "data,family",
            "data,order=fifo",
            "data,readonly",
            "data,",
            "data,no-create=1",
        ] {
            let error = locks(wrong).unwrap_err();
            assert!(error.contains("use `"), "{wrong}: {error}");
        }
        for family in [Family::Posix, Family::LockFileEx] {
            let option = format!("data,family={family}");
            let known = Family::supported().contains(&family);
            assert!(known || locks(&option).unwrap_err().contains("use `"));
        }
    }
}
