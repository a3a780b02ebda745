//! Tables, runs and snapshots together.

#![expect(
    clippy::unwrap_in_result,
    clippy::print_stdout,
    reason = "what a property test shares fails as it does, and says what it has seen"
)]

#[cfg(feature = "cold")]
mod cold;
mod files;
mod job;
mod keyed;
mod model;
mod policy;
