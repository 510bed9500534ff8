//! Toolchains that build for other targets than this machine: guests, Windows,
//! and systems that the sources are only checked for.
//!
//! The installed Rust toolchain serves if it has the target or rustup can add
//! it. Where rustup's server cannot be reached, a toolchain is put together
//! from distribution packages, once, under the cache directory.

#[cfg(target_os = "linux")]
mod c;
#[cfg(target_os = "linux")]
pub(crate) mod etcd;
#[cfg(target_os = "linux")]
mod packages;

#[cfg(target_os = "linux")]
pub(crate) use c::{CToolchain, ensure as ensure_c};
#[cfg(target_os = "linux")]
pub(crate) use packages::source;

use crate::shell::{cache, capture, has, say};
use anyhow::{Context, Result, bail};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Set to `packages` to build the toolchain from packages even if rustup could
/// add the target.
const CHOICE: &str = "CLASP_GUEST_TOOLCHAIN";

/// What is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Guest,
    Windows,
    /// To check, not to link.
    MacOs,
    /// Likewise: a system whose locks the engine does not know.
    FreeBsd,
}

impl Target {
    pub(crate) fn triple(self) -> &'static str {
        match self {
            Target::Guest => "wasm32-wasip2",
            Target::Windows => "x86_64-pc-windows-gnu",
            Target::MacOs => "aarch64-apple-darwin",
            Target::FreeBsd => "x86_64-unknown-freebsd",
        }
    }

    /// Says with what it is linked where the default is another.
    fn configure(self, command: &mut Command) {
        if self == Target::Windows {
            command.env(
                "CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER",
                "x86_64-w64-mingw32-gcc",
            );
        }
    }
}

/// What builds for a target.
pub(crate) struct Toolchain {
    target: Target,
    /// Where it lies, if it is not the one that builds everything else.
    packages: Option<PathBuf>,
}

impl Toolchain {
    /// Makes a cargo command use this toolchain.
    pub(crate) fn configure(&self, command: &mut Command) {
        command.args(["--target", self.target.triple()]);
        // Guests are built for release; of the others nothing is measured, and
        // most of the time would go into optimizing.
        command.args(["--config", "profile.dev.package.'*'.opt-level=0"]);
        self.target.configure(command);
        if let Some(directory) = &self.packages {
            command.env("RUSTC", directory.join("bin/rustc"));
            command.env("RUSTDOC", directory.join("bin/rustdoc"));
            command.env_remove("RUSTC_WRAPPER");
        }
    }
}

/// Finds a toolchain, or makes one.
pub(crate) fn ensure(target: Target) -> Result<Toolchain> {
    // On Windows compilers are found in the registry.
    if !cfg!(windows) && !["cc", "gcc", "clang"].into_iter().any(has) {
        bail!(
            "no C compiler: wasmtime's build needs one. \
             Install `gcc` or `clang`, for example with `apt-get install gcc`"
        );
    }
    let installed = Toolchain {
        target,
        packages: None,
    };
    let packages = match std::env::var(CHOICE) {
        Ok(choice) if choice == "packages" => true,
        Ok(choice) => bail!("{CHOICE}={choice}: the only value is `packages`; unset it otherwise"),
        Err(_) => false,
    };
    let triple = target.triple();
    if !packages {
        if is_installed(target)? {
            return Ok(installed);
        }
        if has("rustup") {
            say(format!("Adding {triple} with rustup"));
            match capture(Command::new("rustup").args(["target", "add", triple])) {
                Ok(_) => return Ok(installed),
                Err(error) => say(format!(
                    "rustup could not add the target, using packages instead: {error}"
                )),
            }
        }
    }
    from_packages(target).with_context(|| {
        format!(
            "the toolchain could not be made from packages. \
             If rustup works for you, run `rustup target add {triple}` and unset {CHOICE}"
        )
    })
}

/// The toolchain of distribution packages.
#[cfg(target_os = "linux")]
fn from_packages(target: Target) -> Result<Toolchain> {
    let directory = cache()?.join(packages::NAME);
    packages::ensure(&directory, target)?;
    Ok(Toolchain {
        target,
        packages: Some(directory),
    })
}

#[cfg(not(target_os = "linux"))]
fn from_packages(_: Target) -> Result<Toolchain> {
    bail!("only x86_64 Linux has the packages")
}

/// Whether the installed toolchain has the target.
fn is_installed(target: Target) -> Result<bool> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let triple = target.triple();
    let libraries =
        capture(Command::new(rustc).args(["--print", "target-libdir", "--target", triple]))?;
    Ok(Path::new(&libraries).is_dir())
}
