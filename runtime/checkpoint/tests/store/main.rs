//! The chain on real stores: directories, MinIO, and stores that misbehave.

mod chain;
mod sample;
