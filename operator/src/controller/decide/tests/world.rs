//! A small model of Kubernetes and of the runtime, on which decisions are carried out.
//!
//! State is a position in the input. A coordinator that runs moves on with every tick and commits
//! with every checkpoint. [`output`] is what a reader sees, [`chain`] what lies in the stores,
//! [`runtime`] the coordinator's process. Between a look and what is done about it, and between the
//! steps of a stop, anything may happen.

mod chain;
mod output;
mod runtime;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use millstream_crds::status::UpgradeStep;
use millstream_crds::stream_job::{RestorePolicy, UpgradeStrategy};
use millstream_crds::{StreamJobSpec, StreamJobStatus};
use millstream_types::{
    Attempt, CheckpointId, CheckpointKind, Deployment, ErrorCode, ErrorKind, JobId,
};
use serde_json::json;

pub(in crate::controller) use self::chain::Chain;
use self::chain::Saved;
use self::output::Output;
use self::runtime::{Excused, Process};
use crate::controller::build::names::Names;
use crate::controller::decide::{Decision, Inputs, RuntimeRequest, decide};
use crate::controller::deletion::Deletion;
use crate::controller::memory::Replaced;
use crate::controller::observe::pods::{Problem, ProblemKind, PutOff, Quiet};
use crate::controller::observe::tasks::step_mark;
use crate::controller::observe::{Observed, Pods, Runtime, SavepointSeen, TaskSeen};
use crate::controller::revision::Revision;
use crate::controller::validate::{Faults, Wish};
use crate::runtime_client::{
    CheckpointFailures, CompletedCheckpoint, RuntimeFailure, RuntimeState, RuntimeStatus,
    SavepointProgress,
};

/// Seconds of a tick.
const TICK: i64 = 5;

/// The pods that Kubernetes has been asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::controller) struct Applied {
    pub(in crate::controller) deployment: i64,
    pub(in crate::controller) revision: String,
    pub(in crate::controller) parallelism: i64,
    pub(in crate::controller) restore: String,
    pub(in crate::controller) unless_advanced: bool,
    pub(in crate::controller) expect_state: bool,
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one thing that can go wrong"
)]
pub(in crate::controller) struct World {
    pub(in crate::controller) now: Timestamp,
    pub(in crate::controller) meta: ObjectMeta,
    pub(in crate::controller) spec: StreamJobSpec,
    pub(in crate::controller) faulty: Option<Faults>,
    pub(in crate::controller) source: Result<String, String>,
    pub(in crate::controller) status: StreamJobStatus,
    pub(in crate::controller) revisions: BTreeMap<String, Revision>,
    images: BTreeMap<String, String>,
    /// Revisions whose images came later.
    pushed: BTreeSet<String>,
    memo: RefCell<Option<(StreamJobSpec, Revision)>>,
    pub(in crate::controller) applied: Option<Applied>,
    pub(in crate::controller) process: Option<Process>,
    /// By storage.
    pub(in crate::controller) chains: BTreeMap<String, Chain>,
    pub(in crate::controller) savepoints: BTreeMap<String, Saved>,
    pub(in crate::controller) output: Output,
    pub(in crate::controller) preflight: Option<(String, String)>,
    pub(in crate::controller) disposed: bool,
    /// The coordinator does not answer.
    pub(in crate::controller) silent: bool,
    /// Tasks fail again and again.
    pub(in crate::controller) unhealthy: bool,
    /// Savepoints fail.
    pub(in crate::controller) savepoints_fail: bool,
    /// What kind of failure failed jobs have.
    pub(in crate::controller) failure_kind: ErrorKind,
    /// Pods whose restart the kubelet puts off.
    pub(in crate::controller) put_off: Vec<PutOff>,
    /// Pods that were replaced of late.
    pub(in crate::controller) replaced: Replaced,
    /// Pods whose nodes say nothing.
    pub(in crate::controller) quiet: Vec<Quiet>,
    /// What a check that fails says.
    pub(in crate::controller) verdict: String,
    /// Checks end without a verdict.
    pub(in crate::controller) checks_break: bool,
    /// The kubelet does not find the coordinator ready, whatever the job does.
    pub(in crate::controller) unready: bool,
    /// What the coordinator has said before, while it is silent.
    pub(in crate::controller) heard_before: Option<RuntimeStatus>,
    /// What its coordinator says of failing checkpoints.
    pub(in crate::controller) checkpoint_failures: Option<CheckpointFailures>,
    /// The input has an end.
    pub(in crate::controller) bounded: bool,
    /// Ticks between a look and what is done about it.
    pub(in crate::controller) lag: usize,
    /// Coordinators take every restore point for an order.
    pub(in crate::controller) obeys: bool,
    /// A coordinator whose predecessor was cut off from a stop goes on: what that one had prepared is
    /// gone.
    pub(in crate::controller) goes_on: bool,
    /// Kubernetes refuses objects.
    pub(in crate::controller) refuses: bool,
    /// How far the pods' clocks are behind.
    pub(in crate::controller) clock_behind: SignedDuration,
    pub(in crate::controller) finalized: bool,
    /// How often `spec.restore` and a stateless change have been asked for, and what that has
    /// excused.
    restore_asked: u32,
    revision_asked: u32,
    /// Revisions that were asked for with `Stateless`, and when that was.
    stateless: BTreeMap<String, u32>,
    excused: Excused,
    /// Every start of a coordinator that claimed: deployment, revision, restore.
    pub(in crate::controller) starts: Vec<Applied>,
    pub(in crate::controller) notices: Vec<String>,
}

