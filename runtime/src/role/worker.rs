//! `millstream worker`: slots for a coordinator that runs elsewhere.

mod rest;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use millstream_transport::Transport;
use millstream_types::limiter::Limiter;
use millstream_types::{ErrorCode, ErrorKind, Failure};
use millstream_worker::{CoordinatorConnection, Departure, Ended, Worker};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    bind, clock, hostname, listen_for_workers, runtime, system, transport, unique, worker_options,
};
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
    crate::telemetry::start(logging, "info", io::stderr)?;
    let runtime = runtime()?;
    let exit = runtime.block_on(run(options));
    runtime.shutdown_background();
    exit
}

async fn run(options: &WorkerOptions) -> Result<Exit, Failure> {
    check_coordinator(&options.coordinator)?;
    let transport = transport(&options.tls)?;
    let mut signals = Signals::catch().map_err(|error| system("signals are not caught", &error))?;
    let clock = clock();
    let base = options.id.clone().unwrap_or_else(hostname);
    let name = unique(&base, clock.as_ref());
    let exchange = listen_for_workers(options.exchange, transport.clone()).await?;
    let address = exchange.address();
    let worker = worker_options(&name, 1, options.slots, clock, Some(exchange));
    let worker = Worker::new(worker);
    let departure = Departure::default();
    let ended = CancellationToken::new();
    let mut parts = JoinSet::new();
    if let Some(address) = options.rest {
        let listener = bind("--rest", address).await?;
        let routes = rest::router(rest::Watched::new(options.slots, worker.activity()));
        parts.spawn(rest::serve(listener, routes, ended.clone()));
    }
    let mut serving = Box::pin(serve(
        options, &transport, &name, &worker, address, &departure,
    ));
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
    transport: &Transport,
    name: &str,
    worker: &Worker,
    exchange: SocketAddr,
    departure: &Departure,
) -> Result<Exit, Failure> {
    let mut pumps = JoinSet::new();
    let mut closed_at_once: Option<Instant> = None;
    let mut pause = FIRST_PAUSE;
    loop {
        let mut connection = tokio::select! {
            connection = connect(options, transport, &mut pumps) => connection?,
            () = departure.leave.cancelled() => return Ok(Exit::Interrupted),
        };
        connection.exchange = reached_at(options, exchange).await;
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

/// Where other workers reach this one's exchange: as the options say, or where it listens.
async fn reached_at(options: &WorkerOptions, exchange: SocketAddr) -> Option<String> {
    if let Some(address) = &options.exchange_address {
        return Some(address.clone());
    }
    if !exchange.ip().is_unspecified() {
        return Some(exchange.to_string());
    }
    match own_address(&options.coordinator).await {
        Ok(own) => Some(SocketAddr::new(own, exchange.port()).to_string()),
        Err(error) => {
            tracing::warn!(%error, "other workers are not told where this one listens");
            None
        }
    }
}

/// The address that this host has on the way to another one. Nothing is sent.
async fn own_address(other: &str) -> io::Result<IpAddr> {
    let mut error = io::Error::from(io::ErrorKind::NotFound);
    for address in tokio::net::lookup_host(other).await? {
        let any: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let tried = async {
            let socket = UdpSocket::bind((any, 0)).await?;
            socket.connect(address).await?;
            socket.local_addr()
        };
        match tried.await {
            Ok(own) => return Ok(own.ip()),
            Err(other) => error = other,
        }
    }
    Err(error)
}

/// Connects, trying again until the deadline.
async fn connect(
    options: &WorkerOptions,
    transport: &Transport,
    pumps: &mut JoinSet<()>,
) -> Result<CoordinatorConnection, Failure> {
    let deadline = Instant::now() + options.connect_timeout;
    let mut pause = FIRST_PAUSE;
    let tell = Limiter::new(TELL_AGAIN).beginning_at((Instant::now() + TELL_FIRST).into_std());
    loop {
        let error = match client::connect(transport, &options.coordinator, pumps).await {
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
            "no coordinator at {} within {} s: {error}. Check --coordinator, that the \
             coordinator runs, and that both have --tls or neither",
            options.coordinator,
            options.connect_timeout.as_secs(),
        ),
    )
}
