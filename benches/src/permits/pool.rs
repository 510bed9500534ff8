//! What programs do that have no semaphore: a lock file for each permit. One that is free is
//! found by trying all; if there is none, the process waits for one of them.

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

/// Permits of a pool of files, of which it takes some at a time.
pub(crate) struct Pool {
    files: Vec<File>,
    count: usize,
    /// Where it looks first, so that not all wait for the same file.
    first: usize,
    held: Vec<usize>,
}

impl Pool {
    /// Opens the files of a pool beside this path.
    pub(crate) fn new(path: &Path, permits: u8, count: u8) -> Result<Pool> {
        let open = |number: u8| -> io::Result<File> {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{number:02}"));
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            options.open(PathBuf::from(name))
        };
        let files = (0..permits).map(open).collect::<io::Result<Vec<_>>>()?;
        Ok(Pool {
            first: std::process::id() as usize % files.len(),
            files,
            count: count.into(),
            held: Vec::new(),
        })
    }

    pub(crate) fn acquire(&mut self) -> Result<()> {
        while self.held.len() < self.count {
            let files = self.files.len();
            let all = (0..files).map(|at| (self.first + at) % files);
            let mut others = all.filter(|at| !self.held.contains(at));
            let is_free =
                |at: &usize| flock(&self.files[*at], FlockOperation::NonBlockingLockExclusive);
            let found = others.clone().find(|at| is_free(at).is_ok());
            let taken = match found {
                Some(taken) => taken,
                None => {
                    let one = others.next().context("a file that is not held")?;
                    flock(&self.files[one], FlockOperation::LockExclusive)?;
                    one
                }
            };
            self.held.push(taken);
        }
        Ok(())
    }

    pub(crate) fn release(&mut self) -> Result<()> {
        for at in self.held.drain(..) {
            flock(&self.files[at], FlockOperation::Unlock)?;
        }
        Ok(())
    }
}
