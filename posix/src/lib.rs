#![doc = include_str!("../README.md")]
#![cfg_attr(
    not(target_family = "wasm"),
    allow(dead_code, reason = "there is nothing to take the place of")
)]

#[cfg(target_family = "wasm")]
mod abi;
#[cfg(target_family = "wasm")]
mod errno;
#[cfg(target_family = "wasm")]
mod locks;
mod paths;
mod request;
