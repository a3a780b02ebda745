//! `millstream worker`: slots for a coordinator that runs elsewhere.

mod rest;

use std::time::Duration;

use millstream_types::limiter::Limiter;
use millstream_types::{ErrorCode, ErrorKind, Failure};
use millstream_worker::{CoordinatorConnection, Departure, Ended, Worker};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{bind, clock, hostname, runtime, system, unique, worker_options};
use crate::cli::{Logging, WorkerOptions};
use crate::exit::Exit;
use crate::rpc::client;
use crate::signals::Signals;

/// Pauses between attempts to connect: doubled from the first to the last. Short, because a
/// coordinator that was restarted waits for its workers.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A connection that ends sooner was never one to a coordinator that works.
const SHORT_LIVED: Duration = Duration::from_secs(1);
const NO_COORDINATOR: &str = "whoever answers there closes the connection at once: is it the \
    coordinator's --listen address, and not that of its REST interface?";
/// When somebody is told that no coordinator answers: not at once, because it may start together
/// with this worker.
const TELL_FIRST: Duration = Duration::from_secs(3);
const TELL_AGAIN: Duration = Duration::from_secs(30);

/// How long a worker that wants to leave waits for the checkpoint that is taken with it. Shorter
/// than what Kubernetes gives a pod (30 s), so that its tasks can still be stopped in order.
const LEAVE_PATIENCE: Duration = Duration::from_secs(15);

pub(crate) fn main(options: &WorkerOptions, logging: &Logging) -> Exit {
    try_main(options, logging).unwrap_or_else(|failure| Exit::failed(&failure))
}

fn try_main(options: &WorkerOptions, logging: &Logging) -> Result<Exit, Failure> {
    crate::telemetry::start(logging, "info", std::io::stderr)?;
    let runtime = runtime()?;
    let exit = runtime.block_on(run(options));
    runtime.shutdown_background();
    exit
}

async fn run(options: &WorkerOptions) -> Result<Exit, Failure> {
    check_coordinator(&options.coordinator)?;
    let mut signals = Signals::catch().map_err(|error| system("signals are not caught", &error))?;
    let clock = clock();
    let base = options.id.clone().unwrap_or_else(hostname);
    let name = unique(&base, clock.as_ref());
    let worker = Worker::new(worker_options(&name, options.slots, clock));
    let departure = Departure::default();
    let ended = CancellationToken::new();
    let mut parts = JoinSet::new();
    if let Some(address) = options.rest {
        let listener = bind("--rest", address).await?;
        let routes = rest::router(rest::Watched::new(options.slots, worker.activity()));
        parts.spawn(rest::serve(listener, routes, ended.clone()));
    }
    let mut serving = Box::pin(serve(options, &name, &worker, &departure));
    let exit = tokio::select! {
        exit = &mut serving => exit,
        () = signals.next() => {
            tracing::info!("signal: asks the coordinator for leave");
            departure.leave.cancel();
            tokio::select! {
                exit = &mut serving => exit,
                () = no_longer(&mut signals) => {
                    tracing::warn!("leaves without waiting any longer; tasks are stopped");
                    departure.end.cancel();
                    serving.await
                }
            }
        }
    };
    ended.cancel();
    while parts.join_next().await.is_some() {}
    exit
}

/// Until a worker that wants to leave does so in any case.
async fn no_longer(signals: &mut Signals) {
    tokio::select! {
        () = tokio::time::sleep(LEAVE_PATIENCE) => {}
        () = signals.again() => {}
    }
}

/// Refuses an address with a user name or password, and does not show it.
fn check_coordinator(address: &str) -> Result<(), Failure> {
    if !address.contains('@') {
        return Ok(());
    }
    Err(Failure::new(
        ErrorCode::InvalidJob,
        ErrorKind::InvalidJob,
        "--coordinator (MILLSTREAM_COORDINATOR) contains a user name or password (`…@`), and workers \
         do not log in: write `host:port`",
    ))
}

async fn serve(
    options: &WorkerOptions,
    name: &str,
    worker: &Worker,
    departure: &Departure,
) -> Result<Exit, Failure> {
    let mut pumps = JoinSet::new();
    let mut closed_at_once: Option<Instant> = None;
    let mut pause = FIRST_PAUSE;
    loop {
        let connection = tokio::select! {
            connection = connect(options, &mut pumps) => connection?,
            () = departure.leave.cancelled() => return Ok(Exit::Interrupted),
        };
        tracing::info!(
            worker = name,
            coordinator = options.coordinator,
            "connected"
        );
        let began = Instant::now();
        let end = worker.run(connection, departure.clone()).await;
        if end != Ended::ConnectionLost || began.elapsed() >= SHORT_LIVED {
            closed_at_once = None;
            pause = FIRST_PAUSE;
        }
        match end {
            Ended::Shutdown => {
                tracing::info!("the job needs this worker no longer");
                return Ok(Exit::Done);
            }
            Ended::Stopped => return Ok(Exit::Interrupted),
            Ended::ConnectionLost if began.elapsed() >= SHORT_LIVED => {
                tracing::warn!("the connection to the coordinator is lost");
            }
            Ended::ConnectionLost => {
                let since = *closed_at_once.get_or_insert(began);
                if since.elapsed() + pause > options.connect_timeout {
                    return Err(unreachable(options, NO_COORDINATOR));
                }
                tracing::warn!("{NO_COORDINATOR}; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Ended::Refused(failure) if failure.kind == ErrorKind::Retryable => {
                tracing::warn!(%failure, "refused for now");
                tokio::time::sleep(LONGEST_PAUSE).await;
            }
            Ended::Refused(failure) => return Err(failure),
            Ended::Stuck(failure) => {
                // Nothing but the end of the process ends a thread that does not come back.
                let exit = Exit::failed(&failure);
                std::process::exit(i32::from(exit.code()));
            }
        }
        pumps.shutdown().await;
    }
}

/// Connects, trying again until the deadline.
async fn connect(
    options: &WorkerOptions,
    pumps: &mut JoinSet<()>,
) -> Result<CoordinatorConnection, Failure> {
    let deadline = Instant::now() + options.connect_timeout;
    let mut pause = FIRST_PAUSE;
    let tell = Limiter::new(TELL_AGAIN).beginning_at((Instant::now() + TELL_FIRST).into_std());
    loop {
        let error = match client::connect(&options.coordinator, pumps).await {
            Ok(connection) => return Ok(connection),
            Err(error) => error.text(),
        };
        if Instant::now() + pause > deadline {
            return Err(unreachable(options, &error));
        }
        if tell.is_time(Instant::now().into_std()) {
            tracing::warn!(
                error,
                coordinator = options.coordinator,
                "no coordinator answers yet, trying again"
            );
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn unreachable(options: &WorkerOptions, error: &str) -> Failure {
    Failure::new(
        ErrorCode::CoordinatorUnavailable,
        ErrorKind::Retryable,
        format!(
            "no coordinator at {} within {} s: {error}. Check --coordinator and that the \
             coordinator runs",
            options.coordinator,
            options.connect_timeout.as_secs(),
        ),
    )
}
