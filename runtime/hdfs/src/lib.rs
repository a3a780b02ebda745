//! Files in HDFS, as a checkpoint storage needs them.
//!
//! A file gets its name in four steps: it is written to a temporary file of a name that nobody else
//! makes, `hsync` makes it durable, `close` makes it complete, and a rename that does not overwrite
//! gives it the name. So of all who want a name exactly one complete file wins. Creating it under its
//! name would not do: a writer that is killed before `close` leaves the name to an empty file, and when
//! the NameNode takes the lease of a dead writer away, half a file looks complete.
//!
//! An error never says that something did not happen. A rename whose answer was lost and which is
//! repeated says that its source is missing; the caller looks whose file has the name.
//!
//! Reading order: [`Hdfs`] is the client, with its time limits and repetitions; [`Error`] is what goes
//! wrong, in words; the temporary files are in `write`.

mod client;
mod error;
mod write;

pub use client::{Entry, Hdfs, HdfsOptions, Pieces};
pub use error::{Error, Result};
pub use write::Named;
