//! How a job ends: completed, stopped, or given up.

use millstream_checkpoint::{Manifest, Release, ReleaseReason};
use millstream_types::protocol::ToWorker;
use millstream_types::{ErrorCode, ErrorKind, Failure};

use crate::Outcome;
use crate::job::Job;
use crate::job::command::Command;
use crate::job::event::{Event, Now, Over, Prepared};
use crate::job::state::{Closing, Execution, Phase};
use crate::trigger::Stop;

impl Job {
    /// The chain says that the job has completed before.
    pub(super) fn already_completed(&mut self, manifest: Option<&Manifest>) {
        self.refuse_savepoints();
        if let Some(manifest) = manifest {
            self.attempt = manifest.attempt;
            self.start_from(manifest);
        }
        self.end(Outcome::Completed);
    }

    /// The chain says that the deployment has ended before: all that is left is to say how.
    pub(super) fn over(&mut self, over: Over) {
        self.refuse_savepoints();
        let Over {
            attempt,
            release,
            manifest,
            checkpoints,
        } = over;
        self.attempt = attempt;
        self.stop = None;
        self.ended_at = release.time;
        self.restored_from = release.restored_from;
        self.last_failure.clone_from(&release.failure);
        if let Some(manifest) = &manifest {
            self.start_from(manifest);
        }
        self.records.remember(&checkpoints, manifest.as_ref());
        self.end(match release.reason {
            ReleaseReason::Completed => Outcome::Completed,
            ReleaseReason::Stopped | ReleaseReason::Deleted => Outcome::Stopped {
                savepoint: release.savepoint,
            },
            ReleaseReason::Failed => Outcome::Failed(release.failure.unwrap_or_else(unexplained)),
        });
    }

    /// After the end there is nothing to do but to send workers home.
    pub(super) fn handle_ended(&mut self, event: Event) {
        let is_over = self.state().is_terminal() && !self.is_fenced();
        match event {
            Event::WorkerJoined { worker, slots } if is_over => {
                self.commands.push(Command::Send {
                    worker: worker.clone(),
                    message: ToWorker::Shutdown,
                });
                self.workers.insert(worker, slots);
            }
            Event::WorkerLost { worker, .. } => {
                self.workers.remove(&worker);
            }
            _ => {}
        }
    }

    /// The final checkpoint is committed.
    pub(super) fn close_completed_attempt(&mut self) {
        let execution = self.take_execution();
        self.close_completed(execution);
    }

    /// Nothing is left to run.
    pub(super) fn close_completed(&mut self, execution: Option<Box<Execution>>) {
        if let Some(name) = self.stop.take().and_then(|stop| stop.savepoint) {
            self.savepoints.push(name);
        }
        self.refuse_savepoints();
        self.close(ReleaseReason::Completed, Outcome::Completed, execution);
        self.release(ReleaseReason::Completed);
    }

    /// The checkpoint that the job stops with is committed.
    pub(super) fn close_stopped(&mut self, stop: Stop, manifest: Manifest) {
        let execution = self.take_execution();
        self.close_with(stop, manifest, execution);
    }

    /// Stops a job that has no tasks: the newest checkpoint, which is committed, is all there is.
    pub(super) fn close_idle(&mut self, prepared: Prepared) {
        let Some(stop) = self.stop.clone() else {
            return;
        };
        if let Some(name) = &stop.savepoint {
            let id = prepared.manifest.checkpoint;
            self.records.savepoint_triggered(name, id);
        }
        self.close_with(stop, prepared.manifest, None);
    }

    /// Stops a job that waits for workers.
    pub(super) fn stop_waiting(&mut self) {
        let waiting = self.take_phase(|phase| match phase {
            Phase::Waiting(prepared) => Ok(prepared),
            other => Err(other),
        });
        if let Some(prepared) = waiting {
            self.close_idle(*prepared);
        }
    }

    /// Ends a job that is cancelled and has no tasks any more.
    pub(super) fn close_cancelled(&mut self) {
        self.fail_savepoints(&cancelled());
        let outcome = Outcome::Stopped { savepoint: None };
        self.close(ReleaseReason::Stopped, outcome, None);
        self.release(ReleaseReason::Stopped);
    }

    /// Savepoints that were asked for and that nobody will take any more.
    pub(super) fn fail_savepoints(&mut self, failure: &Failure) {
        let stop = self.stop.take().and_then(|stop| stop.savepoint);
        for name in std::mem::take(&mut self.savepoints).into_iter().chain(stop) {
            self.records.savepoint_failed(&name, failure.clone());
        }
    }

    fn close_with(&mut self, stop: Stop, manifest: Manifest, execution: Option<Box<Execution>>) {
        let outcome = Outcome::Stopped { savepoint: None };
        self.refuse_savepoints();
        self.close(ReleaseReason::Stopped, outcome, execution);
        match stop.savepoint {
            Some(name) => self.commands.push(Command::WriteSavepoint {
                attempt: manifest.attempt,
                checkpoint: manifest.checkpoint,
                name,
                manifest: Box::new(manifest.without_committables()),
            }),
            None => self.release(ReleaseReason::Stopped),
        }
    }

