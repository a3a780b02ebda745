//! From the last acknowledgement to the decision, and everything that can go wrong with one
//! checkpoint.

use millstream_checkpoint::{MANIFEST_VERSION, Manifest};
use millstream_types::protocol::ToWorker;
use millstream_types::{Attempt, Bug, CheckpointId, Committable, ErrorCode, ErrorKind, Failure};

use crate::Progress;
use crate::job::command::Command;
use crate::job::event::{NotFinalized, Now, Written};
use crate::job::state::{Finalizing, Phase};
use crate::job::{Job, Settings};
use crate::pending::{Inconsistent, Parts};
use crate::trigger::{FailureReason, Purpose};

impl Job {
    /// Every task has acknowledged.
    pub(super) fn all_acknowledged(&mut self, id: CheckpointId, now: Now) {
        let Phase::Executing(execution) = &mut self.phase else {
            return;
        };
        let Some((pending, purpose)) = execution.pending.remove(&id) else {
            return;
        };
        let deadline = pending
            .triggered
            .saturating_add(self.settings.checkpoint.timeout);
        let parts = match pending.into_parts() {
            Ok(parts) => parts,
            Err(inconsistent) => {
                self.fail_attempt(broken_snapshot(id, &inconsistent), now);
                return;
            }
        };
        if let Purpose::Savepoint(name) = purpose {
            execution.trigger.left(id);
            self.savepoint_acknowledged(name, parts, now);
            return;
        }
        execution.trigger.acknowledged(id);
        let mut manifest = manifest(&self.settings, execution.attempt, parts, now);
        manifest.ended = purpose == Purpose::Final;
        self.records
            .totals(execution.attempt, id, manifest.totals());
        self.commands.push(Command::Finalize {
            manifest: Box::new(manifest.clone()),
            deadline,
        });
        execution
            .finalizing
            .insert(id, Finalizing { purpose, manifest });
    }

    /// A savepoint names no transactions, so that it can be restored at any time and anywhere: it
    /// is written once a later checkpoint has committed what it would have listed.
    fn savepoint_acknowledged(&mut self, name: String, parts: Parts, now: Now) {
        let Phase::Executing(execution) = &mut self.phase else {
            return;
        };
        if committables(&parts).next().is_none() {
            let manifest = manifest(&self.settings, execution.attempt, parts, now);
            self.write_savepoint(name, manifest);
        } else {
            execution.uncommitted_savepoints.push((name, parts));
            execution.trigger.hurry();
        }
    }

    fn write_savepoint(&mut self, name: String, manifest: Manifest) {
        self.commands.push(Command::WriteSavepoint {
            attempt: manifest.attempt,
            checkpoint: manifest.checkpoint,
            name,
            manifest: Box::new(manifest.without_committables()),
        });
    }

    /// A checkpoint will never be decided, or is not known to be.
    pub(super) fn fail_checkpoint(
        &mut self,
        id: CheckpointId,
        failure: &Failure,
        reason: FailureReason,
        now: Now,
    ) {
        let Phase::Executing(execution) = &mut self.phase else {
            return;
        };
        let purpose = match execution.pending.remove(&id) {
            Some((_, purpose)) => Some(purpose),
            None => execution
                .finalizing
                .remove(&id)
                .map(|finalizing| finalizing.purpose),
        };
        let Some(purpose) = purpose else {
            return;
        };
        execution.trigger.left(id);
        if Bug::AbortedNumberReused.is_seeded() {
            execution.next_checkpoint = id;
        }
        let attempt = execution.attempt;
        Self::broadcast(&mut self.commands, execution, || ToWorker::Aborted {
            attempt,
            checkpoint: id,
        });
        let counts = !matches!(purpose, Purpose::Savepoint(_));
        let too_many = counts && execution.counter.failed(id, reason);
        let in_a_row = execution.counter.in_a_row();
        // What has become of tasks does not matter while the last checkpoint is being decided.
        let is_sealed = execution.is_sealed();
        let late_failure = execution.late_failure.take_if(|_| !is_sealed);
        match purpose {
            Purpose::Periodic if execution.leave_after.is_some() => execution.trigger.hurry(),
            Purpose::Periodic => {}
            Purpose::Final => execution.trigger.reopen(),
            Purpose::Savepoint(name) => self.records.savepoint_failed(&name, failure.clone()),
            Purpose::Stop(stop) => {
                execution.trigger.reopen();
                if let Some(name) = stop.savepoint {
                    // The person decides what to do next; the job goes on.
                    execution.trigger.cancel_stop();
                    self.stop = None;
                    self.records.savepoint_failed(&name, failure.clone());
                }
            }
        }
        self.record_failed((attempt, id), failure.clone(), now);
        if too_many {
            let exceeded = too_many_failures(&self.settings, in_a_row, failure);
            self.fail_attempt(exceeded, now);
        } else if let Some(late_failure) = late_failure {
            self.fail_attempt(late_failure, now);
        } else {
            self.deal_out_found();
        }
    }

