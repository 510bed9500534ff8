//! `clasp clean`: removes lock files that are free.

use crate::{
    grants,
    holders::{self, FileId, Found},
    output::{self, say},
};
use anyhow::{Context, Result};
use cap_std::{ambient_authority, fs::Dir};
use clap::Args;
use clasp_host::{
    ErrorKind, FileSpace, Grant, Limits, LockManager, Mode,
    engine::{Guard, Owner},
};
use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Files whose locks are held at the same time, so that one look at all processes serves for
/// them.
const BATCH: usize = 64;

#[derive(Args)]
#[command(after_help = "\
A lock file can be removed safely only while its lock is held, and only if waiting programs \
notice the removal. Hosts of clasp do: a waiting request continues with the file that has the \
name then. Therefore `clasp clean` takes the exclusive lock of each file, of both families, \
before it removes the file.

Most other programs do not notice. If one opened the file before, and locks it afterwards, it \
locks a file that no other program finds any more. Therefore `clasp clean` does not remove a \
file that another program has open, as far as it can see: root sees the processes of all users, \
and no process sees those outside its container. A program can still open the file at the \
moment of its removal. Use `clasp clean` where only hosts of clasp use the files, or while the \
other programs do not run. A program is safe if it compares the open file with the name again \
once it has the lock, as clasp does.

Some files keep a state: the time of the last run of a periodic job, and the last fencing \
token. They are kept unless --state is given. Without its file, a job runs again at once.

Do not use `clasp clean` for files that are locks because they exist, such as the `index.lock` \
of git.

Exit status: 0, and 1 if a file could not be removed or the directory could not be read.")]
pub(crate) struct Clean {
    /// List the files and remove none
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// Which files are lock files; `*` stands for any characters, `?` for one
    #[arg(long, value_name = "PATTERN", default_value = "*.lock")]
    pattern: glob::Pattern,

    /// Remove files that are not empty, too
    #[arg(long)]
    not_empty: bool,

    /// Remove files that another program has open, too
    #[arg(long)]
    open: bool,

    /// Remove files that keep the time of a job or a fencing token, too
    #[arg(long)]
    state: bool,

    /// The directory; directories in it are not entered
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// A file whose lock is held.
struct Candidate {
    name: OsString,
    id: FileId,
    guard: Guard,
}

/// What was done so far.
#[derive(Default)]
struct Done {
    removed: usize,
    kept: usize,
    failed: bool,
    hidden: usize,
}

impl Clean {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let cannot = || format!("cannot read {}", output::path(&self.directory));
        let dir =
            Dir::open_ambient_dir(&self.directory, ambient_authority()).with_context(cannot)?;
        let mut names = Vec::new();
        for entry in dir.entries().with_context(cannot)? {
            let name = entry.with_context(cannot)?.file_name();
            if self.pattern.matches(&name.to_string_lossy()) {
                names.push(name);
            }
        }
        names.sort();
        let space = FileSpace::new(dir.try_clone().with_context(cannot)?)
            .family(grants::widest_family())
            .create(false);
        let grant = Grant::new(space.into_space());
        let owner = LockManager::global().labelled_owner("clasp clean", Limits::default());

        let mut done = Done::default();
        for names in names.chunks(BATCH) {
            let mut candidates = Vec::new();
            for name in names {
                match self.candidate(&owner, &grant, &dir, name) {
                    Ok(candidate) => candidates.push(candidate),
                    Err(why) => self.kept(&mut done, name, &why)?,
                }
            }
            // After their locks were taken, so that it sees all that use them.
            let files = candidates.iter().map(|c| (c.id, self.directory.as_path()));
            let found = holders::search(files).context("cannot read /proc")?;
            done.hidden = found.hidden;
            for candidate in candidates {
                self.clean(&mut done, &dir, &found, &candidate)?;
            }
        }
        let verb = match self.dry_run {
            true => "would be removed",
            false => "removed",
        };
        output::print(format!("{} {verb}, {} kept\n", done.removed, done.kept))?;
        if let Some(hidden) = holders::about_hidden(done.hidden) {
            output::print(format!("{hidden}\n"))?;
        }
        Ok(match done.failed {
            true => ExitCode::FAILURE,
            false => ExitCode::SUCCESS,
        })
    }

