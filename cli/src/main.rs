//! The `kubectl-streamjob` binary.

fn main() {}
