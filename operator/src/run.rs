//! One operator: from the first look at the API to the last reconcile.
//!
//! Order of a start: log, listener, client, lease, watches. Order of a stop: no new reconciles,
//! the running ones are finished, the lease is given up. If the lease is lost, everything ends at
//! once: another operator may act already.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use kube::client::ClientBuilder;
use kube::{Client, Config};
use millstream_crds::{StreamJob, StreamSavepoint};
use millstream_types::Clock;
use millstream_types::clock::SystemClock;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cli::Options;
use crate::context::Context;
use crate::leader::candidate::Terms;
use crate::leader::{Election, LeaseOptions};
use crate::metrics::Metrics;
use crate::namespaces::{Limits, Scope, control};
use crate::server::{self, Readiness};

/// How long a connection to the API server may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long running reconciles may take when the operator is told to stop. A pod has 30 s.
const FINISH: Duration = Duration::from_secs(20);

/// Why an operator did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no way to the Kubernetes API.
    #[error(
        "no way to the Kubernetes API: {0}. In a cluster the pod needs its service account's \
         token; outside, set KUBECONFIG"
    )]
    NoConfig(#[from] kube::config::InferConfigError),
    /// The client cannot be made from its configuration.
    #[error("the client of the Kubernetes API cannot be made: {0}")]
    Client(#[from] kube::Error),
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What the operating system says.
        error: std::io::Error,
    },
    /// Signals cannot be caught.
    #[error("signals cannot be caught: {0}")]
    Signals(std::io::Error),
}

/// Runs an operator until it is told to stop, or until it has lost the lease.
///
/// # Errors
/// It cannot start.
pub async fn run(options: Options) -> Result<ExitCode, StartError> {
    let mut signals = Signals::catch().map_err(StartError::Signals)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let metrics = Arc::new(Metrics::new());
    let readiness = Readiness::default();
    let mut servers = JoinSet::new();
    serve(&options, &metrics, &readiness, &mut servers).await?;
    let client = client(&metrics).await?;
    let identity = identity(&options);
    tracing::info!(identity, version = env!("CARGO_PKG_VERSION"), "started");

    let lease = LeaseOptions {
        namespace: options.lease_namespace.clone(),
        name: options.lease.clone(),
        identity: identity.clone(),
        terms: Terms::default(),
    };
    let election = Election::new(client.clone(), lease, Arc::clone(&clock));
    let mut term = Term {
        election,
        readiness,
        metrics: Arc::clone(&metrics),
        troubled: false,
    };
    tokio::select! {
        () = term.won() => {}
        () = signals.next() => return Ok(ExitCode::SUCCESS),
    }
    let mut context = Context::new(client, metrics, clock, &identity);
    context.namespaces = options.namespaces.clone().into();
    Ok(act(&options, context, term, signals).await)
}

/// Acts as the leader.
async fn act(
    options: &Options,
    context: Context,
    mut term: Term,
    mut signals: Signals,
) -> ExitCode {
    let stop = CancellationToken::new();
    let mut controllers = controllers(options, &context, &stop);
    if let Some(code) = interrupted(&mut term, &mut signals, &mut controllers).await {
        return code;
    }
    stop.cancel();
    if !finished(&mut term, &mut signals, &mut controllers).await {
        return ExitCode::FAILURE;
    }
    controllers.shutdown().await;
    term.end().await;
    ExitCode::SUCCESS
}

/// Two controllers per scope.
fn controllers(options: &Options, context: &Context, stop: &CancellationToken) -> JoinSet<()> {
    let mut controllers = JoinSet::new();
    let limits = Limits::new(options.concurrency);
    for scope in Scope::of(&options.namespaces) {
        let (context, limits, stop) = (context.clone(), limits.clone(), stop.clone());
        controllers.spawn(control::<StreamJob>(
            scope.clone(),
            context.clone(),
            limits.clone(),
            stop.clone(),
        ));
        controllers.spawn(control::<StreamSavepoint>(scope, context, limits, stop));
    }
    controllers
}

