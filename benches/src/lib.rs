//! Benchmarks against peers: in one run, interleaved, by CPU-seconds of the process tree.
//!
//! Wall time on a shared machine says little; what a contender costs is the CPU time that the
//! kernel has booked to its processes. Every result is one JSON line with all that is needed to
//! read it alone.

pub mod contender;
pub mod flink;
pub mod http;
pub mod keyed;
pub mod orders;
pub mod process;
pub mod report;
pub mod setup;
pub mod tables;
pub mod topics;

/// What stops a benchmark.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
/// Result of every step.
pub type Result<T> = std::result::Result<T, Error>;

/// Sizes of a completed checkpoint, bytes.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Its number.
    pub id: u64,
    /// What was uploaded for it.
    pub uploaded: u64,
    /// The whole state that it names.
    pub whole: u64,
}
