//! `--invoke`: a call of an exported function, written as WAVE.

use super::{State, boxed};
use anyhow::{Context, Result, anyhow, bail};
use wasmtime::{
    Store,
    component::{
        Component, ComponentExportIndex, Linker, Val, types::ComponentItem,
        wasm_wave::untyped::UntypedFuncCall,
    },
};

/// Calls a function and prints its result. An error of the outer result says that the
/// call could not be made; one of the inner result comes from the guest.
pub(super) fn run(
    call: &str,
    store: &mut Store<State>,
    component: &Component,
    linker: &Linker<State>,
) -> Result<wasmtime::Result<()>> {
    let not = |why: String| anyhow!("--invoke {call:?}: {why}");
    let parsed = UntypedFuncCall::parse(call)
        .map_err(|error| not(format!("{error}; write a call, such as `add(1, 2)`")))?;
    let found = find(store, component, parsed.name());
    let function = match found.as_slice() {
        [one] => *one,
        [] => bail!(not("the component exports no such function".into())),
        _ => bail!(not("several interfaces export such a function".into())),
    };
    let instance = linker
        .instantiate(&mut *store, component)
        .map_err(boxed)
        .map_err(|error| not(format!("{error:#}")))?;
    let function = instance
        .get_func(&mut *store, function)
        .context("the function was exported")?;
    let ty = function.ty(&*store);
    let types: Vec<_> = ty.params().map(|(_, ty)| ty).collect();
    let parameters = parsed
        .to_wasm_params::<Val>(&types)
        .map_err(|error| not(error.to_string()))?;
    let mut results = vec![Val::Bool(false); ty.results().len()];
    let returned = function.call(&mut *store, &parameters, &mut results);
    if returned.is_ok() {
        for result in results {
            println!("{}", result.to_wave().map_err(boxed)?);
        }
    }
    Ok(returned)
}

/// The functions of this name, those of exported interfaces included.
fn find(store: &Store<State>, component: &Component, name: &str) -> Vec<ComponentExportIndex> {
    let engine = store.engine();
    let mut found = Vec::new();
    if let Some((ComponentItem::ComponentFunc(_), index)) = component.get_export(None, name) {
        found.push(index);
    }
    for (interface, item) in component.component_type().exports(engine) {
        if let ComponentItem::ComponentInstance(_) = item.ty
            && let Some((_, interface)) = component.get_export(None, interface)
            && let Some((ComponentItem::ComponentFunc(_), index)) =
                component.get_export(Some(&interface), name)
        {
            found.push(index);
        }
    }
    found
}
