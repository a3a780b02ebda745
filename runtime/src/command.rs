//! Commands that look, or clear up, and end.

pub(crate) mod checkpoints;
pub(crate) mod drill;
pub(crate) mod explain;
pub(crate) mod transactions;
pub(crate) mod validate;

use std::io::{self, Write};

use millstream_types::{ErrorCode, ErrorKind, Failure};
use serde::Serialize;

use crate::cli::Output;

/// One thread for input and output is enough to look.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            let message = format!("the runtime for input and output does not start: {error}");
            Failure::new(ErrorCode::OperatingSystem, ErrorKind::Internal, message)
        })
}

/// Writes to standard output. A reader that has gone away, as `head` does, is no error.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// Says something in the form that is wanted.
fn answer<T: Serialize>(
    output: Output,
    value: &T,
    text: impl Fn(&T) -> String,
) -> Result<(), Failure> {
    let text = match output {
        Output::Text => text(value),
        Output::Json => serde_json::to_string_pretty(value)
            .map(|json| json + "\n")
            .map_err(|error| {
                let message = format!("the answer cannot be written as JSON: {error}");
                Failure::new(ErrorCode::OperatingSystem, ErrorKind::Internal, message)
            })?,
    };
    print(&text);
    Ok(())
}
