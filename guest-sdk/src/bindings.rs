//! Bindings that `wit-bindgen` generates from `wit/p2`.

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
