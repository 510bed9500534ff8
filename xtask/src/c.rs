//! The library for programs in C that use the interface: bindings of `wit-bindgen`, and `c/` on
//! top of them.

use crate::shell::{capture, root};
use anyhow::{Context, Result};
use std::{ffi::OsStr, fs, path::Path, process::Command};
use wit_bindgen_core::{Files, wit_parser::Resolve};

/// The name of the header with the bindings, and the beginning of some names in it.
const BINDINGS: &str = "clasp_locks";

/// What exports the function by which a host allocates in a guest. `clasp-posix`, which every
/// program is linked with, has the same function and exports it.
const EXPORTED: &str = ", __export_name__(\"cabi_realloc\")";

/// Writes `libclasp.a` and its headers into a prefix. Other files go into `objects`.
pub(crate) fn library(clang: impl Fn() -> Command, prefix: &Path, objects: &Path) -> Result<()> {
    let include = prefix.join("include");
    let mut sources = vec![root().join("c/clasp.c")];
    let mut parts = Vec::new();
    for (name, contents) in bindings()?.iter() {
        let header = Path::new(name).extension() == Some(OsStr::new("h"));
        let path = if header { &include } else { objects }.join(name);
        match str::from_utf8(contents) {
            Ok(text) => fs::write(&path, text.replace(EXPORTED, ""))?,
            Err(_) => fs::write(&path, contents)?,
        }
        match path.extension().and_then(OsStr::to_str) {
            Some("c") => sources.push(path),
            Some("o") => parts.push(path),
            _ => {}
        }
    }
    fs::copy(root().join("c/clasp.h"), include.join("clasp.h"))?;
    for source in sources {
        let object = objects
            .join(source.file_name().context("a source has a name")?)
            .with_extension("o");
        capture(
            clang()
                .args(["-O2", "-Wall", "-Wextra", "-c", "-I"])
                .arg(&include)
                .arg("-o")
                .args([&object, &source]),
        )?;
        parts.push(object);
    }
    let library = prefix.join("lib/libclasp.a");
    let _ = fs::remove_file(&library);
    capture(Command::new("ar").arg("cr").arg(library).args(parts))?;
    Ok(())
}

/// A header, a source, and an object that tells the linker of components the imports.
fn bindings() -> Result<Files> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(root().join("wit/p2"))?;
    let world = resolve.select_world(&[package], Some("imports"))?;
    let mut files = Files::default();
    let options = wit_bindgen_c::Opts {
        rename_world: Some(BINDINGS.to_owned()),
        ..Default::default()
    };
    options.build().generate(&mut resolve, world, &mut files)?;
    Ok(files)
}
