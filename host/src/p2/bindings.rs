//! Bindings that `wasmtime` generates from `wit/p2`.

#[expect(missing_docs, reason = "generated code")]
mod generated {
    wasmtime::component::bindgen!({
        path: "wit/p2",
        world: "clasp:locks/imports",
        imports: {
            // The functions that may wait, for other holders or for the back end. A
            // guest that tries in a loop gives way to the other tasks of its executor.
            "clasp:locks/types.[method]lock.acquire": async | trappable,
            "clasp:locks/types.[method]lock.try-acquire": async | trappable,
            "clasp:locks/types.[method]guard.downgrade": async | trappable,
            "clasp:locks/types.[method]guard.try-upgrade": async | trappable,
            "clasp:locks/types.[method]guard.fencing-token": async | trappable,
            "clasp:locks/ranges.[method]range-owner.set": async | trappable,
            "clasp:locks/ranges.[method]range-owner.try-set": async | trappable,
            "clasp:locks/semaphores.[method]semaphore.acquire": async | trappable,
            "clasp:locks/semaphores.[method]semaphore.try-acquire": async | trappable,
            default: trappable,
        },
        trappable_error_type: { "clasp:locks/types.error-code" => crate::p2::CallError },
        with: {
            "wasi:io/poll": wasmtime_wasi_io::bindings::wasi::io::poll,
            "clasp:locks/types.lockspace": crate::lockspaces::LockspaceResource,
            "clasp:locks/types.lock": crate::p2::resources::LockResource,
            "clasp:locks/types.guard": crate::p2::resources::GuardResource,
            "clasp:locks/types.future-guard": crate::p2::resources::FutureGuardResource,
            "clasp:locks/ranges.range-owner": crate::p2::resources::RangeOwnerResource,
            "clasp:locks/semaphores.semaphore": crate::p2::resources::SemaphoreResource,
            "clasp:locks/semaphores.permit": crate::p2::resources::PermitResource,
            "clasp:locks/semaphores.future-permit": crate::p2::resources::FuturePermitResource,
        },
        require_store_data_send: true,
    });
}

pub use self::generated::clasp::locks::*;

/// The same for blocking hosts.
pub mod sync {
    #[expect(missing_docs, reason = "generated code")]
    mod generated {
        wasmtime::component::bindgen!({
            path: "wit/p2",
            world: "clasp:locks/imports",
            imports: { default: trappable },
            trappable_error_type: { "clasp:locks/types.error-code" => crate::p2::CallError },
            with: {
                "wasi:io/poll": wasmtime_wasi_io::bindings::wasi::io::poll,
                "clasp:locks/preopens": crate::p2::bindings::preopens,
                "clasp:locks/types.lockspace": crate::lockspaces::LockspaceResource,
                "clasp:locks/types.lock": crate::p2::resources::LockResource,
                "clasp:locks/types.guard": crate::p2::resources::GuardResource,
                "clasp:locks/types.future-guard": crate::p2::resources::FutureGuardResource,
                "clasp:locks/ranges.range-owner": crate::p2::resources::RangeOwnerResource,
                "clasp:locks/semaphores.semaphore": crate::p2::resources::SemaphoreResource,
                "clasp:locks/semaphores.permit": crate::p2::resources::PermitResource,
                "clasp:locks/semaphores.future-permit": crate::p2::resources::FuturePermitResource,
            },
            require_store_data_send: true,
        });
    }

    pub use self::generated::clasp::locks::*;
}
