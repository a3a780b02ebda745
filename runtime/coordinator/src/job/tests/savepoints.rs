//! The life of savepoints, whatever happens: every request is answered once, a stop does not lose
//! its savepoint, and nothing of an attempt is left when it is over.

use std::collections::{BTreeMap, BTreeSet};

use millstream_types::api::CheckpointState;
use proptest::prelude::*;

use super::invariants::{Life, Step};
use super::*;
use crate::job::checkpoints::trigger;

#[derive(Debug, Clone, Copy)]
enum Move {
    Act(Step),
    /// Every task acknowledges the newest barrier; its sink lists what is not committed.
    Acknowledge,
    /// The same, but the sink forgets what it had prepared before.
    Forget,
    Ask(u8),
    Stop(Option<u8>),
    Cancel,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let act = prop_oneof![
        4 => prop_oneof![1_u64..50, 400_u64..3_000, Just(12_000)].prop_map(Step::Pass),
        3 => (0_u8..3).prop_map(Step::Join),
        1 => (0_u8..3).prop_map(Step::Lose),
        1 => (0_u8..3).prop_map(Step::Leave),
        6 => prop::bool::weighted(0.9).prop_map(Step::PrepareAnswer),
        6 => Just(Step::Run),
        10 => prop_oneof![6 => Just(2_u8), 1 => 0_u8..8].prop_map(Step::Finalize),
        5 => prop::bool::weighted(0.8).prop_map(Step::SavepointAnswer),
        4 => (0_u8..3).prop_map(Step::Cancelled),
        1 => prop::bool::weighted(0.95).prop_map(Step::TaskFailed),
        1 => Just(Step::Ended),
        1 => Just(Step::Released),
    ];
    let one = prop_oneof![
        24 => act.prop_map(Move::Act),
        8 => Just(Move::Acknowledge),
        1 => Just(Move::Forget),
        4 => (0_u8..3).prop_map(Move::Ask),
        2 => prop::option::weighted(0.8, 0_u8..3).prop_map(Move::Stop),
        1 => prop::bool::weighted(0.1).prop_map(|is| if is { Move::Cancel } else { Move::Ask(0) }),
    ];
    prop::collection::vec(one, 1..150)
}

/// What people have asked for, and what they were told.
struct Requests {
    life: Life,
    /// How often each name was asked for anew, and answered.
    asked: BTreeMap<String, u32>,
    answered: BTreeMap<String, u32>,
    /// Names that were told to be written, and were.
    written: BTreeSet<String>,
    /// The stop that is in force.
    stop: Option<trigger::Stop>,
    cancelled: bool,
    /// Transactions that are prepared and not committed, and of which attempt.
    prepared: (Attempt, BTreeSet<u64>),
}

impl Requests {
    fn new() -> Self {
        Self {
            life: Life::new(),
            asked: BTreeMap::new(),
            answered: BTreeMap::new(),
            written: BTreeSet::new(),
            stop: None,
            cancelled: false,
            prepared: (Attempt(0), BTreeSet::new()),
        }
    }

    fn state(&self, name: &str) -> Option<CheckpointState> {
        self.life.rig.job.savepoint(name).map(|status| status.state)
    }

    fn is_open(&self, name: &str) -> bool {
        let state = self.state(name);
        state.is_some_and(|state| state != CheckpointState::Failed)
    }

