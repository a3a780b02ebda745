//! What follows a failure: stopping what still runs, waiting, another attempt, or giving up.

use std::collections::BTreeSet;

use millstream_checkpoint::ReleaseReason;
use millstream_types::ids::TaskId;
use millstream_types::protocol::ToWorker;
use millstream_types::{Attempt, CheckpointId, ErrorCode, Failure, WorkerId};

use crate::job::Job;
use crate::job::command::Command;
use crate::job::event::Now;
use crate::job::state::{Cancelling, Closing, Execution, Next, Phase};
use crate::restart::Decision;
use crate::trigger::Purpose;
use crate::{Outcome, Progress};

impl Job {
    pub(super) fn task_failed(
        &mut self,
        worker: &WorkerId,
        attempt: Attempt,
        task: TaskId,
        failure: Failure,
        now: Now,
    ) {
        match &mut self.phase {
            Phase::Executing(execution)
                if execution.attempt == attempt && execution.hosts.contains_key(worker) =>
            {
                let message = format!("task {task} in {worker}: {}", failure.message);
                let failure = Failure { message, ..failure };
                if execution.is_sealed() {
                    execution.late_failure = Some(failure);
                } else {
                    self.fail_attempt(failure, now);
                }
            }
            // The first failure decides, unless a later one is such that no restart helps.
            Phase::Cancelling(cancelling)
                if cancelling.attempt == attempt
                    && !failure.kind.is_restartable()
                    && matches!(cancelling.next, Next::Restart(_)) =>
            {
                cancelling.next = Next::GiveUp(failure.clone());
                self.last_failure = Some(failure);
            }
            _ => {}
        }
    }

    /// Fails the attempt if it is still the one that runs; if it is over and no restart helps, the
    /// job.
    pub(super) fn fail_attempt_of(&mut self, attempt: Attempt, failure: Failure, now: Now) {
        if self
            .execution()
            .is_some_and(|execution| execution.attempt == attempt)
        {
            self.fail_attempt(failure, now);
        } else if let Phase::Cancelling(cancelling) = &mut self.phase
            && !failure.kind.is_restartable()
        {
            cancelling.next = Next::GiveUp(failure.clone());
            self.last_failure = Some(failure);
        } else if matches!(self.phase, Phase::Delaying { .. }) && !failure.kind.is_restartable() {
            self.give_up(failure);
        } else {
            // The next attempt is being prepared; it resolves the same checkpoint and meets the
            // same obstacle, if it is still there.
            tracing::warn!(%attempt, %failure, "checkpoint of an older attempt not committed");
        }
    }

    /// Ends the running attempt.
    pub(super) fn fail_attempt(&mut self, failure: Failure, now: Now) {
        if self.end_if_fenced(&failure) || !self.runs_tasks() {
            return;
        }
        tracing::warn!(attempt = %self.attempt, %failure, "attempt failed");
        let reason = failure.clone();
        let next = self.after_failure(failure, now);
        self.stop_attempt(&reason, next, now);
    }

    const fn runs_tasks(&self) -> bool {
        match &self.phase {
            Phase::Executing(_) => true,
            Phase::Closing(closing) => closing.execution.is_some(),
            _ => false,
        }
    }

    /// Stops the tasks of the attempt, for a reason, and says what follows.
    pub(super) fn stop_attempt(&mut self, reason: &Failure, next: Next, now: Now) {
        let Some(execution) = self.take_phase(|phase| match phase {
            Phase::Executing(execution)
            | Phase::Closing(Closing {
                execution: Some(execution),
                ..
            }) => Ok(execution),
            other => Err(other),
        }) else {
            return;
        };
        self.abandon_checkpoints(&execution, reason, now);
        self.commands.push(Command::StopDiscovery);
        let attempt = execution.attempt;
        let waiting: BTreeSet<WorkerId> = execution
            .hosts
            .keys()
            .filter(|worker| self.workers.contains_key(*worker))
            .cloned()
            .collect();
        for worker in &waiting {
            self.commands.push(Command::Send {
                worker: worker.clone(),
                message: ToWorker::Cancel { attempt },
            });
        }
        self.phase = Phase::Cancelling(Cancelling {
            attempt,
            waiting,
            deadline: now.monotonic.saturating_add(self.settings.cancel_timeout),
            next,
        });
    }

