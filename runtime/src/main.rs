//! The `millstream` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    millstream::main(millstream::registry![])
}
