//! What can only be seen while a job runs: checkpoints that take too long, a channel that keeps barriers
//! waiting, state that only grows. Each is a pitfall with a heading in `docs/pitfalls.md`.

use millstream_plan::advice::{CheckpointTimes, of_duration};
use millstream_types::advice::Advice;
use millstream_types::api::{CheckpointDetail, CheckpointState, TaskStatus};
use millstream_types::duration::KubeDuration;
use millstream_types::ids::TaskId;
use millstream_types::text::bytes;

use crate::job::Settings;
use crate::job::history::History;

/// A barrier that comes so much later than the first at its task is worth a word, milliseconds.
const ALIGNMENT_MS: u64 = 1_000;
/// In how many completed checkpoints state must have grown each time.
const GROWING: usize = 10;

/// All of them, as things stand.
pub(crate) fn warnings(
    settings: &Settings,
    history: &History,
    tasks: &[TaskStatus],
) -> Vec<Advice> {
    let last = history.last_completed.as_ref();
    let took = last.and_then(|last| last.duration_ms);
    let mut all = took.map_or_else(Vec::new, |took| {
        let times = CheckpointTimes {
            interval: KubeDuration(settings.checkpoint.interval),
            min_pause: KubeDuration(settings.checkpoint.min_pause),
            timeout: KubeDuration(settings.checkpoint.timeout),
        };
        of_duration(times, KubeDuration::from_millis(took))
    });
    let may_overtake = settings.checkpoint.aligned_timeout.is_some();
    all.extend(took.and_then(|took| slow_alignment(tasks, took, may_overtake)));
    all.extend(growing(
        &settings.without_ttl,
        history.checkpoints.iter().map(AsRef::as_ref),
    ));
    all
}

/// The channel whose barrier came last, if that is what the checkpoint waited for.
fn slow_alignment(tasks: &[TaskStatus], took: u64, may_overtake: bool) -> Option<Advice> {
    let channels = tasks.iter().flat_map(|task| {
        let load = task.load.iter();
        let channels = load.flat_map(|load| &load.channels);
        channels.map(move |channel| (task, channel))
    });
    let (task, channel) = channels.max_by_key(|(_, channel)| channel.alignment_ms)?;
    let late = channel.alignment_ms?;
    if late < ALIGNMENT_MS || late <= took / 2 {
        return None;
    }
    let late = KubeDuration::from_millis(late);
    let from = name_of(tasks, channel.from);
    let to = head(task);
    let or = if may_overtake {
        ""
    } else {
        ", or let barriers overtake with `checkpoint.alignedTimeout`"
    };
    Some(Advice::new(
        "alignment-slow",
        "",
        format!(
            "the barrier from {from} came to {to} {late} after the first one, and the newest checkpoint \
             waited for it: {from} is slow, or has more records than its siblings. Spread its keys, or \
             give it more parallelism{or}"
        ),
    ))
}

fn name_of(tasks: &[TaskStatus], id: TaskId) -> String {
    let mut tasks = tasks.iter();
    let task = tasks.find(|task| task.vertex == id.vertex && task.subtask == id.subtask);
    task.map_or_else(|| id.to_string(), head)
}

fn head(task: &TaskStatus) -> String {
    let head = task.operators.first();
    let head = head.map_or_else(|| task.vertex.to_string(), ToString::to_string);
    format!("`{head}` {}", task.subtask)
}

/// State that grew from each checkpoint to the next, to more than double, where keys stay for ever.
fn growing<'a>(
    without_ttl: &[String],
    newest_first: impl Iterator<Item = &'a CheckpointDetail>,
) -> Option<Advice> {
    let name = without_ttl.first()?;
    let completed = newest_first
        .map(|detail| &detail.summary)
        .filter(|summary| summary.state == CheckpointState::Completed && summary.commits());
    let sizes: Vec<u64> = completed
        .map(|summary| summary.state_size.unwrap_or(0))
        .collect();
    let grows = sizes
        .windows(2)
        .take_while(|pair| pair.first() > pair.last());
    let growths = grows.count();
    let (newest, oldest) = (*sizes.first()?, *sizes.get(growths)?);
    if growths < GROWING || newest / 2 <= oldest {
        return None;
    }
    Some(Advice::new(
        "state-growing",
        format!("spec.dataflow.transforms[{name}].stateTtl"),
        format!(
            "is not given, and the keyed state has grown with each of the last {growths} checkpoints, from \
             {} to {}: if keys stop coming, set a time to live",
            bytes(oldest),
            bytes(newest)
        ),
    ))
}

