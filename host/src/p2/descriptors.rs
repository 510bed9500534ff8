//! `clasp:descriptors@0.2.0`: locks of files that the guest has open.
//!
//! The descriptors are those of `wasmtime-wasi`, in the same [`ResourceTable`] as the locks.
//! A host that adds this interface permits nothing more: the file has to lie in a directory
//! whose locks are granted, and is opened by its name there.
//!
//! [`ResourceTable`]: wasmtime::component::ResourceTable

use super::{CallError, LockResource, RangeOwnerResource};
use crate::{Locks, LocksCtxView, LocksView, Lockspace};
use bindings::locks;
use clasp_engine::{Error, ErrorKind, backend::Identity};
use std::{fs::File, sync::Arc};
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::filesystem::Descriptor;

/// Bindings that `wasmtime` generates from `wit/descriptors`.
pub mod bindings {
    #[expect(missing_docs, reason = "generated code")]
    mod generated {
        wasmtime::component::bindgen!({
            path: ["wit/p2", "wit/descriptors"],
            world: "clasp:descriptors/imports",
            imports: { default: trappable },
            trappable_error_type: { "clasp:locks/types.error-code" => crate::p2::CallError },
            with: {
                "clasp:locks": crate::p2::bindings,
                "wasi:io": wasmtime_wasi::p2::bindings::io,
                "wasi:clocks": wasmtime_wasi::p2::bindings::clocks,
                "wasi:filesystem": wasmtime_wasi::p2::bindings::filesystem,
            },
            require_store_data_send: true,
        });
    }

    pub use self::generated::clasp::descriptors::*;
}

/// Adds the interface to the linker of an asynchronous or a blocking host, beside the functions
/// of [`add_to_linker_async`](super::add_to_linker_async) or
/// [`add_to_linker_sync`](super::add_to_linker_sync).
///
/// # Errors
/// If the linker has it already.
pub fn add_to_linker<T: LocksView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    locks::add_to_linker::<T, Locks>(linker, T::locks)
}

impl locks::Host for LocksCtxView<'_> {
    fn open_ranges(
        &mut self,
        file: Resource<Descriptor>,
    ) -> Result<Resource<RangeOwnerResource>, CallError> {
        let found = self.find(&file)?;
        let ranges = self
            .ctx
            .owner
            .open_ranges(&found.space.grant(), &found.name)?;
        found.check(ranges.identity())?;
        Ok(self.table.push(RangeOwnerResource(ranges))?)
    }

    fn open_flock(
        &mut self,
        file: Resource<Descriptor>,
    ) -> Result<Resource<LockResource>, CallError> {
        let found = self.find(&file)?;
        let lock = self
            .ctx
            .owner
            .open(&found.space.flock_grant(), &found.name)?;
        found.check(&lock.identity())?;
        Ok(self.table.push(LockResource(lock))?)
    }
}

/// Where an open file is.
struct Found {
    /// That creates nothing.
    space: Lockspace,
    name: String,
    identity: Identity,
}

impl Found {
    /// Another process may have given its name to another file.
    fn check(&self, opened: &Identity) -> Result<(), Error> {
        match *opened == self.identity {
            true => Ok(()),
            false => Err(ErrorKind::Replaced.into()),
        }
    }
}

impl LocksCtxView<'_> {
    fn find(&self, file: &Resource<Descriptor>) -> Result<Found, CallError> {
        let file: Arc<File> = match self.table.get(file)? {
            Descriptor::File(file) => Arc::clone(&file.file),
            Descriptor::Dir(_) => return Err(Error::from(ErrorKind::IsDirectory).into()),
        };
        if self.ctx.owner.is_closed() {
            return Err(Error::from(ErrorKind::Closed).into());
        }
        let mut closest: Option<Found> = None;
        let why = "no granted directory leads to the file";
        let mut refused = Error::new(ErrorKind::NotPermitted, why);
        for space in self
            .ctx
            .spaces
            .iter()
            .filter_map(|granted| granted.space.as_ref())
        {
            let (name, identity) = match space.name_of(&file) {
                Ok(found) => found,
                Err(error) if error.kind() == ErrorKind::NotPermitted => continue,
                // Another one may lead to the file all the same.
                Err(error) => {
                    refused = error;
                    continue;
                }
            };
            if closest
                .as_ref()
                .is_none_or(|closest| name.len() <= closest.name.len())
            {
                closest = Some(Found {
                    space: space.clone().create(false),
                    name,
                    identity,
                });
            }
        }
        Ok(closest.ok_or(refused)?)
    }
}
