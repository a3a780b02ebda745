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
//!
//! Cut by data: [`workers`] who is there, [`execution`] the tasks of an attempt and how they stand,
//! [`checkpoints`] the life of every checkpoint of that attempt, [`savepoints`] the life of every
//! savepoint and of a stop, [`history`], [`failures`] and [`audit`] what became of them, for people, `warnings` what they should
//! think about, [`run`] what
//! outlives phases and attempts. [`phase`] says where it stands; an event is taken by the phase, which
//! says what becomes of it: [`executing`] while tasks run, [`waiting`] otherwise.

pub mod audit;
pub mod checkpoints;
pub mod command;
mod deployment;
pub mod event;
mod executing;
mod execution;
mod failures;
mod history;
pub mod news;
pub mod outcome;
mod phase;
pub mod requests;
mod run;
mod savepoints;
pub mod status;
mod waiting;
mod warnings;
mod workers;

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_checkpoint::{Manifest, Release, ReleaseReason};
use millstream_spec::ValidJob;
use millstream_spec::checkpoint::Retention;
use millstream_types::api::JobState;
use millstream_types::protocol::{ToCoordinator, ToWorker};
use millstream_types::{Attempt, Deployment, ErrorKind, JobId, OperatorUid, Timestamp};

pub use command::{Command, Operation};
pub use event::{Event, NotFinalized, Now, Over, Prepared, Written};

use crate::manifest::JobFacts;
use crate::restart::RestartPolicy;
use crate::topology::Topology;
use audit::Audit;
use checkpoints::pending::Parts;
use checkpoints::trigger::Settings as TriggerSettings;
use execution::Execution;
use failures::Failures;
use history::History;
use news::Progress;
use outcome::Outcome;
use phase::{Close, Closing, Next, Phase, Transition};
pub(crate) use requests::check_name;
use run::Run;
use savepoints::Savepoints;
use workers::Workers;

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
    /// How often a job that waits for workers looks whether its claim is still the newest.
    pub look_interval: Duration,
    /// Whether the job's checkpoints are deleted when it is cancelled.
    pub discards: bool,
    /// Transforms that keep a key for ever.
    pub without_ttl: Vec<String>,
}

impl Settings {
    /// From a job and its plan.
    pub fn new(
        job: &ValidJob,
        deployment: Option<Deployment>,
        job_text: String,
        graph: &millstream_plan::JobGraph,
        cancel_timeout: Duration,
        look_interval: Duration,
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
            look_interval,
            discards: job.checkpoint.retention() == Retention::DeleteOnCancellation,
            without_ttl: millstream_plan::advice::without_ttl(job, graph),
        }
    }

    fn manifest(&self, attempt: Attempt, parts: Parts, decided_at: Timestamp) -> Manifest {
        let facts = JobFacts {
            job: &self.job,
            fingerprint: &self.fingerprint,
            connectors: self.connectors.clone(),
            parallelism: self.parallelism,
            max_parallelism: self.topology.max_parallelism,
            inputs: self.topology.inputs.clone(),
        };
        facts.manifest(attempt, parts, decided_at)
    }
}

/// A job as its coordinator sees it.
#[derive(Debug)]
pub struct Job {
    phase: Phase,
    run: Run,
    /// The state that observers were told last.
    shown: JobState,
}

impl Job {
    /// A job whose first attempt begins with the first command.
    pub fn new(settings: Settings, restart: RestartPolicy, now: Timestamp) -> Self {
        Self {
            phase: Phase::Preparing {
                note: String::new(),
            },
            run: Run {
                settings,
                restart,
                workers: Workers::default(),
                placement: BTreeMap::new(),
                attempt: Attempt(0),
                begun: 1,
                cancelled: false,
                savepoints: Savepoints::default(),
                history: History::default(),
                failures: Failures::default(),
                audit: Audit::default(),
                restored_from: None,
                given_up: None,
                last_failure: None,
                since: now,
                ended_at: None,
                commands: vec![Operation::Prepare.into()],
            },
            shown: JobState::Restoring,
        }
    }

    /// Takes a fact.
    pub fn handle(&mut self, event: Event, now: Now) {
        if let Phase::Ended(outcome) = &self.phase {
            self.run.handle_after(outcome, event);
            return;
        }
        if let Some(event) = self.everywhere(event, now) {
            let job = &mut self.run;
            let transition = match &mut self.phase {
                Phase::Executing(execution) => execution.handle(event, job, now),
                Phase::Preparing { note } => job.while_preparing(note, event, now),
                Phase::Cancelling(cancelling) => job.while_cancelling(cancelling, event, now),
                Phase::Closing(closing) => job.while_closing(closing, event, now),
                Phase::Waiting(waiting) => job.while_waiting(waiting, event, now),
                Phase::Delaying { .. } => job.while_idle(event, true, now),
                Phase::Ended(_) => Transition::Stay,
            };
            self.enter(transition, now);
        }
        self.advance(now);
    }

