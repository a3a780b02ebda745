//! `millstream coordinator`: the coordinator as a process of its own.

use std::io::Write;
use std::path::Path;

use millstream_coordinator::{CONNECTIONS_CAPACITY, Coordinator, Restore};
use millstream_types::protocol::Heartbeat;
use millstream_types::{Deployment, ErrorCode, ErrorKind, Failure};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{bind, clock, coordinator_options, runtime, serve_rest, system, transport};
use crate::cli::{CoordinatorOptions, Logging, StartOptions};
use crate::exit::Exit;
use crate::job::LoadedJob;
use crate::registry::Connectors;
use crate::rpc;
use crate::signals::Signals;

pub(crate) fn main(options: CoordinatorOptions, logging: &Logging) -> Exit {
    try_main(options, logging).unwrap_or_else(|failure| Exit::failed(&failure))
}

fn try_main(options: CoordinatorOptions, logging: &Logging) -> Result<Exit, Failure> {
    crate::telemetry::start(logging, "info", std::io::stderr)?;
    let heartbeat = heartbeat(&options)?;
    let mut loaded = LoadedJob::read(&options.job)?;
    if let Some(parallelism) = options.parallelism {
        loaded = loaded.rescaled(parallelism)?;
    }
    for advice in millstream_plan::advice::advice(&loaded.job, &loaded.graph) {
        tracing::warn!(
            path = advice.path,
            page = advice.page(),
            "{}",
            advice.message
        );
    }
    let runtime = runtime()?;
    let exit = runtime.block_on(run(options, loaded, heartbeat))?;
    runtime.shutdown_background();
    Ok(exit)
}

fn heartbeat(options: &CoordinatorOptions) -> Result<Heartbeat, Failure> {
    let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis());
    let heartbeat = Heartbeat {
        interval_ms: millis(options.heartbeat_interval).unwrap_or(u64::MAX),
        timeout_ms: millis(options.heartbeat_timeout).unwrap_or(u64::MAX),
    };
    let works = heartbeat.interval_ms > 0
        && heartbeat.timeout_ms >= heartbeat.interval_ms.saturating_mul(2);
    works.then_some(heartbeat).ok_or_else(|| {
        let message = format!(
            "--heartbeat-timeout ({} ms) must be at least twice --heartbeat-interval ({} ms), \
             and that more than 0: one late heartbeat must not cost a worker",
            heartbeat.timeout_ms, heartbeat.interval_ms
        );
        Failure::new(ErrorCode::InvalidJob, ErrorKind::InvalidJob, message)
    })
}

/// What a start means of a deployment that has had a checkpoint: it goes on from there, whatever it
/// was to start from at first. That its chain has lost all of them would not tell.
fn resumed(
    start: StartOptions,
    deployment: Option<Deployment>,
    ran: Option<Deployment>,
) -> StartOptions {
    if ran.is_none() || ran != deployment {
        return start;
    }
    StartOptions {
        restore: Restore::Latest,
        unless_advanced: false,
        expect_state: true,
        ..start
    }
}

async fn run(
    options: CoordinatorOptions,
    loaded: LoadedJob,
    heartbeat: Heartbeat,
) -> Result<Exit, Failure> {
    let transport = transport(&options.tls)?;
    let mut signals = Signals::catch().map_err(|error| system("signals are not caught", &error))?;
    let grpc = bind("--listen", options.listen).await?;
    let rest = match options.rest {
        Some(address) => Some(bind("--rest", address).await?),
        None => None,
    };
    let (connections, workers) = mpsc::channel(CONNECTIONS_CAPACITY);
    let deployment = options.deployment;
    let start = resumed(options.start, deployment, options.ran);
    let connectors = Connectors::of(&loaded, loaded.job.parallelism)?;
    let coordinator =
        coordinator_options(loaded, connectors, start, deployment, heartbeat, clock());
    let (coordinator, handle) = Coordinator::new(coordinator, workers);
    announce(&grpc, rest.as_ref(), options.ready_file.as_deref())?;
    let ended = CancellationToken::new();
    let mut parts = JoinSet::new();
    if let Some(listener) = rest {
        parts.spawn(serve_rest(listener, handle, ended.clone()));
    }
    let serving = ended.clone();
    parts.spawn(async move {
        if let Err(error) = rpc::server::serve(grpc, transport, connections, serving).await {
            tracing::error!(error = %millstream_types::error::chain(&error), "workers cannot connect any more");
        }
    });
    let shutdown = CancellationToken::new();
    let mut running = Box::pin(coordinator.run(shutdown.clone()));
    let outcome = tokio::select! {
        outcome = &mut running => outcome,
        () = signals.next() => {
            tracing::info!("signal: this process ends, the job goes on with the next coordinator");
            shutdown.cancel();
            running.await
        }
    };
    tracing::info!(?outcome, "the coordinator has ended");
    ended.cancel();
    while parts.join_next().await.is_some() {}
    Ok(Exit::of(&outcome))
}

/// Says where the process can be reached, for whoever has started it.
fn announce(
    grpc: &TcpListener,
    rest: Option<&TcpListener>,
    ready_file: Option<&Path>,
) -> Result<(), Failure> {
    let address = |listener: &TcpListener| listener.local_addr().map(|address| address.to_string());
    let line = || -> std::io::Result<String> {
        let rest = match rest {
            Some(rest) => format!(" rest={}", address(rest)?),
            None => String::new(),
        };
        let line = format!("listening grpc={}{rest}\n", address(grpc)?);
        std::io::stdout().write_all(line.as_bytes())?;
        std::io::stdout().flush()?;
        Ok(line)
    };
    let line = line().map_err(|error| system("standard output", &error))?;
    if let Some(path) = ready_file {
        write_whole(path, &line)
            .map_err(|error| system(&format!("--ready-file {}", path.display()), &error))?;
    }
    Ok(())
}

/// Whoever sees the file sees all of it.
fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    std::fs::write(&partial, text)?;
    std::fs::rename(&partial, path)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Arguments, Command};

    fn start(ran: &str) -> StartOptions {
        let arguments = "millstream coordinator --job j --listen 127.0.0.1:0 --deployment 7 \
                         --restore s3://b/savepoint --unless-advanced";
        let arguments = arguments.split_whitespace().chain(ran.split_whitespace());
        let Command::Coordinator(options) = Arguments::try_parse_from(arguments).unwrap().command
        else {
            panic!("another command");
        };
        resumed(options.start, options.deployment, options.ran)
    }

    #[test]
    fn a_deployment_that_has_had_a_checkpoint_expects_one_and_no_other_deployment_does() {
        let again = start("--ran 7");
        assert_eq!(again.restore, Restore::Latest);
        assert!(again.expect_state && !again.unless_advanced);
        for ran in ["", "--ran 6"] {
            let first = start(ran);
            assert_eq!(first.restore, Restore::Path("s3://b/savepoint".to_owned()));
            assert!(!first.expect_state && first.unless_advanced, "{ran}");
        }
    }
}
