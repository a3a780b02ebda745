//! What happens while the tasks of an attempt are started or run.

use std::collections::BTreeSet;

use millstream_connect::Discovery;
use millstream_types::ids::TaskId;
use millstream_types::load::TaskLoad;
use millstream_types::protocol::{Passage, TaskProgress, ToCoordinator, ToWorker};
use millstream_types::{
    Attempt, Bug, CheckpointId, ErrorCode, ErrorKind, Failure, OperatorUid, TaskSnapshot, WorkerId,
};

use crate::job::checkpoints::trigger::{FailureReason, Purpose};
use crate::job::checkpoints::{Acknowledged, Complete, Failed, Scope};
use crate::job::command::{Command, Operation};
use crate::job::event::{Event, NotFinalized, Now, Written};
use crate::job::execution::{Execution, name_tasks};
use crate::job::phase::{Next, Transition};
use crate::job::run::{Late, Run};
use crate::placement::SplitLoads;

impl Execution {
    /// Takes a fact.
    pub(super) fn handle(&mut self, event: Event, job: &mut Run, now: Now) -> Transition {
        match event {
            Event::Message { worker, message } => self.message(&worker, message, job, now),
            Event::WorkerLost { worker, failure } => self.task_lost(&worker, failure),
            Event::Finalized {
                attempt,
                checkpoint,
                result,
            } => self.finalized((attempt, checkpoint), result, job, now),
            Event::SavepointWritten {
                attempt,
                checkpoint,
                name,
                result,
            } => match job.savepoint_written((attempt, checkpoint), &name, &result, now) {
                Err(fenced) => job.fenced(fenced),
                Ok(_) if result.is_ok() && attempt == self.attempt => {
                    self.tell_completed(checkpoint, false, job);
                    Transition::Stay
                }
                Ok(_) => Transition::Stay,
            },
            Event::Discovered {
                attempt,
                uid,
                discovery,
            } if attempt == self.attempt => {
                self.discovered(&uid, discovery, job);
                Transition::Stay
            }
            Event::Measured { attempt, uid, lags } if attempt == self.attempt => {
                self.measured(uid, lags);
                Transition::Stay
            }
            Event::DiscoveryFailed { attempt, failure } if attempt == self.attempt => {
                Transition::Fail(failure)
            }
            _ => Transition::Stay,
        }
    }

    /// Looks after deadlines and triggers what is due.
    pub(super) fn advance(&mut self, job: &mut Run, now: Now) -> Transition {
        if !self.all_running() {
            if now.monotonic < self.deploy_deadline {
                return Transition::Stay;
            }
            return Transition::Fail(self.not_started());
        }
        for (id, waiting) in self.checkpoints.expired(now) {
            let failure = expired(id, &waiting, job);
            let transition = self.fail_checkpoint(id, &failure, FailureReason::Expired, job, now);
            if !matches!(transition, Transition::Stay) {
                return transition;
            }
        }
        while self.trigger_next(job, now) {}
        Transition::Stay
    }

    fn trigger_next(&mut self, job: &mut Run, now: Now) -> bool {
        let scope = Scope {
            tasks: &self.tasks,
            splits: &self.splits,
            identities: &self.identities,
        };
        let wanted = job.savepoints.wanted();
        let triggered = self.checkpoints.trigger_next(wanted, scope, now);
        let Some((pending, purpose, barrier)) = triggered else {
            return false;
        };
        job.history.triggered(self.attempt, pending);
        match purpose {
            Purpose::Savepoint(name) => job.savepoints.triggered(name, barrier.checkpoint),
            Purpose::Stop => job.savepoints.stop_triggered(barrier.checkpoint),
            Purpose::Periodic | Purpose::Final => {}
        }
        let attempt = self.attempt;
        job.broadcast(self, &ToWorker::Trigger { attempt, barrier });
        true
    }

