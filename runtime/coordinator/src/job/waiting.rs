//! What happens while no tasks run, or none that matter any more.

use std::time::Duration;

use millstream_checkpoint::ReleaseReason;
use millstream_types::protocol::{ToCoordinator, ToWorker};
use millstream_types::{Attempt, ErrorCode, ErrorKind, Failure};

use crate::job::command::{Command, Operation};
use crate::job::event::{Event, Now, Over, Prepared};
use crate::job::news::Progress;
use crate::job::outcome::Outcome;
use crate::job::phase::{Cancelling, Closing, Next, Transition, Waiting};
use crate::job::run::{Late, Run};
use crate::job::savepoints::Of;

impl Run {
    /// An attempt is being claimed.
    pub(super) fn while_preparing(
        &mut self,
        note: &mut String,
        event: Event,
        now: Now,
    ) -> Transition {
        match event {
            Event::Prepared(prepared) => self.prepared(*prepared),
            Event::AlreadyCompleted(manifest) => {
                if let Some(manifest) = manifest {
                    self.attempt = manifest.attempt;
                    self.start_from(&manifest);
                }
                self.end_before(Outcome::Completed)
            }
            Event::Over(over) => self.over(*over),
            Event::PrepareFailed(failure) if failure.kind == ErrorKind::Fenced => {
                self.fenced(failure)
            }
            Event::PrepareFailed(failure) if self.cancelled => {
                tracing::warn!(%failure, "attempt could not be prepared");
                Transition::Follow(Next::Cancel)
            }
            Event::PrepareFailed(failure) => Transition::Fail(failure),
            Event::Preparing(text) => {
                *note = text;
                Transition::Stay
            }
            event => self.while_idle(event, false, now),
        }
    }

    fn prepared(&mut self, prepared: Prepared) -> Transition {
        self.attempt = prepared.attempt;
        let origin = prepared.manifest.imported_from.as_ref();
        let path = origin.unwrap_or(&prepared.path);
        self.restored_from = prepared.restored.then(|| path.clone());
        if let Some(given_up) = prepared.given_up.clone() {
            self.news(Progress::GaveUp(given_up.clone()));
            self.given_up = Some(given_up);
        }
        self.start_from(&prepared.manifest);
        if self.cancelled {
            Transition::Follow(Next::Cancel)
        } else if prepared.is_ended() {
            self.close_completed()
        } else {
            Transition::Wait(Box::new(prepared))
        }
    }

    /// The chain says that the deployment has ended before: all that is left is to say how.
    fn over(&mut self, over: Over) -> Transition {
        let Over {
            attempt,
            release,
            manifest,
            checkpoints,
        } = over;
        self.attempt = attempt;
        self.ended_at = release.time;
        self.restored_from = release.restored_from;
        self.last_failure.clone_from(&release.failure);
        if let Some(manifest) = &manifest {
            self.start_from(manifest);
        }
        self.history.remember(&checkpoints, manifest.as_ref());
        self.end_before(match release.reason {
            ReleaseReason::Completed => Outcome::Completed,
            ReleaseReason::Stopped | ReleaseReason::Deleted => Outcome::Stopped {
                savepoint: release.savepoint,
            },
            ReleaseReason::Failed => Outcome::Failed(release.failure.unwrap_or_else(unexplained)),
        })
    }

    /// There is nothing to run: nobody takes what was asked for meanwhile.
    fn end_before(&mut self, outcome: Outcome) -> Transition {
        let failure = super::run::ended_before();
        self.savepoints.close(&failure, false);
        Transition::End(outcome)
    }

    /// The wait of a claimed attempt for slots.
    pub(super) fn wait(&self, prepared: Box<Prepared>, now: Now) -> Waiting {
        Waiting {
            prepared,
            look_at: Some(self.next_look(now)),
        }
    }

    fn next_look(&self, now: Now) -> Duration {
        now.monotonic.saturating_add(self.settings.look_interval)
    }

    /// Asks whether the claim is still the newest, if it is time. A job that waits writes nothing by
    /// which it would learn that another coordinator has taken its place, and would keep the workers
    /// that have found it.
    pub(super) fn look_at_claim(&mut self, waiting: &mut Waiting, now: Now) {
        if waiting.look_at.is_some_and(|at| now.monotonic >= at) {
            waiting.look_at = None;
            self.commands.push(Operation::EnsureHeld.into());
        }
    }

    /// An attempt is claimed, and there are not enough slots for it.
    pub(super) fn while_waiting(
        &mut self,
        waiting: &mut Waiting,
        event: Event,
        now: Now,
    ) -> Transition {
        match event {
            Event::Held(result) => {
                if let Err(failure) = result {
                    tracing::debug!(%failure, "not known whether the claim is still the newest");
                }
                waiting.look_at = Some(self.next_look(now));
                Transition::Stay
            }
            event => self.while_idle(event, false, now),
        }
    }

    /// Nothing runs, and no answer is waited for: what comes is about older attempts.
    pub(super) fn while_idle(&mut self, event: Event, is_delaying: bool, now: Now) -> Transition {
        match event {
            Event::Finalized {
                attempt,
                checkpoint,
                result,
            } => match self.finalized_late((attempt, checkpoint), result, now) {
                Ok(()) => Transition::Stay,
                Err(Late::Fenced(failure)) => self.fenced(failure),
                Err(Late::Failed(failure)) if is_delaying && !failure.kind.is_restartable() => {
                    Transition::Follow(Next::GiveUp(failure))
                }
                Err(Late::Failed(failure)) => {
                    resolved_by_the_next(attempt, &failure);
                    Transition::Stay
                }
            },
            Event::SavepointWritten {
                attempt,
                checkpoint,
                name,
                result,
            } => match self.savepoint_written((attempt, checkpoint), &name, &result, now) {
                Ok(_) => Transition::Stay,
                Err(fenced) => self.fenced(fenced),
            },
            _ => Transition::Stay,
        }
    }

