//! What Prometheus is told. Names, units and meanings are in `docs/metrics.md`.
//!
//! Nearly everything is computed from the [`Snapshot`] at the moment of a scrape, so that metrics
//! and REST interface never disagree. Only what a snapshot does not keep is kept here: the
//! histogram of durations, and the largest totals seen. Totals of operators go back when a job is
//! restored; counters must not, or every restart would look like a burst of records.

mod collector;
mod flink;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millstream_spec::connector::{DeliveryGuarantee, PostgresMode};
use millstream_spec::valid::SinkConnector;
use millstream_spec::{ValidJob, ValidSink};
use millstream_types::api::JobGraphReport;
use millstream_types::snapshot::Counters;
use millstream_types::{Clock, OperatorUid};
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::job::Job;
use crate::{Progress, Snapshot};
use collector::SnapshotCollector;
use flink::FlinkCollector;
use flink::recent::Recent;

/// Upper bounds of the buckets of checkpoint durations, seconds.
const DURATION_BUCKETS: [f64; 13] = [
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];

/// Metrics of one coordinator.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    durations: Histogram,
    /// The same under Flink's names, if the job wants it.
    flink: Option<(Registry, Arc<Recent>)>,
}

impl Metrics {
    pub(crate) fn new(
        job: &ValidJob,
        graph: &JobGraphReport,
        snapshot: watch::Receiver<Arc<Snapshot>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let labels = [
            ("namespace".into(), job.id.namespace.clone().into()),
            ("streamjob".into(), job.id.name.clone().into()),
        ];
        let mut registry = Registry::with_prefix_and_labels("millstream", labels.into_iter());
        let durations = Histogram::new(DURATION_BUCKETS);
        registry.register(
            "checkpoint_duration_seconds",
            "From trigger to commit of completed checkpoints",
            durations.clone(),
        );
        let flink = job.metrics.flink_names.then(|| {
            let (snapshot, clock) = (snapshot.clone(), Arc::clone(&clock));
            let recent = Arc::new(Recent::default());
            let all = FlinkCollector::new(job, graph, snapshot, clock, Arc::clone(&recent));
            let mut registry = Registry::default();
            registry.register_collector(Box::new(all));
            (registry, recent)
        });
        registry.register_collector(Box::new(SnapshotCollector {
            snapshot,
            clock,
            checkpoint: job.checkpoint.clone(),
            transaction_timeouts: transaction_timeouts(job),
            transactional_sinks: transactional_sinks(job),
            largest: Largest::default(),
        }));
        Self {
            registry,
            durations,
            flink,
        }
    }

    /// Takes note of how the job stands.
    pub(crate) fn look_at(&self, job: &Job, clock: &dyn Clock) {
        if let Some((_, recent)) = &self.flink {
            recent.note(job, clock.now(), clock.monotonic());
        }
    }

    /// Takes note of news.
    pub(crate) fn note(&self, news: &Progress) {
        if let Progress::Completed(summary) = news
            && let Some(millis) = summary.duration_ms
        {
            self.durations
                .observe(Duration::from_millis(millis).as_secs_f64());
        }
    }

    /// The metrics in the `OpenMetrics` text format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let flink = self.flink.as_ref().map(|(registry, _)| registry);
        let mut registries = [Some(&self.registry), flink].into_iter().flatten();
        let encoded = registries
            .try_for_each(|registry| encode_registry(&mut text, registry))
            .and_then(|()| encode_eof(&mut text));
        if let Err(error) = encoded {
            // Only a metric that cannot be encoded fails; writing to a string does not.
            tracing::error!(%error, "metrics cannot be encoded");
        }
        text
    }
}

/// Sinks that prepare transactions, which become visible with their checkpoint.
fn transactional_sinks(job: &ValidJob) -> Vec<String> {
    let is_one = |sink: &&Arc<ValidSink>| match &sink.connector {
        SinkConnector::Kafka(kafka) => kafka.guarantee() == DeliveryGuarantee::ExactlyOnce,
        SinkConnector::Postgres(postgres) => postgres.mode != PostgresMode::Upsert,
        SinkConnector::Files(_)
        | SinkConnector::Custom(_)
        | SinkConnector::Print(_)
        | SinkConnector::Blackhole(_) => false,
    };
    let sinks = job.sinks.iter().filter(is_one);
    sinks.map(|sink| sink.name.clone()).collect()
}

/// Timeouts of the sinks whose transactions a broker would abort.
fn transaction_timeouts(job: &ValidJob) -> BTreeMap<String, Duration> {
    job.sinks
        .iter()
        .filter_map(|sink| match &sink.connector {
            SinkConnector::Kafka(kafka) if kafka.guarantee() == DeliveryGuarantee::ExactlyOnce => {
                Some((sink.name.clone(), kafka.transaction_timeout.0))
            }
            _ => None,
        })
        .collect()
}

/// The largest totals seen per operator.
#[derive(Default)]
struct Largest(Mutex<BTreeMap<OperatorUid, Counters>>);

impl Largest {
    /// Takes note of totals and returns the largest ones.
    fn raise(&self, totals: &BTreeMap<OperatorUid, Counters>) -> BTreeMap<OperatorUid, Counters> {
        let mut largest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (uid, total) in totals {
            let seen = largest.entry(uid.clone()).or_default();
            seen.records_in = seen.records_in.max(total.records_in);
            seen.records_out = seen.records_out.max(total.records_out);
            seen.bytes = seen.bytes.max(total.bytes);
            seen.skipped = seen.skipped.max(total.skipped);
            seen.dead_letters = seen.dead_letters.max(total.dead_letters);
        }
        largest.clone()
    }
}