    fn message(
        &mut self,
        worker: &WorkerId,
        message: ToCoordinator,
        job: &mut Run,
        now: Now,
    ) -> Transition {
        match message {
            ToCoordinator::Heartbeat { progress } => self.progressed(worker, progress, job),
            ToCoordinator::TaskRunning { attempt, task } => {
                if self.concerns(worker, attempt, task) {
                    return self.task_running(task, job, now);
                }
            }
            ToCoordinator::TaskEnded { attempt, task } => {
                if self.concerns(worker, attempt, task) {
                    self.ended.insert(task);
                    return self.look_for_end(job);
                }
            }
            ToCoordinator::CheckpointAcknowledged {
                attempt,
                checkpoint,
                task,
                snapshot,
                passage,
            } => {
                if self.concerns(worker, attempt, task) {
                    let acknowledged = (checkpoint, task, passage);
                    return self.acknowledged(acknowledged, snapshot, job, now);
                }
            }
            ToCoordinator::CheckpointDeclined {
                attempt,
                checkpoint,
                task,
                failure,
            } => {
                if self.concerns(worker, attempt, task) && self.checkpoints.is_pending(checkpoint) {
                    if !failure.kind.is_restartable() {
                        return Transition::Fail(failure);
                    }
                    let reason = FailureReason::Declined;
                    return self.fail_checkpoint(checkpoint, &failure, reason, job, now);
                }
            }
            ToCoordinator::TaskFailed {
                attempt,
                task,
                failure,
            } => {
                if attempt == self.attempt && self.hosts.contains_key(worker) {
                    let message = format!("task {task} in {worker}: {}", failure.message);
                    return self.task_lost(worker, Failure { message, ..failure });
                }
            }
            ToCoordinator::Leaving => return self.worker_leaves(worker, job, now),
            // The connection's business, and an answer that nobody waits for.
            ToCoordinator::Register(_) | ToCoordinator::Cancelled { .. } => {}
        }
        Transition::Stay
    }

    /// A task, or a worker with all of its tasks, is gone.
    fn task_lost(&mut self, worker: &WorkerId, failure: Failure) -> Transition {
        if !self.hosts.contains_key(worker) {
            return Transition::Stay;
        }
        if self.checkpoints.is_sealed() {
            self.late_failure = Some(failure);
            return Transition::Stay;
        }
        Transition::Fail(failure)
    }

    /// A worker wants to go. One that runs tasks stays until a checkpoint has been taken that
    /// begins now; then the job restarts from it, without the worker.
    fn worker_leaves(&mut self, worker: &WorkerId, job: &Run, now: Now) -> Transition {
        if self.hosts.contains_key(worker) {
            if !self.all_running() {
                return leave(job, now);
            }
            self.leave_after = Some(self.checkpoints.expedite_next());
        }
        Transition::Stay
    }

    fn progressed(&mut self, worker: &WorkerId, progress: Vec<TaskProgress>, job: &mut Run) {
        let Some(tasks) = self.hosts.get(worker) else {
            return;
        };
        for report in progress {
            // A task that is still being built has nothing to report yet; what it was restored
            // from stays.
            if tasks.contains(&report.task) && self.running.contains(&report.task) {
                if let Some((checkpoint, ms)) = report.load.as_ref().and_then(TaskLoad::alignment) {
                    job.history
                        .aligned(self.attempt, checkpoint, report.task, ms);
                }
                self.progress.insert(report.task, report);
            }
        }
    }

    fn task_running(&mut self, task: TaskId, job: &mut Run, now: Now) -> Transition {
        if !self.running.insert(task) || !self.all_running() {
            return Transition::Stay;
        }
        self.checkpoints.running(now);
        let attempt = self.attempt;
        job.commands.push(Command::StartDiscovery { attempt });
        self.look_for_end(job)
    }

    /// Makes the final checkpoint due once nothing more can come from any task.
    fn look_for_end(&mut self, job: &mut Run) -> Transition {
        if self.all_running() && self.ended == self.tasks {
            if Bug::EndWithoutCheckpoint.is_seeded() {
                return job.close_completed();
            }
            self.checkpoints.ended();
        }
        Transition::Stay
    }

    fn discovered(&mut self, uid: &OperatorUid, discovery: Discovery, job: &mut Run) {
        let Some(vertex) = job.settings.topology.sources.get(uid).copied() else {
            return;
        };
        if self.checkpoints.is_closed() {
            // The last barrier has gone out.
            self.found_late.push((uid.clone(), discovery));
            return;
        }
        if let Some(identity) = discovery.identity {
            self.identities.insert(uid.clone(), identity);
        }
        let known = self.splits.entry(uid.clone()).or_default();
        let mut splits = discovery.splits;
        splits.retain(|split| known.insert(split.split.clone()));
        let loads = self.loads.entry(uid.clone());
        let loads =
            loads.or_insert_with(|| SplitLoads::new(job.settings.topology.parallelism_of(uid)));
        let attempt = self.attempt;
        for (subtask, splits) in loads.assign(splits) {
            let task = TaskId { vertex, subtask };
            let uid = uid.clone();
            let added = ToWorker::AddSplits {
                attempt,
                task,
                uid,
                splits,
            };
            if let Some(worker) = self.host(task) {
                job.send(worker, added);
            }
        }
    }

