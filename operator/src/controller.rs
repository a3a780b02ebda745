//! The controller of `StreamJob`: one reconcile, read top to bottom.

pub mod build;
pub mod revision;
