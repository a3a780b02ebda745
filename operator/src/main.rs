//! The `millstream-operator` binary.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use millstream_operator::cli::{LogFormat, Options};
use tracing_subscriber::EnvFilter;

/// What is not logged unless it is asked for: it is said by this crate in fewer words.
const QUIET: &str = "kube_runtime=error,kube_client=off";

fn main() -> ExitCode {
    let options = Options::parse();
    if let Err(error) = start_logging(&options) {
        return fail(&format!("`--log {}` is no filter: {error}", options.log), 2);
    }
    // Reconciles wait for the network nearly all of their time: two threads are plenty, and each
    // one costs memory.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(millstream_operator::run::run(options)),
        Err(error) => return fail(&format!("no threads: {error}"), 1),
    };
    match ended {
        Ok(code) => code,
        Err(error) => fail(&error.to_string(), 1),
    }
}

#[expect(
    clippy::print_stderr,
    reason = "the last words of a process, with or without a log"
)]
fn fail(message: &str, code: u8) -> ExitCode {
    eprintln!("millstream-operator: {message}");
    ExitCode::from(code)
}

fn start_logging(options: &Options) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", options.log))?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match options.log_format {
        LogFormat::Text => logs.with_target(false).init(),
        LogFormat::Json => logs.json().init(),
    }
    Ok(())
}
