//! What the job looks like from outside.

use std::collections::BTreeMap;

use millstream_checkpoint::ReleaseReason;
use millstream_types::api::{CheckpointFailures, JobState, JobStatus, WorkerStatus};
use millstream_types::{ErrorCode, OperatorUid, SplitState};

use crate::job::Job;
use crate::job::command::Command;
use crate::job::event::Now;
use crate::job::state::{Execution, Phase};
use crate::placement::place;
use crate::{Outcome, Progress, Snapshot};

impl Job {
    /// What the job is doing.
    pub fn state(&self) -> JobState {
        match &self.phase {
            Phase::Ended(_) => self.ended_state(),
            _ if self.cancelled => JobState::Stopping,
            Phase::Preparing { .. } => JobState::Restoring,
            Phase::Waiting(_) => JobState::WaitingForWorkers,
            Phase::Executing(execution) if !execution.all_running() => JobState::Deploying,
            Phase::Executing(_) if self.stop.is_some() => JobState::Stopping,
            Phase::Executing(_) => JobState::Running,
            Phase::Closing(closing) => match closing.reason {
                ReleaseReason::Stopped | ReleaseReason::Deleted => JobState::Stopping,
                ReleaseReason::Completed => JobState::Running,
                ReleaseReason::Failed => JobState::Restarting,
            },
            Phase::Cancelling(_) | Phase::Delaying { .. } => JobState::Restarting,
        }
    }

    const fn ended_state(&self) -> JobState {
        match &self.phase {
            Phase::Ended(Outcome::Completed) => JobState::Completed,
            Phase::Ended(Outcome::Stopped { .. }) => JobState::Stopped,
            Phase::Ended(Outcome::Failed(_) | Outcome::Fenced(_)) => JobState::Failed,
            // The next coordinator goes on.
            _ => JobState::Restarting,
        }
    }

    /// Tells the observers if the job does something else now.
    pub(super) fn show(&mut self, now: Now) {
        let state = self.state();
        if state != self.shown {
            self.shown = state;
            self.since = self.ended_at.unwrap_or(now.wall);
            tracing::info!(attempt = %self.attempt, ?state, "job state");
            let news = Progress::State {
                state,
                attempt: self.attempt,
            };
            // Before the end of the run, which is the last command.
            let at = match self.commands.last() {
                Some(Command::Finish(_)) => self.commands.len() - 1,
                _ => self.commands.len(),
            };
            self.commands.insert(at, Command::News(news));
        }
    }

    /// Everything that is known.
    pub fn snapshot(&self) -> Snapshot {
        let operators = match self.execution() {
            Some(execution) => execution.totals(),
            None => self.totals.clone(),
        };
        Snapshot {
            job: JobStatus {
                job: self.settings.job.clone(),
                state: self.state(),
                since: self.since,
                deployment: self.settings.deployment,
                attempt: self.attempt,
                restarts: self.begun - 1,
                parallelism: self.settings.parallelism,
                workers: self.worker_statuses(),
                restored_from: self.restored_from.clone(),
                given_up: self.given_up.clone(),
                savepoint: self.stopped_with().cloned(),
                last_checkpoint: self.records.last_completed.clone(),
                checkpoint_failures: self.checkpoint_failures(),
                tasks: self
                    .execution()
                    .map(|execution| execution.task_statuses(&self.settings.topology))
                    .unwrap_or_default(),
                operators,
                lags: self
                    .execution()
                    .map(|execution| execution.lags.clone())
                    .unwrap_or_default(),
                last_failure: self.last_failure.clone().map(Into::into),
                message: self.note(),
            },
            counts: self.records.counts,
            checkpoints: self.records.checkpoints.iter().cloned().collect(),
            savepoints: self.records.savepoints.clone(),
            audit: self.audit.report.clone(),
            began_with: self.audit.since.clone(),
        }
    }

    /// Where the splits of each source stand.
    pub fn positions(&self) -> BTreeMap<OperatorUid, Vec<SplitState>> {
        let execution = self.execution();
        execution.map(Execution::positions).unwrap_or_default()
    }

