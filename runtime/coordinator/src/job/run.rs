//! What outlives the phases and attempts of a job, as long as this coordinator runs it.

use millstream_checkpoint::{Manifest, ReleaseReason};
use millstream_types::api::GivenUp;
use millstream_types::protocol::ToWorker;
use millstream_types::{Attempt, CheckpointId, ErrorCode, ErrorKind, Failure, Timestamp, WorkerId};

use crate::job::Settings;
use crate::job::audit::Audit;
use crate::job::command::{Command, Operation};
use crate::job::event::{NotFinalized, Now, Written};
use crate::job::execution::Execution;
use crate::job::failures::Failures;
use crate::job::history::History;
use crate::job::news::Progress;
use crate::job::outcome::Outcome;
use crate::job::phase::{Cancelling, Close, Next, Transition};
use crate::job::savepoints::{Of, Savepoints, Write};
use crate::job::workers::Workers;
use crate::placement::Placement;
use crate::restart::{Decision, RestartPolicy};

/// What outlives phases and attempts.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) settings: Settings,
    pub(crate) restart: RestartPolicy,
    pub(crate) workers: Workers,
    /// Where subtasks ran last.
    pub(crate) placement: Placement,
    /// The newest claimed attempt.
    pub(crate) attempt: Attempt,
    /// Attempts that were begun, successful or not.
    pub(crate) begun: u64,
    /// Somebody has cancelled the job.
    pub(crate) cancelled: bool,
    pub(crate) savepoints: Savepoints,
    pub(crate) history: History,
    pub(crate) failures: Failures,
    pub(crate) audit: Audit,
    pub(crate) restored_from: Option<String>,
    /// The newest checkpoint that the job has gone back from.
    pub(crate) given_up: Option<GivenUp>,
    pub(crate) last_failure: Option<Failure>,
    pub(crate) since: Timestamp,
    /// When the job had ended, if that was before this coordinator began.
    pub(crate) ended_at: Option<Timestamp>,
    pub(crate) commands: Vec<Command>,
}

impl Run {
    pub(crate) fn news(&mut self, news: Progress) {
        self.commands.push(Command::News(news));
    }

    pub(crate) fn send(&mut self, worker: &WorkerId, message: ToWorker) {
        self.commands.push(Command::Send {
            worker: worker.clone(),
            message,
        });
    }

    /// Sends a message to every worker that runs tasks of the attempt.
    pub(crate) fn broadcast(&mut self, execution: &Execution, message: &ToWorker) {
        for worker in execution.hosts.keys() {
            self.send(worker, message.clone());
        }
    }

    /// Counts on from a manifest.
    pub(crate) fn start_from(&mut self, manifest: &Manifest) {
        let topology = &self.settings.topology;
        self.audit
            .restored(manifest.checkpoint, topology, manifest.totals());
        self.history.decided(manifest);
    }

    /// Decides what follows a failure, and says so.
    pub(crate) fn after_failure(&mut self, failure: Failure, now: Now) -> Next {
        self.last_failure = Some(failure.clone());
        if !failure.kind.is_restartable() {
            self.failures.note(self.attempt, &failure, None, now.wall);
            return Next::GiveUp(failure);
        }
        match self.restart.on_failure(now.monotonic, now.random) {
            Decision::Restart(delay) => {
                let attempt = self.attempt;
                self.failures.note(attempt, &failure, Some(delay), now.wall);
                self.news(Progress::Restarting { failure, delay });
                Next::Restart(now.monotonic.saturating_add(delay))
            }
            Decision::GiveUp(reason) => {
                let exhausted = Failure::new(
                    ErrorCode::RestartsExhausted,
                    failure.kind,
                    format!("{reason}; the last failure: {failure}"),
                );
                self.last_failure = Some(exhausted.clone());
                self.failures.note(self.attempt, &exhausted, None, now.wall);
                Next::GiveUp(exhausted)
            }
        }
    }

    /// Stops the tasks of an attempt, for a reason.
    ///
    /// Checkpoints without all acknowledgements end with it. Those that are being decided do not:
    /// what becomes of them is told later.
    pub(crate) fn stop_tasks(
        &mut self,
        execution: &Execution,
        reason: &Failure,
        next: Next,
        now: Now,
    ) -> Cancelling {
        let attempt = execution.attempt;
        let failure = Failure {
            message: format!("attempt {attempt} has ended: {}", reason.message),
            ..reason.clone()
        };
        let mut ended = execution.checkpoints.pending();
        ended.extend(self.savepoints.attempt_ended(&failure));
        for checkpoint in ended {
            // No news of its own: the failure is told once, as that of the attempt.
            tracing::debug!(%attempt, %checkpoint, "checkpoint ended with its attempt");
            self.history
                .failed(attempt, checkpoint, failure.clone(), now.wall);
        }
        self.commands.push(Command::StopDiscovery);
        let hosts = execution.hosts.keys();
        let waiting = hosts
            .filter(|worker| self.workers.contains(worker))
            .cloned();
        let cancelling = Cancelling {
            attempt,
            waiting: waiting.collect(),
            deadline: now.monotonic.saturating_add(self.settings.cancel_timeout),
            next,
        };
        for worker in &cancelling.waiting {
            self.send(worker, ToWorker::Cancel { attempt });
        }
        cancelling
    }

