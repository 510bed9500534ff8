//! When a lock file was last touched (S14): its time of last modification, which
//! other programs can read and set as well.

use super::{error::translated, sys};
use crate::Error;
use fs_set_times::{SetTimes, SystemTimeSpec};
use std::{
    fs::{File, Metadata},
    io,
    time::{Duration, SystemTime},
};

/// By how much a time is set forward that would be the time of creation. The first
/// is enough for most file systems; some keep whole or even seconds only.
const STEPS: [Duration; 4] = [
    Duration::from_micros(1),
    Duration::from_millis(10),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// Sets the time of a file to now, by the clock of the file system, and later than
/// the time of its creation.
pub(super) fn touch(file: &File) -> Result<(), Error> {
    translated(set(file))
}

fn set(file: &File) -> io::Result<()> {
    // Both times: who may write a file, but does not own it, may not set only one.
    let now = || Some(SystemTimeSpec::SymbolicNow);
    SetTimes::set_times(file, now(), now())?;
    for step in STEPS {
        let found = file.metadata()?;
        match created(&found) {
            Some(created) if found.modified()? == created => {
                let later = SystemTimeSpec::Absolute(created + step);
                match SetTimes::set_times(file, None, Some(later)) {
                    // Only the owner may. A moment later it is not needed.
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
                    set => set?,
                }
            }
            _ => break,
        }
    }
    Ok(())
}

/// The time of a file; `None` if it is that of its creation, since nothing has
/// touched the file then. Where the file system does not keep the time of creation,
/// a file counts as touched when it was created.
pub(super) fn last_touched(file: &File) -> Result<Option<SystemTime>, Error> {
    let found = translated(file.metadata())?;
    let modified = translated(found.modified())?;
    Ok((created(&found) != Some(modified)).then_some(modified))
}

/// When the file was created, if that is known.
fn created(found: &Metadata) -> Option<SystemTime> {
    found.created().ok().filter(|_| sys::keeps_creation_times())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_is_touched_by_what_changes_its_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.lock");
        let file = File::create(&path).unwrap();
        if created(&file.metadata().unwrap()).is_none() {
            assert!(last_touched(&file).unwrap().is_some());
            return;
        }
        assert_eq!(last_touched(&file).unwrap(), None);
        // In the same tick of the file system's clock, and later.
        for _ in 0..2 {
            touch(&file).unwrap();
            let touched = last_touched(&file).unwrap().expect("a time");
            assert!(touched.elapsed().unwrap_or_default() < Duration::from_secs(60));
        }
        // A time that has not come yet is answered as it is.
        let future = SystemTime::now() + Duration::from_secs(3600);
        file.set_modified(future).unwrap();
        assert!(last_touched(&file).unwrap().expect("a time") > SystemTime::now());
        // Another program that writes the file touches it.
        file.set_modified(file.metadata().unwrap().created().unwrap())
            .unwrap();
        assert_eq!(last_touched(&file).unwrap(), None);
        fs::write(&path, "written").unwrap();
        touch(&file).unwrap();
        assert!(last_touched(&file).unwrap().is_some());
    }
}
