//! `millstream` with a sink of our own: `spool` hands each checkpoint's rows over as a file.

mod spool;

use std::process::ExitCode;

use millstream::{register, registry};

fn main() -> ExitCode {
    millstream::main(registry![register::two_phase_commit(
        "spool",
        spool::Spool::open
    )])
}
