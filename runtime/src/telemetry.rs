//! Logs: to standard error, as text or JSON.

use std::io::IsTerminal;

use millstream_types::{ErrorCode, ErrorKind, Failure};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::cli::{LogFormat, Logging};

/// Starts logging into `writer`; `default` is the filter if none was asked for.
///
/// # Errors
/// The filter does not parse.
pub(crate) fn start<W>(logging: &Logging, default: &str, writer: W) -> Result<(), Failure>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let text = logging.log.as_deref().unwrap_or(default);
    let filter = EnvFilter::try_new(text).map_err(|error| {
        let message = format!("`--log {text}` is no filter: {error}");
        Failure::new(ErrorCode::InvalidJob, ErrorKind::InvalidJob, message)
    })?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(writer);
    // A second subscriber in one process would be a bug of ours, but no reason not to run.
    drop(match logging.log_format {
        LogFormat::Text => logs.with_target(false).try_init(),
        LogFormat::Json => logs.json().try_init(),
    });
    log_panics();
    Ok(())
}

/// A panic is logged with its place like everything else; what it fails is decided elsewhere.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("unnamed").to_owned();
        let place = panic.location().map(ToString::to_string);
        let payload = panic.payload();
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        tracing::error!(thread, place, "panic: {text}");
    }));
}
