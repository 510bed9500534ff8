//! How a component is started: as a command, or by one of its functions.

use super::{End, State, Version, boxed, invoke::Call};
use anyhow::{Context, Result};
use std::future::Future;
use wasmtime::{
    Store,
    component::{Instance, InstancePre},
};
use wasmtime_wasi::{p2, p3};

/// Runs a command of WASI 0.2 on this thread, or the function of `--invoke`; answers whether it
/// reports success.
pub(super) fn blocking(
    store: &mut Store<State>,
    component: InstancePre<State>,
    call: Option<Call<'_>>,
) -> Result<bool, End> {
    if let Some(call) = call {
        let instance = component.instantiate(&mut *store).map_err(End::Trapped)?;
        let (function, parameters, mut results) = call.prepare(store, &instance)?;
        function
            .call(&mut *store, &parameters, &mut results)
            .map_err(End::Trapped)?;
        call.print(&results)?;
        return Ok(true);
    }
    let command = p2::bindings::sync::CommandPre::new(component).map_err(not_a_command)?;
    let command = command.instantiate(&mut *store).map_err(End::Trapped)?;
    let ran = command.wasi_cli_run().call_run(store);
    Ok(ran.map_err(End::Trapped)?.is_ok())
}

/// The same for a component that uses WASI 0.3, or clasp for it.
pub(super) fn suspending(
    store: &mut Store<State>,
    component: &InstancePre<State>,
    call: Option<Call<'_>>,
) -> Result<bool, End> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime for asynchronous functions")?;
    runtime.block_on(async {
        let instance = component.instantiate_async(&mut *store).await;
        let instance = instance.map_err(End::Trapped)?;
        match call {
            Some(call) => invoke(store, &instance, call).await.map(|()| true),
            None => command(store, &instance).await,
        }
    })
}

async fn invoke(store: &mut Store<State>, instance: &Instance, call: Call<'_>) -> Result<(), End> {
    let (function, parameters, mut results) = call.prepare(store, instance)?;
    let called = store.run_concurrent(async |store| {
        let call = function.call_concurrent(store, &parameters, &mut results);
        call.await
    });
    ended(called).await?;
    call.print(&results)
}

async fn command(store: &mut Store<State>, instance: &Instance) -> Result<bool, End> {
    if let Ok(command) = p3::bindings::Command::new(&mut *store, instance) {
        let ran = store.run_concurrent(async |store| command.wasi_cli_run().call_run(store).await);
        return Ok(ended(ran).await?.is_ok());
    }
    // It may wait as a command of WASI 0.2 does, and take locks of both versions.
    let command = p2::bindings::Command::new(&mut *store, instance).map_err(not_a_command)?;
    let ran = command.wasi_cli_run().call_run(store).await;
    Ok(ran.map_err(End::Trapped)?.is_ok())
}

async fn ended<T>(
    call: impl Future<Output = wasmtime::Result<wasmtime::Result<T>>>,
) -> Result<T, End> {
    call.await.and_then(|result| result).map_err(End::Trapped)
}

fn not_a_command(error: wasmtime::Error) -> End {
    End::NoCommand(boxed(error))
}

impl Version {
    /// Runs a component of this version.
    pub(super) fn run(
        self,
        store: &mut Store<State>,
        component: InstancePre<State>,
        call: Option<Call<'_>>,
    ) -> Result<bool, End> {
        match self {
            Version::Two => blocking(store, component, call),
            Version::Three => suspending(store, &component, call),
        }
    }
}
