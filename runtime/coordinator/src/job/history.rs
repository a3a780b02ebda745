//! What became of the job's checkpoints, for people.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use millstream_checkpoint::{CheckpointEntry, Manifest};
use millstream_types::api::{
    CheckpointCounts, CheckpointDetail, CheckpointState, CheckpointSummary, ReportedFailure,
    SubtaskCheckpoint,
};
use millstream_types::ids::TaskId;
use millstream_types::protocol::Passage;
use millstream_types::{Attempt, CheckpointId, Failure, StateSnapshot, TaskSnapshot, Timestamp};

use crate::job::checkpoints::pending::Pending;
use crate::job::event::Written;

/// How many checkpoints are remembered.
const REMEMBERED: usize = 100;
/// Of how many tasks is remembered how they took part in one: the answers of the REST interface have
/// a bounded length.
const SUBTASKS_MAX: usize = 1_000;

/// Checkpoints since this coordinator began, those of savepoints among them.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) counts: CheckpointCounts,
    /// The newest first. Shared with those who look at them.
    pub(crate) checkpoints: VecDeque<Arc<CheckpointDetail>>,
    pub(crate) last_completed: Option<CheckpointSummary>,
    /// Paths of the files that the newest decided checkpoint names.
    named: BTreeSet<String>,
}

impl History {
    pub(crate) fn triggered(&mut self, attempt: Attempt, pending: &Pending) {
        self.counts.triggered += 1;
        let tasks = u32::try_from(pending.tasks()).unwrap_or(u32::MAX);
        self.checkpoints.push_front(Arc::new(CheckpointDetail {
            summary: CheckpointSummary {
                id: pending.id,
                kind: pending.kind.into(),
                state: CheckpointState::InProgress,
                attempt,
                triggered_at: pending.triggered_at,
                completed_at: None,
                duration_ms: None,
                size_bytes: None,
                state_size: None,
                checkpointed_size: None,
                in_flight_size: None,
                unaligned: false,
                alignment_ms: None,
                path: None,
                failure: None,
            },
            acknowledged: 0,
            tasks,
            operators: BTreeMap::new(),
            subtasks: Vec::new(),
        }));
        self.checkpoints.truncate(REMEMBERED);
    }

    /// How a task takes part in a checkpoint that it acknowledges now.
    pub(crate) fn part(
        &self,
        at: (Attempt, CheckpointId),
        task: TaskId,
        snapshot: &TaskSnapshot,
        now: Timestamp,
    ) -> SubtaskCheckpoint {
        let mut details = self.checkpoints.iter().map(|detail| &detail.summary);
        let summary = details.find(|summary| (summary.attempt, summary.id) == at);
        let triggered_at = summary.map_or(now, |summary| summary.triggered_at);
        let states = snapshot.operators.values();
        let states: Vec<&StateSnapshot> = states.filter_map(|one| one.state.as_ref()).collect();
        let files = || states.iter().flat_map(|state| state.files());
        let new = files().filter(|file| !self.named.contains(&file.path));
        SubtaskCheckpoint {
            vertex: task.vertex,
            subtask: task.subtask,
            acknowledged_after_ms: now.millis_since(triggered_at),
            alignment_ms: None,
            state_size: (!states.is_empty()).then(|| files().map(|file| file.bytes).sum()),
            checkpointed_size: (!states.is_empty()).then(|| new.map(|file| file.bytes).sum()),
        }
    }

    /// Takes note of an acknowledgement that counts.
    pub(crate) fn acknowledged(
        &mut self,
        (attempt, id): (Attempt, CheckpointId),
        count: usize,
        part: SubtaskCheckpoint,
        passage: Passage,
    ) {
        if let Some(detail) = self.find(attempt, id) {
            detail.acknowledged = u32::try_from(count).unwrap_or(u32::MAX);
            let summary = &mut detail.summary;
            summary.unaligned |= passage.unaligned;
            summary.alignment_ms = summary.alignment_ms.max(Some(passage.alignment_ms));
            if detail.subtasks.len() >= SUBTASKS_MAX {
                detail.subtasks.remove(0);
            }
            detail.subtasks.push(part);
        }
    }

    /// A task has said how long its channels took to align, in a checkpoint that it has acknowledged.
    pub(crate) fn aligned(&mut self, attempt: Attempt, id: CheckpointId, task: TaskId, ms: u64) {
        let is_it = |detail: &&mut Arc<CheckpointDetail>| {
            (detail.summary.attempt, detail.summary.id) == (attempt, id)
        };
        let is_part = |part: &SubtaskCheckpoint| {
            (part.vertex, part.subtask) == (task.vertex, task.subtask)
                && part.alignment_ms.is_none()
        };
        let Some(detail) = self.checkpoints.iter_mut().find(is_it) else {
            return;
        };
        if let Some(place) = detail.subtasks.iter().position(is_part)
            && let Some(part) = Arc::make_mut(detail).subtasks.get_mut(place)
        {
            part.alignment_ms = Some(ms);
        }
    }