    fn take(&mut self, step: Move) {
        match step {
            Move::Act(Step::SavepointAnswer(works)) => {
                let next = self.life.savepoints.first();
                let name = next.map(|(_, _, name)| name.clone());
                self.written.extend(name.filter(|_| works));
                self.life.act(Step::SavepointAnswer(works));
            }
            // Operations on the chain are done in order, and the release is the last.
            Move::Act(Step::Released) if !self.life.savepoints.is_empty() => {}
            Move::Act(step) => self.life.act(step),
            Move::Acknowledge => self.acknowledge(false),
            Move::Forget => self.acknowledge(true),
            Move::Ask(index) => {
                let name = format!("s{index}");
                let is_open = self.is_open(&name);
                let asked = self.life.rig.savepoint(&name);
                if asked.is_ok() && !is_open {
                    *self.asked.entry(name).or_default() += 1;
                }
            }
            Move::Stop(index) => {
                // A stop may take the name of a savepoint that has failed.
                let name = index.map(|index| format!("s{index}"));
                let stop = trigger::Stop {
                    savepoint: name.clone(),
                    drain: false,
                };
                let is_new = self.stop.as_ref() != Some(&stop);
                if self.life.rig.stop(name.as_deref()).is_ok() && is_new && !self.life.finished {
                    if let Some(name) = &name {
                        *self.asked.entry(name.clone()).or_default() += 1;
                    }
                    self.stop = Some(stop);
                }
            }
            Move::Cancel => self.cancelled |= self.life.rig.cancel().is_ok(),
        }
    }

    fn acknowledge(&mut self, forgets: bool) {
        let attempt = self.life.rig.attempt();
        let Some(barrier) = self.life.rig.last_barrier() else {
            return;
        };
        let id = barrier.checkpoint.0;
        let committed = |number: &u64| {
            let mut committed = self.life.committed.iter();
            committed.any(|(of, last)| *of == attempt && last.0 >= *number)
        };
        if self.prepared.0 != attempt || forgets {
            self.prepared = (attempt, BTreeSet::new());
        }
        self.prepared.1.insert(id);
        let listed = self.prepared.1.iter().filter(|number| !committed(number));
        let listed: Vec<Committable> = listed.map(|number| transaction(*number)).collect();
        self.life.rig.acknowledge_with(id, &listed);
    }

    /// Looks at what has changed since the last look.
    fn check(&mut self, before: &BTreeMap<String, CheckpointState>) -> Result<(), TestCaseError> {
        for (name, status) in &self.life.rig.job.snapshot().savepoints {
            let state = status.state;
            let was = before.get(name).copied();
            if state != CheckpointState::InProgress && was != Some(state) {
                *self.answered.entry(name.clone()).or_default() += 1;
            }
            if was == Some(CheckpointState::Completed) {
                prop_assert_eq!(state, CheckpointState::Completed, "{} is taken back", name);
            }
            if state == CheckpointState::Completed {
                prop_assert!(self.written.contains(name), "{name} is not written");
            }
            let (asked, answered) = (self.asked.get(name), self.answered.get(name));
            let open = u32::from(state == CheckpointState::InProgress);
            prop_assert_eq!(
                asked.copied().unwrap_or(0),
                answered.copied().unwrap_or(0) + open,
                "{} is asked for and answered as often",
                name
            );
        }
        if let Some(name) = self.name_of_stop()
            && self.state(&name) == Some(CheckpointState::Failed)
        {
            // Whoever has asked for it decides what to do next.
            self.stop = None;
        }
        let job = &self.life.rig.job;
        if let Some(stop) = job.run.savepoints.stop() {
            prop_assert_eq!(Some(stop), self.stop.as_ref());
        }
        if !matches!(job.phase, Phase::Executing(_)) {
            prop_assert_eq!(job.run.savepoints.of_attempt(), Vec::<&str>::new());
        }
        Ok(())
    }

    fn name_of_stop(&self) -> Option<String> {
        self.stop.as_ref()?.savepoint.clone()
    }

    fn states(&self) -> BTreeMap<String, CheckpointState> {
        let savepoints = self.life.rig.job.snapshot().savepoints;
        let states = savepoints.into_iter();
        states.map(|(name, status)| (name, status.state)).collect()
    }

    fn go(&mut self, step: Move) -> Result<(), TestCaseError> {
        let before = self.states();
        self.take(step);
        self.life.check()?;
        self.check(&before)
    }

