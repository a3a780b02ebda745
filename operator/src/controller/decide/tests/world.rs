//! A small model of Kubernetes and of the runtime, on which decisions are carried out.
//!
//! State is a position in the input. A coordinator that runs moves on with every tick and commits
//! with every checkpoint; what was committed twice or left out shows in `doubled` and `lost`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use millstream_crds::status::UpgradeStep;
use millstream_crds::stream_job::RestorePolicy;
use millstream_crds::{StreamJobSpec, StreamJobStatus};
use serde_json::json;

use crate::controller::build::names::Names;
use crate::controller::decide::{Decision, Inputs, RuntimeRequest, decide};
use crate::controller::memory::Replaced;
use crate::controller::observe::pods::{Problem, ProblemKind, PutOff, Quiet};
use crate::controller::observe::tasks::step_mark;
use crate::controller::observe::{Observed, Pods, Runtime, SavepointSeen, TaskSeen};
use crate::controller::revision::Revision;
use crate::controller::validate::{Faults, Wish};
use crate::runtime_client::{
    CheckpointFailures, CompletedCheckpoint, RuntimeFailure, RuntimeState, RuntimeStatus,
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
}

/// A coordinator's process.
#[derive(Debug, Clone)]
pub(in crate::controller) struct Process {
    pub(in crate::controller) applied: Applied,
    pub(in crate::controller) state: RuntimeState,
    since: Timestamp,
    position: u64,
    restored: Option<String>,
    /// The newest checkpoint that it tells of: not the one that an import is stored as.
    shown: Option<(u64, Timestamp)>,
}

/// The chain in the store.
#[derive(Debug, Clone, Default)]
pub(in crate::controller) struct Chain {
    deployment: i64,
    released: Option<RuntimeState>,
    committed: u64,
    /// Id, position and time of the newest checkpoint.
    newest: Option<(u64, u64, Timestamp)>,
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
    pub(in crate::controller) chain: Chain,
    pub(in crate::controller) savepoints: BTreeMap<String, Option<u64>>,
    pub(in crate::controller) preflight: Option<(String, String)>,
    pub(in crate::controller) disposed: bool,
    /// The coordinator does not answer.
    pub(in crate::controller) silent: bool,
    /// Tasks fail again and again.
    pub(in crate::controller) unhealthy: bool,
    /// Savepoints fail.
    pub(in crate::controller) savepoints_fail: bool,
    /// What kind of failure failed jobs have.
    pub(in crate::controller) failure_kind: &'static str,
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
    pub(in crate::controller) finalized: bool,
    pub(in crate::controller) doubled: u64,
    pub(in crate::controller) lost: u64,
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
            chain: Chain::default(),
            savepoints: BTreeMap::new(),
            preflight: None,
            disposed: false,
            silent: false,
            unhealthy: false,
            savepoints_fail: false,
            bounded: false,
            failure_kind: "DataLoss",
            put_off: Vec::new(),
            replaced: Replaced::default(),
            quiet: Vec::new(),
            verdict: "spec.dataflow: there is no column amont".to_owned(),
            checks_break: false,
            unready: false,
            heard_before: None,
            checkpoint_failures: None,
            finalized: false,
            doubled: 0,
            lost: 0,
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
        let before = self.spec.clone();
        change(&mut self.spec);
        self.faulty = None;
        if before != self.spec {
            self.meta.generation = self.meta.generation.map(|it| it + 1);
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

    pub(in crate::controller) fn decide(&self) -> Decision {
        let wish = self.wish();
        decide(&Inputs {
            meta: &self.meta,
            paused: self.spec.paused,
            deletion: &self.spec.deletion,
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
        self.apply(&decision);
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
            });
        }
        self.preflight = decision
            .preflight
            .as_ref()
            .map(|check| (check.step.clone(), check.revision.clone()));
        self.disposed |= decision.disposal;
    }

    fn stop(&mut self, savepoint: Option<&str>) {
        let Some(process) = self.process.as_mut().filter(|_| !self.silent) else {
            return;
        };
        if process.state.is_terminal() || process.state == RuntimeState::Stopping {
            return;
        }
        if let Some(name) = savepoint {
            if self.savepoints_fail {
                self.savepoints.insert(name.to_owned(), None);
                return;
            }
            self.savepoints.insert(name.to_owned(), Some(u64::MAX));
        }
        process.state = RuntimeState::Stopping;
        process.since = self.now;
    }

