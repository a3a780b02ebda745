//! The job's state machine: facts in, commands out. Pure: no I/O, no clock, no randomness.
//!
//! ```text
//!             ┌────────────────────── delay over ──────────────────────┐
//!             ▼                                                        │
//! start → Preparing ─→ Waiting ─→ Executing ── failure ─→ Cancelling ─→ Delaying
//!             │           │       │  (deploys, then runs)     │
//!             │           └──stop─┤                           └─ given up ─┐
//!             └─ ended before ────┴─ last checkpoint ─→ Closing ───────────┴─→ Ended
//! ```
//!
//! - Nothing is deployed before the attempt is claimed and everything older is resolved.
//! - A message of another attempt than the current one changes nothing.
//! - Being fenced ends the run from any state, and nothing is written after it.

mod closing;
pub mod command;
pub mod event;
mod executing;
mod failing;
mod finalizing;
mod leaving;
mod messages;
mod records;
mod requests;
mod state;
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream_spec::ValidJob;
use millstream_spec::checkpoint::Retention;
use millstream_types::api::GivenUp;
use millstream_types::protocol::ToWorker;
use millstream_types::{
    Attempt, Deployment, ErrorKind, Failure, JobId, OperatorUid, Timestamp, WorkerId,
};

pub use command::Command;
pub use event::{Event, NotFinalized, Now, Over, Prepared, Written};

use crate::audit::{Audit, Totals};
use crate::placement::Placement;
use crate::restart::RestartPolicy;
use crate::topology::Topology;
use crate::trigger::{Settings as TriggerSettings, Stop};
use crate::{Outcome, Progress};
use records::Records;
pub(crate) use requests::check_name;
use state::Phase;

/// What never changes about a job while a coordinator runs it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which job.
    pub job: JobId,
    /// Which deployment of it.
    pub deployment: Option<Deployment>,
    /// The job file.
    pub job_text: String,
    /// Fingerprint of its graph.
    pub fingerprint: String,
    /// Kind of every source's and sink's connector.
    pub connectors: BTreeMap<OperatorUid, String>,
    /// The job's parallelism.
    pub parallelism: u32,
    /// Its vertices and edges.
    pub topology: Topology,
    /// When checkpoints are taken.
    pub checkpoint: TriggerSettings,
    /// How many checkpoints may fail in a row.
    pub tolerable_failures: u32,
    /// How long tasks may take to stop.
    pub cancel_timeout: Duration,
    /// How long tasks may take to start.
    pub deploy_timeout: Duration,
    /// Whether the job's checkpoints are deleted when it is cancelled.
    pub discards: bool,
}

impl Settings {
    /// From a job and its plan.
    pub fn new(
        job: &ValidJob,
        deployment: Option<Deployment>,
        job_text: String,
        graph: &millstream_plan::JobGraph,
        cancel_timeout: Duration,
    ) -> Self {
        Self {
            job: job.id.clone(),
            deployment,
            job_text,
            fingerprint: graph.fingerprint.clone(),
            connectors: graph.connectors(),
            parallelism: job.parallelism,
            topology: Topology::new(graph, job.parallelism),
            checkpoint: TriggerSettings::from(&job.checkpoint),
            tolerable_failures: job.checkpoint.tolerable_failures,
            cancel_timeout,
            deploy_timeout: job.checkpoint.timeout.0,
            discards: job.checkpoint.retention() == Retention::DeleteOnCancellation,
        }
    }
}

/// A job as its coordinator sees it.
#[derive(Debug)]
pub struct Job {
    settings: Settings,
    restart: RestartPolicy,
    phase: Phase,
    /// Registered workers and their slots.
    workers: BTreeMap<WorkerId, u32>,
    /// Those of them that want to go.
    leaving: BTreeSet<WorkerId>,
    /// Where subtasks ran last.
    placement: Placement,
    /// The newest claimed attempt.
    attempt: Attempt,
    /// Attempts that were begun, successful or not.
    begun: u64,
    /// A stop that was asked for and is not done.
    stop: Option<Stop>,
    /// Somebody has cancelled the job.
    cancelled: bool,
    /// Savepoints that were asked for and are not triggered.
    savepoints: Vec<String>,
    records: Records,
    audit: Audit,
    /// Totals of the newest manifest.
    totals: Totals,
    restored_from: Option<String>,
    /// The newest checkpoint that the job has gone back from.
    given_up: Option<GivenUp>,
    last_failure: Option<Failure>,
    since: Timestamp,
    /// When the job had ended, if that was before this coordinator began.
    ended_at: Option<Timestamp>,
    shown: millstream_types::api::JobState,
    commands: Vec<Command>,
}

