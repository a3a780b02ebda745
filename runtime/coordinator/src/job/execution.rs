//! An attempt with deployed tasks: what runs where, what it reads, and how it stands.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream_connect::Discovery;
use millstream_types::api::{SplitLag, TaskStatus};
use millstream_types::ids::TaskId;
use millstream_types::protocol::TaskProgress;
use millstream_types::snapshot::Counters;
use millstream_types::{
    Attempt, CheckpointId, ErrorCode, ErrorKind, Failure, Opaque, OperatorUid, SplitState, WorkerId,
};

use crate::job::checkpoints::Checkpoints;
use crate::job::checkpoints::pending::KnownSplits;
use crate::placement::SplitLoads;
use crate::topology::Topology;

/// Most tasks of which is told how they stand.
const TASKS_MAX: usize = 1_000;
/// Most splits of a source of which is told how far they are behind: the answers of the REST
/// interface have a bounded length.
const LAGS_MAX: usize = 1_000;

/// An attempt with deployed tasks.
#[derive(Debug)]
pub(crate) struct Execution {
    pub(crate) attempt: Attempt,
    /// Which tasks run where.
    pub(crate) hosts: BTreeMap<WorkerId, BTreeSet<TaskId>>,
    pub(crate) tasks: BTreeSet<TaskId>,
    pub(crate) running: BTreeSet<TaskId>,
    pub(crate) ended: BTreeSet<TaskId>,
    /// By when all tasks must run, monotonic.
    pub(crate) deploy_deadline: Duration,
    /// Splits given to tasks, and how many each subtask has.
    pub(crate) splits: KnownSplits,
    pub(crate) loads: BTreeMap<OperatorUid, SplitLoads>,
    pub(crate) identities: BTreeMap<OperatorUid, Opaque>,
    /// Splits that were found while the last checkpoint was under way. They are dealt out if it
    /// fails; after it, the next attempt finds them again.
    pub(crate) found_late: Vec<(OperatorUid, Discovery)>,
    pub(crate) checkpoints: Checkpoints,
    /// Workers leave once this checkpoint or a later one is committed.
    pub(crate) leave_after: Option<CheckpointId>,
    /// What went wrong with a task after the last acknowledgement of the last checkpoint. It
    /// matters only if that checkpoint is not decided.
    pub(crate) late_failure: Option<Failure>,
    /// How every task has said last that it stands; at first what it was restored from.
    pub(crate) progress: BTreeMap<TaskId, TaskProgress>,
    /// How far each source is behind, where that is known.
    pub(crate) lags: BTreeMap<OperatorUid, Vec<SplitLag>>,
}

impl Execution {
    /// Whether every task runs.
    pub(crate) fn all_running(&self) -> bool {
        self.running.len() == self.tasks.len()
    }

    /// The worker that runs a task.
    pub(crate) fn host(&self, task: TaskId) -> Option<&WorkerId> {
        self.hosts
            .iter()
            .find(|(_, tasks)| tasks.contains(&task))
            .map(|(worker, _)| worker)
    }

    /// Whether a message of a task is about this attempt, from where the task runs.
    pub(crate) fn concerns(&self, worker: &WorkerId, attempt: Attempt, task: TaskId) -> bool {
        let hosts = || self.hosts.get(worker);
        self.attempt == attempt && hosts().is_some_and(|tasks| tasks.contains(&task))
    }

    /// Takes note of how far a source is behind: of many splits, only of those that are most.
    pub(crate) fn measured(&mut self, uid: OperatorUid, mut lags: Vec<SplitLag>) {
        if lags.len() > LAGS_MAX {
            lags.sort_by_key(|lag| {
                let held_back = lag.held_back.as_ref().map_or(0, |held| held.records);
                Reverse(lag.pending_records.saturating_add(held_back))
            });
            lags.truncate(LAGS_MAX);
        }
        self.lags.insert(uid, lags);
    }

    /// Totals per operator over all subtasks, as last reported.
    pub(crate) fn totals(&self) -> BTreeMap<OperatorUid, Counters> {
        let mut totals: BTreeMap<OperatorUid, Counters> = BTreeMap::new();
        for progress in self.progress.values() {
            for (uid, counters) in &progress.counters {
                totals.entry(uid.clone()).or_default().add(*counters);
            }
        }
        totals
    }

    /// Where every task runs and how busy it is, as last reported: of many tasks, of those that are
    /// busy or held up the most.
    pub(crate) fn task_statuses(&self, topology: &Topology) -> Vec<TaskStatus> {
        let operators = |task: TaskId| {
            let mut vertices = topology.vertices.iter();
            let vertex = vertices.find(|vertex| vertex.id == task.vertex);
            vertex.map_or_else(Vec::new, |vertex| vertex.operators.clone())
        };
        let hosts = self.hosts.iter();
        let placed =
            hosts.flat_map(|(worker, tasks)| tasks.iter().map(move |task| (*task, worker)));
        let mut statuses: Vec<TaskStatus> = placed
            .map(|(task, worker)| TaskStatus {
                vertex: task.vertex,
                subtask: task.subtask,
                operators: operators(task),
                worker: worker.to_string(),
                load: self.progress.get(&task).and_then(|told| told.load.clone()),
            })
            .collect();
        if statuses.len() > TASKS_MAX {
            let idle =
                |status: &TaskStatus| status.load.as_ref().map_or(u32::MAX, |load| load.idle);
            statuses.sort_by_key(idle);
            statuses.truncate(TASKS_MAX);
        }
        statuses.sort_by_key(|status| (status.vertex, status.subtask));
        statuses
    }

    /// Where the splits of each source stand, as last reported.
    pub(crate) fn positions(&self) -> BTreeMap<OperatorUid, Vec<SplitState>> {
        let mut positions: BTreeMap<OperatorUid, Vec<SplitState>> = BTreeMap::new();
        for progress in self.progress.values() {
            for (uid, splits) in &progress.positions {
                let known = positions.entry(uid.clone()).or_default();
                known.extend(splits.iter().cloned());
            }
        }
        positions
    }

    /// The failure of tasks that have not started in time.
    pub(crate) fn not_started(&self) -> Failure {
        let missing: BTreeSet<TaskId> = self.tasks.difference(&self.running).copied().collect();
        Failure::new(
            ErrorCode::WorkerLost,
            ErrorKind::Retryable,
            format!(
                "tasks {} did not start within `checkpoint.timeout`; look at the logs of their \
                 workers",
                name_tasks(&missing)
            ),
        )
    }
}

/// The first few tasks of a set, for a message.
pub(crate) fn name_tasks(tasks: &BTreeSet<TaskId>) -> String {
    let named: Vec<String> = tasks.iter().take(8).map(ToString::to_string).collect();
    let more = tasks.len().saturating_sub(named.len());
    if more == 0 {
        named.join(", ")
    } else {
        format!("{} and {more} more", named.join(", "))
    }
}
