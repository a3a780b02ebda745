//! Commands that look and end.

pub(crate) mod checkpoints;
pub(crate) mod explain;
pub(crate) mod validate;

use std::io::{self, Write};

/// Writes to standard output. A reader that has gone away, as `head` does, is no error.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}