    /// Tasks of an attempt are being stopped.
    pub(super) fn while_cancelling(
        &mut self,
        cancelling: &mut Cancelling,
        event: Event,
        now: Now,
    ) -> Transition {
        match event {
            Event::WorkerLost { worker, .. } => {
                cancelling.waiting.remove(&worker);
            }
            Event::Message { worker, message } => match message {
                ToCoordinator::Cancelled { attempt } if attempt == cancelling.attempt => {
                    cancelling.waiting.remove(&worker);
                }
                // The first failure decides, unless a later one is such that no restart helps.
                ToCoordinator::TaskFailed {
                    attempt, failure, ..
                } if attempt == cancelling.attempt
                    && matches!(cancelling.next, Next::Restart(_)) =>
                {
                    self.give_up_after(cancelling, failure, now);
                }
                _ => {}
            },
            Event::Finalized {
                attempt,
                checkpoint,
                result,
            } => match self.finalized_late((attempt, checkpoint), result, now) {
                Ok(()) => {}
                Err(Late::Fenced(failure)) => return self.fenced(failure),
                Err(Late::Failed(failure)) if failure.kind.is_restartable() => {
                    resolved_by_the_next(attempt, &failure);
                }
                Err(Late::Failed(failure)) => self.give_up_after(cancelling, failure, now),
            },
            event => return self.while_idle(event, false, now),
        }
        Transition::Stay
    }

    fn give_up_after(&mut self, cancelling: &mut Cancelling, failure: Failure, now: Now) {
        if !failure.kind.is_restartable() {
            self.failures.note(self.attempt, &failure, None, now.wall);
            cancelling.next = Next::GiveUp(failure.clone());
            self.last_failure = Some(failure);
        }
    }

    /// Goes on once every worker has stopped its tasks, or has had long enough.
    pub(super) fn finish_cancelling(
        &mut self,
        cancelling: &mut Cancelling,
        now: Now,
    ) -> Transition {
        if !cancelling.waiting.is_empty() && now.monotonic < cancelling.deadline {
            return Transition::Stay;
        }
        for worker in std::mem::take(&mut cancelling.waiting) {
            tracing::warn!(%worker, attempt = %cancelling.attempt, "worker does not stop its tasks and is dropped");
            self.workers.remove(&worker);
            self.commands.push(Command::Disconnect { worker });
        }
        if matches!(cancelling.next, Next::Restart(_)) {
            // Readers need not wait for the delay.
            self.commands.push(Operation::Sweep.into());
        }
        Transition::Follow(cancelling.next.clone())
    }

    /// Everything is committed, or the job is given up: a savepoint or the release is being written.
    /// What becomes of tasks does not matter any more.
    pub(super) fn while_closing(
        &mut self,
        closing: &mut Closing,
        event: Event,
        now: Now,
    ) -> Transition {
        match event {
            Event::SavepointWritten {
                attempt,
                checkpoint,
                name,
                result,
            } => match self.savepoint_written((attempt, checkpoint), &name, &result, now) {
                Err(fenced) => self.fenced(fenced),
                Ok(Of::Request) => Transition::Stay,
                Ok(Of::Stop) => match result {
                    Ok(written) => {
                        closing.outcome = Outcome::Stopped {
                            savepoint: Some(written.path),
                        };
                        self.release(closing);
                        Transition::Stay
                    }
                    Err(failure) => Transition::Fail(goes_on(&failure)),
                },
            },
            Event::Released(result) => self.released(closing, result),
            event => self.while_idle(event, false, now),
        }
    }

    /// The chain is released, or could not be: nothing is lost either way, because everything was
    /// committed before (or the job was given up).
    fn released(&mut self, closing: &Closing, result: Result<(), Failure>) -> Transition {
        if let Err(failure) = result {
            let given_up = closing.reason == ReleaseReason::Failed;
            if !given_up && failure.kind == ErrorKind::Fenced {
                return self.fenced(failure);
            }
            tracing::warn!(%failure, "the chain is not released; the next start claims it as after a crash");
            if self.cancelled {
                self.last_failure = Some(failure);
            }
        }
        Transition::End(closing.outcome.clone())
    }

    /// After the end there is nothing to do but to send workers home.
    pub(super) fn handle_after(&mut self, outcome: &Outcome, event: Event) {
        match event {
            Event::WorkerJoined { worker, slots } if outcome.is_final() => {
                self.send(&worker, ToWorker::Shutdown);
                self.workers.joined(worker, slots);
            }
            Event::WorkerLost { worker, .. } => drop(self.workers.remove(&worker)),
            _ => {}
        }
    }
}

/// The next attempt is being prepared, or will be; it resolves the same checkpoint and meets the same
/// obstacle, if it is still there.
fn resolved_by_the_next(attempt: Attempt, failure: &Failure) {
    tracing::warn!(%attempt, %failure, "checkpoint of an older attempt not committed");
}

/// The savepoint that the job was to stop with could not be written. Everything is committed, so the
/// job goes on from there, with another attempt because its sources have stopped.
fn goes_on(failure: &Failure) -> Failure {
    Failure {
        kind: ErrorKind::Retryable,
        message: format!(
            "the job goes on, because the savepoint it was to stop with could not be written: {}",
            failure.message
        ),
        ..failure.clone()
    }
}

fn unexplained() -> Failure {
    Failure::new(
        ErrorCode::RestartsExhausted,
        ErrorKind::Internal,
        "the job was given up, and its chain does not say why; the logs of that coordinator do",
    )
}
