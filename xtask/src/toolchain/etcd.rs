//! A server of etcd for tests and the demo, of a version that locks can be trusted to.

use super::packages::{self, Apt, Work};
use crate::shell::{cache, capture, say};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The directory of the programs in the cache.
const NAME: &str = "etcd";

/// The release of Debian whose packages run on older ones as well: they need a C library
/// only. That of Debian 12 is older than 3.5.13.
const RELEASE: &str = "trixie";

const PACKAGES: [&str; 2] = ["etcd-server", "etcd-client"];

/// The directory with `etcd` and `etcdctl`; `CLASP_ETCD` names a server of the user's own.
pub(crate) fn ensure() -> Result<PathBuf> {
    if let Some(server) = std::env::var_os("CLASP_ETCD") {
        let server = PathBuf::from(server);
        let parent = server.parent().context("CLASP_ETCD names no program")?;
        return Ok(parent.to_owned());
    }
    let directory = cache()?.join(NAME);
    if !directory.is_dir() {
        make(&directory).context(
            "etcd could not be had from packages; install etcd 3.5.13 or later and set \
             CLASP_ETCD to the server",
        )?;
    }
    Ok(directory)
}

fn make(directory: &Path) -> Result<()> {
    let parent = directory
        .parent()
        .context("the cache directory has no parent")?;
    let work = Work::begin(parent, NAME)?;
    say(format!("etcd: downloading {}", PACKAGES.join(", ")));
    let lists = work.scratch.join("lists");
    fs::create_dir_all(&lists)?;
    let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let source = format!("deb [signed-by={keys}] {} {RELEASE} main\n", mirror()?);
    fs::write(lists.join("sources.list"), source)?;
    let apt = Apt::make(work.scratch.join("apt"), Some(&lists))?;
    let debs = work.scratch.join("debs");
    apt.download(&debs, &PACKAGES.map(String::from))?;
    let root = work.scratch.join("root");
    for deb in packages::files(&debs)? {
        capture(Command::new("dpkg-deb").arg("-x").args([&deb, &root]))?;
    }
    for program in ["etcd", "etcdctl"] {
        let unpacked = root.join("usr/bin").join(program);
        fs::rename(&unpacked, work.out.join(program))?;
    }
    fs::rename(&work.out, directory)?;
    Ok(())
}

/// Where the system gets its packages from.
fn mirror() -> Result<String> {
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--format", "$(LABEL) $(REPO_URI)"]);
    let targets = capture(targets.arg("Created-By: Packages"))?;
    let mirror = targets
        .lines()
        .find_map(|line| line.strip_prefix("Debian "));
    match mirror {
        Some(mirror) => Ok(mirror.to_owned()),
        None => bail!("apt has no source of Debian's packages"),
    }
}