    /// Takes the lock of a file; answers otherwise why the file is kept.
    fn candidate(
        &self,
        owner: &Owner,
        grant: &Grant,
        dir: &Dir,
        name: &OsString,
    ) -> Result<Candidate, String> {
        let utf8 = name.to_str().ok_or("its name is not UTF-8")?;
        let found = dir.symlink_metadata(name).map_err(|e| e.to_string())?;
        if !found.is_file() {
            return Err("not a regular file".into());
        }
        let lock = owner.open(grant, utf8).map_err(|e| e.to_string())?;
        let guard = lock
            .try_acquire(Mode::Exclusive)
            .map_err(|error| match error.kind() {
                ErrorKind::WouldBlock => "locked".into(),
                _ => error.to_string(),
            })?;
        if !self.state && lock.last_touched().is_ok_and(|time| time.is_some()) {
            return Err("keeps the time of a job; --state removes it".into());
        }
        if !self.state && has_token(dir, name) {
            return Err("keeps a fencing token; --state removes it".into());
        }
        let id = FileId::from(&found);
        Ok(Candidate {
            name: name.clone(),
            id,
            guard,
        })
    }

    /// Removes a file whose lock is held, unless there is a reason not to.
    fn clean(&self, done: &mut Done, dir: &Dir, found: &Found, file: &Candidate) -> Result<()> {
        let name = &file.name;
        if let Err(why) = self.may_be_removed(dir, found, file) {
            return self.kept(done, name, &why);
        }
        let verb = match self.dry_run {
            true => "would remove",
            false => "removed",
        };
        // The lock is released after this, and a request that waits sees that the file was
        // removed.
        if !self.dry_run
            && let Err(error) = dir.remove_file(name)
        {
            done.failed = true;
            say!("cannot remove {}: {error}", self.path(name));
            return self.kept(done, name, "cannot be removed");
        }
        done.removed += 1;
        output::print(format!("{verb} {}\n", self.path(name)))?;
        Ok(())
    }

    fn may_be_removed(&self, dir: &Dir, found: &Found, file: &Candidate) -> Result<(), String> {
        let own = std::process::id();
        let openers = found.files.get(&file.id).map(|used| &used.openers);
        let mut openers = openers.into_iter().flatten();
        if let Some(opener) = openers.find(|process| process.pid != own)
            && !self.open
        {
            return Err(format!("open in {opener}"));
        }
        // From here on, what the name leads to is the file whose lock is held.
        file.guard.check().map_err(|error| error.to_string())?;
        let now = match dir.symlink_metadata(&file.name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err("gone".into()),
            now => now.map_err(|error| error.to_string())?,
        };
        if FileId::from(&now) != file.id {
            return Err("replaced".into());
        }
        if now.len() > 0 && !self.not_empty {
            return Err("not empty; --not-empty removes it".into());
        }
        if cap_std::fs::MetadataExt::nlink(&now) > 1 {
            return Err("has another name, a hard link, by which it is locked as well".into());
        }
        Ok(())
    }

    fn kept(&self, done: &mut Done, name: &OsString, why: &str) -> Result<()> {
        done.kept += 1;
        output::print(format!("kept {}: {why}\n", self.path(name)))?;
        Ok(())
    }

    fn path(&self, name: &OsString) -> String {
        output::path(&self.directory.join(Path::new(name)))
    }
}

/// Where the semantics of files have the tokens of a lock (S13).
const TOKEN: &str = "user.clasp.token";

/// Whether a token was drawn for the lock.
fn has_token(dir: &Dir, name: &OsString) -> bool {
    let file = match dir.open(name) {
        Ok(file) => file,
        Err(_) => return false,
    };
    let mut nothing: [u8; 0] = [];
    // With no room for it, the length is answered.
    rustix::fs::fgetxattr(file, TOKEN, &mut nothing).is_ok_and(|length| length > 0)
}