    /// Every task has acknowledged: from here on totals and sizes are known.
    pub(crate) fn complete(&mut self, manifest: &Manifest) {
        let files = manifest.state_bytes();
        let state = files.saturating_sub(manifest.in_flight_bytes());
        let state = manifest.has_state().then_some(state);
        let new = manifest.state_bytes_besides(&self.named);
        if let Some(detail) = self.find(manifest.attempt, manifest.checkpoint) {
            detail.operators = manifest.totals();
            let summary = &mut detail.summary;
            summary.state_size = state;
            summary.in_flight_size = in_flight(manifest);
            summary.checkpointed_size = if manifest.kind.commits() {
                state.map(|_| new)
            } else {
                state
            };
        }
    }

    /// A checkpoint is the newest of the chain.
    pub(crate) fn decided(&mut self, manifest: &Manifest) {
        self.named = manifest.files().map(|file| file.path.clone()).collect();
    }

    /// Returns the summary, unless the checkpoint is no longer remembered or was no longer in
    /// progress.
    pub(crate) fn completed(
        &mut self,
        attempt: Attempt,
        id: CheckpointId,
        written: &Written,
        now: Timestamp,
    ) -> Option<CheckpointSummary> {
        let detail = self.find(attempt, id)?;
        let summary = &mut detail.summary;
        summary.state = CheckpointState::Completed;
        summary.completed_at = Some(now);
        summary.duration_ms = Some(now.millis_since(summary.triggered_at));
        summary.path = Some(written.path.clone());
        summary.size_bytes = Some(written.bytes);
        let summary = summary.clone();
        self.counts.completed += 1;
        if summary.commits() {
            self.counts.failed_in_a_row = 0;
            self.last_completed = Some(summary.clone());
        }
        Some(summary)
    }

    pub(crate) fn failed(
        &mut self,
        attempt: Attempt,
        id: CheckpointId,
        failure: Failure,
        now: Timestamp,
    ) -> Option<CheckpointSummary> {
        let detail = self.find(attempt, id)?;
        let summary = &mut detail.summary;
        summary.state = CheckpointState::Failed;
        summary.duration_ms = Some(now.millis_since(summary.triggered_at));
        summary.failure = Some(failure.into());
        let summary = summary.clone();
        self.counts.failed += 1;
        if summary.commits() {
            self.counts.failed_in_a_row += 1;
        }
        Some(summary)
    }

    /// Why the newest checkpoint failed that has. Savepoints apart.
    pub(crate) fn last_failure(&self) -> Option<&ReportedFailure> {
        let mut summaries = self.checkpoints.iter().map(|detail| &detail.summary);
        summaries.find_map(|summary| summary.failure.as_ref().filter(|_| summary.commits()))
    }

    /// What a chain still has of a job that ended before this coordinator began.
    pub(crate) fn remember(&mut self, entries: &[CheckpointEntry], newest: Option<&Manifest>) {
        for entry in entries {
            let manifest = newest
                .filter(|newest| (newest.checkpoint, newest.attempt) == (entry.id, entry.attempt));
            let triggered_at = manifest.map_or(entry.decided_at, |manifest| manifest.triggered_at);
            self.checkpoints.push_front(Arc::new(CheckpointDetail {
                summary: CheckpointSummary {
                    id: entry.id,
                    kind: entry.kind.into(),
                    state: CheckpointState::Completed,
                    attempt: entry.attempt,
                    triggered_at,
                    completed_at: Some(entry.decided_at),
                    duration_ms: manifest.map(|_| entry.decided_at.millis_since(triggered_at)),
                    size_bytes: Some(entry.size_bytes),
                    state_size: (entry.state_bytes > 0).then_some(entry.state_bytes),
                    checkpointed_size: None,
                    in_flight_size: manifest.and_then(in_flight),
                    unaligned: manifest.and_then(in_flight).is_some(),
                    alignment_ms: None,
                    path: Some(entry.path.clone()),
                    failure: None,
                },
                acknowledged: 0,
                tasks: 0,
                operators: manifest.map(Manifest::totals).unwrap_or_default(),
                subtasks: Vec::new(),
            }));
        }
        self.checkpoints.truncate(REMEMBERED);
        let newest = self.checkpoints.front();
        self.last_completed = newest.map(|detail| detail.summary.clone());
    }

    fn find(&mut self, attempt: Attempt, id: CheckpointId) -> Option<&mut CheckpointDetail> {
        let detail = self.checkpoints.iter_mut().find(|detail| {
            detail.summary.attempt == attempt
                && detail.summary.id == id
                && detail.summary.state == CheckpointState::InProgress
        })?;
        Some(Arc::make_mut(detail))
    }
}

/// Bytes of the records in flight of a checkpoint, if it has any.
fn in_flight(manifest: &Manifest) -> Option<u64> {
    Some(manifest.in_flight_bytes()).filter(|bytes| *bytes > 0)
}
