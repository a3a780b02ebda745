//! `millstream run`: a coordinator and its workers in this process.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;

use millstream_coordinator::{
    CONNECTIONS_CAPACITY, Coordinator, DEFAULT_HEARTBEAT, Handle, OUTGOING_CAPACITY,
    WorkerConnection,
};
use millstream_transport::Transport;
use millstream_types::Failure;
use millstream_types::api::{JobState, StopRequest};
use millstream_types::protocol::Heartbeat;
use millstream_worker::{CoordinatorConnection, Ended, Worker};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    bind, clock, coordinator_options, listen_for_workers, runtime, serve_rest, system, unique,
    worker_options,
};
use crate::cli::{Logging, RunOptions};
use crate::display::{Display, Style};
use crate::exit::Exit;
use crate::job::LoadedJob;
use crate::registry::Connectors;
use crate::signals::Signals;

/// Messages from a worker that may wait for the coordinator of the same process.
const QUEUE: usize = 256;

/// Progress is told more often than between processes; it costs little here.
const HEARTBEAT: Heartbeat = Heartbeat {
    interval_ms: 250,
    timeout_ms: DEFAULT_HEARTBEAT.timeout_ms,
};

/// What the coordinator has to say is shown as progress.
const LOGS: &str = "warn,millstream_coordinator=error";

pub(crate) fn main(options: RunOptions, logging: &Logging) -> Exit {
    try_main(options, logging).unwrap_or_else(|failure| Exit::failed(&failure))
}

fn try_main(options: RunOptions, logging: &Logging) -> Result<Exit, Failure> {
    let loaded = LoadedJob::read(&options.file)?;
    let display = Display::new(Style::choose(options.progress, &loaded.graph), &loaded);
    crate::telemetry::start(logging, LOGS, display.log_writer())?;
    let runtime = runtime()?;
    let exit = runtime.block_on(run(options, loaded, display))?;
    // Threads that are blocked in a client library must not keep the process.
    runtime.shutdown_background();
    Ok(exit)
}

async fn run(options: RunOptions, loaded: LoadedJob, display: Display) -> Result<Exit, Failure> {
    let mut signals = Signals::catch().map_err(|error| system("signals are not caught", &error))?;
    let clock = clock();
    let needed = loaded.job.slots();
    let slots = options
        .slots
        .unwrap_or_else(|| needed.div_ceil(options.workers));
    let (connections, workers) = mpsc::channel(CONNECTIONS_CAPACITY);
    let start = options.start;
    let connectors = Connectors::of(&loaded, loaded.job.parallelism)?;
    let coordinator = coordinator_options(
        loaded,
        connectors,
        start,
        None,
        HEARTBEAT,
        Arc::clone(&clock),
    );
    let (coordinator, handle) = Coordinator::new(coordinator, workers);
    let ended = CancellationToken::new();
    let mut parts = JoinSet::new();
    if let Some(address) = options.listen {
        let listener = bind("--listen", address).await?;
        let bound = listener.local_addr().unwrap_or(address);
        display.say(&format!("listening rest={bound}"));
        parts.spawn(serve_rest(listener, handle.clone(), ended.clone()));
    }
    for number in 0..options.workers {
        let name = unique(&format!("local-{number}"), clock.as_ref());
        // A single worker has nobody to connect with.
        let exchange = match options.workers {
            1 => None,
            _ => {
                Some(listen_for_workers((Ipv4Addr::LOCALHOST, 0).into(), Transport::plain()).await?)
            }
        };
        let address = exchange
            .as_ref()
            .map(|exchange| exchange.address().to_string());
        let worker = Worker::new(worker_options(
            &name,
            options.workers,
            slots,
            Arc::clone(&clock),
            exchange,
        ));
        parts.spawn(work(worker, address, connections.clone(), ended.clone()));
    }
    drop(connections);
    parts.spawn(
        display
            .clone()
            .show(handle.clone(), Arc::clone(&clock), ended.clone()),
    );
    let shutdown = CancellationToken::new();
    let outcome = tokio::select! {
        outcome = Box::pin(coordinator.run(shutdown.clone())) => outcome,
        never = obey(&mut signals, &display, &handle, &shutdown) => match never {},
    };
    ended.cancel();
    while parts.join_next().await.is_some() {}
    let balanced = display.summary(&handle.snapshot(), &outcome, clock.monotonic());
    let exit = Exit::of(&outcome);
    Ok(if exit == Exit::Done && !balanced {
        Exit::Failed
    } else {
        exit
    })
}

/// The life of one worker: it connects again if the coordinator drops it.
async fn work(
    worker: Worker,
    exchange: Option<String>,
    coordinator: mpsc::Sender<WorkerConnection>,
    ended: CancellationToken,
) {
    loop {
        let (outgoing, to_worker) = mpsc::channel(OUTGOING_CAPACITY);
        let (to_coordinator, incoming) = mpsc::channel(QUEUE);
        let theirs = WorkerConnection { outgoing, incoming };
        let mine = CoordinatorConnection {
            outgoing: to_coordinator,
            incoming: to_worker,
            exchange: exchange.clone(),
        };
        if coordinator.send(theirs).await.is_err() {
            return;
        }
        match worker.run(mine, ended.clone()).await {
            Ended::ConnectionLost => {}
            Ended::Shutdown | Ended::Stopped => return,
            Ended::Refused(failure) => {
                tracing::error!(%failure, "the coordinator refuses its own worker");
                return;
            }
            Ended::Stuck(failure) => {
                // Nothing but the end of the process ends a thread that does not come back.
                let exit = Exit::failed(&failure);
                std::process::exit(i32::from(exit.code()));
            }
        }
    }
}

/// The first signal stops the job, the second ends the process.
async fn obey(
    signals: &mut Signals,
    display: &Display,
    handle: &Handle,
    shutdown: &CancellationToken,
) -> Infallible {
    signals.next().await;
    display.say("stopping after a last checkpoint; Ctrl-C again ends at once");
    let stop = async {
        if handle.stop(StopRequest::default()).await.is_ok() {
            until_nothing_runs(handle).await;
        }
        // There is nothing to checkpoint, or nobody who could.
        shutdown.cancel();
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        never = stop => match never {},
        () = signals.again() => {
            display.say("ended at once; run again to go on from the newest checkpoint");
            std::process::exit(i32::from(Exit::Interrupted.code()));
        }
    }
}

/// Waits until the job is in no state to take a last checkpoint: between attempts, with no telling
/// when the next one runs. All that is decided by then is kept.
async fn until_nothing_runs(handle: &Handle) {
    let mut snapshots = handle.watch();
    loop {
        let state = snapshots.borrow_and_update().job.state;
        let runs = match state {
            JobState::Restoring | JobState::WaitingForWorkers | JobState::Restarting => false,
            JobState::Running | JobState::Deploying | JobState::Stopping
            // The coordinator returns by itself.
            | JobState::Stopped | JobState::Completed | JobState::Failed
            // No coordinator says so.
            | JobState::Unknown => true,
        };
        if !runs {
            return;
        }
        if snapshots.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
