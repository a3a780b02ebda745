//! Metrics that are computed from the snapshot.

mod tasks;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use millstream_spec::CheckpointSpec;
use millstream_types::api::{CheckpointState, CheckpointSummary, JobState, SplitLag};
use millstream_types::snapshot::Counters;
use millstream_types::{Clock, OperatorUid};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::sync::watch;

use super::Largest;
use crate::Snapshot;

/// All states, for the labels of `millstream_job_state`.
const STATES: [JobState; 9] = [
    JobState::Restoring,
    JobState::WaitingForWorkers,
    JobState::Deploying,
    JobState::Running,
    JobState::Restarting,
    JobState::Stopping,
    JobState::Stopped,
    JobState::Completed,
    JobState::Failed,
];

/// Computes metrics from the snapshot at every scrape.
pub(super) struct SnapshotCollector {
    pub(super) snapshot: watch::Receiver<Arc<Snapshot>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) checkpoint: CheckpointSpec,
    pub(super) transaction_timeouts: BTreeMap<String, Duration>,
    /// Sinks whose output waits for its checkpoint.
    pub(super) transactional_sinks: Vec<String>,
    pub(super) largest: Largest,
}

impl fmt::Debug for SnapshotCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SnapshotCollector")
    }
}

impl Collector for SnapshotCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = Arc::clone(&self.snapshot.borrow());
        let mut out = Out { encoder };
        encode_job(&mut out, &snapshot)?;
        encode_checkpoints(&mut out, &snapshot)?;
        encode_settings(&mut out, &self.checkpoint)?;
        if let Some(last) = &snapshot.job.last_checkpoint {
            encode_last(&mut out, last)?;
            self.encode_transaction_ages(&mut out, last)?;
        }
        encode_lags(&mut out, &snapshot.job.lags)?;
        tasks::encode(&mut out, &snapshot.job.tasks)?;
        encode_operators(&mut out, &self.largest.raise(&snapshot.job.operators))
    }
}

impl SnapshotCollector {
    /// No transaction is older than the trigger of the last completed checkpoint: what was
    /// written before it is committed.
    fn encode_transaction_ages(&self, out: &mut Out<'_>, last: &CheckpointSummary) -> fmt::Result {
        let age = Duration::from_millis(self.clock.now().millis_since(last.triggered_at));
        let sinks = self.transactional_sinks.iter();
        out.gauges(
            "sink_transaction_age_seconds",
            "Most that the oldest open transaction of a sink can be old",
            sinks.map(|sink| (("sink", sink.clone()), age.as_secs_f64())),
        )?;
        let ratios = self.transaction_timeouts.iter().map(|(sink, timeout)| {
            let ratio = age.as_secs_f64() / timeout.as_secs_f64().max(0.001);
            (("sink", sink.clone()), ratio)
        });
        out.gauges(
            "sink_transaction_age_ratio",
            "Most that the oldest open transaction of a sink can have used of its timeout",
            ratios,
        )
    }
}

fn encode_job(out: &mut Out<'_>, snapshot: &Snapshot) -> fmt::Result {
    let job = &snapshot.job;
    let states = STATES.iter().map(|state| {
        let is = if *state == job.state { 1.0 } else { 0.0 };
        (("state", format!("{state:?}")), is)
    });
    out.gauges(
        "job_state",
        "1 for what the job is doing, 0 for the others",
        states,
    )?;
    out.gauge(
        "job_attempt",
        "The current or last attempt",
        job.attempt.0 as f64,
    )?;
    out.counter(
        "job_restarts",
        "Restarts since this coordinator began",
        job.restarts,
    )?;
    out.gauge(
        "job_parallelism",
        "Slots that the job needs",
        f64::from(job.parallelism),
    )?;
    out.gauge("workers", "Registered workers", job.workers.len() as f64)?;
    let slots: f64 = job
        .workers
        .iter()
        .map(|worker| f64::from(worker.slots))
        .sum();
    out.gauge("worker_slots", "Slots over all registered workers", slots)?;
    out.gauges(
        "job_warning",
        "1 for what should be thought about, by the heading of docs/pitfalls.md that explains it",
        job.warnings
            .iter()
            .map(|advice| (("name", advice.name.clone()), 1.0)),
    )?;
    out.gauge(
        "audit_gaps",
        "Times that records did not add up between two manifests",
        snapshot.audit.gaps.len() as f64,
    )
}

fn encode_checkpoints(out: &mut Out<'_>, snapshot: &Snapshot) -> fmt::Result {
    let counts = snapshot.counts;
    out.counter(
        "checkpoints_triggered",
        "Checkpoints triggered",
        counts.triggered,
    )?;
    out.counter(
        "checkpoints_completed",
        "Checkpoints completed",
        counts.completed,
    )?;
    out.counter("checkpoints_failed", "Checkpoints failed", counts.failed)?;
    out.gauge(
        "checkpoints_failed_in_a_row",
        "Checkpoints that have failed since one completed",
        counts.failed_in_a_row as f64,
    )?;
    let in_progress = snapshot
        .checkpoints
        .iter()
        .filter(|detail| detail.summary.state == CheckpointState::InProgress)
        .count();
    out.gauge(
        "checkpoints_in_progress",
        "Checkpoints under way",
        in_progress as f64,
    )
}

/// What alerts compare with.
fn encode_settings(out: &mut Out<'_>, checkpoint: &CheckpointSpec) -> fmt::Result {
    out.gauge(
        "checkpoint_interval_seconds",
        "From one trigger to the next, as the job says",
        checkpoint.interval.0.as_secs_f64(),
    )?;
    out.gauge(
        "checkpoint_timeout_seconds",
        "A checkpoint that takes longer is given up, as the job says",
        checkpoint.timeout.0.as_secs_f64(),
    )
}

