//! What an embedder would write by hand for guests of one host: the interface
//! `clasp:locks` over one lock of tokio's, which knows no other process.

#![expect(unreachable_pub, reason = "the generated traits name these types")]

use std::sync::Arc;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};
use wasmtime::{
    Result,
    component::{HasData, Linker, Resource, ResourceTable},
};
use wasmtime_wasi_io::poll::DynPollable;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit/p2",
        world: "clasp:locks/imports",
        imports: {
            "clasp:locks/types.[method]lock.acquire": async | trappable,
            default: trappable,
        },
        with: {
            "wasi:io/poll": wasmtime_wasi_io::bindings::wasi::io::poll,
            "clasp:locks/types.lockspace": super::Space,
            "clasp:locks/types.lock": super::Lock,
            "clasp:locks/types.guard": super::Guard,
            "clasp:locks/types.future-guard": super::Future,
        },
        require_store_data_send: true,
    });
}

use bindings::clasp::locks::{preopens, types};

pub struct Space;
pub struct Lock(Arc<RwLock<()>>);
pub struct Future;

#[expect(dead_code, reason = "held until it is dropped")]
pub enum Guard {
    Shared(OwnedRwLockReadGuard<()>),
    Exclusive(OwnedRwLockWriteGuard<()>),
}

/// Where the host functions find the lock and the guest's resources.
pub(crate) trait HasLock: Send {
    fn lock(&mut self) -> View<'_>;
}

pub(crate) struct View<'a> {
    pub(crate) lock: &'a Arc<RwLock<()>>,
    pub(crate) table: &'a mut ResourceTable,
}

struct Locks;

impl HasData for Locks {
    type Data<'a> = View<'a>;
}

pub(crate) fn add_to_linker<T: HasLock + 'static>(linker: &mut Linker<T>) -> Result<()> {
    types::add_to_linker::<T, Locks>(linker, T::lock)?;
    preopens::add_to_linker::<T, Locks>(linker, T::lock)
}

type Answer<T> = Result<std::result::Result<T, types::ErrorCode>>;

/// What the benchmark's guest does not use.
fn unsupported<T>() -> Answer<T> {
    Ok(Err(types::ErrorCode::Unsupported))
}

impl preopens::Host for View<'_> {
    fn get_lockspaces(&mut self) -> Result<Vec<(Resource<Space>, String)>> {
        Ok(vec![(self.table.push(Space)?, "data".into())])
    }
}

impl types::Host for View<'_> {}

impl types::HostLockspace for View<'_> {
    fn open(&mut self, _: Resource<Space>, _: String) -> Answer<Resource<Lock>> {
        Ok(Ok(self.table.push(Lock(Arc::clone(self.lock)))?))
    }

    fn drop(&mut self, space: Resource<Space>) -> Result<()> {
        self.table.delete(space)?;
        Ok(())
    }
}

impl types::HostLock for View<'_> {
    fn name(&mut self, _: Resource<Lock>) -> Result<String> {
        Ok(String::new())
    }

    fn try_acquire(
        &mut self,
        lock: Resource<Lock>,
        mode: types::Mode,
    ) -> Answer<Option<Resource<Guard>>> {
        let lock = Arc::clone(&self.table.get(&lock)?.0);
        let guard = match mode {
            types::Mode::Shared => lock.try_read_owned().map(Guard::Shared),
            types::Mode::Exclusive => lock.try_write_owned().map(Guard::Exclusive),
        };
        Ok(Ok(match guard {
            Ok(guard) => Some(self.table.push(guard)?),
            Err(_) => None,
        }))
    }

    async fn acquire(
        &mut self,
        lock: Resource<Lock>,
        mode: types::Mode,
        _: Option<u64>,
    ) -> Answer<Resource<Guard>> {
        let lock = Arc::clone(&self.table.get(&lock)?.0);
        let guard = match mode {
            types::Mode::Shared => Guard::Shared(lock.read_owned().await),
            types::Mode::Exclusive => Guard::Exclusive(lock.write_owned().await),
        };
        Ok(Ok(self.table.push(guard)?))
    }

    fn start_acquire(
        &mut self,
        _: Resource<Lock>,
        _: types::Mode,
        _: Option<u64>,
    ) -> Answer<Resource<Future>> {
        unsupported()
    }

    fn last_touched(&mut self, _: Resource<Lock>) -> Answer<Option<types::Datetime>> {
        unsupported()
    }

    fn drop(&mut self, lock: Resource<Lock>) -> Result<()> {
        self.table.delete(lock)?;
        Ok(())
    }
}

impl types::HostGuard for View<'_> {
    fn mode(&mut self, guard: Resource<Guard>) -> Result<types::Mode> {
        Ok(match self.table.get(&guard)? {
            Guard::Shared(_) => types::Mode::Shared,
            Guard::Exclusive(_) => types::Mode::Exclusive,
        })
    }

    fn check(&mut self, _: Resource<Guard>) -> Answer<()> {
        Ok(Ok(()))
    }

    fn subscribe(&mut self, _: Resource<Guard>) -> Answer<Resource<DynPollable>> {
        unsupported()
    }

    fn downgrade(&mut self, _: Resource<Guard>) -> Answer<()> {
        unsupported()
    }

    fn try_upgrade(&mut self, _: Resource<Guard>) -> Answer<bool> {
        unsupported()
    }

    fn fencing_token(&mut self, _: Resource<Guard>) -> Answer<u64> {
        unsupported()
    }

    fn touch(&mut self, _: Resource<Guard>) -> Answer<()> {
        unsupported()
    }

    fn release(&mut self, guard: Resource<Guard>) -> Answer<()> {
        self.table.delete(guard)?;
        Ok(Ok(()))
    }

    fn drop(&mut self, guard: Resource<Guard>) -> Result<()> {
        self.table.delete(guard)?;
        Ok(())
    }
}

/// The guest does not use them, and `start-acquire` makes none.
impl types::HostFutureGuard for View<'_> {
    fn subscribe(&mut self, _: Resource<Future>) -> Answer<Resource<DynPollable>> {
        unsupported()
    }

    fn get(
        &mut self,
        _: Resource<Future>,
    ) -> Result<
        Option<std::result::Result<std::result::Result<Resource<Guard>, types::ErrorCode>, ()>>,
    > {
        Ok(None)
    }

    fn drop(&mut self, _: Resource<Future>) -> Result<()> {
        Ok(())
    }
}
