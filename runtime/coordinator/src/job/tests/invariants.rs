//! Random lives of a job. Whatever happens in whatever order, the rules hold.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Pass(u64),
    Join(u8),
    Lose(u8),
    Leave(u8),
    PrepareAnswer(bool),
    LookAnswer(u8),
    Run,
    Acknowledge,
    AcknowledgeOne(u8),
    Finalize(u8),
    SavepointAnswer(bool),
    Cancelled(u8),
    TaskFailed(bool),
    Ended,
    Savepoint(u8),
    Stop(Option<u8>),
    Released,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => prop_oneof![1_u64..50, 400_u64..3_000, Just(12_000)].prop_map(Step::Pass),
        4 => (0_u8..4).prop_map(Step::Join),
        1 => (0_u8..4).prop_map(Step::Lose),
        1 => (0_u8..4).prop_map(Step::Leave),
        6 => prop::bool::weighted(0.85).prop_map(Step::PrepareAnswer),
        2 => (0_u8..20).prop_map(Step::LookAnswer),
        6 => Just(Step::Run),
        8 => Just(Step::Acknowledge),
        2 => (0_u8..8).prop_map(Step::AcknowledgeOne),
        8 => (0_u8..8).prop_map(Step::Finalize),
        3 => prop::bool::weighted(0.8).prop_map(Step::SavepointAnswer),
        4 => (0_u8..4).prop_map(Step::Cancelled),
        1 => prop::bool::weighted(0.9).prop_map(Step::TaskFailed),
        1 => Just(Step::Ended),
        1 => (0_u8..3).prop_map(Step::Savepoint),
        1 => prop::option::of(0_u8..3).prop_map(Step::Stop),
        2 => Just(Step::Released),
    ];
    prop::collection::vec(step, 1..150)
}

/// A job and what its surroundings owe it.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one thing that is owed or not"
)]
pub(super) struct Life {
    pub(super) rig: Rig,
    attempts: u64,
    seen: usize,
    preparing: bool,
    looking: bool,
    finalizing: Vec<(Attempt, CheckpointId)>,
    pub(super) savepoints: Vec<(Attempt, CheckpointId, String)>,
    releasing: bool,
    pub(super) committed: BTreeSet<(Attempt, CheckpointId)>,
    decided: BTreeSet<(Attempt, CheckpointId)>,
    /// Workers that may still run tasks, by attempt.
    busy: BTreeSet<(WorkerId, Attempt)>,
    pub(super) finished: bool,
    last_barrier: Option<(Attempt, CheckpointId)>,
}

impl Life {
    pub(super) fn new() -> Self {
        Self {
            rig: Rig::with(
                Settings {
                    tolerable_failures: 1,
                    checkpoint: TriggerSettings {
                        max_concurrent: 2,
                        ..settings().checkpoint
                    },
                    ..settings()
                },
                strategy(),
            ),
            attempts: 0,
            seen: 0,
            preparing: false,
            looking: false,
            finalizing: Vec::new(),
            savepoints: Vec::new(),
            releasing: false,
            committed: BTreeSet::new(),
            decided: BTreeSet::new(),
            busy: BTreeSet::new(),
            finished: false,
            last_barrier: None,
        }
    }

