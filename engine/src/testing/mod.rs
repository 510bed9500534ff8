//! What tests and other back ends need: the reference back end, back ends that
//! fail or take their time, and the suite that every back end passes.

pub mod conformance;
pub mod delayed;
pub mod faulty;
mod line;
pub mod memory;
pub mod native;
mod permits;

pub use line::TestLine;
