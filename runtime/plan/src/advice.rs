//! What a job may be and seldom should: each is a pitfall with a heading in `docs/pitfalls.md`.
//!
//! Nothing here keeps a job from running. What must not be is a fault ([`error`](crate::error)).

use millstream_spec::connector::{DeliveryGuarantee, OffsetFallback, StartingOffsets};
use millstream_spec::valid::{SinkConnector, SourceConnector};
use millstream_spec::{
    CheckpointMode, CheckpointSpec, RestartStrategy, Retention, TransactionBudget, ValidJob,
};
use millstream_types::advice::Advice;
use millstream_types::duration::KubeDuration;

use crate::{JobGraph, NodeKind};

/// Below this, a store that many clients share is asked for several writes each second.
const INTERVAL_MIN: KubeDuration = KubeDuration::from_secs(1);
/// Above this, a failure costs more than that much work, and output waits as long.
const INTERVAL_MAX: KubeDuration = KubeDuration::from_secs(600);
/// What a store, a broker or a node that is being replaced may need.
const TIMEOUT_MIN: KubeDuration = KubeDuration::from_secs(10);
/// How long something may be away before open transactions are in danger, at least.
const OUTAGE_MIN: KubeDuration = KubeDuration::from_secs(60);

/// All that is to be thought about a job, by its file alone.
pub fn advice(job: &ValidJob, graph: &JobGraph) -> Vec<Advice> {
    let mut all = Vec::new();
    times(&job.checkpoint, &mut all);
    keeping(&job.checkpoint, &mut all);
    if matches!(job.restart, RestartStrategy::None(_)) {
        all.push(Advice::new(
            "no-restart",
            "spec.restart",
            "with `none` the first failure of anything ends the job until a person starts it again. \
             Leave it out, or give it a delay",
        ));
    }
    state(job, graph, &mut all);
    sources(job, &mut all);
    sinks(job, &mut all);
    all
}

/// Where checkpoints lie, how often they are taken, and how long they may take.
fn times(checkpoint: &CheckpointSpec, all: &mut Vec<Advice>) {
    let CheckpointSpec {
        interval, timeout, ..
    } = *checkpoint;
    let mut add = |name, key: &str, message: String| {
        all.push(Advice::new(name, format!("spec.checkpoint.{key}"), message));
    };
    if checkpoint.storage.starts_with("file:") {
        add(
            "storage-on-one-machine",
            "storage",
            "is a directory: a job that is started on another machine does not find its checkpoints, \
             and a lost disk loses them, unless it is a network file system. Use s3://bucket/path or hdfs://namenode:port/path"
                .to_owned(),
        );
    } else if interval < INTERVAL_MIN {
        add(
            "interval-short",
            "interval",
            format!(
                "is {interval}: every checkpoint is several writes to the storage, which many share. \
                 {INTERVAL_MIN} and more is good for low latency, a minute for most jobs"
            ),
        );
    }
    if interval > INTERVAL_MAX {
        add(
            "interval-long",
            "interval",
            format!(
                "is {interval}: a failure repeats that much work, and exactly-once output becomes \
                 visible only that often. Most jobs do well with a minute"
            ),
        );
    }
    if timeout < TIMEOUT_MIN {
        add(
            "timeout-short",
            "timeout",
            format!(
                "is {timeout}: a checkpoint fails where a storage or broker is only slow for a moment. \
                 Give it {TIMEOUT_MIN} or more"
            ),
        );
    }
}

/// How many checkpoints there are, what becomes of them, and what they are for.
fn keeping(checkpoint: &CheckpointSpec, all: &mut Vec<Advice>) {
    let mut add = |name, key: &str, message: String| {
        all.push(Advice::new(name, format!("spec.checkpoint.{key}"), message));
    };
    if checkpoint.max_concurrent > 1 {
        add(
            "concurrent-checkpoints",
            "maxConcurrent",
            format!(
                "is {}: checkpoints that overlap share storage and network and each takes longer. \
                 Usually 1 is right; make the interval longer instead",
                checkpoint.max_concurrent
            ),
        );
    }
    if checkpoint.retained == 1 {
        add(
            "one-retained",
            "retained",
            "is 1: if the only checkpoint cannot be read any more, there is none to go back to. Keep 3"
                .to_owned(),
        );
    }
    if checkpoint.retention() == Retention::DeleteOnCancellation {
        add(
            "deleted-with-the-job",
            "retention",
            "is DeleteOnCancellation: a job that was cancelled or deleted by mistake cannot go on. \
             RetainOnCancellation keeps its checkpoints"
                .to_owned(),
        );
    }
    if checkpoint.mode == CheckpointMode::AtLeastOnce {
        add(
            "at-least-once",
            "mode",
            "is AtLeastOnce: after a failure sinks have some records twice. ExactlyOnce is the default"
                .to_owned(),
        );
    }
}

