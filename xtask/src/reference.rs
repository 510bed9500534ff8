//! The reference document of the interface, made from the WIT itself.

use anyhow::{Result, bail};
use std::{fmt::Write as _, path::Path};
use wit_parser::{Docs, Function, Handle, Resolve, Stability, Type, TypeDef, TypeDefKind};

/// The text of `reference.md` for a WIT package, which may use others.
///
/// Fails if an item has no documentation or no `@since`.
pub(crate) fn render(package: &Path, used: &[&Path]) -> Result<String> {
    let mut resolve = Resolve::default();
    for used in used {
        resolve.push_dir(used)?;
    }
    let (id, _) = resolve.push_dir(package)?;
    let package = &resolve.packages[id];
    let mut text = format!(
        "# `{}`\n\n<!-- Made from the WIT by `cargo xtask tidy --fix`; do not edit. -->\n\n\
         The rules that every implementation keeps are in [semantics.md](../semantics.md).\n",
        package.name
    );
    for (name, interface) in &package.interfaces {
        let interface = &resolve.interfaces[*interface];
        item(
            &mut text,
            2,
            &format!("interface `{name}`"),
            &interface.docs,
            &interface.stability,
        )?;
        for (name, id) in &interface.types {
            let kind = &resolve.types[*id];
            if matches!(kind.kind, TypeDefKind::Type(_)) {
                continue;
            }
            let title = format!("{} `{name}`", kind.kind.as_str());
            item(&mut text, 3, &title, &kind.docs, &kind.stability)?;
            cases(&mut text, &resolve, kind)?;
            for function in interface.functions.values() {
                if function.kind.resource() == Some(*id) {
                    describe(&mut text, &resolve, function, 4)?;
                }
            }
        }
        for function in interface.functions.values() {
            if function.kind.resource().is_none() {
                describe(&mut text, &resolve, function, 3)?;
            }
        }
    }
    Ok(text)
}

fn item(
    text: &mut String,
    level: usize,
    title: &str,
    docs: &Docs,
    since: &Stability,
) -> Result<()> {
    let Some(docs) = &docs.contents else {
        bail!("{title} has no documentation in the WIT");
    };
    if since.is_unknown() {
        bail!("{title} has no @since in the WIT");
    }
    writeln!(text, "\n{} {title}\n\n{}", "#".repeat(level), docs.trim())?;
    Ok(())
}

fn describe(text: &mut String, resolve: &Resolve, function: &Function, level: usize) -> Result<()> {
    let name = function.item_name();
    item(
        text,
        level,
        &format!("`{name}`"),
        &function.docs,
        &function.stability,
    )?;
    let signature = signature(resolve, function);
    writeln!(text, "\n```wit\n{name}: {signature}\n```")?;
    Ok(())
}

/// What a function takes and returns, such as `func(name: string) -> lock`.
pub(crate) fn signature(resolve: &Resolve, function: &Function) -> String {
    let parameters: Vec<_> = function
        .params
        .iter()
        .filter(|parameter| parameter.name != "self")
        .map(|parameter| format!("{}: {}", parameter.name, type_name(resolve, &parameter.ty)))
        .collect();
    let result = match &function.result {
        Some(result) => format!(" -> {}", type_name(resolve, result)),
        None => String::new(),
    };
    format!("func({}){result}", parameters.join(", "))
}

fn cases(text: &mut String, resolve: &Resolve, kind: &TypeDef) -> Result<()> {
    let cases: Vec<_> = match &kind.kind {
        TypeDefKind::Enum(of) => of.cases.iter().map(|c| (c.name.clone(), &c.docs)).collect(),
        TypeDefKind::Variant(of) => of
            .cases
            .iter()
            .map(|case| {
                let payload = case.ty.map(|ty| format!("({})", type_name(resolve, &ty)));
                (
                    format!("{}{}", case.name, payload.unwrap_or_default()),
                    &case.docs,
                )
            })
            .collect(),
        _ => return Ok(()),
    };
    writeln!(text)?;
    for (name, docs) in cases {
        let Some(docs) = &docs.contents else {
            bail!("case {name} has no documentation in the WIT");
        };
        let docs: Vec<_> = docs.split_whitespace().collect();
        writeln!(text, "- `{name}`: {}", docs.join(" "))?;
    }
    Ok(())
}

pub(crate) fn type_name(resolve: &Resolve, ty: &Type) -> String {
    let name = |ty: &Type| type_name(resolve, ty);
    let optional = |ty: &Option<Type>| ty.as_ref().map_or_else(|| "_".into(), name);
    let Type::Id(id) = ty else {
        return format!("{ty:?}").to_lowercase();
    };
    let definition = &resolve.types[*id];
    if let Some(name) = &definition.name {
        return name.clone();
    }
    match &definition.kind {
        TypeDefKind::Option(of) => format!("option<{}>", name(of)),
        TypeDefKind::List(of) => format!("list<{}>", name(of)),
        TypeDefKind::Tuple(of) => {
            let parts: Vec<_> = of.types.iter().map(name).collect();
            format!("tuple<{}>", parts.join(", "))
        }
        TypeDefKind::Result(of) => match (&of.ok, &of.err) {
            (None, None) => "result".into(),
            (ok, None) => format!("result<{}>", optional(ok)),
            (ok, err) => format!("result<{}, {}>", optional(ok), optional(err)),
        },
        TypeDefKind::Handle(Handle::Own(of)) => name(&Type::Id(*of)),
        TypeDefKind::Handle(Handle::Borrow(of)) => format!("borrow<{}>", name(&Type::Id(*of))),
        other => other.as_str().into(),
    }
}