    fn acknowledged(
        &mut self,
        (id, task, passage): (CheckpointId, TaskId, Passage),
        snapshot: TaskSnapshot,
        job: &mut Run,
        now: Now,
    ) -> Transition {
        let attempt = self.attempt;
        let part = job.history.part((attempt, id), task, &snapshot, now.wall);
        match self.checkpoints.acknowledge(id, task, snapshot) {
            Acknowledged::Dropped => {
                tracing::debug!(%attempt, checkpoint = %id, %task, "acknowledgement dropped");
            }
            Acknowledged::Accepted(count) => {
                job.history
                    .acknowledged((attempt, id), count, part, passage);
            }
            Acknowledged::Complete(count, complete) => {
                job.history
                    .acknowledged((attempt, id), count, part, passage);
                self.all_acknowledged(*complete, job, now);
            }
            Acknowledged::Inconsistent(failure) => {
                // The failure is told once, as that of the attempt.
                let told = failure.clone();
                drop(job.history.failed(attempt, id, told, now.wall));
                return Transition::Fail(failure);
            }
        }
        Transition::Stay
    }

    fn all_acknowledged(&mut self, complete: Complete, job: &mut Run, now: Now) {
        let Complete {
            purpose,
            parts,
            deadline,
        } = complete;
        let mut manifest = job.settings.manifest(self.attempt, parts, now.wall);
        job.history.complete(&manifest);
        if let Purpose::Savepoint(name) = &purpose {
            match job.savepoints.acknowledged(name, manifest) {
                Some(write) => job.write_savepoint(write),
                None => self.checkpoints.expedite(),
            }
            return;
        }
        if purpose == Purpose::Stop {
            job.savepoints.stop_acknowledged();
        }
        manifest.ended = purpose == Purpose::Final;
        let finalize = Operation::Finalize {
            manifest: Box::new(manifest.clone()),
            deadline,
        };
        job.commands.push(finalize.into());
        self.checkpoints.finalize(purpose, manifest);
    }

    /// A checkpoint will never be decided, or is not known to be.
    fn fail_checkpoint(
        &mut self,
        id: CheckpointId,
        failure: &Failure,
        reason: FailureReason,
        job: &mut Run,
        now: Now,
    ) -> Transition {
        let Some(Failed { purpose, too_many }) = self.checkpoints.fail(id, reason) else {
            return Transition::Stay;
        };
        let attempt = self.attempt;
        let aborted = ToWorker::Aborted {
            attempt,
            checkpoint: id,
        };
        job.broadcast(self, &aborted);
        // What has become of tasks does not matter while the last checkpoint is being decided.
        let is_sealed = self.checkpoints.is_sealed();
        let late_failure = self.late_failure.take_if(|_| !is_sealed);
        match purpose {
            Purpose::Periodic if self.leave_after.is_some() => self.checkpoints.expedite(),
            Purpose::Periodic | Purpose::Final => {}
            Purpose::Savepoint(name) => drop(job.savepoints.fail(&name, failure.clone())),
            Purpose::Stop => job.savepoints.stop_failed(failure.clone()),
        }
        job.record_failed((attempt, id), failure.clone(), now);
        if let Some(in_a_row) = too_many {
            return Transition::Fail(too_many_failures(job, in_a_row, failure));
        }
        if let Some(failure) = late_failure {
            return Transition::Fail(failure);
        }
        self.deal_out_found(job);
        Transition::Stay
    }

    /// The last checkpoint of the attempt has failed and there may be others: what was found
    /// meanwhile is read from now on.
    fn deal_out_found(&mut self, job: &mut Run) {
        if !self.checkpoints.is_closed() {
            for (uid, discovery) in std::mem::take(&mut self.found_late) {
                self.discovered(&uid, discovery, job);
            }
        }
    }

