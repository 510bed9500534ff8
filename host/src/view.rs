//! How the host functions reach a context in a store.

use crate::LocksCtx;
use wasmtime::component::{HasData, ResourceTable};

/// Gives the host functions the [`LocksCtx`] of a store.
pub trait LocksView: Send {
    /// The context and the table with the guest's resources.
    fn locks(&mut self) -> LocksCtxView<'_>;
}

/// What [`LocksView::locks`] gives.
#[derive(Debug)]
pub struct LocksCtxView<'a> {
    /// The guest's locks.
    pub ctx: &'a mut LocksCtx,
    /// The guest's resources, which other host functions may share.
    pub table: &'a mut ResourceTable,
}

/// Marks [`LocksCtxView`] as the data of this crate's host functions, for embedders
/// that call the generated `add_to_linker` functions themselves, such as those
/// whose store data implements no [`LocksView`].
#[derive(Debug)]
pub struct Locks;

impl HasData for Locks {
    type Data<'a> = LocksCtxView<'a>;
}
