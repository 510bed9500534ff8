//! The interface of a version that is frozen: what it has stays as it is, and what is added says
//! since which later version it is there.

use crate::reference::{signature, type_name};
use anyhow::{Result, ensure};
use std::{collections::BTreeMap, fs, path::Path};
use wit_parser::{FunctionKind, InterfaceId, Resolve, Stability, TypeDef, TypeDefKind, WorldItem};

/// Compares a package with its snapshot, which is written if there is none.
pub(crate) fn check(package: &Path, snapshot: &Path, fix: bool) -> Result<()> {
    let items = items(package)?;
    if fix && !snapshot.exists() {
        let lines: Vec<_> = items.keys().map(|item| format!("{item}\n")).collect();
        fs::write(snapshot, lines.concat())?;
    }
    let frozen = fs::read_to_string(snapshot)?;
    let frozen: Vec<&str> = frozen.lines().collect();
    for item in &frozen {
        ensure!(
            items.contains_key(*item),
            "the interface is frozen, and `{item}` is not there any more; see {}",
            snapshot.display()
        );
    }
    for (item, since) in items {
        ensure!(
            frozen.contains(&&*item) || since.as_deref().is_some_and(|since| since != "0.2.0"),
            "the interface is frozen: `{item}` is new, and needs `@since` with a later version than \
             0.2.0"
        );
    }
    Ok(())
}

/// Each item of a package as a line, with the version since which it is there.
fn items(package: &Path) -> Result<BTreeMap<String, Option<String>>> {
    let mut resolve = Resolve::default();
    let (id, _) = resolve.push_dir(package)?;
    let package = &resolve.packages[id];
    let mut items = BTreeMap::new();
    let mut add = |item: String, stability: &Stability| {
        let since = match stability {
            Stability::Stable { since, .. } => Some(since.to_string()),
            Stability::Unknown | Stability::Unstable { .. } => None,
        };
        items.insert(item, since);
    };
    for (name, id) in &package.interfaces {
        let interface = &resolve.interfaces[*id];
        for (of, id) in &interface.types {
            let definition = &resolve.types[*id];
            let kind = definition.kind.as_str();
            let content = content(&resolve, definition);
            add(
                format!("{name}: {kind} {of}{content}"),
                &definition.stability,
            );
        }
        for function in interface.functions.values() {
            let resource = function.kind.resource();
            let of = resource.and_then(|id| resolve.types[id].name.clone());
            let of = of.map(|of| of + ".").unwrap_or_default();
            let (item, signature) = (function.item_name(), signature(&resolve, function));
            let kind = match function.kind {
                FunctionKind::Static(_) => "static ",
                FunctionKind::Constructor(_) => "constructor ",
                _ => "",
            };
            add(
                format!("{name}: {of}{item}: {kind}{signature}"),
                &function.stability,
            );
        }
    }
    for (name, id) in &package.worlds {
        for item in resolve.worlds[*id].imports.values() {
            if let WorldItem::Interface { id, stability, .. } = item {
                let interface = interface_name(&resolve, *id);
                add(format!("world {name}: import {interface}"), stability);
            }
        }
    }
    Ok(items)
}

fn interface_name(resolve: &Resolve, id: InterfaceId) -> String {
    resolve.id_of(id).unwrap_or_default()
}

/// The cases or fields of a type, or the type that it stands for.
fn content(resolve: &Resolve, definition: &TypeDef) -> String {
    let parts: Vec<String> = match &definition.kind {
        TypeDefKind::Enum(of) => of.cases.iter().map(|case| case.name.clone()).collect(),
        TypeDefKind::Variant(of) => {
            let cases = of.cases.iter();
            let case = |ty: &wit_parser::Type| format!("({})", type_name(resolve, ty));
            let cases = cases.map(|c| c.name.clone() + &c.ty.as_ref().map_or(String::new(), case));
            cases.collect()
        }
        TypeDefKind::Record(of) => {
            let fields = of.fields.iter();
            let field = fields.map(|f| format!("{}: {}", f.name, type_name(resolve, &f.ty)));
            field.collect()
        }
        TypeDefKind::Type(of) => return format!(" = {}", type_name(resolve, of)),
        _ => return String::new(),
    };
    format!(" {{ {} }}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(wit: &str, snapshot: &str) -> std::result::Result<(), String> {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a.wit"), wit).unwrap();
        let frozen = directory.path().join("frozen.txt");
        fs::write(&frozen, snapshot).unwrap();
        check(directory.path(), &frozen, false).map_err(|error| error.to_string())
    }

    #[test]
    fn only_additions_of_later_versions_pass() {
        const WIT: &str = "package a:b@0.2.1;\n@since(version = 0.2.0)\ninterface i {\n\
             @since(version = 0.2.0)\nenum e { x, y }\n@since(version = 0.2.0)\n\
             f: func(a: e) -> u32;\n@since(version = 0.2.1)\ng: func();\n}";
        let same = "i: enum e { x, y }\ni: f: func(a: e) -> u32\n";
        assert_eq!(checked(WIT, same), Ok(()));
        let changed = checked(WIT, &same.replace("u32", "u64")).unwrap_err();
        assert!(changed.contains("not there any more"), "{changed}");
        let grown = checked(WIT, &same.replace(", y", "")).unwrap_err();
        assert!(grown.contains("enum e"), "{grown}");
        let new = checked(WIT, "i: enum e { x, y }\n").unwrap_err();
        assert!(new.contains("f: func") && new.contains("@since"), "{new}");
    }
}