    fn finalized(
        &mut self,
        (attempt, id): (Attempt, CheckpointId),
        result: Result<Written, NotFinalized>,
        job: &mut Run,
        now: Now,
    ) -> Transition {
        let is_ours = attempt == self.attempt && self.checkpoints.is_finalizing(id);
        match result {
            Ok(written) if is_ours => {
                job.record_completed((attempt, id), &written, now);
                self.completed(id, job, now)
            }
            Err(NotFinalized::NotDecided(failure)) if is_ours => {
                if failure.kind == ErrorKind::Fenced {
                    job.fenced(failure)
                } else if failure.kind.is_restartable() {
                    self.fail_checkpoint(id, &failure, FailureReason::NotDecided, job, now)
                } else {
                    job.record_failed((attempt, id), failure.clone(), now);
                    Transition::Fail(failure)
                }
            }
            result => match job.finalized_late((attempt, id), result, now) {
                Ok(()) => Transition::Stay,
                Err(Late::Fenced(failure)) => job.fenced(failure),
                Err(Late::Failed(failure)) if attempt == self.attempt => Transition::Fail(failure),
                // This attempt has resolved it, or has begun without it.
                Err(Late::Failed(failure)) => {
                    tracing::warn!(%attempt, %failure, "checkpoint of an older attempt not committed");
                    Transition::Stay
                }
            },
        }
    }

    /// A checkpoint is decided and committed.
    fn completed(&mut self, id: CheckpointId, job: &mut Run, now: Now) -> Transition {
        let Some(finalizing) = self.checkpoints.committed(id, now) else {
            return Transition::Stay;
        };
        let (purpose, manifest) = (finalizing.purpose, finalizing.manifest);
        if purpose.is_last() {
            // What has become of tasks does not matter once it is decided either.
            self.late_failure = None;
        }
        let topology = &job.settings.topology;
        job.audit.follow(id, topology, manifest.totals());
        job.history.decided(&manifest);
        self.tell_completed(id, true, job);
        self.supersede_before(id, job, now);
        let (writes, lost) = job.savepoints.committed(&manifest);
        for write in writes {
            job.write_savepoint(write);
        }
        let mut broken = None;
        for lost in lost {
            job.record_failed((self.attempt, lost.checkpoint), lost.failure.clone(), now);
            broken = Some(lost.failure);
        }
        match (purpose, broken) {
            (Purpose::Final, _) => job.close_completed(),
            (Purpose::Stop, _) => job.close_stopped(&manifest),
            (_, Some(failure)) => Transition::Fail(failure),
            (_, None) if self.leave_after.is_some_and(|first| id >= first) => leave(job, now),
            (_, None) => Transition::Stay,
        }
    }

    /// Gives up older checkpoints that a newer one has made needless.
    fn supersede_before(&mut self, id: CheckpointId, job: &mut Run, now: Now) {
        for older in self.checkpoints.superseded_by(id) {
            let failure = Failure::new(
                ErrorCode::CheckpointExpired,
                ErrorKind::Retryable,
                format!("checkpoint {id} completed before checkpoint {older} and includes it"),
            );
            // That counts as no failure, so the attempt goes on.
            drop(self.fail_checkpoint(older, &failure, FailureReason::Superseded, job, now));
        }
    }

    fn tell_completed(&self, checkpoint: CheckpointId, committed: bool, job: &mut Run) {
        let completed = ToWorker::Completed {
            attempt: self.attempt,
            checkpoint,
            committed,
        };
        job.broadcast(self, &completed);
    }
}

/// Restarts without the workers that leave. It is no failure: it waits for no delay and counts
/// towards no limit.
fn leave(job: &Run, now: Now) -> Transition {
    let reason = Failure::new(
        ErrorCode::WorkerLost,
        ErrorKind::Retryable,
        format!("worker {} leaves", job.workers.leaving()),
    );
    Transition::Leave(reason, Next::Restart(now.monotonic))
}

fn expired(id: CheckpointId, waiting: &BTreeSet<TaskId>, job: &Run) -> Failure {
    Failure::new(
        ErrorCode::CheckpointExpired,
        ErrorKind::Retryable,
        format!(
            "checkpoint {id} was not acknowledged within `checkpoint.timeout` ({:?}) by tasks {}",
            job.settings.checkpoint.timeout,
            name_tasks(waiting)
        ),
    )
}

fn too_many_failures(job: &Run, in_a_row: u32, last: &Failure) -> Failure {
    Failure::new(
        ErrorCode::CheckpointFailuresExceeded,
        ErrorKind::Retryable,
        format!(
            "{in_a_row} checkpoints in a row have failed and `checkpoint.tolerableFailures` is {}; \
             the last one: {last}",
            job.settings.tolerable_failures
        ),
    )
}
