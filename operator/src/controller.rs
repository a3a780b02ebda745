//! The controller of `StreamJob`: one reconcile, read top to bottom.

pub mod build;
pub mod decide;
pub mod dereference;
pub mod memory;
pub mod observe;
pub mod revision;
pub mod validate;