    /// Checkpoints without all acknowledgements end with their attempt. Those that are being
    /// decided do not: what becomes of them is told later.
    fn abandon_checkpoints(&mut self, execution: &Execution, failure: &Failure, now: Now) {
        let attempt = execution.attempt;
        let reason = Failure {
            message: format!("attempt {attempt} has ended: {}", failure.message),
            ..failure.clone()
        };
        let mut ids: BTreeSet<CheckpointId> = execution.pending.keys().copied().collect();
        for (name, parts) in &execution.uncommitted_savepoints {
            ids.insert(parts.id);
            self.records.savepoint_failed(name, reason.clone());
        }
        for (_, purpose) in execution.pending.values() {
            match purpose {
                Purpose::Savepoint(name) => self.records.savepoint_failed(name, reason.clone()),
                Purpose::Stop(stop) => {
                    if let Some(name) = &stop.savepoint {
                        self.records.savepoint_failed(name, reason.clone());
                        self.stop = None;
                    }
                }
                Purpose::Periodic | Purpose::Final => {}
            }
        }
        for checkpoint in ids {
            // No news of its own: the failure is told once, as that of the attempt.
            tracing::debug!(%attempt, %checkpoint, "checkpoint ended with its attempt");
            self.records
                .failed(attempt, checkpoint, reason.clone(), now.wall);
        }
    }

    /// Decides what follows a failure, and says so.
    pub(super) fn after_failure(&mut self, failure: Failure, now: Now) -> Next {
        self.last_failure = Some(failure.clone());
        if !failure.kind.is_restartable() {
            return Next::GiveUp(failure);
        }
        match self.restart.on_failure(now.monotonic, now.random) {
            Decision::Restart(delay) => {
                self.commands
                    .push(Command::News(Progress::Restarting { failure, delay }));
                Next::Restart(now.monotonic.saturating_add(delay))
            }
            Decision::GiveUp(reason) => {
                let exhausted = Failure::new(
                    ErrorCode::RestartsExhausted,
                    failure.kind,
                    format!("{reason}; the last failure: {failure}"),
                );
                self.last_failure = Some(exhausted.clone());
                Next::GiveUp(exhausted)
            }
        }
    }

    /// Goes on once every worker has stopped its tasks, or has had long enough. Whether it did.
    pub(super) fn finish_cancelling(&mut self, now: Now) -> bool {
        let Phase::Cancelling(cancelling) = &mut self.phase else {
            return false;
        };
        if !cancelling.waiting.is_empty() && now.monotonic < cancelling.deadline {
            return false;
        }
        for worker in std::mem::take(&mut cancelling.waiting) {
            tracing::warn!(%worker, attempt = %cancelling.attempt, "worker does not stop its tasks and is dropped");
            self.workers.remove(&worker);
            self.commands.push(Command::Disconnect { worker });
        }
        match cancelling.next.clone() {
            Next::Restart(until) => {
                // Readers need not wait for the delay.
                self.commands.push(Command::Sweep);
                self.phase = Phase::Delaying { until };
            }
            Next::GiveUp(failure) => self.give_up(failure),
            Next::Cancel => self.close_cancelled(),
        }
        true
    }

    pub(super) fn prepare_failed(&mut self, failure: Failure, now: Now) {
        if !matches!(self.phase, Phase::Preparing { .. }) || self.end_if_fenced(&failure) {
            return;
        }
        tracing::warn!(%failure, "attempt could not be prepared");
        if self.cancelled {
            self.close_cancelled();
            return;
        }
        let next = self.after_failure(failure, now);
        self.follow(next);
    }

    /// Goes on as was decided after a failure, where no tasks run.
    pub(super) fn follow(&mut self, next: Next) {
        match next {
            Next::Restart(until) => self.phase = Phase::Delaying { until },
            Next::GiveUp(failure) => self.give_up(failure),
            Next::Cancel => self.close_cancelled(),
        }
    }

    /// Releases the chain, for people to see, and ends.
    pub(super) fn give_up(&mut self, failure: Failure) {
        self.last_failure = Some(failure.clone());
        self.cancelled = false;
        self.fail_savepoints(&failure);
        self.phase = Phase::Closing(Closing {
            reason: ReleaseReason::Failed,
            outcome: Outcome::Failed(failure),
            execution: None,
        });
        self.release(ReleaseReason::Failed);
    }
}
