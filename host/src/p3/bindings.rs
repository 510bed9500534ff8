//! Bindings that `wasmtime` generates from `wit/p3`.

#[expect(missing_docs, reason = "generated code")]
mod generated {
    wasmtime::component::bindgen!({
        path: "wit/p3",
        world: "clasp:locks/imports",
        imports: { default: trappable },
        trappable_error_type: { "clasp:locks/types.error-code" => crate::CallError },
        with: {
            "clasp:locks/types.lockspace": crate::lockspaces::LockspaceResource,
            "clasp:locks/types.lock": crate::p3::resources::LockResource,
            "clasp:locks/types.guard": crate::p3::resources::GuardResource,
            "clasp:locks/ranges.range-owner": crate::p3::resources::RangeOwnerResource,
            "clasp:locks/semaphores.semaphore": crate::p3::resources::SemaphoreResource,
            "clasp:locks/semaphores.permit": crate::p3::resources::PermitResource,
        },
        require_store_data_send: true,
    });
}

pub use self::generated::clasp::locks::*;
