//! The chain of a job's checkpoints.
