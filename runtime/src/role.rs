//! One module per long-running role. Each wires parts together and owns the process until its end.

pub(crate) mod coordinator;
mod memory;
pub(crate) mod run;
pub(crate) mod worker;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millstream_checkpoint::StorageOptions;
use millstream_coordinator::{DEFAULT_CANCEL_TIMEOUT, Options, Overrides};
use millstream_exchange::Exchange;
use millstream_transport::Transport;
use millstream_types::clock::SystemClock;
use millstream_types::protocol::Heartbeat;
use millstream_types::{Clock, Deployment, ErrorCode, ErrorKind, Failure, WorkerId};
use millstream_worker::{Pinning, Threads};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::cli::{StartOptions, TlsOptions};
use crate::job::LoadedJob;
use crate::registry::{Connectors, Factory};

/// Threads for input and output. Records do not pass through them.
const IO_THREADS: usize = 2;

/// How long the tasks of a cancelled attempt may take to stop before the process gives itself up.
/// Longer than what a coordinator waits, so that the coordinator has
/// heard of it, or given up, by then.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(30);

fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(IO_THREADS)
        .thread_name("io")
        .enable_all()
        .build()
        .map_err(|error| system("the threads for input and output do not start", &error))
}

fn system(what: &str, error: &io::Error) -> Failure {
    Failure::new(
        ErrorCode::OperatingSystem,
        ErrorKind::Internal,
        format!("{what}: {error}"),
    )
}

pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::default())
}

fn hostname() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

/// A name that no other start of a process has.
fn unique(name: &str, clock: &dyn Clock) -> String {
    format!("{name}-{}-{:x}", std::process::id(), clock.now().0)
}

/// Where this process runs: the same after a restart there.
fn host() -> String {
    let pod = std::env::var("MILLSTREAM_POD").ok();
    pod.filter(|pod| !pod.is_empty()).unwrap_or_else(hostname)
}

/// Where state that does not fit into memory is kept, unless a job says otherwise.
fn state_directory() -> PathBuf {
    let set = std::env::var_os("MILLSTREAM_STATE_DIRECTORY");
    let set = set.filter(|directory| !directory.is_empty());
    set.map_or_else(|| std::env::temp_dir().join("millstream"), PathBuf::from)
}

pub(crate) fn coordinator_options(
    loaded: LoadedJob,
    connectors: Connectors,
    start: StartOptions,
    deployment: Option<Deployment>,
    heartbeat: Heartbeat,
    clock: Arc<dyn Clock>,
) -> Options {
    let Connectors { sources, sinks } = connectors;
    Options {
        job: loaded.job,
        job_text: loaded.text,
        graph: loaded.graph,
        sources,
        sinks,
        restore: start.restore,
        unless_advanced: start.unless_advanced,
        expect_state: start.expect_state,
        overrides: Overrides {
            fork: start.fork,
            take_over: start.take_over,
        },
        allow_dropped_state: start.allow_dropped_state,
        accept_lost_output: start.accept_lost_output,
        resource_uid: start.resource_uid,
        deployment,
        heartbeat,
        cancel_timeout: DEFAULT_CANCEL_TIMEOUT,
        seed: clock.now().0 ^ u64::from(std::process::id()),
        holder: unique(&host(), clock.as_ref()),
        host: Some(host()),
        build: crate::BUILD.to_owned(),
        storage: StorageOptions::from_env(),
        clock,
    }
}

/// The options of one of so many workers of this process.
fn worker_options(
    name: &str,
    workers: u32,
    slots: u32,
    clock: Arc<dyn Clock>,
    exchange: Option<Arc<Exchange>>,
) -> millstream_worker::Options {
    millstream_worker::Options {
        worker: WorkerId(name.to_owned()),
        slots,
        build: crate::BUILD.to_owned(),
        factory: Arc::new(Factory),
        clock,
        threads: Threads::Own,
        state_memory: memory::for_state(workers),
        state_directory: state_directory(),
        pinning: Pinning::Auto,
        exchange,
        cancel_timeout: CANCEL_TIMEOUT,
    }
}

/// How this process talks to the others of its job.
fn transport(options: &TlsOptions) -> Result<Transport, Failure> {
    let Some(directory) = &options.tls else {
        return Ok(Transport::plain());
    };
    Ok(Transport::tls(directory)?)
}

/// Listens for other workers.
async fn listen_for_workers(
    address: std::net::SocketAddr,
    transport: Transport,
) -> Result<Arc<Exchange>, Failure> {
    let settings = millstream_exchange::Settings::default();
    let exchange = Exchange::listen(address, transport, settings).await;
    exchange
        .map(Arc::new)
        .map_err(|error| system(&format!("cannot listen on --exchange {address}"), &error))
}

/// Listens on an address.
async fn bind(flag: &str, address: std::net::SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .await
        .map_err(|error| system(&format!("cannot listen on {flag} {address}"), &error))
}

/// Serves the REST interface until `shutdown`.
async fn serve_rest(
    listener: TcpListener,
    handle: millstream_coordinator::Handle,
    shutdown: CancellationToken,
) {
    let router = millstream_coordinator::rest::router(&handle);
    let served = axum::serve(listener, router)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the REST interface has ended");
    }
}
