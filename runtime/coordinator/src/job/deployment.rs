//! From a claimed attempt and a placement to tasks with their state.

use std::collections::{BTreeMap, BTreeSet};

use millstream_types::ids::TaskId;
use millstream_types::protocol::{Deploy, Peer, TaskDeployment, TaskProgress, ToWorker};
use millstream_types::{OperatorSnapshot, OperatorUid, SubtaskIndex, TaskSnapshot, WorkerId};

use crate::job::Settings;
use crate::job::checkpoints::Checkpoints;
use crate::job::checkpoints::pending::KnownSplits;
use crate::job::event::{Now, Prepared};
use crate::job::execution::Execution;
use crate::job::run::Run;
use crate::placement::{Dealt, Placement, deal, place};

/// Deploys if the workers have enough slots.
pub(super) fn deploy(job: &mut Run, prepared: &Prepared, now: Now) -> Option<Execution> {
    let slots = job.settings.topology.slots();
    let placement = place(job.workers.slots(), slots, &job.placement).ok()?;
    let deployment = Deployment::new(&job.settings, &placement, prepared);
    for (worker, tasks) in &deployment.tasks {
        let deploy = Deploy {
            attempt: prepared.attempt,
            lineage: prepared.lineage.clone(),
            job: job.settings.job_text.clone(),
            fingerprint: job.settings.fingerprint.clone(),
            parallelism: job.settings.parallelism,
            bounded: deployment.bounded.clone(),
            peers: deployment.others(worker),
            tasks: tasks.clone(),
        };
        job.send(worker, ToWorker::Deploy(deploy));
    }
    job.placement = placement;
    Some(deployment.execution(&job.settings, prepared, now))
}

/// What is deployed where, with which state.
struct Deployment {
    tasks: BTreeMap<WorkerId, Vec<TaskDeployment>>,
    dealt: BTreeMap<OperatorUid, Dealt>,
    /// Sources that will find no more splits.
    bounded: BTreeSet<OperatorUid>,
}

impl Deployment {
    fn new(settings: &Settings, placement: &Placement, prepared: &Prepared) -> Self {
        let nothing = BTreeMap::new();
        let mut dealt = BTreeMap::new();
        let topology = &settings.topology;
        for vertex in &topology.vertices {
            for uid in &vertex.operators {
                let restored = prepared.manifest.operators.get(uid).unwrap_or(&nothing);
                let discovered = prepared.discovered.get(uid).cloned().unwrap_or_default();
                let groups = topology.max_parallelism;
                let state = deal(restored, discovered, vertex.parallelism, groups);
                dealt.insert(uid.clone(), state);
            }
        }
        let mut tasks: BTreeMap<WorkerId, Vec<TaskDeployment>> = BTreeMap::new();
        for (task, slot, vertex) in topology.tasks() {
            let Some(worker) = placement.get(&slot) else {
                continue;
            };
            let operators = vertex.operators.iter();
            let restore = operators
                .map(|uid| (uid.clone(), snapshot_of(&dealt, uid, task.subtask)))
                .collect();
            let deployments = tasks.entry(worker.clone()).or_default();
            deployments.push(TaskDeployment { task, restore });
        }
        let is_bounded = |uid: &&OperatorUid| !prepared.discovering.contains(*uid);
        let bounded = topology.sources.keys().filter(is_bounded);
        Self {
            bounded: bounded.cloned().collect(),
            tasks,
            dealt,
        }
    }

    /// The other workers and what they run. Where they are reached is known to who sends it.
    fn others(&self, than: &WorkerId) -> Vec<Peer> {
        let others = self.tasks.iter().filter(|(worker, _)| *worker != than);
        let peer = |(worker, tasks): (&WorkerId, &Vec<TaskDeployment>)| Peer {
            worker: worker.clone(),
            exchange: None,
            tasks: tasks.iter().map(|deployment| deployment.task).collect(),
        };
        others.map(peer).collect()
    }

    fn execution(self, settings: &Settings, prepared: &Prepared, now: Now) -> Execution {
        let mut hosts: BTreeMap<WorkerId, BTreeSet<TaskId>> = BTreeMap::new();
        let mut progress = BTreeMap::new();
        for (worker, deployments) in self.tasks {
            let tasks = hosts.entry(worker).or_default();
            for deployment in deployments {
                tasks.insert(deployment.task);
                let operators = deployment.restore.into_iter().collect();
                let restored = TaskProgress::of(deployment.task, TaskSnapshot { operators });
                progress.insert(deployment.task, restored);
            }
        }
        let mut splits = KnownSplits::new();
        let mut loads = BTreeMap::new();
        for uid in settings.topology.sources.keys() {
            if let Some(dealt) = self.dealt.get(uid) {
                let names = dealt
                    .snapshots
                    .iter()
                    .flat_map(|snapshot| &snapshot.splits)
                    .map(|split| split.split.clone());
                splits.insert(uid.clone(), names.collect());
                loads.insert(uid.clone(), dealt.loads.clone());
            }
        }
        Execution {
            attempt: prepared.attempt,
            hosts,
            tasks: settings.topology.tasks().map(|(task, ..)| task).collect(),
            running: BTreeSet::new(),
            ended: BTreeSet::new(),
            deploy_deadline: now.monotonic.saturating_add(settings.deploy_timeout),
            splits,
            loads,
            identities: prepared.identities.clone(),
            found_late: Vec::new(),
            checkpoints: Checkpoints::new(
                settings.checkpoint,
                settings.tolerable_failures,
                prepared.next_checkpoint,
                settings.topology.max_parallelism,
            ),
            leave_after: None,
            late_failure: None,
            progress,
            lags: BTreeMap::new(),
        }
    }
}

fn snapshot_of(
    dealt: &BTreeMap<OperatorUid, Dealt>,
    uid: &OperatorUid,
    subtask: SubtaskIndex,
) -> OperatorSnapshot {
    let index = usize::try_from(subtask.0).unwrap_or(usize::MAX);
    dealt
        .get(uid)
        .and_then(|dealt| dealt.snapshots.get(index))
        .cloned()
        .unwrap_or_default()
}