    /// What a fact means in every phase. Returns it if it may mean more.
    fn everywhere(&mut self, event: Event, now: Now) -> Option<Event> {
        let job = &mut self.run;
        match event {
            Event::WorkerJoined { worker, slots } => {
                job.news(Progress::WorkerJoined {
                    worker: worker.clone(),
                    slots,
                });
                job.workers.joined(worker, slots);
                None
            }
            Event::WorkerLost { worker, failure } => {
                let was_there = job.workers.remove(&worker);
                was_there.then(|| {
                    job.news(Progress::WorkerLeft {
                        worker: worker.clone(),
                        failure: failure.clone(),
                    });
                    Event::WorkerLost { worker, failure }
                })
            }
            Event::Message {
                worker,
                message: ToCoordinator::Leaving,
            } => {
                if !job.workers.contains(&worker) {
                    // It was let go before, and what told it so was lost.
                    job.send(&worker, ToWorker::Shutdown);
                    return None;
                }
                let is_new = job.workers.wants_to_leave(&worker);
                is_new.then(|| {
                    tracing::info!(%worker, "worker wants to leave");
                    let message = ToCoordinator::Leaving;
                    Event::Message { worker, message }
                })
            }
            // Whoever has claimed the chain since goes on from there.
            Event::Held(Err(failure)) if failure.kind == ErrorKind::Fenced => {
                self.enter(Transition::Fail(failure), now);
                None
            }
            Event::Broken(failure) => {
                job.last_failure = Some(failure.clone());
                job.failures.note(job.attempt, &failure, None, now.wall);
                self.enter(Transition::End(Outcome::Failed(failure)), now);
                None
            }
            Event::Interrupted => {
                self.enter(Transition::End(Outcome::Interrupted), now);
                None
            }
            Event::Tick => None,
            event => Some(event),
        }
    }