pub(in crate::controller) fn spec(image: &str) -> StreamJobSpec {
    serde_json::from_value(json!({
        "image": image,
        "checkpoint": { "storage": "s3://bucket/jobs" },
        "upgrade": { "progressDeadline": "2m" },
        "dataflow": {
            "sources": [{ "name": "orders", "generator": {} }],
            "sinks": [{ "name": "out", "input": "orders", "blackhole": {} }],
        },
    }))
    .unwrap()
}

impl World {
    pub(in crate::controller) fn new() -> Self {
        Self {
            now: "2026-11-24T12:00:00Z".parse().unwrap(),
            meta: ObjectMeta {
                name: Some("orders".to_owned()),
                generation: Some(1),
                ..ObjectMeta::default()
            },
            spec: spec("good-1"),
            faulty: None,
            source: Err("missing".to_owned()),
            status: StreamJobStatus::default(),
            revisions: BTreeMap::new(),
            images: BTreeMap::new(),
            pushed: BTreeSet::new(),
            memo: RefCell::new(None),
            applied: None,
            process: None,
            chains: BTreeMap::new(),
            savepoints: BTreeMap::new(),
            output: Output::default(),
            preflight: None,
            disposed: false,
            silent: false,
            unhealthy: false,
            savepoints_fail: false,
            bounded: false,
            failure_kind: ErrorKind::DataLoss,
            put_off: Vec::new(),
            replaced: Replaced::default(),
            quiet: Vec::new(),
            verdict: "spec.dataflow: there is no column amont".to_owned(),
            checks_break: false,
            unready: false,
            heard_before: None,
            checkpoint_failures: None,
            lag: 0,
            obeys: false,
            goes_on: false,
            refuses: false,
            clock_behind: SignedDuration::ZERO,
            finalized: false,
            restore_asked: 0,
            revision_asked: 0,
            stateless: BTreeMap::new(),
            excused: Excused::new(),
            starts: Vec::new(),
            notices: Vec::new(),
        }
    }

    /// A job that runs and is good.
    pub(in crate::controller) fn running() -> Self {
        let mut world = Self::new();
        world.settle();
        assert!(world.status.upgrade.is_none(), "{:?}", world.status);
        world.starts.clear();
        world.notices.clear();
        world
    }

    /// The user changes the spec.
    pub(in crate::controller) fn edit(&mut self, change: impl FnOnce(&mut StreamJobSpec)) {
        let (before, wanted) = (self.spec.clone(), self.wanted());
        change(&mut self.spec);
        self.faulty = None;
        if before == self.spec {
            return;
        }
        self.meta.generation = self.meta.generation.map(|it| it + 1);
        let restore = |spec: &StreamJobSpec| json!([spec.restore.policy, spec.restore.from]);
        self.restore_asked += u32::from(restore(&before) != restore(&self.spec));
        let strategy = |spec: &StreamJobSpec| spec.upgrade.strategy;
        let is_new = wanted != self.wanted() || strategy(&before) != strategy(&self.spec);
        if is_new && strategy(&self.spec) == UpgradeStrategy::Stateless {
            self.revision_asked += 1;
            self.stateless.insert(self.wanted(), self.revision_asked);
        }
    }

