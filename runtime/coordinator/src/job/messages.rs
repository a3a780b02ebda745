//! What registered workers say.

use millstream_types::ids::TaskId;
use millstream_types::protocol::{TaskProgress, ToCoordinator};
use millstream_types::{Attempt, CheckpointId, TaskSnapshot, WorkerId};

use crate::job::Job;
use crate::job::event::Now;
use crate::job::state::Phase;
use crate::pending::Ack;
use crate::trigger::FailureReason;

impl Job {
    pub(super) fn message(&mut self, worker: &WorkerId, message: ToCoordinator, now: Now) {
        match message {
            // The connection's business.
            ToCoordinator::Register(_) => {}
            ToCoordinator::Heartbeat { progress } => self.progressed(worker, progress),
            ToCoordinator::TaskRunning { attempt, task } => {
                if self.concerns(worker, attempt, task) {
                    self.task_running(task, now);
                }
            }
            ToCoordinator::TaskEnded { attempt, task } => {
                if self.concerns(worker, attempt, task) {
                    self.task_ended(task);
                }
            }
            ToCoordinator::CheckpointAcknowledged {
                attempt,
                checkpoint,
                task,
                snapshot,
            } => {
                if self.concerns(worker, attempt, task) {
                    self.acknowledged(checkpoint, task, snapshot, now);
                }
            }
            ToCoordinator::CheckpointDeclined {
                attempt,
                checkpoint,
                task,
                failure,
            } => {
                if self.concerns(worker, attempt, task) && self.is_pending(checkpoint) {
                    if failure.kind.is_restartable() {
                        self.fail_checkpoint(checkpoint, &failure, FailureReason::Declined, now);
                    } else {
                        self.fail_attempt(failure, now);
                    }
                }
            }
            ToCoordinator::TaskFailed {
                attempt,
                task,
                failure,
            } => self.task_failed(worker, attempt, task, failure, now),
            ToCoordinator::Leaving => self.worker_leaves(worker, now),
            ToCoordinator::Cancelled { attempt } => {
                if let Phase::Cancelling(cancelling) = &mut self.phase
                    && cancelling.attempt == attempt
                {
                    cancelling.waiting.remove(worker);
                }
            }
        }
    }

    /// Whether a message of a task is about the attempt that runs, from where it runs.
    fn concerns(&self, worker: &WorkerId, attempt: Attempt, task: TaskId) -> bool {
        let Phase::Executing(execution) = &self.phase else {
            return false;
        };
        let hosts = || execution.hosts.get(worker);
        execution.attempt == attempt && hosts().is_some_and(|tasks| tasks.contains(&task))
    }

    fn is_pending(&self, checkpoint: CheckpointId) -> bool {
        self.execution()
            .is_some_and(|execution| execution.pending.contains_key(&checkpoint))
    }

    fn progressed(&mut self, worker: &WorkerId, progress: Vec<TaskProgress>) {
        let Phase::Executing(execution) = &mut self.phase else {
            return;
        };
        let Some(tasks) = execution.hosts.get(worker) else {
            return;
        };
        for report in progress {
            // A task that is still being built has nothing to report yet; what it was restored
            // from stays.
            if tasks.contains(&report.task) && execution.running.contains(&report.task) {
                execution.progress.insert(report.task, report);
            }
        }
    }

    fn acknowledged(
        &mut self,
        checkpoint: CheckpointId,
        task: TaskId,
        snapshot: TaskSnapshot,
        now: Now,
    ) {
        let Phase::Executing(execution) = &mut self.phase else {
            return;
        };
        let attempt = execution.attempt;
        let Some((pending, _)) = execution.pending.get_mut(&checkpoint) else {
            tracing::debug!(%attempt, %checkpoint, %task, "late acknowledgement dropped");
            return;
        };
        let ack = pending.acknowledge(task, snapshot);
        self.records
            .acknowledged(attempt, checkpoint, pending.acknowledged());
        match ack {
            Ack::Accepted => {}
            Ack::Complete => self.all_acknowledged(checkpoint, now),
            Ack::Duplicate | Ack::Unknown => {
                tracing::debug!(%attempt, %checkpoint, %task, ?ack, "acknowledgement dropped");
            }
        }
    }
}
