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
    wit_bindgen::generate!({
        path: "wit/p2",
        world: "clasp:locks/imports",
        generate_all,
    });
}

pub use generated::{clasp::locks::*, wasi};