    pub(in crate::controller) fn delete(&mut self) {
        self.meta.deletion_timestamp = Some(Time(self.now));
    }

    pub(in crate::controller) fn wish(&self) -> Result<Wish, Faults> {
        if let Some(faults) = &self.faulty {
            return Err(faults.clone());
        }
        Ok(Wish {
            revision: self.revision(),
            restore_hash: json!([self.spec.restore.policy, self.spec.restore.from]).to_string(),
            restore: match self.spec.restore.policy {
                RestorePolicy::Latest => Ok("latest".to_owned()),
                RestorePolicy::Fresh => Ok("fresh".to_owned()),
                RestorePolicy::From => self.source.clone(),
            },
            spec: self.spec.clone(),
        })
    }

    /// The revision of the spec, remembered as long as the spec is the same.
    fn revision(&self) -> Revision {
        let mut memo = self.memo.borrow_mut();
        if let Some((_, revision)) = memo.as_ref().filter(|(spec, _)| *spec == self.spec) {
            return revision.clone();
        }
        let revision = Revision::wanted(&Names::of_name("orders"), &self.spec).unwrap();
        *memo = Some((self.spec.clone(), revision.clone()));
        revision
    }

    pub(in crate::controller) fn wanted(&self) -> String {
        self.revision().name
    }

    /// The image of a revision comes to the registry.
    pub(in crate::controller) fn push_image(&mut self, revision: &str) {
        self.images.insert(revision.to_owned(), "good".to_owned());
        self.pushed.insert(revision.to_owned());
    }

    pub(in crate::controller) fn image_of(&self, revision: &str) -> &str {
        self.images.get(revision).map_or("", String::as_str)
    }

    pub(in crate::controller) fn deletion(&self) -> Deletion {
        let retention = self.spec.checkpoint.retention;
        let checkpoint = json!({ "retention": retention });
        Deletion::of(&json!({ "checkpoint": checkpoint, "deletion": self.spec.deletion }))
    }

    pub(in crate::controller) fn decide(&self) -> Decision {
        let wish = self.wish();
        let deletion = self.deletion();
        decide(&Inputs {
            meta: &self.meta,
            paused: self.spec.paused,
            deletion: &deletion,
            wish: wish.as_ref(),
            status: &self.status,
            observed: &self.observe(),
            replaced: &self.replaced,
            now: self.now,
        })
    }

    /// One reconcile; `crash` is the number of its writes after which the operator dies.
    pub(in crate::controller) fn reconcile(&mut self, crash: usize) {
        let decision = self.decide();
        for _ in 0..self.lag {
            self.tick();
        }
        if crash == 0 {
            return;
        }
        if let Ok(wish) = self.wish() {
            // The config map is there before the status names it.
            let name = wish.revision.name.clone();
            if !self.pushed.contains(&name) {
                self.images.insert(name.clone(), self.spec.image.clone());
            }
            self.revisions.insert(name, wish.revision);
        }
        if crash == 1 {
            return;
        }
        self.status = decision.status.clone();
        self.finalized = decision.finalizer;
        self.notices.extend(
            decision
                .notices
                .iter()
                .map(|one| one.reason.as_str().to_owned()),
        );
        if crash == 2 || decision.hands_off {
            return;
        }
        if !self.refuses {
            self.apply(&decision);
        }
        if crash == 3 {
            return;
        }
        if let Some(RuntimeRequest::Stop { savepoint }) = &decision.request {
            self.stop(savepoint.as_deref());
        }
    }

    fn apply(&mut self, decision: &Decision) {
        let status = &decision.status;
        if self.meta.deletion_timestamp.is_none() || status.deployed.is_none() {
            self.applied = status.deployed.as_ref().map(|deployed| Applied {
                deployment: status.deployment.unwrap(),
                revision: status.revision.clone().unwrap(),
                parallelism: status.parallelism.unwrap(),
                restore: deployed.restore.clone(),
                unless_advanced: deployed.unless_advanced,
                expect_state: deployed.expect_state,
            });
        }
        self.preflight = decision
            .preflight
            .as_ref()
            .map(|check| (check.step.clone(), check.revision.clone()));
        self.disposed |= decision.disposal;
    }

