//! How busy tasks are and what holds them up. A task is named by the first of its operators.

use std::collections::BTreeMap;
use std::fmt;

use millstream_types::api::TaskStatus;
use millstream_types::ids::TaskId;
use millstream_types::load::{ChannelLoad, StateLoad, TaskLoad};
use millstream_types::{EventTime, VertexId};

use super::Out;

/// What has not been measured has no value.
pub(super) fn encode(out: &mut Out<'_>, tasks: &[TaskStatus]) -> fmt::Result {
    let measured: Vec<(&TaskStatus, &TaskLoad)> = tasks
        .iter()
        .filter_map(|task| Some((task, task.load.as_ref()?)))
        .collect();
    encode_times(out, &measured)?;
    let watermarks = measured.iter().filter_map(|(task, load)| {
        let seconds = seconds(load.watermark?)?;
        Some((of(task), seconds))
    });
    out.labelled(
        "task_watermark_timestamp_seconds",
        "The watermark that a task has come to, seconds since 1970",
        watermarks,
    )?;
    encode_state(out, &measured)?;
    encode_channels(out, tasks, &measured)
}

/// Name and help of a metric, and the part of a task's state that it shows.
type Size = (&'static str, &'static str, fn(&StateLoad) -> u64);

fn encode_state(out: &mut Out<'_>, measured: &[(&TaskStatus, &TaskLoad)]) -> fmt::Result {
    let sizes: [Size; 10] = [
        ("state_keys", "Keys that a task keeps", |state| state.keys),
        (
            "state_dirty_keys",
            "Keys that have changed since the last barrier",
            |state| state.dirty_keys,
        ),
        (
            "state_memory_bytes",
            "Memory that a task's keyed state takes",
            |state| state.bytes,
        ),
        (
            "state_runs",
            "Runs that the next checkpoint names of a task",
            |state| state.runs,
        ),
        (
            "state_run_bytes",
            "Size of these runs in the checkpoint storage",
            |state| state.run_bytes,
        ),
        (
            "state_cold_keys",
            "Of the keys, those that are on the local disk and not in memory",
            |state| state.cold_keys,
        ),
        (
            "state_cold_bytes",
            "Size of these keys before they are compressed",
            |state| state.cold_bytes,
        ),
        (
            "state_hot_reads",
            "How often a key was looked for that was in memory, since the task began",
            |state| state.hot_reads,
        ),
        (
            "state_cold_reads",
            "How often a key was brought back from the local disk, since the task began",
            |state| state.cold_reads,
        ),
        (
            "state_evictions",
            "How often a key has left memory, since the task began",
            |state| state.evictions,
        ),
    ];
    for (name, help, size) in sizes {
        let values = measured.iter();
        let values = values.filter_map(|(task, load)| {
            let state = load.state.as_ref()?;
            Some((of(task), size(state) as f64))
        });
        out.labelled(name, help, values)?;
    }
    Ok(())
}

/// Name and help of a metric, and the part of a load that it shows.
type Time = (&'static str, &'static str, fn(&TaskLoad) -> u32);

fn encode_times(out: &mut Out<'_>, measured: &[(&TaskStatus, &TaskLoad)]) -> fmt::Result {
    let times: [Time; 3] = [
        (
            "task_busy_ratio",
            "Part of its time that a task spends with records",
            |load| load.busy,
        ),
        (
            "task_backpressured_ratio",
            "Part of its time that a task waits for room in what it writes to",
            |load| load.backpressured,
        ),
        (
            "task_idle_ratio",
            "Part of its time that a task waits for input",
            |load| load.idle,
        ),
    ];
    for (name, help, time) in times {
        let ratios = measured.iter();
        let ratios = ratios.map(|(task, load)| (of(task), ratio(time(load))));
        out.labelled(name, help, ratios)?;
    }
    Ok(())
}

fn encode_channels(
    out: &mut Out<'_>,
    tasks: &[TaskStatus],
    measured: &[(&TaskStatus, &TaskLoad)],
) -> fmt::Result {
    let heads: BTreeMap<VertexId, String> =
        tasks.iter().map(|task| (task.vertex, head(task))).collect();
    let labels = |task: &TaskStatus, from: TaskId| {
        let [operator, subtask] = of(task);
        let writer = heads.get(&from.vertex).cloned().unwrap_or_default();
        [
            operator,
            subtask,
            ("from_operator", writer),
            ("from_subtask", from.subtask.to_string()),
        ]
    };
    let channels = || {
        let tasks = measured.iter();
        tasks.flat_map(|(task, load)| load.channels.iter().map(move |channel| (*task, channel)))
    };
    out.labelled(
        "channel_queue_ratio",
        "How full a channel between two tasks is",
        channels().map(|(task, channel)| (labels(task, channel.from), ratio(channel.queue_fill))),
    )?;
    let aligned = channels().filter_map(|(task, channel): (&TaskStatus, &ChannelLoad)| {
        let seconds = channel.alignment_ms? as f64 / 1_000.0;
        Some((labels(task, channel.from), seconds))
    });
    out.labelled(
        "channel_alignment_seconds",
        "In the newest checkpoint: how long the barrier of a channel came after the first one",
        aligned,
    )
}

fn of(task: &TaskStatus) -> [(&'static str, String); 2] {
    [
        ("operator", head(task)),
        ("subtask", task.subtask.to_string()),
    ]
}

fn head(task: &TaskStatus) -> String {
    let head = task.operators.first();
    head.map_or_else(|| task.vertex.to_string(), ToString::to_string)
}

fn ratio(thousandths: u32) -> f64 {
    f64::from(thousandths) / 1_000.0
}

/// Before everything and after everything is no time.
fn seconds(time: EventTime) -> Option<f64> {
    let is_time = time != EventTime::MIN && time != EventTime::MAX;
    is_time.then_some(time.0 as f64 / 1_000_000.0)
}
