//! What Prometheus is told of the operator. Names, units and meanings are in
//! `docs/operator-metrics.md`.

mod api_calls;
mod collector;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millstream_crds::JobPhase;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

pub use api_calls::CountCalls;
use collector::JobStates;

/// Upper bounds of the buckets of reconcile durations, seconds.
const DURATION_BUCKETS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

/// A kind of resource that is reconciled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `StreamJob`.
    StreamJob,
    /// `StreamSavepoint`.
    StreamSavepoint,
}

impl Kind {
    /// The kind as it stands in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StreamJob => "StreamJob",
            Self::StreamSavepoint => "StreamSavepoint",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReconcileLabels {
    kind: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    kind: &'static str,
    error: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WatchLabels {
    namespace: String,
    kind: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WatchedLabels {
    namespace: String,
    kind: String,
}

/// State of a job, by namespace and name.
type States = Arc<Mutex<BTreeMap<(String, String), JobPhase>>>;

/// Metrics of one operator.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reconciles: Family<ReconcileLabels, Counter>,
    durations: Family<KindLabel, Histogram>,
    errors: Family<ErrorLabels, Counter>,
    queue: Family<KindLabel, Gauge>,
    watch_errors: Family<WatchLabels, Counter>,
    watched: Family<WatchedLabels, Gauge>,
    leader: Gauge,
    calls: CountCalls,
    states: States,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Metrics that have seen nothing.
    pub fn new() -> Self {
        let states = States::default();
        let mut metrics = Self {
            registry: Registry::with_prefix("millstream"),
            reconciles: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS)),
            errors: Family::default(),
            queue: Family::default(),
            watch_errors: Family::default(),
            watched: Family::default(),
            leader: Gauge::default(),
            calls: CountCalls::default(),
            states: Arc::clone(&states),
        };
        metrics.register();
        metrics
            .registry
            .register_collector(Box::new(JobStates::new(states)));
        metrics
    }

    fn register(&mut self) {
        let controller = self.registry.sub_registry_with_prefix("controller");
        controller.register(
            "reconciles",
            "Reconciles by kind and result",
            self.reconciles.clone(),
        );
        controller.register(
            "reconcile_duration_seconds",
            "Time that a reconcile took",
            self.durations.clone(),
        );
        controller.register(
            "errors",
            "Failed reconciles by kind of error",
            self.errors.clone(),
        );
        controller.register(
            "queue_depth",
            "Objects that something happened to and that wait for their reconcile",
            self.queue.clone(),
        );
        controller.register(
            "watch_errors",
            "Watches that could not be begun or broke; an empty namespace is the \
             whole cluster",
            self.watch_errors.clone(),
        );
        controller.register(
            "watched",
            "1 while a kind is watched in a namespace, 0 while it cannot be; an empty namespace is the \
             whole cluster",
            self.watched.clone(),
        );
        controller.register(
            "leader",
            "1 while this operator acts, 0 while it stands by",
            self.leader.clone(),
        );
        controller.register(
            "api_calls",
            "Calls of the Kubernetes API by verb, resource and status",
            self.calls.family(),
        );
    }

    /// Takes note of a reconcile that went well.
    pub fn reconciled(&self, kind: Kind, took: Duration) {
        self.finished(kind, "success", took);
    }

    /// Takes note of a reconcile that ended with an error of that kind.
    pub fn failed(&self, kind: Kind, error: &'static str, took: Duration) {
        self.finished(kind, "error", took);
        self.errors
            .get_or_create(&ErrorLabels {
                kind: kind.as_str(),
                error,
            })
            .inc();
    }

    fn finished(&self, kind: Kind, result: &'static str, took: Duration) {
        let kind = kind.as_str();
        self.reconciles
            .get_or_create(&ReconcileLabels { kind, result })
            .inc();
        self.durations
            .get_or_create(&KindLabel { kind })
            .observe(took.as_secs_f64());
    }

    /// The gauge of objects that wait for their reconcile.
    pub fn queue(&self, kind: Kind) -> Gauge {
        self.queue
            .get_or_create(&KindLabel {
                kind: kind.as_str(),
            })
            .clone()
    }

    /// Takes note of a watch that could not be begun or broke.
    pub fn watch_failed(&self, namespace: &str, kind: &str, reason: &'static str) {
        let labels = WatchLabels {
            namespace: namespace.to_owned(),
            kind: kind.to_owned(),
            reason,
        };
        self.watch_errors.get_or_create(&labels).inc();
        self.set_watched(namespace, kind, false);
    }

    /// Says whether a kind is watched in a namespace.
    pub fn set_watched(&self, namespace: &str, kind: &str, watched: bool) {
        let labels = WatchedLabels {
            namespace: namespace.to_owned(),
            kind: kind.to_owned(),
        };
        self.watched.get_or_create(&labels).set(i64::from(watched));
    }

    /// Says whether this operator is the one that acts.
    pub fn set_leader(&self, leader: bool) {
        self.leader.set(i64::from(leader));
    }

    /// Says what a job is doing: `millstream_streamjob_state{namespace,streamjob,state} 1`.
    pub fn set_job_state(&self, namespace: &str, name: &str, state: JobPhase) {
        let key = (namespace.to_owned(), name.to_owned());
        self.states
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, state);
    }

    /// Forgets a job that is gone.
    pub fn forget_job(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        self.states
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&key);
    }

    /// Forgets all jobs but those that are to be kept, by namespace and name.
    pub fn retain_jobs(&self, keep: &dyn Fn(&str, &str) -> bool) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        states.retain(|(namespace, name), _| keep(namespace, name));
    }

    /// The layer that counts the calls of a Kubernetes client.
    pub fn count_calls(&self) -> CountCalls {
        self.calls.clone()
    }

    /// The metrics in the `OpenMetrics` text format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            // Only a metric that cannot be encoded fails; writing to a string does not.
            tracing::error!(%error, "metrics cannot be encoded");
        }
        text
    }
}

#[cfg(test)]
mod tests;