#[cfg(test)]
mod tests {
    use millstream_types::api::CheckpointSummary;
    use millstream_types::load::{ChannelLoad, TaskLoad};
    use millstream_types::{
        Attempt, CheckpointId, CheckpointKind, SubtaskIndex, Timestamp, VertexId,
    };

    use super::*;

    fn task(vertex: u32, subtask: u32, late: &[u64]) -> TaskStatus {
        let channels = late.iter().zip(0..).map(|(late, from)| ChannelLoad {
            from: TaskId {
                vertex: VertexId(0),
                subtask: SubtaskIndex(from),
            },
            input: 0,
            queued_bytes: 0,
            queue_fill: 0,
            watermark: None,
            alignment_ms: Some(*late),
        });
        TaskStatus {
            vertex: VertexId(vertex),
            subtask: SubtaskIndex(subtask),
            operators: vec![format!("step-{vertex}").as_str().into()],
            worker: String::new(),
            load: Some(TaskLoad {
                channels: channels.collect(),
                ..TaskLoad::default()
            }),
        }
    }

    #[test]
    fn the_channel_that_a_checkpoint_waited_for_is_named() {
        let tasks = [task(0, 0, &[]), task(0, 1, &[]), task(1, 0, &[0, 1_200])];
        let advice = slow_alignment(&tasks, 2_000, false).unwrap();
        assert_eq!(advice.name, "alignment-slow");
        for part in ["`step-0` 1", "`step-1` 0", "1s200ms", "alignedTimeout"] {
            assert!(advice.message.contains(part), "{part}: {}", advice.message);
        }
        let overtaking = slow_alignment(&tasks, 2_000, true).unwrap();
        assert!(!overtaking.message.contains("alignedTimeout"), "it is set");
        // Most of the time went elsewhere; or it is too short to be felt.
        assert_eq!(slow_alignment(&tasks, 10_000, false), None);
        assert_eq!(slow_alignment(&[task(1, 0, &[0, 900])], 1_000, false), None);
    }

    fn checkpoints(sizes: &[u64]) -> Vec<CheckpointDetail> {
        let newest_first = sizes.iter().rev();
        let details = newest_first.map(|size| CheckpointDetail {
            summary: CheckpointSummary {
                id: CheckpointId(1),
                kind: CheckpointKind::Checkpoint.into(),
                state: CheckpointState::Completed,
                attempt: Attempt(1),
                triggered_at: Timestamp(0),
                completed_at: None,
                duration_ms: None,
                size_bytes: None,
                state_size: Some(*size),
                checkpointed_size: None,
                in_flight_size: None,
                unaligned: false,
                alignment_ms: None,
                path: None,
                failure: None,
            },
            acknowledged: 0,
            tasks: 0,
            operators: std::collections::BTreeMap::new(),
            subtasks: Vec::new(),
        });
        details.collect()
    }

    #[test]
    fn state_that_only_grows_is_told_where_keys_stay_for_ever() {
        let growing_sizes: Vec<u64> = (1..=12).map(|step| step * 1_000).collect();
        let all = checkpoints(&growing_sizes);
        let advice = growing(&["per-customer".to_owned()], all.iter()).unwrap();
        assert_eq!(
            advice.path,
            "spec.dataflow.transforms[per-customer].stateTtl"
        );
        assert!(
            advice.message.contains("last 11 checkpoints"),
            "{}",
            advice.message
        );
        assert_eq!(growing(&[], all.iter()), None, "all keys go some day");
        let mut steady = growing_sizes.clone();
        steady.extend([12_000, 12_000]);
        let steady = checkpoints(&steady);
        assert_eq!(growing(&["x".to_owned()], steady.iter()), None);
        let slow: Vec<u64> = (0..12).map(|step| 100_000 + step).collect();
        assert_eq!(growing(&["x".to_owned()], checkpoints(&slow).iter()), None);
    }
}
