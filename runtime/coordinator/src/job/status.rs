//! What the job looks like from outside.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_checkpoint::ReleaseReason;
use millstream_types::api::{
    AuditReport, CheckpointCounts, CheckpointDetail, CheckpointFailures, FailureReport, JobState,
    JobStatus, SavepointStatus,
};
use millstream_types::protocol::TaskProgress;
use millstream_types::{Attempt, ErrorCode, OperatorUid, SplitState};

use crate::job::Job;
use crate::job::audit::Totals;
use crate::job::command::Command;
use crate::job::event::Now;
use crate::job::execution::Execution;
use crate::job::news::Progress;
use crate::job::outcome::Outcome;
use crate::job::phase::Phase;
use crate::job::warnings::warnings;
use crate::placement::place;

/// Everything that is known about the job at one instant.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The job.
    pub job: JobStatus,
    /// Counts since this coordinator began.
    pub counts: CheckpointCounts,
    /// Checkpoints and savepoints since this coordinator began, the newest first, at most 100.
    pub checkpoints: Vec<Arc<CheckpointDetail>>,
    /// Attempts that have failed since this coordinator began, the newest first, at most 100.
    pub failures: Vec<Arc<FailureReport>>,
    /// Savepoints that were asked for since this coordinator began, by name.
    pub savepoints: BTreeMap<String, SavepointStatus>,
    /// What became of the records, by the newest manifest.
    pub audit: AuditReport,
    /// Totals of the manifest that the first attempt of this coordinator has started from.
    pub began_with: Option<Totals>,
}

impl Job {
    /// What the job is doing.
    pub fn state(&self) -> JobState {
        match &self.phase {
            Phase::Ended(_) => self.ended_state(),
            _ if self.run.cancelled => JobState::Stopping,
            Phase::Preparing { .. } => JobState::Restoring,
            Phase::Waiting(_) => JobState::WaitingForWorkers,
            Phase::Executing(execution) if !execution.all_running() => JobState::Deploying,
            Phase::Executing(_) if self.run.savepoints.stop().is_some() => JobState::Stopping,
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
        if state == self.shown {
            return;
        }
        self.shown = state;
        let job = &mut self.run;
        let attempt = job.attempt;
        job.since = job.ended_at.unwrap_or(now.wall);
        tracing::info!(%attempt, ?state, "job state");
        // Before the end of the run, which is the last command.
        let at = match job.commands.last() {
            Some(Command::Finish(_)) => job.commands.len() - 1,
            _ => job.commands.len(),
        };
        let news = Command::News(Progress::State { state, attempt });
        job.commands.insert(at, news);
    }

    /// Everything that is known.
    pub fn snapshot(&self) -> Snapshot {
        let job = &self.run;
        Snapshot {
            job: self.status(),
            counts: job.history.counts,
            checkpoints: job.history.checkpoints.iter().cloned().collect(),
            failures: job.failures.reports.iter().cloned().collect(),
            savepoints: job.savepoints.statuses(),
            audit: job.audit.report.clone(),
            began_with: job.audit.since.clone(),
        }
    }

    fn status(&self) -> JobStatus {
        let job = &self.run;
        let execution = self.execution();
        let topology = &job.settings.topology;
        let tasks = execution.map_or_else(Vec::new, |one| one.task_statuses(topology));
        JobStatus {
            job: job.settings.job.clone(),
            state: self.state(),
            since: job.since,
            deployment: job.settings.deployment,
            attempt: job.attempt,
            restarts: job.begun - 1,
            parallelism: job.settings.parallelism,
            workers: job.workers.statuses(execution),
            restored_from: job.restored_from.clone(),
            given_up: job.given_up.clone(),
            savepoint: self.stopped_with().cloned(),
            last_checkpoint: job.history.last_completed.clone(),
            checkpoint_failures: self.checkpoint_failures(),
            warnings: warnings(&job.settings, &job.history, &tasks),
            tasks,
            operators: execution.map_or_else(|| job.audit.totals.clone(), Execution::totals),
            lags: execution.map_or_else(BTreeMap::new, |one| one.lags.clone()),
            last_failure: job.last_failure.clone().map(Into::into),
            message: self.note(),
        }
    }

    /// The attempt whose tasks are deployed, if any are.
    pub(crate) fn deployed_attempt(&self) -> Option<Attempt> {
        self.execution().map(|execution| execution.attempt)
    }

    /// Whether the current attempt goes on from a checkpoint or savepoint.
    pub(crate) const fn is_restored(&self) -> bool {
        self.run.restored_from.is_some()
    }

    /// How every deployed task has said last that it stands; at first what it was restored from.
    pub(crate) fn progress(&self) -> impl Iterator<Item = &TaskProgress> {
        let tasks = self.execution().into_iter();
        tasks.flat_map(|execution| execution.progress.values())
    }

    /// Where the splits of each source stand.
    pub fn positions(&self) -> BTreeMap<OperatorUid, Vec<SplitState>> {
        let execution = self.execution();
        execution.map(Execution::positions).unwrap_or_default()
    }

    /// What has failed since a checkpoint of this attempt completed.
    fn checkpoint_failures(&self) -> Option<CheckpointFailures> {
        let in_a_row = self.execution()?.checkpoints.failed_in_a_row();
        if in_a_row == 0 {
            return None;
        }
        Some(CheckpointFailures {
            in_a_row,
            tolerable: self.run.settings.tolerable_failures,
            last: self.run.history.last_failure()?.clone(),
        })
    }

    /// Path of the savepoint that the job has been stopped with.
    pub(super) const fn stopped_with(&self) -> Option<&String> {
        match &self.phase {
            Phase::Ended(Outcome::Stopped { savepoint }) => savepoint.as_ref(),
            _ => None,
        }
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
            Phase::Executing(execution) => match execution.checkpoints.failed_in_a_row() {
                0 => String::new(),
                failures => format!(
                    "the last {failures} checkpoints failed; {} in a row restart the job",
                    self.run.settings.tolerable_failures.saturating_add(1)
                ),
            },
            Phase::Closing(closing) => match closing.reason {
                ReleaseReason::Stopped | ReleaseReason::Deleted if self.run.cancelled => {
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
                Outcome::Stopped { savepoint: None } if self.run.cancelled => self.cancelled_note(),
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
        match (&self.run.last_failure, self.run.settings.discards) {
            (_, false) => "cancelled; its checkpoints are kept".to_owned(),
            (None, true) => "cancelled; its checkpoints are deleted".to_owned(),
            (Some(failure), true) => format!("cancelled; {failure}"),
        }
    }

    fn missing_slots(&self) -> String {
        let job = &self.run;
        let slots = job.workers.slots();
        match place(slots, job.settings.topology.slots(), &job.placement) {
            Ok(_) => String::new(),
            Err(missing) => format!(
                "{} {}: {missing} by {} workers; start workers with {} more slots, or lower \
                 `parallelism`",
                ErrorCode::NotEnoughSlots.code(),
                ErrorCode::NotEnoughSlots.name(),
                slots.len(),
                missing.needed - missing.offered
            ),
        }
    }
}
