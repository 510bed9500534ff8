//! Bindings that `wit-bindgen` generates from `wit/p2`.

use crate::path;
use std::{path::Path, sync::OnceLock};

#[expect(missing_docs, reason = "generated code")]
#[allow(
    unsafe_code,
    unreachable_pub,
    rust_2018_idioms,
    clippy::all,
    reason = "generated code"
)]
mod generated {
    #[cfg(not(feature = "async"))]
    wit_bindgen::generate!({
        path: "wit/p2",
        world: "clasp:locks/imports",
        generate_all,
    });

    // One pollable for all: executors take that of wasip2.
    #[cfg(feature = "async")]
    wit_bindgen::generate!({
        path: "wit/p2",
        world: "clasp:locks/imports",
        with: { "wasi:io/poll@0.2.0": wasip2::io::poll },
        generate_all,
    });
}

pub use generated::clasp::locks::*;

/// The lockspaces of this component, with their guest paths. They never change.
pub fn lockspaces() -> &'static [(types::Lockspace, String)] {
    static SPACES: OnceLock<Vec<(types::Lockspace, String)>> = OnceLock::new();
    SPACES.get_or_init(preopens::get_lockspaces)
}

/// The lockspace of a path, and the name of the lock in it (S19); `None` if the host has
/// granted none for this path.
pub fn lockspace_of(path: &str) -> Option<(&'static types::Lockspace, String)> {
    find(lockspaces(), path)
}

fn find<'a, S>(spaces: &'a [(S, String)], path: &str) -> Option<(&'a S, String)> {
    let current_dir = std::env::current_dir();
    let current_dir = current_dir
        .as_deref()
        .ok()
        .and_then(Path::to_str)
        .unwrap_or("/");
    let grants = spaces.iter().map(|(_, path)| path);
    let (at, name) = path::resolve(path, current_dir, grants)?;
    Some((&spaces[at].0, name))
}

/// The same for WASI 0.3, from `wit/p3`.
#[cfg(feature = "p3")]
pub mod p3 {
    use std::sync::OnceLock;

    #[expect(missing_docs, reason = "generated code")]
    #[allow(
        unsafe_code,
        unreachable_pub,
        rust_2018_idioms,
        clippy::all,
        reason = "generated code"
    )]
    mod generated {
        wit_bindgen::generate!({
            path: "wit/p3",
            world: "clasp:locks/imports",
            generate_all,
        });
    }

    pub use generated::clasp::locks::*;

    /// The lockspaces of this component, with their guest paths. They never change.
    pub fn lockspaces() -> &'static [(types::Lockspace, String)] {
        static SPACES: OnceLock<Vec<(types::Lockspace, String)>> = OnceLock::new();
        SPACES.get_or_init(preopens::get_lockspaces)
    }

    /// As [`lockspace_of`](super::lockspace_of).
    pub fn lockspace_of(path: &str) -> Option<(&'static types::Lockspace, String)> {
        super::find(lockspaces(), path)
    }
}