    /// Kubernetes and the runtime move on.
    pub(in crate::controller) fn tick(&mut self) {
        self.now = self
            .now
            .checked_add(SignedDuration::from_secs(TICK))
            .unwrap();
        if self.process.as_ref().map(|one| &one.applied) != self.applied.as_ref() {
            if self.process.is_some() {
                self.kill();
            } else {
                self.start();
            }
            return;
        }
        self.run();
    }

    pub(in crate::controller) fn observe(&self) -> Observed {
        let kept = self.revisions.iter();
        let revisions = kept.map(|(name, one)| (name.clone(), one.storage().to_owned()));
        Observed {
            coordinator: self.pods(),
            workers: self.pods(),
            runtime: self.runtime(),
            kubelet_finds_it_running: !self.unready
                && self.process.as_ref().is_some_and(|process| {
                    process.state == RuntimeState::Running
                        && Some(process.applied.deployment) == self.status.deployment
                }),
            heard_before: self.heard_before.clone().filter(|_| self.silent),
            quiet: self.quiet.clone(),
            savepoint: self.savepoint(),
            preflight: self.check(),
            disposal: if self.disposed {
                TaskSeen::Succeeded(String::new())
            } else {
                TaskSeen::Absent
            },
            revisions: revisions.collect(),
            audit: None,
            namespace_terminating: false,
        }
    }

    fn pods(&self) -> Pods {
        let image = self.applied.as_ref().map(|it| self.image_of(&it.revision));
        let unusable = image.is_some_and(|image| image.starts_with("no-image"));
        let fenced = self.applied.as_ref().is_some_and(|applied| {
            let chain = self.chains.get(&self.storage_of(&applied.revision));
            chain.is_some_and(|chain| applied.deployment < chain.deployment)
        });
        let problem = |kind, message: &str| Problem {
            kind,
            message: format!("pod orders: {message}"),
        };
        Pods {
            present: self.applied.is_some(),
            count: i32::from(self.process.is_some()),
            ready: i32::from(self.process.is_some()),
            put_off: self.put_off.clone(),
            problem: if unusable {
                Some(problem(ProblemKind::ImagePull, "ImagePullBackOff"))
            } else {
                fenced.then(|| problem(ProblemKind::Fenced, "Error with exit code 3"))
            },
        }
    }

    pub(in crate::controller) fn runtime(&self) -> Runtime {
        let Some(process) = &self.process else {
            return Runtime::NoPod;
        };
        if self.silent {
            return Runtime::Silent("no answer within 3s".to_owned());
        }
        let millis = |time: Timestamp| {
            let shown = time.checked_sub(self.clock_behind).unwrap();
            millstream_types::Timestamp(u64::try_from(shown.as_millisecond()).unwrap())
        };
        let job = JobId {
            namespace: "default".to_owned(),
            name: "orders".to_owned(),
        };
        let status = RuntimeStatus {
            since: millis(process.since),
            attempt: Attempt(1),
            parallelism: u32::try_from(process.applied.parallelism).unwrap(),
            deployment: u64::try_from(process.applied.deployment)
                .ok()
                .map(Deployment),
            restored_from: process.restored.clone(),
            savepoint: process.savepoint.clone(),
            last_checkpoint: process.shown.map(|(id, at)| CompletedCheckpoint {
                id: CheckpointId(id),
                kind: CheckpointKind::Checkpoint.into(),
                state: SavepointProgress::Completed,
                attempt: Attempt(1),
                triggered_at: millis(at),
                path: Some(Self::path_of(
                    &self.storage_of(&process.applied.revision),
                    id,
                )),
                completed_at: Some(millis(at)),
                duration_ms: Some(1),
                size_bytes: Some(1),
                state_size: None,
                checkpointed_size: None,
                in_flight_size: None,
                unaligned: false,
                alignment_ms: None,
                failure: None,
            }),
            checkpoint_failures: self.checkpoint_failures.clone(),
            last_failure: (process.state == RuntimeState::Failed).then(|| RuntimeFailure {
                code: ErrorCode::SqlDoesNotBind.into(),
                kind: self.failure_kind.into(),
                message: "there is no column amont".to_owned(),
            }),
            ..RuntimeStatus::new(job, process.state)
        };
        if Some(process.applied.deployment) == self.status.deployment {
            Runtime::Answers(status)
        } else {
            Runtime::Outdated(status)
        }
    }