    /// All that is owed to the job comes, so that it ends.
    fn finish(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..60 {
            if self.life.finished {
                break;
            }
            for index in 0..3 {
                self.go(Move::Act(Step::Join(index)))?;
            }
            self.go(Move::Act(Step::PrepareAnswer(true)))?;
            self.go(Move::Act(Step::Run))?;
            self.go(Move::Acknowledge)?;
            self.go(Move::Act(Step::Finalize(2)))?;
            self.go(Move::Act(Step::SavepointAnswer(true)))?;
            for index in 0..3 {
                self.go(Move::Act(Step::Cancelled(index)))?;
            }
            self.go(Move::Act(Step::Released))?;
            self.go(Move::Act(Step::Pass(5_000)))?;
        }
        prop_assert!(self.life.finished, "{:?}", self.life.rig.job.state());
        Ok(())
    }

    fn check_end(&self) -> Result<(), TestCaseError> {
        let job = &self.life.rig.job;
        prop_assert!(job.run.savepoints.all_answered(), "{:?}", self.states());
        if let Some(Outcome::Stopped { savepoint }) = self.life.rig.outcome()
            && !self.cancelled
        {
            let wanted = self.name_of_stop();
            prop_assert_eq!(savepoint.is_some(), wanted.is_some());
            let state = wanted.and_then(|name| self.state(&name));
            prop_assert!(state.is_none_or(|state| state == CheckpointState::Completed));
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn every_request_is_answered_once_and_a_stop_keeps_its_savepoint(
        moves in moves(),
        ending in prop_oneof![
            2 => Just(Move::Stop(Some(9))),
            1 => Just(Move::Stop(None)),
            1 => Just(Move::Cancel),
        ],
    ) {
        let mut requests = Requests::new();
        requests.life.check()?;
        for step in moves {
            requests.go(step)?;
        }
        requests.go(ending)?;
        requests.finish()?;
        requests.check_end()?;
    }
}

#[test]
fn a_stop_that_comes_too_late_does_not_leave_its_savepoint_open() {
    let mut completed = Rig::new();
    completed.stop(Some("late")).unwrap();
    completed.tell(Event::AlreadyCompleted(None));
    let mut over = Rig::new();
    over.stop(Some("late")).unwrap();
    over.tell(Event::Over(Box::new(Over {
        attempt: Attempt(1),
        release: ReleaseReason::Completed.into(),
        manifest: None,
        checkpoints: Vec::new(),
    })));
    for rig in [completed, over] {
        let status = rig.job.savepoint("late").unwrap();
        assert_eq!(status.state, CheckpointState::Failed);
    }
}

#[test]
fn a_savepoint_whose_snapshots_do_not_fit_together_has_failed() {
    let mut rig = Rig::running();
    rig.complete(11);
    rig.savepoint("s").unwrap();
    let attempt = rig.attempt();
    for (host, task) in rig.hosts() {
        rig.say(
            &host,
            ToCoordinator::CheckpointAcknowledged {
                attempt,
                checkpoint: CheckpointId(12),
                task,
                snapshot: TaskSnapshot::default(),
                passage: millstream_types::protocol::Passage::default(),
            },
        );
    }
    assert_eq!(rig.job.state(), JobState::Restarting);
    let status = rig.job.savepoint("s").unwrap();
    assert_eq!(status.state, CheckpointState::Failed);
    let failed = &rig.job.snapshot().checkpoints[0].summary;
    assert_eq!(failed.state, CheckpointState::Failed);
}

#[test]
fn savepoints_of_one_commit_do_not_fail_with_each_other() {
    let settings = Settings {
        tolerable_failures: 3,
        checkpoint: TriggerSettings {
            max_concurrent: 3,
            ..settings().checkpoint
        },
        ..settings()
    };
    let mut rig = Rig::with(settings, strategy()).run();
    rig.complete(11);
    rig.savepoint("good").unwrap();
    rig.savepoint("lost").unwrap();
    rig.acknowledge_with(12, &[transaction(12)]);
    rig.acknowledge_with(13, &[transaction(13)]);
    rig.acknowledge_with(14, &[transaction(12), transaction(14)]);
    rig.finalized(14);
    let written: Vec<&str> = rig.written_savepoints().iter().map(|one| one.0).collect();
    assert_eq!(written, ["good"]);
    let state = |name: &str| rig.job.savepoint(name).unwrap().state;
    assert_eq!(state("lost"), CheckpointState::Failed);
    assert_eq!(rig.job.state(), JobState::Restarting);
}
