//! `--invoke`: a call of an exported function, written as WAVE.

use super::{End, State, boxed};
use crate::output;
use anyhow::{Context, Result, anyhow};
use wasmtime::{
    Store,
    component::{
        Component, ComponentExportIndex, Func, Instance, Val, types::ComponentItem,
        wasm_wave::untyped::UntypedFuncCall,
    },
};

/// A call that was understood.
pub(super) struct Call<'a> {
    text: &'a str,
    parsed: UntypedFuncCall<'a>,
    function: ComponentExportIndex,
}

impl<'a> Call<'a> {
    pub(super) fn parse(
        text: &'a str,
        store: &Store<State>,
        component: &Component,
    ) -> Result<Call<'a>> {
        let not = |why: &str| anyhow!("--invoke {text:?}: {why}");
        let parsed = UntypedFuncCall::parse(text)
            .map_err(|error| not(&format!("{error}; write a call, such as `add(1, 2)`")))?;
        match *find(store, component, parsed.name()) {
            [function] => Ok(Call {
                text,
                parsed,
                function,
            }),
            [] => Err(not("the component exports no such function")),
            _ => Err(not("several interfaces export such a function")),
        }
    }

    /// The function, its parameters, and room for its results.
    pub(super) fn prepare(
        &self,
        store: &mut Store<State>,
        instance: &Instance,
    ) -> Result<(Func, Vec<Val>, Vec<Val>)> {
        let function = instance
            .get_func(&mut *store, self.function)
            .context("the function was exported")?;
        let ty = function.ty(&*store);
        let types: Vec<_> = ty.params().map(|(_, ty)| ty).collect();
        let parameters = self
            .parsed
            .to_wasm_params::<Val>(&types)
            .map_err(|error| anyhow!("--invoke {:?}: {error}", self.text))?;
        let results = vec![Val::Bool(false); ty.results().len()];
        Ok((function, parameters, results))
    }

    /// Prints what the call has returned.
    pub(super) fn print(&self, results: &[Val]) -> Result<(), End> {
        for result in results {
            let result = result.to_wave().map_err(boxed)?;
            output::print(format!("{result}\n")).context("cannot write the result")?;
        }
        Ok(())
    }
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