    /// What has failed since a checkpoint of this attempt completed.
    fn checkpoint_failures(&self) -> Option<CheckpointFailures> {
        let in_a_row = self.execution()?.counter.in_a_row();
        if in_a_row == 0 {
            return None;
        }
        Some(CheckpointFailures {
            in_a_row,
            tolerable: self.settings.tolerable_failures,
            last: self.records.last_failure()?.clone(),
        })
    }

    /// Path of the savepoint that the job has been stopped with.
    pub(super) const fn stopped_with(&self) -> Option<&String> {
        match &self.phase {
            Phase::Ended(Outcome::Stopped { savepoint }) => savepoint.as_ref(),
            _ => None,
        }
    }

    fn worker_statuses(&self) -> Vec<WorkerStatus> {
        let execution = self.execution();
        self.workers
            .iter()
            .map(|(worker, slots)| {
                let tasks = execution.and_then(|execution| execution.hosts.get(worker));
                WorkerStatus {
                    worker: worker.to_string(),
                    slots: *slots,
                    tasks: tasks.map_or(0, |tasks| u32::try_from(tasks.len()).unwrap_or(u32::MAX)),
                }
            })
            .collect()
    }

    /// What is waited for and what a person can do. Empty when all is well.
    pub(super) fn note(&self) -> String {
        match &self.phase {
            Phase::Preparing { note } => note.clone(),
            Phase::Waiting(_) => self.missing_slots(),
            Phase::Executing(execution) if !execution.all_running() => format!(
                "{} of {} tasks run",
                execution.running.len(),
                execution.tasks.len()
            ),
            Phase::Executing(execution) => match execution.counter.in_a_row() {
                0 => String::new(),
                failures => format!(
                    "the last {failures} checkpoints failed; {} in a row restart the job",
                    self.settings.tolerable_failures.saturating_add(1)
                ),
            },
            Phase::Closing(closing) => match closing.reason {
                ReleaseReason::Stopped | ReleaseReason::Deleted if self.cancelled => {
                    "the job is cancelled; the chain is being released".to_owned()
                }
                ReleaseReason::Stopped | ReleaseReason::Deleted => {
                    "everything is committed; the chain is being released".to_owned()
                }
                ReleaseReason::Completed => {
                    "all sources have ended and everything is committed".to_owned()
                }
                ReleaseReason::Failed => "the job is given up".to_owned(),
            },
            Phase::Cancelling(cancelling) => format!(
                "stops the tasks of attempt {}; {} workers have not answered yet",
                cancelling.attempt,
                cancelling.waiting.len()
            ),
            Phase::Delaying { .. } => "waits for the restart delay".to_owned(),
            Phase::Ended(outcome) => match outcome {
                Outcome::Completed => "completed".to_owned(),
                Outcome::Stopped { savepoint: None } if self.cancelled => self.cancelled_note(),
                Outcome::Stopped { savepoint: None } => "stopped".to_owned(),
                Outcome::Stopped {
                    savepoint: Some(path),
                } => format!("stopped with savepoint {path}"),
                Outcome::Failed(failure) | Outcome::Fenced(failure) => failure.to_string(),
                Outcome::Interrupted => "this coordinator has ended; the next goes on".to_owned(),
            },
        }
    }

    fn cancelled_note(&self) -> String {
        match (&self.last_failure, self.settings.discards) {
            (_, false) => "cancelled; its checkpoints are kept".to_owned(),
            (None, true) => "cancelled; its checkpoints are deleted".to_owned(),
            (Some(failure), true) => format!("cancelled; {failure}"),
        }
    }

    fn missing_slots(&self) -> String {
        match place(
            &self.workers,
            self.settings.topology.slots(),
            &self.placement,
        ) {
            Ok(_) => String::new(),
            Err(missing) => format!(
                "{} {}: {missing} by {} workers; start workers with {} more slots, or lower \
                 `parallelism`",
                ErrorCode::NotEnoughSlots.code(),
                ErrorCode::NotEnoughSlots.name(),
                self.workers.len(),
                missing.needed - missing.offered
            ),
        }
    }
}