    /// Takes the commands that have come up since the last call.
    pub fn take_commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.run.commands)
    }

    /// When to send a [`Event::Tick`] if nothing else happens, monotonic.
    pub fn wake_at(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Executing(execution) if !execution.all_running() => {
                Some(execution.deploy_deadline)
            }
            Phase::Executing(execution) => execution.checkpoints.wake_at(),
            Phase::Cancelling(cancelling) => Some(cancelling.deadline),
            Phase::Delaying { until } => Some(*until),
            Phase::Waiting(waiting) => waiting.look_at,
            Phase::Preparing { .. } | Phase::Closing(_) | Phase::Ended(_) => None,
        }
    }

    /// Does what time or a change of the surroundings allows, until nothing more is to be done.
    fn advance(&mut self, now: Now) {
        self.dismiss_leaving();
        while self.step(now) {}
        self.dismiss_leaving();
        self.show(now);
    }

    /// Whether the phase has changed.
    fn step(&mut self, now: Now) -> bool {
        let job = &mut self.run;
        let transition = match &mut self.phase {
            Phase::Waiting(waiting) if job.may_stop_idle() => {
                job.close_stopped(&waiting.prepared.manifest)
            }
            Phase::Waiting(waiting) => {
                let Some(execution) = deployment::deploy(job, &waiting.prepared, now) else {
                    job.look_at_claim(waiting, now);
                    return false;
                };
                self.phase = Phase::Executing(Box::new(execution));
                return true;
            }
            Phase::Executing(execution) => execution.advance(job, now),
            Phase::Cancelling(cancelling) => job.finish_cancelling(cancelling, now),
            Phase::Delaying { until } if now.monotonic >= *until => Transition::Prepare,
            Phase::Delaying { .. }
            | Phase::Preparing { .. }
            | Phase::Closing(_)
            | Phase::Ended(_) => Transition::Stay,
        };
        let changes = !matches!(transition, Transition::Stay);
        self.enter(transition, now);
        changes
    }

    /// Goes where an event leads.
    fn enter(&mut self, transition: Transition, now: Now) {
        match transition {
            Transition::Stay => {}
            Transition::Wait(prepared) => self.phase = Phase::Waiting(self.run.wait(prepared, now)),
            Transition::Prepare => {
                self.run.begun += 1;
                self.run.commands.push(Operation::Prepare.into());
                self.phase = Phase::Preparing {
                    note: String::new(),
                };
            }
            Transition::Fail(failure) if failure.kind == ErrorKind::Fenced => {
                let end = self.run.fenced(failure);
                self.enter(end, now);
            }
            Transition::Fail(failure) => {
                tracing::warn!(attempt = %self.run.attempt, %failure, "attempt failed");
                let next = self.run.after_failure(failure.clone(), now);
                self.enter(Transition::Leave(failure, next), now);
            }
            Transition::Leave(reason, next) => match self.execution() {
                Some(_) => self.cancel_tasks(&reason, next, now),
                None => self.enter(Transition::Follow(next), now),
            },
            Transition::Follow(Next::Restart(until)) => self.phase = Phase::Delaying { until },
            Transition::Follow(Next::GiveUp(failure)) => {
                let close = self.run.give_up(failure);
                self.enter(close, now);
            }
            Transition::Follow(Next::Cancel) => {
                let close = self.run.close_cancelled();
                self.enter(close, now);
            }
            Transition::Close(close) => self.close(*close),
            Transition::End(outcome) => self.end(outcome),
        }
    }

    fn cancel_tasks(&mut self, reason: &millstream_types::Failure, next: Next, now: Now) {
        if let Phase::Executing(execution)
        | Phase::Closing(Closing {
            execution: Some(execution),
            ..
        }) = &self.phase
        {
            let cancelling = self.run.stop_tasks(execution, reason, next, now);
            self.phase = Phase::Cancelling(cancelling);
        }
    }

    /// What is left is a savepoint, if one is wanted, and the release of the chain.
    fn close(&mut self, close: Close) {
        let Close {
            reason,
            outcome,
            savepoint,
        } = close;
        self.run.commands.push(Command::StopDiscovery);
        let closing = Closing {
            reason,
            outcome,
            execution: None,
        };
        let before = std::mem::replace(&mut self.phase, Phase::Closing(closing));
        if let Phase::Closing(closing) = &mut self.phase {
            if let Phase::Executing(execution) = before {
                closing.execution = Some(execution);
            }
            match savepoint {
                Some(write) => self.run.write_savepoint(write),
                None => self.run.release(closing),
            }
        }
    }

    fn end(&mut self, outcome: Outcome) {
        let job = &mut self.run;
        job.commands.push(Command::StopDiscovery);
        let message = if outcome.is_final() {
            ToWorker::Shutdown
        } else {
            let attempt = job.attempt;
            ToWorker::Cancel { attempt }
        };
        let workers: Vec<_> = job.workers.slots().keys().cloned().collect();
        for worker in workers {
            job.send(&worker, message.clone());
        }
        job.commands.push(Command::Finish(outcome.clone()));
        self.phase = Phase::Ended(outcome);
    }

    /// Lets those workers go that want to and are not needed any more.
    fn dismiss_leaving(&mut self) {
        let phase = &self.phase;
        let going = self.run.workers.take_leaving(|worker| match phase {
            Phase::Executing(execution) => !execution.hosts.contains_key(worker),
            Phase::Cancelling(cancelling) => !cancelling.waiting.contains(worker),
            // They are sent home with all the others in a moment.
            Phase::Closing(_) | Phase::Ended(_) => false,
            Phase::Preparing { .. } | Phase::Waiting(_) | Phase::Delaying { .. } => true,
        });
        for worker in going {
            self.run.send(&worker, ToWorker::Shutdown);
        }
    }

    fn execution(&self) -> Option<&Execution> {
        match &self.phase {
            Phase::Executing(execution) => Some(execution),
            Phase::Closing(closing) => closing.execution.as_deref(),
            _ => None,
        }
    }
}

impl Run {
    /// Whether a stop is asked for that needs no running tasks.
    fn may_stop_idle(&self) -> bool {
        self.savepoints.stop().is_some_and(|stop| !stop.drain)
    }

    /// Releases the chain, with all that is to be known about the end.
    fn release(&mut self, closing: &Closing) {
        let mut release = Release {
            restored_from: self.restored_from.clone(),
            ..closing.reason.into()
        };
        match &closing.outcome {
            Outcome::Stopped { savepoint } => release.savepoint.clone_from(savepoint),
            Outcome::Failed(failure) => release = release.with_failure(Some(failure)),
            _ => {}
        }
        // They go only with a job that was cancelled, and ends because of that.
        let is_cancelled = self.cancelled && closing.reason == ReleaseReason::Stopped;
        let release = Box::new(release);
        let operation = if is_cancelled && self.settings.discards {
            Operation::Discard(release)
        } else {
            Operation::Release(release)
        };
        self.commands.push(operation.into());
    }
}

#[cfg(test)]
mod tests;
