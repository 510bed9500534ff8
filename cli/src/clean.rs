//! `clasp clean`: removes lock files that are free.

use crate::{
    grants,
    holders::{self, FileId},
};
use anyhow::{Context, Result, ensure};
use cap_std::{ambient_authority, fs::Dir};
use clap::Args;
use clasp_host::{ErrorKind, FileSpace, Grant, Limits, LockManager, Mode, engine::Owner};
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

#[derive(Args)]
#[command(after_help = "\
A lock file can be removed safely only while its lock is held, and only if programs that wait \
for it notice. Hosts of clasp do: a waiting request continues with the file that then has the \
name. So `clasp clean` takes the exclusive lock of each file, of both families, and removes the \
file while it holds the lock.

Most other programs do not notice. One that opened the file before, and locks it afterwards, \
locks a file that no other program finds any more. Therefore `clasp clean` does not remove a \
file that another program has open. It can check only programs that this user may inspect; root \
may inspect all. A program can still open the file at the moment of its removal. Use \
`clasp clean` where only hosts of clasp use the files, or while the other programs do not run. \
A program is safe if it compares the open file with the name again once it has the lock, as \
clasp does.")]
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

    /// The directory; directories in it are not entered
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// What became of a file.
enum Outcome {
    Removed,
    Kept(String),
}

impl Clean {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let cannot = || format!("cannot read {}", self.directory.display());
        ensure!(self.directory.is_dir(), "{}: not a directory", cannot());
        let files = holders::files_in(&self.directory).with_context(cannot)?;
        let dir =
            Dir::open_ambient_dir(&self.directory, ambient_authority()).with_context(cannot)?;
        let space = FileSpace::new(dir)
            .family(grants::widest_family())
            .create(false);
        let grant = Grant::new(space.into_space());
        let owner = LockManager::global().labelled_owner("clasp clean", Limits::default());
        let files: Vec<_> = files
            .into_iter()
            .filter_map(|(path, id)| {
                let name = path.file_name()?.to_str()?.to_owned();
                self.pattern.matches(&name).then_some((path, id, name))
            })
            .collect();
        let ids: Vec<FileId> = files.iter().map(|(_, id, _)| *id).collect();
        let found = holders::search(&ids).context("cannot read /proc")?;
        let (mut removed, mut kept) = (0, 0);
        for (path, id, name) in files {
            let openers = found.files.get(&id).map(|used| used.openers.clone());
            let openers = openers.unwrap_or_default();
            let outcome = match openers.first() {
                Some(opener) if !self.open => Outcome::Kept(format!("open in {opener}")),
                _ => self.clean(&owner, &grant, &name, &path)?,
            };
            match outcome {
                Outcome::Removed => {
                    removed += 1;
                    let verb = if self.dry_run {
                        "would remove"
                    } else {
                        "removed"
                    };
                    println!("{verb} {}", path.display());
                }
                Outcome::Kept(why) => {
                    kept += 1;
                    println!("kept {}: {why}", path.display());
                }
            }
        }
        let verb = if self.dry_run {
            "would be removed"
        } else {
            "removed"
        };
        println!("{removed} {verb}, {kept} kept");
        if let Some(hidden) = holders::about_hidden(found.hidden) {
            println!("{hidden}");
        }
        Ok(ExitCode::SUCCESS)
    }

    fn clean(&self, owner: &Owner, grant: &Grant, name: &str, path: &Path) -> Result<Outcome> {
        let kept = |why: &str| Ok(Outcome::Kept(why.into()));
        let lock = match owner.open(grant, name) {
            Ok(lock) => lock,
            Err(error) => return kept(&error.to_string()),
        };
        let guard = match lock.try_acquire(Mode::Exclusive) {
            Ok(guard) => guard,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return kept("locked"),
            Err(error) => return kept(&error.to_string()),
        };
        // From here on, what the name leads to is the file whose lock is held.
        match guard.check() {
            Ok(()) => {}
            Err(error) => return kept(&error.to_string()),
        }
        let length = match fs::symlink_metadata(path) {
            Ok(found) if found.is_file() => found.len(),
            Ok(_) => return kept("not a regular file"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return kept("gone"),
            Err(error) => return kept(&error.to_string()),
        };
        if length > 0 && !self.not_empty {
            return kept("not empty; --not-empty removes it");
        }
        if self.dry_run {
            return Ok(Outcome::Removed);
        }
        fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
        // Now it is released, and a request that waits sees that it was removed.
        drop(guard);
        Ok(Outcome::Removed)
    }
}