fn encode_last(out: &mut Out<'_>, last: &CheckpointSummary) -> fmt::Result {
    out.gauge(
        "last_checkpoint_id",
        "Number of the last completed checkpoint",
        last.id.0 as f64,
    )?;
    let duration = Duration::from_millis(last.duration_ms.unwrap_or(0));
    out.gauge(
        "last_checkpoint_duration_seconds",
        "From trigger to commit of the last completed checkpoint",
        duration.as_secs_f64(),
    )?;
    out.gauge(
        "last_checkpoint_size_bytes",
        "Bytes of the last completed checkpoint",
        last.size_bytes.unwrap_or(0) as f64,
    )?;
    out.gauge(
        "last_checkpoint_state_size_bytes",
        "Bytes of the keyed state in the last completed checkpoint",
        last.state_size.unwrap_or(0) as f64,
    )?;
    out.gauge(
        "last_checkpoint_checkpointed_size_bytes",
        "Bytes of keyed state that the last completed checkpoint has uploaded",
        last.checkpointed_size.unwrap_or(0) as f64,
    )?;
    out.gauge(
        "last_checkpoint_in_flight_size_bytes",
        "Bytes of the records that barriers of the last completed checkpoint have overtaken",
        last.in_flight_size.unwrap_or(0) as f64,
    )?;
    let alignment = Duration::from_millis(last.alignment_ms.unwrap_or(0));
    out.gauge(
        "last_checkpoint_alignment_seconds",
        "Longest time from the first barrier of the last completed checkpoint at a task until it passed",
        alignment.as_secs_f64(),
    )?;
    let completed = Duration::from_millis(last.triggered_at.0) + duration;
    out.gauge(
        "last_checkpoint_completed_timestamp_seconds",
        "When the last completed checkpoint was committed, seconds since 1970",
        completed.as_secs_f64(),
    )
}

/// How far sources are behind. What is not known has no value.
fn encode_lags(out: &mut Out<'_>, lags: &BTreeMap<OperatorUid, Vec<SplitLag>>) -> fmt::Result {
    let splits = || {
        let sources = lags.iter();
        sources.flat_map(|(uid, splits)| splits.iter().map(move |split| (uid, split)))
    };
    let of = |uid: &OperatorUid, split: &SplitLag| {
        [
            ("operator", uid.to_string()),
            ("split", split.split.clone()),
        ]
    };
    out.labelled(
        "source_pending_records",
        "Offsets of a split that can be read and are not yet",
        splits().map(|(uid, split)| (of(uid, split), split.pending_records as f64)),
    )?;
    let held = splits().filter_map(|(uid, split)| Some((uid, split, split.held_back.as_ref()?)));
    out.labelled(
        "source_held_back_records",
        "Offsets of a split that nobody sees yet, because a transaction is open before them",
        held.map(|(uid, split, held)| {
            let [operator, name] = of(uid, split);
            let id = held.transactional_id.clone().unwrap_or_default();
            let labels = [operator, name, ("transactional_id", id)];
            (labels, held.records as f64)
        }),
    )?;
    let known = lags.iter().filter(|(_, splits)| !splits.is_empty());
    out.labelled(
        "source_records_lag_max",
        "The most that a split of a source is behind the end of its partition",
        known.map(|(uid, splits)| {
            let behind = |split: &SplitLag| {
                let held = split.held_back.as_ref().map_or(0, |held| held.records);
                split.pending_records.saturating_add(held)
            };
            let most = splits.iter().map(behind).max().unwrap_or(0);
            ([("operator", uid.to_string())], most as f64)
        }),
    )
}

fn encode_operators<'a>(
    out: &mut Out<'_>,
    totals: &'a BTreeMap<OperatorUid, Counters>,
) -> fmt::Result {
    let of = |count: fn(&Counters) -> u64| {
        totals
            .iter()
            .map(move |(uid, total): (&'a _, &'a Counters)| (uid.to_string(), count(total)))
    };
    out.operators(
        "operator_records_in",
        "Records that came into an operator",
        of(|total| total.records_in),
    )?;
    out.operators(
        "operator_records_out",
        "Records that went out of an operator; for a sink, records written",
        of(|total| total.records_out),
    )?;
    out.operators(
        "operator_bytes",
        "Bytes that a source or sink has read or written",
        of(|total| total.bytes),
    )?;
    out.operators(
        "operator_records_skipped",
        "Records that a source could not decode and left out",
        of(|total| total.skipped),
    )?;
    out.operators(
        "operator_dead_letters",
        "Records that a source could not decode and sent to its dead-letter output",
        of(|total| total.dead_letters),
    )
}

/// Writes metrics of one value or one label.
struct Out<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl Out<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let metric = self
            .encoder
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(value).encode(metric)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let metric = self
            .encoder
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(metric)
    }

    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = ((&'static str, String), f64)>,
    ) -> fmt::Result {
        let mut metric = self
            .encoder
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (label, value) in values {
            ConstGauge::new(value).encode(metric.encode_family(&[label])?)?;
        }
        Ok(())
    }

    fn labelled<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = ([(&'static str, String); N], f64)>,
    ) -> fmt::Result {
        let mut metric = self
            .encoder
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn operators(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = (String, u64)>,
    ) -> fmt::Result {
        let mut metric = self
            .encoder
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (operator, value) in values {
            let label = [("operator", operator)];
            ConstCounter::new(value).encode(metric.encode_family(&label)?)?;
        }
        Ok(())
    }
}
