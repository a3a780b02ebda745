//! Keyed state of tasks: a number for each key group, kept in files as a real task keeps it.
//!
//! At the barrier of step `n`, which is known from where the splits stand, every fourth group becomes
//! `n`. So of any manifest it can be told what each group must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::{TryStreamExt, stream};
use millstream_checkpoint::{Files, Manifest, Storage, StorageOptions};
use millstream_types::ids::TaskId;
use millstream_types::snapshot::{FileRef, KeyGroupRange, Run, StateDeclaration, StateSnapshot};
use millstream_types::{
    Attempt, CheckpointId, JobId, OperatorSnapshot, OperatorUid, SubtaskIndex, TaskSnapshot, keys,
};

use crate::worker::STEP;

/// Runs that a snapshot names at most; more are merged into one.
const RUNS_MAX: usize = 3;

/// A number for each key group that has one.
pub(crate) type Groups = BTreeMap<u32, u64>;

/// How workers keep the state of one operator.
#[derive(Debug, Clone)]
pub(crate) struct Keyed {
    pub(crate) storage: Storage,
    pub(crate) job: JobId,
    pub(crate) operator: OperatorUid,
    /// Type of its state.
    pub(crate) keeps: String,
    pub(crate) parallelism: u32,
    pub(crate) max_parallelism: u32,
    /// Says that it holds one key group less than it does.
    pub(crate) miscounts: bool,
    /// Uploads, and does not acknowledge.
    pub(crate) withholds: bool,
    /// What tasks have been restored with that they must not have been.
    pub(crate) faults: Arc<Mutex<Vec<String>>>,
}

/// What each group must hold when the splits stand here.
pub(crate) fn expected(groups: KeyGroupRange, step: u64) -> Groups {
    let newest = |group: &u32| {
        let touched = (1..=step).rev().find(|step| is_touched(*group, *step))?;
        Some((*group, touched))
    };
    let groups = groups.first..groups.end;
    groups.filter_map(|group| newest(&group)).collect()
}

fn is_touched(group: u32, step: u64) -> bool {
    u64::from(group) % 4 == step % 4
}

/// How many barriers the splits of a source have passed.
pub(crate) fn step_of<'a>(tasks: impl IntoIterator<Item = &'a TaskSnapshot>) -> u64 {
    let operators = tasks.into_iter().flat_map(|task| task.operators.values());
    let splits = operators.flat_map(|operator| &operator.splits);
    let positions = splits.map(|split| split.position.0.parse::<u64>().unwrap());
    let steps: BTreeSet<u64> = positions.map(|position| position / STEP).collect();
    assert_eq!(steps.len(), 1, "all splits stand at one step");
    steps.into_iter().next().unwrap()
}

/// What the runs of a state hold, read from files below `folder`.
pub(crate) async fn read(state: &StateSnapshot, folder: &Storage, job: &JobId) -> Groups {
    let files = Files::new(folder.clone(), job, Attempt(0), SubtaskIndex(0));
    let mut runs: Vec<&Run> = state.runs.iter().collect();
    runs.sort_by_key(|run| run.sequence);
    let mut groups = Groups::new();
    for run in runs {
        let held = content(&files, &run.file).await;
        let range = run.range.first..run.range.end;
        groups.extend(held.into_iter().filter(|(group, _)| range.contains(group)));
    }
    groups
}

async fn content(files: &Files, file: &FileRef) -> Groups {
    let chunks = files.open(file).await;
    let chunks = chunks.unwrap_or_else(|error| panic!("{error}"));
    let chunks: Vec<Bytes> = chunks.try_collect().await.unwrap();
    serde_json::from_slice(&chunks.concat()).unwrap()
}

/// Checks that a manifest of a job holds the state of all groups, as it must be there.
pub(crate) async fn check(manifest: &Manifest, operator: &str, storage: &Storage, groups: u32) {
    let step = step(manifest);
    let mut found = Groups::new();
    for snapshot in manifest.operators[&operator.into()].values() {
        let state = snapshot.state.as_ref().unwrap();
        for (group, value) in read(state, storage, &manifest.job).await {
            assert_eq!(found.insert(group, value), None, "group {group} twice");
        }
    }
    let id = manifest.checkpoint;
    assert_eq!(found, expected((0..groups).into(), step), "checkpoint {id}");
    assert_eq!(manifest.max_parallelism, Some(groups));
}

/// How many barriers the splits in a manifest have passed.
pub(crate) fn step(manifest: &Manifest) -> u64 {
    let operators = manifest.operators.iter();
    let tasks = operators.flat_map(|(uid, subtasks)| {
        let task = |snapshot: &OperatorSnapshot| TaskSnapshot {
            operators: [(uid.clone(), snapshot.clone())].into(),
        };
        subtasks.values().map(task)
    });
    step_of(&tasks.collect::<Vec<_>>())
}

/// The storage of a folder.
pub(crate) async fn open(path: &str) -> Storage {
    Storage::open(path, &StorageOptions::default())
        .await
        .unwrap()
}

impl Keyed {
    /// Takes over what a task is restored with.
    pub(crate) async fn restore(&self, task: TaskId, snapshot: &mut OperatorSnapshot, step: u64) {
        let own = keys::range(task.subtask.0, self.parallelism, self.max_parallelism).into();
        let Some(state) = &snapshot.state else {
            snapshot.state = Some(StateSnapshot {
                declarations: vec![StateDeclaration {
                    name: "groups".to_owned(),
                    data_type: self.keeps.clone(),
                    schema: 1,
                }],
                key_groups: own,
                ..StateSnapshot::default()
            });
            return;
        };
        let held = read(state, &self.storage, &self.job).await;
        if state.key_groups != own || held != expected(own, step) {
            let fault = format!("{task} at step {step} is restored with {held:?} from {state:?}");
            self.faults.lock().unwrap().push(fault);
        }
    }

    /// Writes what has changed at a barrier, or everything in one file if there are many already.
    pub(crate) async fn pass(
        &self,
        snapshot: &mut OperatorSnapshot,
        task: TaskId,
        (attempt, checkpoint): (Attempt, CheckpointId),
        step: u64,
    ) {
        let state = snapshot.state.as_mut().unwrap();
        let mut groups = expected(state.key_groups, step);
        if state.runs.len() >= RUNS_MAX {
            state.runs.clear();
        } else {
            groups.retain(|group, _| is_touched(*group, step));
        }
        let newest = state.runs.iter().map(|run| run.sequence).max();
        let files = Files::new(self.storage.clone(), &self.job, attempt, task.subtask);
        let content = Bytes::from(serde_json::to_vec(&groups).unwrap());
        let file = files
            .put(
                checkpoint,
                &self.operator,
                "run",
                stream::iter([Ok(content)]),
            )
            .await
            .unwrap();
        state.runs.push(Run {
            state: "groups".to_owned(),
            file,
            range: state.key_groups,
            // Newer than all that were there, whoever has written them.
            sequence: newest.unwrap_or(0).max(step) + 1,
        });
    }

    /// What the task acknowledges with.
    pub(crate) fn told(&self, snapshot: &mut OperatorSnapshot) {
        if self.miscounts
            && let Some(state) = &mut snapshot.state
        {
            state.key_groups.end -= 1;
            for run in &mut state.runs {
                run.range.end = run.range.end.min(state.key_groups.end);
            }
        }
    }
}
