//! Commands that look and end.

pub(crate) mod checkpoints;
pub(crate) mod explain;
pub(crate) mod validate;

use std::io::{self, Write};

use millstream_types::{ErrorCode, ErrorKind, Failure};

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