    /// An answer about a checkpoint of an attempt whose tasks do not run any more.
    pub(crate) fn finalized_late(
        &mut self,
        at: (Attempt, CheckpointId),
        result: Result<Written, NotFinalized>,
        now: Now,
    ) -> Result<(), Late> {
        match result {
            Ok(written) => self.record_completed(at, &written, now),
            Err(NotFinalized::NotDecided(failure)) if failure.kind == ErrorKind::Fenced => {
                return Err(Late::Fenced(failure));
            }
            Err(NotFinalized::NotDecided(failure)) => self.record_failed(at, failure, now),
            Err(NotFinalized::Undecidable(failure)) => {
                self.record_failed(at, failure.clone(), now);
                return Err(Late::Failed(failure));
            }
            Err(NotFinalized::NotCommitted(written, failure)) => {
                self.record_completed(at, &written, now);
                return Err(if failure.kind == ErrorKind::Fenced {
                    Late::Fenced(failure)
                } else {
                    Late::Failed(failure)
                });
            }
        }
        Ok(())
    }

    /// An answer about a savepoint. Whose it was, or that the coordinator is fenced.
    pub(crate) fn savepoint_written(
        &mut self,
        at: (Attempt, CheckpointId),
        name: &str,
        result: &Result<Written, Failure>,
        now: Now,
    ) -> Result<Of, Failure> {
        match result {
            Ok(written) => {
                self.record_completed(at, written, now);
                Ok(self.savepoints.complete(name, written))
            }
            Err(failure) if failure.kind == ErrorKind::Fenced => Err(failure.clone()),
            Err(failure) => {
                self.record_failed(at, failure.clone(), now);
                Ok(self.savepoints.fail(name, failure.clone()))
            }
        }
    }

    pub(crate) fn write_savepoint(&mut self, write: Write) {
        let Write { name, manifest } = write;
        let write = Operation::WriteSavepoint {
            attempt: manifest.attempt,
            checkpoint: manifest.checkpoint,
            name,
            manifest: Box::new(manifest.without_committables()),
        };
        self.commands.push(write.into());
    }

    pub(crate) fn record_failed(
        &mut self,
        (attempt, id): (Attempt, CheckpointId),
        failure: Failure,
        now: Now,
    ) {
        tracing::warn!(%attempt, checkpoint = %id, %failure, "checkpoint failed");
        if let Some(summary) = self.history.failed(attempt, id, failure, now.wall) {
            self.news(Progress::Failed(summary));
        }
    }

    pub(crate) fn record_completed(
        &mut self,
        (attempt, id): (Attempt, CheckpointId),
        written: &Written,
        now: Now,
    ) {
        if let Some(summary) = self.history.completed(attempt, id, written, now.wall) {
            self.news(Progress::Completed(summary));
        }
    }

    /// All there is to do is done: the job completes.
    pub(crate) fn close_completed(&mut self) -> Transition {
        self.savepoints.close(&ended_before(), false);
        Transition::Close(Box::new(Close {
            reason: ReleaseReason::Completed,
            outcome: Outcome::Completed,
            savepoint: None,
        }))
    }

    /// The job stops with this checkpoint, which is committed.
    pub(crate) fn close_stopped(&mut self, manifest: &Manifest) -> Transition {
        let savepoint = self.savepoints.stop_committed(manifest);
        self.savepoints.close(&ended_before(), true);
        Transition::Close(Box::new(Close {
            reason: ReleaseReason::Stopped,
            outcome: Outcome::Stopped { savepoint: None },
            savepoint,
        }))
    }

    /// The job is cancelled and has no tasks any more.
    pub(crate) fn close_cancelled(&mut self) -> Transition {
        self.savepoints.close(&cancelled(), false);
        Transition::Close(Box::new(Close {
            reason: ReleaseReason::Stopped,
            outcome: Outcome::Stopped { savepoint: None },
            savepoint: None,
        }))
    }

    /// Nobody restarts the job.
    pub(crate) fn give_up(&mut self, failure: Failure) -> Transition {
        self.last_failure = Some(failure.clone());
        self.cancelled = false;
        self.savepoints.close(&failure, false);
        Transition::Close(Box::new(Close {
            reason: ReleaseReason::Failed,
            outcome: Outcome::Failed(failure),
            savepoint: None,
        }))
    }

    /// A newer attempt owns the job.
    pub(crate) fn fenced(&mut self, failure: Failure) -> Transition {
        self.last_failure = Some(failure.clone());
        Transition::End(Outcome::Fenced(failure))
    }
}

/// What a late answer about a checkpoint says beside its end.
#[derive(Debug)]
pub(crate) enum Late {
    /// A newer attempt owns the job.
    Fenced(Failure),
    /// It is not committed, and may be lost.
    Failed(Failure),
}

pub(crate) fn cancelled() -> Failure {
    Failure::new(
        ErrorCode::CheckpointMissing,
        ErrorKind::Retryable,
        "the job is cancelled",
    )
}

/// Of a savepoint that nobody takes any more.
pub(crate) fn ended_before() -> Failure {
    Failure::new(
        ErrorCode::CheckpointMissing,
        ErrorKind::Retryable,
        "the job ended before the savepoint was triggered",
    )
}