    /// Kubernetes and the runtime move on.
    pub(in crate::controller) fn tick(&mut self) {
        self.now = self
            .now
            .checked_add(jiff::SignedDuration::from_secs(TICK))
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

    /// The coordinator dies; a savepoint that it was taking will never be.
    pub(in crate::controller) fn kill(&mut self) {
        self.process = None;
        for savepoint in self.savepoints.values_mut() {
            *savepoint = savepoint.filter(|position| *position != u64::MAX);
        }
    }

    fn start(&mut self) {
        let Some(applied) = self.applied.clone() else {
            return;
        };
        let image = self.image_of(&applied.revision);
        if applied.deployment < self.chain.deployment || image.starts_with("no-image") {
            return;
        }
        let now = self.now;
        let mut process = Process {
            state: RuntimeState::Restoring,
            since: now,
            position: self.chain.newest.map_or(0, |(_, position, _)| position),
            restored: self.chain.newest.map(|(id, ..)| format!("chain/{id}")),
            shown: self.chain.newest.map(|(id, _, at)| (id, at)),
            applied,
        };
        let known = process.applied.deployment == self.chain.deployment;
        if let (true, Some(ended)) = (known, self.chain.released) {
            process.state = ended;
        } else if !known {
            self.claim(&mut process);
        }
        self.process = Some(process);
    }

    /// A new deployment: its `--restore` applies.
    fn claim(&mut self, process: &mut Process) {
        self.starts.push(process.applied.clone());
        self.chain.deployment = process.applied.deployment;
        self.chain.released = None;
        match process.applied.restore.as_str() {
            "latest" => {}
            "fresh" => {
                process.position = 0;
                process.restored = None;
                self.chain.committed = 0;
                self.chain.newest = None;
            }
            path => {
                let name = path.rsplit('/').next().unwrap();
                process.position = self.savepoints.get(name).copied().flatten().unwrap_or(0);
                process.restored = Some(path.to_owned());
                // Going elsewhere on purpose is not a loss.
                if !path.starts_with("savepoints/") {
                    self.chain.committed = process.position;
                }
                let id = self.chain.newest.map_or(1, |(id, ..)| id + 1);
                self.chain.newest = Some((id, process.position, self.now));
            }
        }
        self.doubled += self.chain.committed.saturating_sub(process.position);
        self.lost += process.position.saturating_sub(self.chain.committed);
    }

    fn run(&mut self) {
        let (now, bounded, unhealthy) = (self.now, self.bounded, self.unhealthy);
        let Some(process) = &mut self.process else {
            return;
        };
        let image = self.images.get(&process.applied.revision);
        let image = image.map_or("", String::as_str);
        let next = match process.state {
            RuntimeState::Restoring if image == "fails" || image == "no-check" => {
                RuntimeState::Failed
            }
            RuntimeState::Restoring | RuntimeState::Restarting if unhealthy => {
                RuntimeState::Restarting
            }
            RuntimeState::Running if unhealthy => RuntimeState::Restarting,
            RuntimeState::Restoring | RuntimeState::Restarting => RuntimeState::Running,
            RuntimeState::Running if bounded => RuntimeState::Completed,
            RuntimeState::Stopping => RuntimeState::Stopped,
            state => state,
        };
        if process.state == RuntimeState::Running && !image.starts_with("hangs") {
            process.position += 1;
        }
        let commits = match process.state {
            RuntimeState::Running => !image.starts_with("hangs"),
            RuntimeState::Stopping => true,
            _ => false,
        };
        if commits {
            let id = self.chain.newest.map_or(1, |(id, ..)| id + 1);
            process.shown = Some((id, now));
            self.chain.newest = Some((id, process.position, now));
            self.chain.committed = self.chain.committed.max(process.position);
        }
        if next == RuntimeState::Stopped {
            for position in self.savepoints.values_mut().flatten() {
                if *position == u64::MAX {
                    *position = process.position;
                }
            }
        }
        if next.is_terminal() {
            self.chain.released = Some(next);
        }
        if next != process.state {
            process.state = next;
            process.since = now;
        }
    }

    pub(in crate::controller) fn observe(&self) -> Observed {
        let revisions: BTreeSet<String> = self.revisions.keys().cloned().collect();
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
            revisions,
            audit: None,
            namespace_terminating: false,
        }
    }

    fn pods(&self) -> Pods {
        let image = self.applied.as_ref().map(|it| self.image_of(&it.revision));
        let unusable = image.is_some_and(|image| image.starts_with("no-image"));
        Pods {
            present: self.applied.is_some(),
            count: i32::from(self.process.is_some()),
            ready: i32::from(self.process.is_some()),
            put_off: self.put_off.clone(),
            problem: unusable.then(|| Problem {
                kind: ProblemKind::ImagePull,
                message: "pod orders: ImagePullBackOff".to_owned(),
            }),
        }
    }

    pub(in crate::controller) fn runtime(&self) -> Runtime {
        let Some(process) = &self.process else {
            return Runtime::NoPod;
        };
        if self.silent {
            return Runtime::Silent("no answer within 3s".to_owned());
        }
        let millis = |time: Timestamp| u64::try_from(time.as_millisecond()).unwrap();
        let status = RuntimeStatus {
            state: process.state,
            since: millis(process.since),
            attempt: 1,
            restarts: 0,
            parallelism: u32::try_from(process.applied.parallelism).unwrap(),
            deployment: u64::try_from(process.applied.deployment).ok(),
            restored_from: process.restored.clone(),
            last_checkpoint: process.shown.map(|(id, at)| CompletedCheckpoint {
                id,
                path: format!("chain/{id}"),
                completed_at: millis(at),
                duration_ms: 1,
                size_bytes: 1,
            }),
            checkpoint_failures: self.checkpoint_failures.clone(),
            last_failure: (process.state == RuntimeState::Failed).then(|| RuntimeFailure {
                code: "SqlDoesNotBind".to_owned(),
                kind: self.failure_kind.to_owned(),
                message: "there is no column amont".to_owned(),
            }),
            message: String::new(),
            workers: Vec::new(),
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
        match self.savepoints.get(name) {
            None => SavepointSeen::NotAsked,
            Some(None) => SavepointSeen::Failed("no space".to_owned()),
            Some(Some(u64::MAX)) => SavepointSeen::InProgress,
            Some(Some(_)) => SavepointSeen::Completed(format!("savepoints/{name}")),
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
                    .checked_sub(jiff::SignedDuration::from_secs(2 * TICK))
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
        self.doubled == 0 && self.lost == 0
    }
}