    fn savepoint(&self) -> SavepointSeen {
        let upgrade = self.status.upgrade.as_ref();
        let stopping = upgrade.filter(|it| it.step == UpgradeStep::Stopping);
        let Some(name) = stopping.and_then(|it| it.savepoint.as_ref()) else {
            return SavepointSeen::Unknown;
        };
        if self.silent || self.process.is_none() {
            return SavepointSeen::Unknown;
        }
        match self.savepoints.get(name) {
            None => SavepointSeen::NotAsked,
            Some(Saved::Failed) => SavepointSeen::Failed("no space".to_owned()),
            Some(Saved::Taking) => SavepointSeen::InProgress,
            Some(Saved::Done(place)) => {
                SavepointSeen::Completed(Self::savepoint_path(&place.storage, name))
            }
        }
    }

    fn check(&self) -> TaskSeen {
        let Some((step, revision)) = &self.preflight else {
            return TaskSeen::Absent;
        };
        let is_asked = self.status.upgrade.as_ref().is_some_and(|upgrade| {
            step_mark(upgrade) == *step && upgrade.to.as_ref() == Some(revision)
        });
        if !is_asked {
            return TaskSeen::Absent;
        }
        if self.checks_break {
            return TaskSeen::Broken {
                message: "the store answers 503".to_owned(),
                at: self
                    .now
                    .checked_sub(SignedDuration::from_secs(2 * TICK))
                    .ok(),
            };
        }
        let image = self.image_of(revision);
        if image.starts_with("no-image") {
            return TaskSeen::Waiting(Some(Problem {
                kind: ProblemKind::ImagePull,
                message: "pod check: ImagePullBackOff".to_owned(),
            }));
        }
        if image.starts_with("no-check") {
            return TaskSeen::Failed(self.verdict.clone());
        }
        TaskSeen::Succeeded(r#"{"changes": ["operator out is new"]}"#.to_owned())
    }

    /// Whether a savepoint has come to be.
    pub(in crate::controller) fn has_savepoint(&self) -> bool {
        let mut all = self.savepoints.values();
        all.any(|saved| matches!(saved, Saved::Done(_)))
    }

    /// The savepoint that the upgrade under way has taken.
    pub(in crate::controller) fn last_noted_savepoint(&self) -> Option<&str> {
        self.status.upgrade.as_ref()?.savepoint.as_deref()
    }

    /// Reconciles and ticks for ten minutes.
    pub(in crate::controller) fn settle(&mut self) {
        self.run_for(120);
    }

    pub(in crate::controller) fn run_for(&mut self, ticks: usize) {
        for _ in 0..ticks {
            self.reconcile(usize::MAX);
            self.tick();
        }
    }

    /// Runs until something holds.
    pub(in crate::controller) fn until(&mut self, holds: impl Fn(&Self) -> bool) {
        for _ in 0..240 {
            if holds(self) {
                return;
            }
            self.reconcile(usize::MAX);
            self.tick();
        }
        panic!("it never came: {:#?}", self.status);
    }

    pub(in crate::controller) fn until_step(&mut self, step: UpgradeStep) {
        self.until(|world| world.step() == Some(step));
    }

    pub(in crate::controller) fn step(&self) -> Option<UpgradeStep> {
        self.status.upgrade.as_ref().map(|upgrade| upgrade.step)
    }

    pub(in crate::controller) fn last_start(&self) -> &Applied {
        self.starts.last().unwrap()
    }

    pub(in crate::controller) fn state(&self) -> Option<RuntimeState> {
        self.process.as_ref().map(|process| process.state)
    }

    pub(in crate::controller) fn is_exact(&self) -> bool {
        self.output.doubled == 0 && self.output.lost == 0
    }
}
