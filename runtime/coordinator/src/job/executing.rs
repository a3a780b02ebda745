//! From a claimed attempt to running tasks, and the checkpoints of those.

use std::collections::{BTreeMap, BTreeSet};

use millstream_checkpoint::Manifest;
use millstream_connect::Discovery;
use millstream_types::ids::TaskId;
use millstream_types::protocol::{Deploy, TaskDeployment, TaskProgress, ToWorker};
use millstream_types::{
    Attempt, Barrier, Bug, CheckpointKind, ErrorCode, ErrorKind, Failure, OperatorSnapshot,
    OperatorUid, SubtaskIndex, TaskSnapshot, WorkerId,
};

use crate::Progress;
use crate::job::command::Command;
use crate::job::event::{Now, Prepared};
use crate::job::state::{Execution, Phase};
use crate::job::{Job, Settings};
use crate::pending::{KnownSplits, Pending};
use crate::placement::{Dealt, Placement, SplitLoads, deal, place};
use crate::trigger::{FailureCounter, FailureReason, Purpose, Trigger};

impl Job {
    pub(super) fn prepared(&mut self, prepared: Prepared) {
        self.attempt = prepared.attempt;
        let origin = prepared.manifest.imported_from.as_ref();
        let path = origin.unwrap_or(&prepared.path);
        self.restored_from = prepared.restored.then(|| path.clone());
        if let Some(given_up) = prepared.given_up.clone() {
            self.commands
                .push(Command::News(Progress::GaveUp(given_up.clone())));
            self.given_up = Some(given_up);
        }
        self.start_from(&prepared.manifest);
        if self.cancelled {
            self.close_cancelled();
        } else if prepared.is_ended() {
            self.close_completed(None);
        } else if self.may_stop_idle() {
            self.close_idle(prepared);
        } else {
            self.phase = Phase::Waiting(Box::new(prepared));
        }
    }

    /// Counts on from a manifest.
    pub(super) fn start_from(&mut self, manifest: &Manifest) {
        self.totals = manifest.totals();
        self.audit
            .restored(manifest.checkpoint, &self.settings.topology, &self.totals);
    }

    /// Deploys if the workers have enough slots. Whether it did.
    pub(super) fn deploy_if_possible(&mut self, now: Now) -> bool {
        let Ok(placement) = place(
            &self.workers,
            self.settings.topology.slots(),
            &self.placement,
        ) else {
            return false;
        };
        let Some(prepared) = self.take_phase(|phase| match phase {
            Phase::Waiting(prepared) => Ok(prepared),
            other => Err(other),
        }) else {
            return false;
        };
        let plan = Deployment::new(&self.settings, &placement, &prepared);
        for (worker, tasks) in &plan.tasks {
            self.commands.push(Command::Send {
                worker: worker.clone(),
                message: ToWorker::Deploy(Deploy {
                    attempt: prepared.attempt,
                    lineage: prepared.lineage.clone(),
                    job: self.settings.job_text.clone(),
                    fingerprint: self.settings.fingerprint.clone(),
                    parallelism: self.settings.parallelism,
                    bounded: plan.bounded.clone(),
                    tasks: tasks.clone(),
                }),
            });
        }
        self.placement = placement;
        let execution = plan.execution(&self.settings, *prepared, now);
        self.phase = Phase::Executing(Box::new(execution));
        true
    }

    /// Looks after deadlines and triggers what is due. Whether the job's phase has changed.
    pub(super) fn check_execution(&mut self, now: Now) -> bool {
        let Phase::Executing(execution) = &mut self.phase else {
            return false;
        };
        if !execution.all_running() {
            if now.monotonic < execution.deploy_deadline {
                return false;
            }
            let failure = not_started(execution);
            self.fail_attempt(failure, now);
            return true;
        }
        for id in execution.trigger.expired(now.monotonic) {
            let failure = self.expired(id);
            self.fail_checkpoint(id, &failure, FailureReason::Expired, now);
            if !matches!(self.phase, Phase::Executing(_)) {
                return true;
            }
        }
        while self.trigger_next(now) {}
        false
    }

    fn trigger_next(&mut self, now: Now) -> bool {
        let Phase::Executing(execution) = &mut self.phase else {
            return false;
        };
        let Some(purpose) = execution.trigger.next(now.monotonic) else {
            return false;
        };
        let id = execution.next_checkpoint;
        execution.next_checkpoint = id.next();
        let kind = match &purpose {
            Purpose::Periodic | Purpose::Final => CheckpointKind::Checkpoint,
            Purpose::Savepoint(_) => CheckpointKind::Savepoint,
            Purpose::Stop(stop) => CheckpointKind::StopWithSavepoint { drain: stop.drain },
        };
        let pending = Pending::new(
            (id, kind),
            (now.wall, now.monotonic),
            execution.tasks.clone(),
            execution.splits.clone(),
            execution.identities.clone(),
        );
        self.records.triggered(execution.attempt, &pending);
        match &purpose {
            Purpose::Savepoint(name) => {
                self.savepoints.retain(|waiting| waiting != name);
                self.records.savepoint_triggered(name, id);
            }
            Purpose::Stop(stop) => {
                if let Some(name) = &stop.savepoint {
                    self.records.savepoint_triggered(name, id);
                }
            }
            Purpose::Periodic | Purpose::Final => {}
        }
        let attempt = execution.attempt;
        let barrier = Barrier {
            checkpoint: id,
            kind,
            triggered_at: now.wall,
        };
        Self::broadcast(&mut self.commands, execution, || ToWorker::Trigger {
            attempt,
            barrier,
        });
        execution.trigger.triggered(id, &purpose, now.monotonic);
        execution.pending.insert(id, (pending, purpose));
        true
    }