impl Job {
    /// A job whose first attempt begins with the first command.
    pub fn new(settings: Settings, restart: RestartPolicy, now: Timestamp) -> Self {
        Self {
            settings,
            restart,
            phase: Phase::Preparing {
                note: String::new(),
            },
            workers: BTreeMap::new(),
            leaving: BTreeSet::new(),
            placement: Placement::new(),
            attempt: Attempt(0),
            begun: 1,
            stop: None,
            cancelled: false,
            savepoints: Vec::new(),
            records: Records::default(),
            audit: Audit::default(),
            totals: Totals::new(),
            restored_from: None,
            given_up: None,
            last_failure: None,
            since: now,
            ended_at: None,
            shown: millstream_types::api::JobState::Restoring,
            commands: vec![Command::Prepare],
        }
    }

    /// Takes a fact.
    pub fn handle(&mut self, event: Event, now: Now) {
        if matches!(self.phase, Phase::Ended(_)) {
            self.handle_ended(event);
            return;
        }
        match event {
            Event::Prepared(prepared) => self.prepared(*prepared),
            Event::AlreadyCompleted(manifest) => self.already_completed(manifest.as_deref()),
            Event::Over(over) => self.over(*over),
            Event::PrepareFailed(failure) => self.prepare_failed(failure, now),
            Event::Preparing(text) => {
                if let Phase::Preparing { note } = &mut self.phase {
                    *note = text;
                }
            }
            Event::WorkerJoined { worker, slots } => self.worker_joined(worker, slots),
            Event::WorkerLost { worker, failure } => self.worker_lost(&worker, failure, now),
            Event::Message { worker, message } => self.message(&worker, message, now),
            Event::Finalized {
                attempt,
                checkpoint,
                result,
            } => self.finalized(attempt, checkpoint, result, now),
            Event::SavepointWritten {
                attempt,
                checkpoint,
                name,
                result,
            } => self.savepoint_written((attempt, checkpoint), &name, result, now),
            Event::Released(result) => self.released(result),
            Event::Discovered {
                attempt,
                uid,
                discovery,
            } => self.discovered(attempt, &uid, discovery),
            Event::Measured { attempt, uid, lags } => {
                if let Phase::Executing(execution) = &mut self.phase
                    && execution.attempt == attempt
                {
                    execution.measured(uid, lags);
                }
            }
            Event::DiscoveryFailed { attempt, failure } => {
                if self
                    .execution()
                    .is_some_and(|execution| execution.attempt == attempt)
                {
                    self.fail_attempt(failure, now);
                }
            }
            Event::Broken(failure) => {
                self.last_failure = Some(failure.clone());
                self.end(Outcome::Failed(failure));
            }
            Event::Interrupted => self.end(Outcome::Interrupted),
            Event::Tick => {}
        }
        self.advance(now);
    }

