//! An open lock file as a resource of the engine.

use super::{Family, sys};
use crate::{
    Error, Mode,
    backend::{Access, Resource, Tickets, Wait},
};
use std::{fs::File, io, sync::Arc};

/// One open file description.
pub(super) struct FileResource {
    /// Shared with its waits.
    file: Arc<File>,
    family: Family,
    access: Access,
    tickets: Option<sys::FileTickets>,
    spare: Arc<sys::Spare>,
}

impl FileResource {
    pub(super) fn new(
        file: File,
        family: Family,
        access: Access,
        tickets: Option<sys::FileTickets>,
        spare: sys::Spare,
    ) -> FileResource {
        FileResource {
            file: Arc::new(file),
            family,
            access,
            tickets,
            spare: Arc::new(spare),
        }
    }
}

/// `Error::from_io`, out of the way of what succeeds.
fn translate<T>(result: io::Result<T>) -> Result<T, Error> {
    result.map_err(|error| Error::from_io(&error))
}

impl Resource for FileResource {
    fn permits(&self, mode: Mode) -> bool {
        mode == Mode::Shared || self.access == Access::Any || !self.family.writes()
    }

    fn try_lock(&self, mode: Mode) -> Result<bool, Error> {
        translate(sys::try_lock(&self.file, self.family, mode))
    }

    fn unlock(&self) -> Result<(), Error> {
        translate(sys::unlock(&self.file, self.family))
    }

    fn is_linked(&self) -> Result<bool, Error> {
        translate(sys::is_linked(&self.file))
    }

    fn begin_wait(&self, mode: Mode) -> Result<Arc<dyn Wait>, Error> {
        let wait = translate(sys::KernelWait::new(
            &self.file,
            &self.spare,
            self.family,
            mode,
        ))?;
        Ok(Arc::new(wait))
    }

    fn is_free(&self) -> Result<bool, Error> {
        translate(sys::is_free(&self.file, self.family))
    }

    fn downgrade(&self) -> Result<bool, Error> {
        translate(sys::downgrade(&self.file, self.family))
    }

    fn tickets(&self) -> Option<&dyn Tickets> {
        self.tickets.as_ref().map(|tickets| tickets as &dyn Tickets)
    }
}