    pub(super) fn record_failed(
        &mut self,
        (attempt, id): (Attempt, CheckpointId),
        failure: Failure,
        now: Now,
    ) {
        tracing::warn!(%attempt, checkpoint = %id, %failure, "checkpoint failed");
        if let Some(summary) = self.records.failed(attempt, id, failure, now.wall) {
            self.commands.push(Command::News(Progress::Failed(summary)));
        }
    }

    pub(super) fn finalized(
        &mut self,
        attempt: Attempt,
        id: CheckpointId,
        result: Result<Written, NotFinalized>,
        now: Now,
    ) {
        match result {
            Ok(written) => {
                self.record_completed((attempt, id), &written, now);
                self.completed(attempt, id, now);
            }
            Err(NotFinalized::NotDecided(failure)) => {
                if self.end_if_fenced(&failure) {
                    return;
                }
                if !self.is_finalizing(attempt, id) {
                    self.record_failed((attempt, id), failure, now);
                } else if failure.kind.is_restartable() {
                    self.fail_checkpoint(id, &failure, FailureReason::NotDecided, now);
                } else {
                    self.fail_attempt(failure, now);
                }
            }
            Err(NotFinalized::Undecidable(failure)) => {
                self.record_failed((attempt, id), failure.clone(), now);
                self.fail_attempt_of(attempt, failure, now);
            }
            Err(NotFinalized::NotCommitted(written, failure)) => {
                self.record_completed((attempt, id), &written, now);
                if !self.end_if_fenced(&failure) {
                    self.fail_attempt_of(attempt, failure, now);
                }
            }
        }
    }

    fn is_finalizing(&self, attempt: Attempt, id: CheckpointId) -> bool {
        self.execution().is_some_and(|execution| {
            execution.attempt == attempt && execution.finalizing.contains_key(&id)
        })
    }

    fn record_completed(
        &mut self,
        (attempt, id): (Attempt, CheckpointId),
        written: &Written,
        now: Now,
    ) {
        if let Some(summary) = self.records.completed(attempt, id, written, now.wall) {
            self.commands
                .push(Command::News(Progress::Completed(summary)));
        }
    }

    /// A checkpoint of the running attempt is decided and committed.
    fn completed(&mut self, attempt: Attempt, id: CheckpointId, now: Now) {
        let Phase::Executing(execution) = &mut self.phase else {
            return;
        };
        if execution.attempt != attempt {
            return;
        }
        let Some(finalizing) = execution.finalizing.remove(&id) else {
            return;
        };
        if matches!(finalizing.purpose, Purpose::Final | Purpose::Stop(_)) {
            // Nor after it is.
            execution.late_failure = None;
        }
        let totals = finalizing.manifest.totals();
        self.audit
            .follow(id, &self.settings.topology, &self.totals, &totals);
        self.totals = totals;
        execution.counter.succeeded(id);
        execution.trigger.completed(id, now.monotonic);
        Self::broadcast(&mut self.commands, execution, || ToWorker::Completed {
            attempt,
            checkpoint: id,
            committed: true,
        });
        self.subsume_before(id, now);
        self.write_committed_savepoints(&finalizing.manifest, now);
        match finalizing.purpose {
            Purpose::Final => self.close_completed_attempt(),
            Purpose::Stop(stop) => self.close_stopped(stop, finalizing.manifest),
            Purpose::Periodic | Purpose::Savepoint(_) => self.leave_after(id, now),
        }
    }

    /// Gives up older checkpoints that a newer one has made needless. Savepoints stay.
    fn subsume_before(&mut self, id: CheckpointId, now: Now) {
        let Phase::Executing(execution) = &self.phase else {
            return;
        };
        let older: Vec<CheckpointId> = execution
            .pending
            .range(..id)
            .filter(|(_, (_, purpose))| *purpose == Purpose::Periodic)
            .map(|(older, _)| *older)
            .collect();
        for older in older {
            let failure = Failure::new(
                ErrorCode::CheckpointExpired,
                ErrorKind::Retryable,
                format!("checkpoint {id} completed before checkpoint {older} and includes it"),
            );
            self.fail_checkpoint(older, &failure, FailureReason::Superseded, now);
        }
    }

