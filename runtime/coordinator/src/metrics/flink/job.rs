//! What Flink's `JobManager` tells of a job.

use std::fmt;

use millstream_types::Timestamp;
use millstream_types::api::{CheckpointState, JobState};

use super::Out;
use super::labels::Names;
use super::recent::View;
use crate::Snapshot;

const CLUSTER: &str = "jobmanager";
const JOB: &str = "jobmanager_job";
/// What Flink says of a checkpoint before the first.
const NONE: f64 = -1.0;

pub(super) fn encode(
    out: &mut Out<'_>,
    names: &Names,
    snapshot: &Snapshot,
    recent: &View,
    now: Timestamp,
) -> fmt::Result {
    encode_cluster(out, names, snapshot)?;
    let job = checkpoints(snapshot)
        .into_iter()
        .chain(availability(snapshot, recent, now));
    for (name, value) in job {
        out.gauge(JOB, name, vec![(names.job(), value)])?;
    }
    Ok(())
}

fn encode_cluster(out: &mut Out<'_>, names: &Names, snapshot: &Snapshot) -> fmt::Result {
    let job = &snapshot.job;
    let slots: u32 = job.workers.iter().map(|worker| worker.slots).sum();
    let is_deployed = !job.tasks.is_empty();
    let taken = if is_deployed { job.parallelism } else { 0 };
    let ended = matches!(
        job.state,
        JobState::Stopped | JobState::Completed | JobState::Failed
    );
    let cluster = [
        ("numRegisteredTaskManagers", job.workers.len() as f64),
        ("numRunningJobs", if ended { 0.0 } else { 1.0 }),
        ("taskSlotsAvailable", f64::from(slots.saturating_sub(taken))),
        ("taskSlotsTotal", f64::from(slots)),
    ];
    for (name, value) in cluster {
        out.gauge(CLUSTER, name, vec![(names.host(), value)])?;
    }
    Ok(())
}

fn checkpoints(snapshot: &Snapshot) -> [(&'static str, f64); 9] {
    let counts = snapshot.counts;
    let all = snapshot.checkpoints.iter();
    let in_progress = all.filter(|it| it.summary.state == CheckpointState::InProgress);
    let last = snapshot.job.last_checkpoint.as_ref();
    let whole = last.and_then(|it| it.size_bytes);
    // What was not uploaded again: files that an older checkpoint has written.
    let old = last.map_or(0, |it| {
        let state = it.state_size.unwrap_or(0);
        state.saturating_sub(it.checkpointed_size.unwrap_or(state))
    });
    let or_none = |value: Option<u64>| value.map_or(NONE, |value| value as f64);
    [
        ("totalNumberOfCheckpoints", counts.triggered as f64),
        ("numberOfCompletedCheckpoints", counts.completed as f64),
        ("numberOfFailedCheckpoints", counts.failed as f64),
        ("numberOfInProgressCheckpoints", in_progress.count() as f64),
        (
            "lastCheckpointDuration",
            or_none(last.and_then(|it| it.duration_ms)),
        ),
        (
            "lastCheckpointSize",
            or_none(whole.map(|whole| whole.saturating_sub(old))),
        ),
        ("lastCheckpointFullSize", or_none(whole)),
        ("lastCompletedCheckpointId", or_none(last.map(|it| it.id.0))),
        // In-flight data are not yet written or skipped.
        ("lastCheckpointPersistedData", 0.0),
    ]
}

fn availability(snapshot: &Snapshot, recent: &View, now: Timestamp) -> [(&'static str, f64); 5] {
    let job = &snapshot.job;
    let since = |then: Timestamp| now.millis_since(then) as f64;
    let restarts = job.restarts as f64;
    let (uptime, downtime) = match (job.state, recent.interrupted_at) {
        (JobState::Running, _) => (since(job.since), 0.0),
        // Flink says -1 of a job that has ended.
        (JobState::Stopped | JobState::Completed | JobState::Failed, _) => (NONE, NONE),
        (_, Some(then)) => (0.0, since(then)),
        (_, None) => (0.0, 0.0),
    };
    [
        ("numRestarts", restarts),
        ("fullRestarts", restarts),
        ("uptime", uptime),
        ("downtime", downtime),
        (
            "lastCheckpointRestoreTimestamp",
            recent.restored_at.map_or(NONE, |at| at.0 as f64),
        ),
    ]
}