    fn expired(&self, id: millstream_types::CheckpointId) -> Failure {
        let waiting = self
            .execution()
            .and_then(|execution| execution.pending.get(&id))
            .map(|(pending, _)| name_tasks(pending.waiting()))
            .unwrap_or_default();
        Failure::new(
            ErrorCode::CheckpointExpired,
            ErrorKind::Retryable,
            format!(
                "checkpoint {id} was not acknowledged within `checkpoint.timeout` ({:?}) by tasks \
                 {waiting}",
                self.settings.checkpoint.timeout
            ),
        )
    }

    pub(super) fn task_running(&mut self, task: TaskId, now: Now) {
        let Phase::Executing(execution) = &mut self.phase else {
            return;
        };
        if !execution.tasks.contains(&task) || !execution.running.insert(task) {
            return;
        }
        if execution.all_running() {
            execution.trigger.running(now.monotonic);
            for name in &self.savepoints {
                execution.trigger.savepoint(name.clone());
            }
            if let Some(stop) = &self.stop {
                execution.trigger.stop(stop.clone());
            }
            let attempt = execution.attempt;
            self.commands.push(Command::StartDiscovery { attempt });
            self.look_for_end();
        }
    }

    pub(super) fn task_ended(&mut self, task: TaskId) {
        if let Phase::Executing(execution) = &mut self.phase
            && execution.tasks.contains(&task)
        {
            execution.ended.insert(task);
            self.look_for_end();
        }
    }

    /// Makes the final checkpoint due once nothing more can come from any task.
    fn look_for_end(&mut self) {
        let Phase::Executing(execution) = &mut self.phase else {
            return;
        };
        if execution.all_running() && execution.ended == execution.tasks {
            if Bug::EndWithoutCheckpoint.is_seeded() {
                self.close_completed_attempt();
                return;
            }
            execution.trigger.ended();
        }
    }

    pub(super) fn discovered(&mut self, attempt: Attempt, uid: &OperatorUid, discovery: Discovery) {
        let Phase::Executing(execution) = &mut self.phase else {
            return;
        };
        let vertex = self.settings.topology.sources.get(uid).copied();
        let (true, Some(vertex)) = (execution.attempt == attempt, vertex) else {
            return;
        };
        if execution.trigger.is_closed() {
            // The last barrier has gone out.
            execution.found_late.push((uid.clone(), discovery));
            return;
        }
        if let Some(identity) = discovery.identity {
            execution.identities.insert(uid.clone(), identity);
        }
        let known = execution.splits.entry(uid.clone()).or_default();
        let mut splits = discovery.splits;
        splits.retain(|split| known.insert(split.split.clone()));
        let loads = execution
            .loads
            .entry(uid.clone())
            .or_insert_with(|| SplitLoads::new(self.settings.topology.parallelism_of(uid)));
        for (subtask, splits) in loads.assign(splits) {
            let task = TaskId { vertex, subtask };
            if let Some(worker) = execution.host(task) {
                self.commands.push(Command::Send {
                    worker: worker.clone(),
                    message: ToWorker::AddSplits {
                        attempt,
                        task,
                        uid: uid.clone(),
                        splits,
                    },
                });
            }
        }
    }
}

impl Job {
    /// The last checkpoint of the attempt has failed and there may be others: what was found
    /// meanwhile is read from now on.
    pub(super) fn deal_out_found(&mut self) {
        let Phase::Executing(execution) = &mut self.phase else {
            return;
        };
        let attempt = execution.attempt;
        if execution.trigger.is_closed() {
            return;
        }
        for (uid, discovery) in std::mem::take(&mut execution.found_late) {
            self.discovered(attempt, &uid, discovery);
        }
    }
}

fn not_started(execution: &Execution) -> Failure {
    let missing: BTreeSet<TaskId> = execution
        .tasks
        .difference(&execution.running)
        .copied()
        .collect();
    Failure::new(
        ErrorCode::WorkerLost,
        ErrorKind::Retryable,
        format!(
            "tasks {} did not start within `checkpoint.timeout`; look at the logs of their workers",
            name_tasks(&missing)
        ),
    )
}

/// The first few tasks of a set, for a message.
pub(super) fn name_tasks(tasks: &BTreeSet<TaskId>) -> String {
    let named: Vec<String> = tasks.iter().take(8).map(ToString::to_string).collect();
    let more = tasks.len().saturating_sub(named.len());
    if more == 0 {
        named.join(", ")
    } else {
        format!("{} and {more} more", named.join(", "))
    }
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
                let state = deal(restored, discovered, vertex.parallelism);
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

    fn execution(self, settings: &Settings, prepared: Prepared, now: Now) -> Execution {
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
            next_checkpoint: prepared.next_checkpoint,
            splits,
            loads,
            identities: prepared.identities,
            trigger: Trigger::new(settings.checkpoint),
            counter: FailureCounter::new(settings.tolerable_failures),
            pending: BTreeMap::new(),
            finalizing: BTreeMap::new(),
            uncommitted_savepoints: Vec::new(),
            found_late: Vec::new(),
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