    pub(super) fn act(&mut self, step: Step) {
        let name = |index: u8| format!("w{index}");
        match step {
            Step::Pass(time) => self.rig.pass(time),
            Step::Join(index) => {
                if !self.rig.job.run.workers.contains(&worker(&name(index))) {
                    self.rig.join(&name(index), 1);
                }
            }
            Step::Lose(index) => {
                self.busy.retain(|(busy, _)| *busy != worker(&name(index)));
                self.rig.lose(&name(index));
            }
            Step::Leave(index) => self.rig.say(&name(index), ToCoordinator::Leaving),
            Step::PrepareAnswer(works) => self.answer_prepare(works),
            Step::LookAnswer(answer) => self.answer_look(answer),
            Step::Run => self.rig.all_run(),
            Step::Acknowledge => {
                if let Some(barrier) = self.rig.last_barrier() {
                    self.rig.acknowledge(barrier.checkpoint.0);
                }
            }
            Step::AcknowledgeOne(index) => self.acknowledge_one(index),
            Step::Finalize(result) => self.answer_finalize(result),
            Step::SavepointAnswer(works) => self.answer_savepoint(works),
            Step::Cancelled(index) => {
                let attempt = self.rig.attempt();
                self.busy.remove(&(worker(&name(index)), attempt));
                self.rig.cancelled(&name(index));
            }
            Step::TaskFailed(restartable) => {
                let kind = if restartable {
                    ErrorKind::Retryable
                } else {
                    ErrorKind::InvalidJob
                };
                let attempt = self.rig.attempt();
                if let Some((host, task)) = self.rig.hosts().first().cloned() {
                    let failure = failure(kind);
                    self.rig.say(
                        &host,
                        ToCoordinator::TaskFailed {
                            attempt,
                            task,
                            failure,
                        },
                    );
                }
            }
            Step::Ended => {
                let attempt = self.rig.attempt();
                for (host, task) in self.rig.hosts() {
                    self.rig
                        .say(&host, ToCoordinator::TaskEnded { attempt, task });
                }
            }
            Step::Savepoint(index) => drop(self.rig.savepoint(&format!("s{index}"))),
            Step::Stop(index) => {
                let savepoint = index.map(|index| format!("stop{index}"));
                drop(self.rig.stop(savepoint.as_deref()));
            }
            Step::Released => {
                if std::mem::take(&mut self.releasing) {
                    self.rig.tell(Event::Released(Ok(())));
                }
            }
        }
    }

    fn answer_prepare(&mut self, works: bool) {
        if !std::mem::take(&mut self.preparing) {
            return;
        }
        if works {
            self.attempts += 1;
            self.rig.prepared(self.attempts);
        } else {
            self.rig
                .tell(Event::PrepareFailed(failure(ErrorKind::Retryable)));
        }
    }

    fn answer_look(&mut self, answer: u8) {
        if std::mem::take(&mut self.looking) {
            self.rig.tell(Event::Held(match answer {
                0 => Err(failure(ErrorKind::Fenced)),
                1..5 => Err(failure(ErrorKind::Retryable)),
                _ => Ok(()),
            }));
        }
    }

    fn acknowledge_one(&mut self, index: u8) {
        let hosts = self.rig.hosts();
        let Some(barrier) = self.rig.last_barrier().filter(|_| !hosts.is_empty()) else {
            return;
        };
        let (host, task) = hosts[usize::from(index) % hosts.len()].clone();
        let attempt = self.rig.attempt();
        self.rig.say(
            &host,
            ToCoordinator::CheckpointAcknowledged {
                attempt,
                checkpoint: barrier.checkpoint,
                task,
                snapshot: snapshot_of(task, &[]),
                passage: millstream_types::protocol::Passage::default(),
            },
        );
    }

    fn answer_finalize(&mut self, result: u8) {
        if self.finalizing.is_empty() {
            return;
        }
        let (attempt, checkpoint) = self.finalizing.remove(0);
        let result = match result {
            0 => Err(NotFinalized::NotDecided(failure(ErrorKind::Retryable))),
            7 => Err(NotFinalized::Undecidable(failure(ErrorKind::Retryable))),
            1 => Err(NotFinalized::NotCommitted(
                written(),
                failure(ErrorKind::Retryable),
            )),
            _ => {
                self.committed.insert((attempt, checkpoint));
                Ok(written())
            }
        };
        self.rig.tell(Event::Finalized {
            attempt,
            checkpoint,
            result,
        });
    }

    fn answer_savepoint(&mut self, works: bool) {
        if self.savepoints.is_empty() {
            return;
        }
        let (attempt, checkpoint, name) = self.savepoints.remove(0);
        let result = if works {
            Ok(written())
        } else {
            Err(failure(ErrorKind::Retryable))
        };
        self.rig.tell(Event::SavepointWritten {
            attempt,
            checkpoint,
            name,
            result,
        });
    }