    /// Takes the commands that have come up since the last call.
    pub fn take_commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.commands)
    }

    /// When to send a [`Event::Tick`] if nothing else happens, monotonic.
    pub fn wake_at(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Executing(execution) if !execution.all_running() => {
                Some(execution.deploy_deadline)
            }
            Phase::Executing(execution) => execution.trigger.wake_at(),
            Phase::Cancelling(cancelling) => Some(cancelling.deadline),
            Phase::Delaying { until } => Some(*until),
            Phase::Preparing { .. } | Phase::Waiting(_) | Phase::Closing(_) | Phase::Ended(_) => {
                None
            }
        }
    }

    /// Does what time or a change of the surroundings allows, until nothing more is to be done.
    fn advance(&mut self, now: Now) {
        self.let_go();
        while self.step(now) {}
        self.let_go();
        self.show(now);
    }

    fn step(&mut self, now: Now) -> bool {
        match &self.phase {
            Phase::Waiting(_) if self.may_stop_idle() => {
                self.stop_waiting();
                true
            }
            Phase::Waiting(_) => self.deploy_if_possible(now),
            Phase::Executing(_) => self.check_execution(now),
            Phase::Cancelling(_) => self.finish_cancelling(now),
            Phase::Delaying { until } if now.monotonic >= *until => {
                self.begin_attempt();
                true
            }
            Phase::Delaying { .. }
            | Phase::Preparing { .. }
            | Phase::Closing(_)
            | Phase::Ended(_) => false,
        }
    }

    /// Takes the phase out, if it is the one that is wanted; it stays where it is otherwise. Who
    /// takes it sets the next one before anybody looks.
    fn take_phase<T>(&mut self, wanted: impl FnOnce(Phase) -> Result<T, Phase>) -> Option<T> {
        let meanwhile = Phase::Preparing {
            note: String::new(),
        };
        match wanted(std::mem::replace(&mut self.phase, meanwhile)) {
            Ok(taken) => Some(taken),
            Err(other) => {
                self.phase = other;
                None
            }
        }
    }

    fn begin_attempt(&mut self) {
        self.begun += 1;
        self.phase = Phase::Preparing {
            note: String::new(),
        };
        self.commands.push(Command::Prepare);
    }

    fn execution(&self) -> Option<&state::Execution> {
        match &self.phase {
            Phase::Executing(execution) => Some(execution),
            Phase::Closing(closing) => closing.execution.as_deref(),
            _ => None,
        }
    }

    fn worker_joined(&mut self, worker: WorkerId, slots: u32) {
        self.commands.push(Command::News(Progress::WorkerJoined {
            worker: worker.clone(),
            slots,
        }));
        self.workers.insert(worker, slots);
    }

    fn worker_lost(&mut self, worker: &WorkerId, failure: Failure, now: Now) {
        self.leaving.remove(worker);
        if self.workers.remove(worker).is_none() {
            return;
        }
        self.commands.push(Command::News(Progress::WorkerLeft {
            worker: worker.clone(),
            failure: failure.clone(),
        }));
        match &mut self.phase {
            Phase::Executing(execution) if execution.hosts.contains_key(worker) => {
                if execution.is_sealed() {
                    execution.late_failure = Some(failure);
                } else {
                    self.fail_attempt(failure, now);
                }
            }
            Phase::Cancelling(cancelling) => {
                cancelling.waiting.remove(worker);
            }
            _ => {}
        }
    }

    /// Sends a message to every worker that runs tasks of the attempt.
    fn broadcast(
        commands: &mut Vec<Command>,
        execution: &state::Execution,
        message: impl Fn() -> ToWorker,
    ) {
        for worker in execution.hosts.keys() {
            commands.push(Command::Send {
                worker: worker.clone(),
                message: message(),
            });
        }
    }

    fn end(&mut self, outcome: Outcome) {
        let over = matches!(
            outcome,
            Outcome::Completed | Outcome::Stopped { .. } | Outcome::Failed(_)
        );
        self.commands.push(Command::StopDiscovery);
        for worker in self.workers.keys() {
            let message = if over {
                ToWorker::Shutdown
            } else {
                ToWorker::Cancel {
                    attempt: self.attempt,
                }
            };
            self.commands.push(Command::Send {
                worker: worker.clone(),
                message,
            });
        }
        self.commands.push(Command::Finish(outcome.clone()));
        self.phase = Phase::Ended(outcome);
    }

    /// Ends the run if the failure says that a newer attempt owns the job. Whether it did.
    fn end_if_fenced(&mut self, failure: &Failure) -> bool {
        let fenced = failure.kind == ErrorKind::Fenced;
        if fenced {
            self.last_failure = Some(failure.clone());
            self.end(Outcome::Fenced(failure.clone()));
        }
        fenced
    }
}

#[cfg(test)]
mod tests;
