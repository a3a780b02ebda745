//! Tables, runs and snapshots together.

mod files;
mod job;
mod keyed;
mod model;
mod policy;