    fn close(
        &mut self,
        reason: ReleaseReason,
        outcome: Outcome,
        execution: Option<Box<Execution>>,
    ) {
        self.commands.push(Command::StopDiscovery);
        self.phase = Phase::Closing(Closing {
            reason,
            outcome,
            execution,
        });
    }

    fn take_execution(&mut self) -> Option<Box<Execution>> {
        self.take_phase(|phase| match phase {
            Phase::Executing(execution) => Ok(execution),
            other => Err(other),
        })
    }

    /// The savepoint that the job stops with is written: what is left is the release.
    pub(super) fn stop_after_savepoint(&mut self, name: &str, path: String) {
        if self.is_stop_savepoint(name)
            && let Phase::Closing(closing) = &mut self.phase
        {
            closing.outcome = Outcome::Stopped {
                savepoint: Some(path),
            };
            self.release(ReleaseReason::Stopped);
        }
    }

    /// The savepoint that the job was to stop with could not be written. Everything is committed,
    /// so the job goes on from there, with another attempt because its sources have stopped.
    pub(super) fn stop_without_savepoint(&mut self, name: &str, failure: &Failure, now: Now) {
        if !self.is_stop_savepoint(name) {
            return;
        }
        self.stop = None;
        let failure = Failure {
            kind: ErrorKind::Retryable,
            message: format!(
                "the job goes on, because the savepoint it was to stop with could not be written: \
                 {}",
                failure.message
            ),
            ..failure.clone()
        };
        if self.execution().is_some() {
            self.fail_attempt(failure, now);
        } else {
            let next = self.after_failure(failure, now);
            self.follow(next);
        }
    }

    fn is_stop_savepoint(&self, name: &str) -> bool {
        let stops = |stop: &Stop| stop.savepoint.as_deref() == Some(name);
        let closing = matches!(&self.phase, Phase::Closing(closing) if closing.reason == ReleaseReason::Stopped);
        closing && self.stop.as_ref().is_some_and(stops)
    }

    const fn is_fenced(&self) -> bool {
        matches!(self.phase, Phase::Ended(Outcome::Fenced(_)))
    }

    /// Releases the chain, with all that is to be known about the end.
    pub(super) fn release(&mut self, reason: ReleaseReason) {
        let outcome = match &self.phase {
            Phase::Closing(closing) => Some(&closing.outcome),
            _ => None,
        };
        let mut release = Release {
            restored_from: self.restored_from.clone(),
            ..reason.into()
        };
        match outcome {
            Some(Outcome::Stopped { savepoint }) => release.savepoint.clone_from(savepoint),
            Some(Outcome::Failed(failure)) => release = release.with_failure(Some(failure)),
            _ => {}
        }
        let release = Box::new(release);
        self.commands.push(if self.is_discarded(reason) {
            Command::Discard(release)
        } else {
            Command::Release(release)
        });
    }

    /// Whether the job's checkpoints go: only with a job that was cancelled, and ends because of
    /// that.
    fn is_discarded(&self, reason: ReleaseReason) -> bool {
        self.cancelled && self.settings.discards && reason == ReleaseReason::Stopped
    }

    /// The chain is released, or could not be: nothing is lost either way, because everything was
    /// committed before (or the job was given up).
    pub(super) fn released(&mut self, result: Result<(), Failure>) {
        let Phase::Closing(closing) = &self.phase else {
            return;
        };
        let outcome = closing.outcome.clone();
        if let Err(failure) = result {
            let given_up = closing.reason == ReleaseReason::Failed;
            if !given_up && self.end_if_fenced(&failure) {
                return;
            }
            tracing::warn!(%failure, "the chain is not released; the next start claims it as after a crash");
            if self.cancelled {
                self.last_failure = Some(failure);
            }
        }
        self.end(outcome);
    }

    /// Savepoints that nobody will take any more, because the job is over.
    fn refuse_savepoints(&mut self) {
        let failure = Failure::new(
            ErrorCode::CheckpointMissing,
            ErrorKind::Retryable,
            "the job ended before the savepoint was triggered",
        );
        for name in std::mem::take(&mut self.savepoints) {
            self.records.savepoint_failed(&name, failure.clone());
        }
    }
}

pub(super) fn cancelled() -> Failure {
    Failure::new(
        ErrorCode::CheckpointMissing,
        ErrorKind::Retryable,
        "the job is cancelled",
    )
}

fn unexplained() -> Failure {
    Failure::new(
        ErrorCode::RestartsExhausted,
        ErrorKind::Internal,
        "the job was given up, and its chain does not say why; the logs of that coordinator do",
    )
}