    /// Checks every command that has come up, and takes note of what it asks for.
    pub(super) fn check(&mut self) -> Result<(), TestCaseError> {
        let commands = std::mem::take(&mut self.rig.commands);
        let is_end = |command: &Command| matches!(command, Command::Finish(_));
        let ends = commands.iter().any(is_end);
        for command in &commands[self.seen..] {
            let sends_home = matches!(
                command,
                Command::Send {
                    message: ToWorker::Shutdown,
                    ..
                }
            );
            prop_assert!(
                !self.finished || sends_home,
                "a command after the end: {command:?}"
            );
            match command {
                Command::Chain(Operation::Prepare) => {
                    prop_assert!(self.busy.is_empty(), "tasks may still run: {:?}", self.busy);
                    prop_assert!(!self.preparing);
                    self.preparing = true;
                }
                Command::Chain(Operation::EnsureHeld) => {
                    prop_assert!(!self.preparing, "it may not be claimed");
                    self.looking = true;
                }
                Command::Chain(Operation::Finalize { manifest, .. }) => {
                    let name = (manifest.attempt, manifest.checkpoint);
                    prop_assert!(self.decided.insert(name), "decided twice: {name:?}");
                    for uid in ["orders", "out"] {
                        prop_assert_eq!(manifest.operators[&OperatorUid::from(uid)].len(), 2);
                    }
                    self.finalizing.push(name);
                }
                Command::Chain(Operation::WriteSavepoint {
                    attempt,
                    checkpoint,
                    name,
                    ..
                }) => {
                    self.savepoints.push((*attempt, *checkpoint, name.clone()));
                }
                Command::Chain(Operation::Sweep) => {
                    prop_assert!(self.busy.is_empty(), "tasks may still run: {:?}", self.busy);
                }
                Command::Chain(Operation::Release(_) | Operation::Discard(_)) => {
                    prop_assert!(!self.releasing);
                    self.releasing = true;
                }
                Command::Disconnect { worker } => self.busy.retain(|(busy, _)| busy != worker),
                Command::Finish(_) => self.finished = true,
                Command::Send { worker, message } => self.check_message(worker, message, ends)?,
                Command::StartDiscovery { .. } | Command::StopDiscovery | Command::News(_) => {}
            }
        }
        self.seen = commands.len();
        self.rig.commands = commands;
        Ok(())
    }

    fn check_message(
        &mut self,
        worker: &WorkerId,
        message: &ToWorker,
        ends: bool,
    ) -> Result<(), TestCaseError> {
        match message {
            ToWorker::Deploy(deploy) => {
                prop_assert_eq!(deploy.attempt.0, self.attempts);
                self.busy.insert((worker.clone(), deploy.attempt));
            }
            ToWorker::Shutdown if !ends => {
                let may_run = self.busy.iter().any(|(busy, _)| busy == worker);
                prop_assert!(!may_run, "{worker} may go and still runs tasks");
            }
            ToWorker::Trigger { attempt, barrier } => {
                let this = (*attempt, barrier.checkpoint);
                prop_assert!(self.last_barrier.is_none_or(|last| last <= this));
                self.last_barrier = Some(this);
            }
            ToWorker::Completed {
                attempt,
                checkpoint,
                committed: true,
            } => {
                prop_assert!(self.committed.contains(&(*attempt, *checkpoint)));
            }
            _ => {}
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn rules_hold_over_any_life(steps in steps()) {
        let mut life = Life::new();
        life.check()?;
        for step in steps {
            life.act(step);
            life.check()?;
        }
    }
}

/// A task has failed while the last checkpoint was being decided, which an older one was waiting
/// for; then the savepoint could not be written.
#[test]
fn a_late_failure_does_not_end_an_attempt_that_has_come_to_its_end() {
    let steps = [
        Step::Join(2),
        Step::PrepareAnswer(true),
        Step::Join(0),
        Step::Run,
        Step::Pass(1_000),
        Step::Acknowledge,
        Step::Stop(Some(0)),
        Step::Finalize(0),
        Step::Acknowledge,
        Step::TaskFailed(false),
        Step::Finalize(2),
        Step::SavepointAnswer(false),
        Step::Stop(None),
    ];
    let mut life = Life::new();
    for step in steps {
        life.act(step);
        life.check().unwrap();
    }
}
