//! Owns a job's truth.