    /// Writes the savepoints whose transactions a checkpoint has just committed.
    fn write_committed_savepoints(&mut self, committed: &Manifest, now: Now) {
        let Phase::Executing(execution) = &mut self.phase else {
            return;
        };
        let attempt = execution.attempt;
        let (ready, later) = std::mem::take(&mut execution.uncommitted_savepoints)
            .into_iter()
            .partition(|(_, parts)| parts.id < committed.checkpoint);
        execution.uncommitted_savepoints = later;
        for (name, parts) in ready {
            if let Some(missing) = committables(&parts).find(|wanted| !lists(committed, wanted)) {
                let failure = broken_savepoint(parts.id, committed.checkpoint, missing);
                self.records.savepoint_failed(&name, failure.clone());
                self.record_failed((attempt, parts.id), failure.clone(), now);
                self.fail_attempt(failure, now);
                return;
            }
            let manifest = manifest(&self.settings, attempt, parts, now);
            self.write_savepoint(name, manifest);
        }
    }

    pub(super) fn savepoint_written(
        &mut self,
        (attempt, id): (Attempt, CheckpointId),
        name: &str,
        result: Result<Written, Failure>,
        now: Now,
    ) {
        match result {
            Ok(written) => {
                self.record_completed((attempt, id), &written, now);
                self.records.savepoint_completed(name, &written);
                if let Phase::Executing(execution) = &self.phase
                    && execution.attempt == attempt
                {
                    Self::broadcast(&mut self.commands, execution, || ToWorker::Completed {
                        attempt,
                        checkpoint: id,
                        committed: false,
                    });
                }
                self.stop_after_savepoint(name, written.path);
            }
            Err(failure) => {
                if self.end_if_fenced(&failure) {
                    return;
                }
                self.records.savepoint_failed(name, failure.clone());
                self.record_failed((attempt, id), failure.clone(), now);
                self.stop_without_savepoint(name, &failure, now);
            }
        }
    }
}

/// The manifest of a complete checkpoint.
fn manifest(settings: &Settings, attempt: Attempt, parts: Parts, now: Now) -> Manifest {
    Manifest {
        version: MANIFEST_VERSION,
        job: settings.job.clone(),
        checkpoint: parts.id,
        attempt,
        kind: parts.kind,
        fingerprint: settings.fingerprint.clone(),
        parallelism: settings.parallelism,
        triggered_at: parts.triggered_at,
        decided_at: now.wall,
        identities: parts.identities,
        connectors: settings.connectors.clone(),
        operators: parts.operators,
        // The chain knows; it raises this on the decision.
        swept_through: Attempt(0),
        imported_from: None,
        beginning: None,
        origins: Vec::new(),
        previous: None,
        ended: false,
    }
}

fn committables(parts: &Parts) -> impl Iterator<Item = &Committable> {
    parts
        .operators
        .values()
        .flat_map(|subtasks| subtasks.values())
        .flat_map(|snapshot| &snapshot.committables)
}

fn lists(manifest: &Manifest, wanted: &Committable) -> bool {
    manifest
        .operators
        .values()
        .flat_map(|subtasks| subtasks.values())
        .any(|snapshot| snapshot.committables.contains(wanted))
}

fn broken_snapshot(id: CheckpointId, inconsistent: &Inconsistent) -> Failure {
    Failure::new(
        ErrorCode::InconsistentSnapshot,
        ErrorKind::Internal,
        format!(
            "checkpoint {id} is not decided, because its snapshots do not fit together: \
             {inconsistent}"
        ),
    )
}

fn broken_savepoint(
    savepoint: CheckpointId,
    checkpoint: CheckpointId,
    missing: &Committable,
) -> Failure {
    Failure::new(
        ErrorCode::InconsistentSnapshot,
        ErrorKind::Internal,
        format!(
            "savepoint {savepoint} lists a transaction of checkpoint {} that the later checkpoint \
             {checkpoint} does not list: {}",
            missing.checkpoint, missing.transaction.0
        ),
    )
}

fn too_many_failures(settings: &Settings, in_a_row: u32, last: &Failure) -> Failure {
    Failure::new(
        ErrorCode::CheckpointFailuresExceeded,
        ErrorKind::Retryable,
        format!(
            "{in_a_row} checkpoints in a row have failed and `checkpoint.tolerableFailures` is {}; \
             the last one: {last}",
            settings.tolerable_failures
        ),
    )
}
