//! What Prometheus is told. Names, units and meanings are in `docs/metrics.md`.
//!
//! Nearly everything is computed from the [`Snapshot`] at the moment of a scrape, so that metrics
//! and REST interface never disagree. Only what a snapshot does not keep is kept here: the
//! histogram of durations, and the largest totals seen. Totals of operators go back when a job is
//! restored; counters must not, or every restart would look like a burst of records.

mod collector;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millstream_spec::ValidJob;
use millstream_spec::connector::DeliveryGuarantee;
use millstream_spec::valid::SinkConnector;
use millstream_types::snapshot::Counters;
use millstream_types::{Clock, OperatorUid};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::{Progress, Snapshot};
use collector::SnapshotCollector;

/// Upper bounds of the buckets of checkpoint durations, seconds.
const DURATION_BUCKETS: [f64; 13] = [
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];

/// Metrics of one coordinator.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    durations: Histogram,
}

impl Metrics {
    pub(crate) fn new(
        job: &ValidJob,
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
        registry.register_collector(Box::new(SnapshotCollector {
            snapshot,
            clock,
            transaction_timeouts: transaction_timeouts(job),
            largest: Largest::default(),
        }));
        Self {
            registry,
            durations,
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
        if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            // Only a metric that cannot be encoded fails; writing to a string does not.
            tracing::error!(%error, "metrics cannot be encoded");
        }
        text
    }
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
