//! How busy the tasks of a job are: one row for each chain of operators, over its subtasks. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use millstream_types::api::TaskStatus;
use millstream_types::load::{ChannelLoad, TaskLoad};
use millstream_types::text::bytes;
use millstream_types::{EventTime, OperatorUid, VertexId};

use crate::text::{count, millis};

/// The rows of the table; none while nothing has been measured.
pub(super) fn rows(tasks: &[TaskStatus]) -> Vec<Vec<String>> {
    let mut vertices: BTreeMap<VertexId, Vec<&TaskStatus>> = BTreeMap::new();
    for task in tasks {
        vertices.entry(task.vertex).or_default().push(task);
    }
    let names: BTreeMap<VertexId, String> = vertices
        .iter()
        .map(|(vertex, tasks)| (*vertex, name(tasks)))
        .collect();
    let rows = vertices.iter().filter_map(|(vertex, tasks)| {
        let loads: Vec<&TaskLoad> = tasks.iter().filter_map(|task| task.load.as_ref()).collect();
        (!loads.is_empty()).then(|| row(&names, *vertex, tasks.len(), &loads))
    });
    rows.collect()
}

fn row(
    names: &BTreeMap<VertexId, String>,
    vertex: VertexId,
    subtasks: usize,
    loads: &[&TaskLoad],
) -> Vec<String> {
    let channels = || loads.iter().flat_map(|load| &load.channels);
    let fullest = channels().map(|channel| channel.queue_fill).max();
    let watermark = loads.iter().filter_map(|load| load.watermark).min();
    let slowest = channels().max_by_key(|channel| channel.alignment_ms);
    vec![
        names.get(&vertex).cloned().unwrap_or_default(),
        subtasks.to_string(),
        range(loads, |load| load.busy),
        range(loads, |load| load.backpressured),
        range(loads, |load| load.idle),
        cell(fullest.map(percent)),
        cell(watermark.and_then(time)),
        cell(slowest.and_then(|channel| barrier(names, channel))),
        cell(state(loads)),
    ]
}

/// Keys of all subtasks, and the memory that they take.
fn state(loads: &[&TaskLoad]) -> Option<String> {
    let mut states = loads.iter().filter_map(|load| load.state);
    let mut sum = states.next()?;
    states.for_each(|state| sum.add(state));
    Some(format!("{}, {}", count(sum.keys, "key"), bytes(sum.bytes)))
}

/// The operators of a chain.
fn name(tasks: &[&TaskStatus]) -> String {
    let operators = tasks.first().map_or(&[][..], |task| &task.operators);
    let names: Vec<&str> = operators.iter().map(OperatorUid::as_str).collect();
    names.join(" → ")
}

/// From the least to the most of the subtasks.
fn range(loads: &[&TaskLoad], time: fn(&TaskLoad) -> u32) -> String {
    let times = || loads.iter().map(|load| time(load));
    match (times().min(), times().max()) {
        (Some(least), Some(most)) if least / 10 == most / 10 => percent(most),
        (Some(least), Some(most)) => format!("{}–{}", least / 10, percent(most)),
        _ => "-".to_owned(),
    }
}

fn percent(thousandths: u32) -> String {
    format!("{} %", thousandths / 10)
}

fn time(watermark: EventTime) -> Option<String> {
    if watermark == EventTime::MAX {
        return Some("end".to_owned());
    }
    let time = Timestamp::from_microsecond(watermark.0).ok()?;
    Some(format!("{time:.3}"))
}

fn barrier(names: &BTreeMap<VertexId, String>, channel: &ChannelLoad) -> Option<String> {
    let late = channel.alignment_ms?;
    let from = names.get(&channel.from.vertex);
    let from = from.map_or_else(|| channel.from.vertex.to_string(), Clone::clone);
    let subtask = channel.from.subtask;
    Some(format!("{} (from {from}, subtask {subtask})", millis(late)))
}

fn cell(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}