fn state(job: &ValidJob, graph: &JobGraph, all: &mut Vec<Advice>) {
    all.extend(without_ttl(job, graph).into_iter().map(|name| {
        Advice::new(
            "state-without-ttl",
            format!("spec.dataflow.transforms[{name}].stateTtl"),
            "is not given, nor is `stateBackend.ttl`: a key that was ever seen is kept for ever. If \
             keys stop coming (sessions, orders), set a time to live",
        )
    }));
}

fn sources(job: &ValidJob, all: &mut Vec<Advice>) {
    for source in &job.sources {
        let SourceConnector::Kafka(kafka) = &source.connector else {
            continue;
        };
        let path = format!(
            "spec.dataflow.sources[{}].kafka.startingOffsets",
            source.name
        );
        let message = match &kafka.starting_offsets {
            StartingOffsets::Latest(_) => {
                "is `latest`: records that were written before the job's very first start are never read"
            }
            StartingOffsets::Committed(start) if start.fallback == OffsetFallback::Latest => {
                "falls back to `Latest`: of a partition that the group has not read, what is there at \
                 the job's very first start is never read. Fall back to Earliest"
            }
            _ => continue,
        };
        all.push(Advice::new("starts-at-the-end", path, message));
    }
}

fn sinks(job: &ValidJob, all: &mut Vec<Advice>) {
    let budget = TransactionBudget::new(&job.checkpoint, &job.restart).total();
    for sink in &job.sinks {
        let SinkConnector::Kafka(kafka) = &sink.connector else {
            continue;
        };
        let path = |key: &str| format!("spec.dataflow.sinks[{}].kafka.{key}", sink.name);
        let by_mode = job.checkpoint.mode == CheckpointMode::AtLeastOnce;
        if kafka.guarantee() == DeliveryGuarantee::AtLeastOnce {
            if !by_mode {
                all.push(Advice::new(
                    "at-least-once",
                    path("deliveryGuarantee"),
                    "is AtLeastOnce: after a failure the topic has some records twice, also for \
                     `read_committed` readers. ExactlyOnce is the default",
                ));
            }
            continue;
        }
        let timeout = kafka.transaction_timeout;
        let spare = timeout.millis().saturating_sub(budget.millis());
        if spare < OUTAGE_MIN.millis() {
            let spare = KubeDuration::from_millis(spare);
            all.push(Advice::new(
                "transaction-timeout-tight",
                path("transactionTimeout"),
                format!(
                    "is {timeout}, and under the checkpoint and restart settings a transaction may have \
                     to stay open for {budget}: if the storage or all machines are away for more than \
                     {spare} on top, the broker aborts it. Raise it (the broker's \
                     transaction.max.timeout.ms is 15m unless it says otherwise)"
                ),
            ));
        }
    }
}

/// Transforms that keep a key for ever.
pub fn without_ttl(job: &ValidJob, graph: &JobGraph) -> Vec<String> {
    let aggregates = graph.nodes.iter().filter_map(|node| match &node.kind {
        NodeKind::Aggregate(_) => node.uid.as_str().split('/').next(),
        _ => None,
    });
    let mut names: Vec<String> = aggregates
        .filter(|name| {
            let own = job.transforms.iter().find(|it| it.name == *name);
            let ttl = own.and_then(|it| it.state_ttl);
            ttl.or(job.state_backend.ttl).is_none()
        })
        .map(str::to_owned)
        .collect();
    // One transform may be several nodes.
    names.dedup();
    names
}

/// How long checkpoints may take.
#[derive(Debug, Clone, Copy)]
pub struct CheckpointTimes {
    /// From one trigger to the next.
    pub interval: KubeDuration,
    /// From the end of one to the trigger of the next, at least.
    pub min_pause: KubeDuration,
    /// At most.
    pub timeout: KubeDuration,
}

impl From<&CheckpointSpec> for CheckpointTimes {
    fn from(spec: &CheckpointSpec) -> Self {
        Self {
            interval: spec.interval,
            min_pause: spec.min_pause,
            timeout: spec.timeout,
        }
    }
}

/// What the newest checkpoint says about the settings: `took` from its trigger to its decision.
pub fn of_duration(times: CheckpointTimes, took: KubeDuration) -> Vec<Advice> {
    let mut all = Vec::new();
    let part = |whole: KubeDuration, percent: u64| whole.millis().saturating_mul(percent) / 100;
    if took.millis() > part(times.interval, 80) {
        let pause = if times.min_pause.0.is_zero() {
            ", or give the job air with `minPause`"
        } else {
            ""
        };
        all.push(Advice::new(
            "checkpoint-slow",
            "spec.checkpoint.interval",
            format!(
                "is {}, and the newest checkpoint took {took}, more than 80 % of it: the job takes \
                 checkpoints nearly all the time. Make the interval longer{pause}, or find what is slow",
                times.interval
            ),
        ));
    }
    if took.millis() > part(times.timeout, 50) {
        all.push(Advice::new(
            "checkpoint-near-timeout",
            "spec.checkpoint.timeout",
            format!(
                "is {}, and the newest checkpoint took {took}, more than half of it: one that is a \
                 little slower fails. Raise the timeout, spread the state by more parallelism, or keep \
                 less of it",
                times.timeout
            ),
        ));
    }
    all
}
