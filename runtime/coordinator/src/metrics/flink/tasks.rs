//! What Flink's `TaskManagers` tell of tasks and their operators.

use std::collections::BTreeMap;
use std::fmt;

use millstream_types::api::{JobStatus, TaskStatus};
use millstream_types::ids::TaskId;
use millstream_types::load::TaskLoad;
use millstream_types::{EventTime, OperatorUid};

use super::labels::{Label, Names};
use super::recent::{Done, View};
use super::{Out, Series};

const TASK: &str = "taskmanager_job_task";
const OPERATOR: &str = "taskmanager_job_task_operator";
/// Flink's watermark before the first.
const NO_WATERMARK: f64 = i64::MIN as f64;
/// From which part of its time a task counts as backpressured, in thousandths. Source: Flink's web
/// interface, which calls 10 % and less OK.
const BACKPRESSURED: u32 = 100;

/// Metrics of one scope, each with its series.
#[derive(Default)]
struct Metrics(BTreeMap<&'static str, Vec<Series>>);

impl Metrics {
    fn add(&mut self, name: &'static str, labels: &[Label], value: f64) {
        let series = self.0.entry(name).or_default();
        series.push((labels.to_vec(), value));
    }

    fn write(self, out: &mut Out<'_>, scope: &str) -> fmt::Result {
        let mut metrics = self.0.into_iter();
        metrics.try_for_each(|(name, series)| out.gauge(scope, name, series))
    }
}

pub(super) fn encode(
    out: &mut Out<'_>,
    names: &Names,
    job: &JobStatus,
    recent: &View,
) -> fmt::Result {
    let (mut of_tasks, mut of_operators) = (Metrics::default(), Metrics::default());
    let behind = behind(job, recent);
    for task in &job.tasks {
        let labels = names.task(task, job.restarts);
        if let Some(load) = &task.load {
            add_load(&mut of_tasks, &labels, load);
        }
        let id = TaskId {
            vertex: task.vertex,
            subtask: task.subtask,
        };
        let done = |uid: &OperatorUid| recent.done.get(&(id, uid.clone())).copied();
        add_flow(&mut of_tasks, &labels, names, task, done);
        for uid in &task.operators {
            let labels = names.operator(&labels, uid);
            let watermark = watermark(task.load.as_ref());
            of_operators.add("currentOutputWatermark", &labels, watermark);
            if !names.sources.contains(uid) {
                of_operators.add("currentInputWatermark", &labels, watermark);
            }
            if let Some(done) = done(uid) {
                add_done(&mut of_operators, &labels, names, uid, done);
            }
            if let Some((pending, most)) = behind.get(&(id, uid)) {
                of_operators.add("pendingRecords", &labels, *pending as f64);
                let name = "KafkaSourceReader_KafkaConsumer_records_lag_max";
                of_operators.add(name, &labels, *most as f64);
            }
        }
    }
    of_tasks.write(out, TASK)?;
    of_operators.write(out, OPERATOR)
}

/// How far each task of a source is behind: over all its splits together, and the most of one.
fn behind<'a>(
    job: &'a JobStatus,
    recent: &View,
) -> BTreeMap<(TaskId, &'a OperatorUid), (u64, u64)> {
    let mut behind = BTreeMap::new();
    for (uid, lags) in &job.lags {
        for lag in lags {
            let Some(task) = recent.readers.get(&(uid.clone(), lag.split.clone())) else {
                continue;
            };
            let held_back = lag.held_back.as_ref().map_or(0, |held| held.records);
            let of_split = lag.pending_records.saturating_add(held_back);
            let (all, most): &mut (u64, u64) = behind.entry((*task, uid)).or_default();
            *all = all.saturating_add(of_split);
            *most = of_split.max(*most);
        }
    }
    behind
}

fn add_load(metrics: &mut Metrics, labels: &[Label], load: &TaskLoad) {
    let times = [
        ("busyTimeMsPerSecond", load.busy),
        ("idleTimeMsPerSecond", load.idle),
        ("backPressuredTimeMsPerSecond", load.backpressured),
        (
            "isBackPressured",
            u32::from(load.backpressured > BACKPRESSURED),
        ),
    ];
    for (name, value) in times {
        metrics.add(name, labels, f64::from(value));
    }
    metrics.add("currentInputWatermark", labels, watermark(Some(load)));
    if load.channels.is_empty() {
        return;
    }
    let channels = || load.channels.iter();
    let fill: f64 = channels().map(|it| f64::from(it.queue_fill)).sum();
    let fill = fill / 1_000.0 / load.channels.len() as f64;
    metrics.add("buffers_inPoolUsage", labels, fill);
    let bytes: u64 = channels().map(|it| it.queued_bytes).sum();
    metrics.add("buffers_inputQueueSize", labels, bytes as f64);
    let alignment = channels().filter_map(|it| it.alignment_ms).max();
    let nanos = alignment.unwrap_or(0) as f64 * 1_000_000.0;
    metrics.add("checkpointAlignmentTime", labels, nanos);
}

/// What came into a task is what came into its first operator; what went out, what its last ones have
/// sent to other tasks or written.
fn add_flow(
    metrics: &mut Metrics,
    labels: &[Label],
    names: &Names,
    task: &TaskStatus,
    done: impl Fn(&OperatorUid) -> Option<Done>,
) {
    if let Some(head) = task.operators.first().and_then(&done) {
        metrics.add("numRecordsIn", labels, head.total.records_in as f64);
        metrics.add("numRecordsInPerSecond", labels, head.per_second[0]);
    }
    let last = task.operators.iter().filter(|uid| names.is_last(uid));
    let (mut records, mut per_second, mut is_known) = (0, 0.0, false);
    for done in last.filter_map(done) {
        records += done.total.records_out;
        per_second += done.per_second[1];
        is_known = true;
    }
    if is_known {
        metrics.add("numRecordsOut", labels, records as f64);
        metrics.add("numRecordsOutPerSecond", labels, per_second);
    }
}

fn add_done(metrics: &mut Metrics, labels: &[Label], names: &Names, uid: &OperatorUid, done: Done) {
    let Done { total, per_second } = done;
    let [records_in, records_out, bytes] = per_second;
    let mut add = |name, value| metrics.add(name, labels, value);
    add("numRecordsIn", total.records_in as f64);
    add("numRecordsInPerSecond", records_in);
    add("numRecordsOut", total.records_out as f64);
    add("numRecordsOutPerSecond", records_out);
    if names.sources.contains(uid) {
        add("numBytesIn", total.bytes as f64);
        add("numBytesInPerSecond", bytes);
        let undecoded = total.skipped.saturating_add(total.dead_letters);
        add("numRecordsInErrors", undecoded as f64);
    }
    if names.sinks.contains(uid) {
        add("numBytesOut", total.bytes as f64);
        add("numBytesOutPerSecond", bytes);
        add("numRecordsSend", total.records_out as f64);
        add("numBytesSend", total.bytes as f64);
    }
}

/// Milliseconds since 1970; before the first, and after the last, as Flink says it.
fn watermark(load: Option<&TaskLoad>) -> f64 {
    match load.and_then(|load| load.watermark) {
        None | Some(EventTime::MIN) => NO_WATERMARK,
        Some(EventTime::MAX) => i64::MAX as f64,
        Some(time) => (time.0 / 1_000) as f64,
    }
}
