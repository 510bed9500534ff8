//! A C compiler for guests: clang of Debian, with the C library that the toolchain for Rust
//! has as well. Both are of WASI 0.1; the linker makes a component of a program.

use super::{
    Target, Toolchain, from_packages,
    packages::{self, Apt, Work},
};
use crate::shell::{cache, capture, say};
use anyhow::{Context, Result};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// The directory of the toolchain in the cache.
const NAME: &str = "guest-c";

const CLANG: [&str; 3] = ["clang-22", "libclang-cpp22", "libllvm22"];

/// What builds guests in C, and guests in Rust that contain C.
pub(crate) struct CToolchain {
    directory: PathBuf,
    rust: Toolchain,
}

/// Finds the toolchain, or makes it.
pub(crate) fn ensure() -> Result<CToolchain> {
    // A standard library of Rust that uses WASI 0.2 has another C library.
    let rust = from_packages(Target::Guest)?;
    let directory = cache()?.join(NAME);
    if !directory.is_dir() {
        make(&directory).context("the C compiler for guests could not be made from packages")?;
    }
    Ok(CToolchain { directory, rust })
}

fn make(directory: &Path) -> Result<()> {
    let parent = directory
        .parent()
        .context("the cache directory has no parent")?;
    let work = Work::begin(parent, NAME)?;
    say(format!("Toolchain: downloading {}", CLANG.join(", ")));
    let apt = Apt::update(work.scratch.join("apt"))?;
    let debs = work.scratch.join("debs");
    apt.download(&debs, &CLANG.map(String::from))?;
    let root = work.scratch.join("root");
    for deb in packages::files(&debs)? {
        capture(Command::new("dpkg-deb").arg("-x").args([&deb, &root]))?;
    }
    for made in ["bin", "libexec", "lib"] {
        fs::create_dir_all(work.out.join(made))?;
    }
    let llvm = root.join("usr/lib/llvm-22");
    fs::rename(llvm.join("bin/clang"), work.out.join("libexec/clang"))?;
    for library in packages::files(&root.join("usr/lib/x86_64-linux-gnu"))? {
        let name = library.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("libclang-cpp.so.") || name.starts_with("libLLVM.so.") {
            fs::copy(&library, work.out.join("lib").join(&*name))?;
        }
    }
    work.add_missing_libraries(&apt, "libexec/clang")?;
    let resources = packages::resources(&work.scratch)?;
    for part in ["include", "lib"] {
        let to = work.out.join("resources").join(part);
        fs::create_dir_all(work.out.join("resources"))?;
        fs::rename(resources.join(part), to)?;
    }
    // The last of several targets counts: build scripts of crates give that of Rust.
    let compiler = work.out.join("bin/clang");
    script(
        &compiler,
        "d=$(dirname -- \"$(dirname -- \"$(readlink -f -- \"$0\")\")\")\n\
         LD_LIBRARY_PATH=$d/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}\n\
         export LD_LIBRARY_PATH\n\
         exec \"$d/libexec/clang\" \"$@\" --target=wasm32-wasip1 \
         -resource-dir \"$d/resources\" --sysroot=\"$d/resources\"",
    )?;
    fs::rename(&work.out, directory)?;
    Ok(())
}

impl CToolchain {
    /// The compiler.
    pub(crate) fn clang(&self) -> Command {
        Command::new(self.directory.join("bin/clang"))
    }

    /// The Rust compiler.
    pub(crate) fn rustc(&self) -> Result<PathBuf> {
        let rust = self.rust.packages.as_deref();
        Ok(rust.context("no compiler")?.join("bin/rustc"))
    }

    /// Makes a cargo command use the Rust compiler.
    pub(crate) fn configure(&self, command: &mut Command) {
        self.rust.configure(command);
    }

    /// Writes a compiler that also links: with a library and its headers, to a component.
    pub(crate) fn write_driver(&self, to: &Path, prefix: &Path, libraries: &[&str]) -> Result<()> {
        let rust = self.rust.packages.as_deref();
        let (modules, components) = packages::linkers(rust.context("no linker")?);
        let linker = to.with_extension("ld");
        let libraries: String = libraries.iter().map(|name| format!(" -l{name}")).collect();
        script(
            &linker,
            &format!(
                "exec \"{}\" --wasm-ld-path \"{}\" --wasi-adapter command \"$@\"",
                components.display(),
                modules.display()
            ),
        )?;
        script(
            to,
            &format!(
                "exec \"{}\" \"$@\" -Qunused-arguments \"-fuse-ld={}\" -isystem \"{prefix}/include\" \
                 \"-L{prefix}/lib\"{libraries}",
                self.directory.join("bin/clang").display(),
                linker.display(),
                prefix = prefix.display(),
            ),
        )
    }
}

fn script(path: &Path, text: &str) -> Result<()> {
    fs::write(path, format!("#!/bin/sh\n{text}\n"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}
