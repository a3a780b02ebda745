//! The `kubectl-streamjob` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    millstream_cli::main()
}
