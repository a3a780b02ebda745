//! Runs tasks.