/// Until we are told to stop, or until there is nothing to do but to end with a code.
async fn interrupted(
    term: &mut Term,
    signals: &mut Signals,
    controllers: &mut JoinSet<()>,
) -> Option<ExitCode> {
    tokio::select! {
        () = term.lost() => Some(ExitCode::FAILURE),
        () = signals.next() => {
            tracing::info!("stopping: running reconciles are finished");
            None
        }
        Some(ended) = controllers.join_next() => {
            tracing::error!(?ended, "a controller has ended by itself");
            Some(ExitCode::FAILURE)
        }
    }
}

/// Until the reconciles that run are finished, or have had their time. False if the lease was lost
/// meanwhile.
async fn finished(term: &mut Term, signals: &mut Signals, controllers: &mut JoinSet<()>) -> bool {
    let all = async { while controllers.join_next().await.is_some() {} };
    tokio::select! {
        () = all => true,
        () = tokio::time::sleep(FINISH) => {
            tracing::warn!("reconciles took too long to finish");
            true
        }
        () = signals.next() => true,
        () = term.lost() => false,
    }
}

/// The time that this operator leads, and the way to it.
struct Term {
    election: Election,
    readiness: Readiness,
    metrics: Arc<Metrics>,
    troubled: bool,
}

impl Term {
    /// Until we lead.
    async fn won(&mut self) {
        tracing::info!("waiting for the lease");
        while !self.attempt().await {
            tokio::time::sleep(self.election.pause()).await;
        }
        self.metrics.set_leader(true);
        tracing::info!("acting: this operator holds the lease");
    }

    /// Renews the lease until it is lost.
    async fn lost(&mut self) {
        loop {
            tokio::time::sleep(self.election.pause()).await;
            if !self.attempt().await {
                break;
            }
        }
        self.metrics.set_leader(false);
        tracing::error!("the lease is lost: another operator may act now");
    }

    async fn attempt(&mut self) -> bool {
        let mut trouble = None;
        let acts = self
            .election
            .attempt(|error| trouble = Some(error.to_string()))
            .await;
        self.note(trouble.as_deref());
        self.readiness.set(acts || trouble.is_none());
        acts
    }

    /// Says when the lease cannot be used, and when it can again.
    fn note(&mut self, trouble: Option<&str>) {
        match trouble {
            Some(error) if !self.troubled => {
                tracing::warn!(error, "the lease cannot be read or written; trying again");
            }
            None if self.troubled => tracing::info!("the lease can be read and written again"),
            _ => {}
        }
        self.troubled = trouble.is_some();
    }

    async fn end(self) {
        self.metrics.set_leader(false);
        let released = tokio::time::timeout(CONNECT, self.election.release()).await;
        let error = match released {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(late) => Some(late.to_string()),
        };
        match error {
            None => tracing::info!("stopped: the lease is given up"),
            Some(error) => tracing::warn!(error, "stopped: the lease runs out by itself"),
        }
    }
}

async fn serve(
    options: &Options,
    metrics: &Arc<Metrics>,
    readiness: &Readiness,
    servers: &mut JoinSet<()>,
) -> Result<(), StartError> {
    let address = options.listen;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| StartError::Listen { address, error })?;
    if let Ok(bound) = listener.local_addr() {
        tracing::info!(address = %bound, "serving /metrics, /healthz and /readyz");
    }
    let router = server::router(Arc::clone(metrics), readiness.clone());
    servers.spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the server has ended");
        }
    });
    Ok(())
}

async fn client(metrics: &Metrics) -> Result<Client, StartError> {
    let mut config = Config::infer().await?;
    config.connect_timeout = Some(CONNECT);
    let client = ClientBuilder::try_from(config)?
        .with_layer(&metrics.count_calls())
        .build();
    Ok(client)
}

/// Different from that of every other operator, also of one before on the same host.
fn identity(options: &Options) -> String {
    options.identity.clone().unwrap_or_else(|| {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        format!("{}-{}", host.trim(), std::process::id())
    })
}

/// Both signals that ask a process to end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// The next of them. No signal is lost by dropping the future.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
