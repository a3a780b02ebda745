//! The binary as a person or a cluster runs it: a bounded job from the generator into files, whose
//! processes are killed and stopped on the way. Whatever happens, the output is exactly what a run
//! without trouble writes.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod checks;
mod cluster;
mod commands;
mod deployed;
mod job;
mod keyed;
mod local;
mod process;
mod state;
