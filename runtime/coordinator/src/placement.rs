//! Where things run: subtasks in workers, splits in subtasks. Pure and deterministic.
//!
//! A slot holds at most one subtask of each vertex. Subtasks with one number, of vertices of one
//! parallelism, are in one slot, because forward edges join them. Splits are dealt out anew on every restore, from the union of all snapshots,
//! so a job may be restored at any parallelism; keyed state and records in flight are dealt out by key
//! groups ([`keyed`]).

pub mod keyed;

use std::collections::BTreeMap;

use millstream_types::{Bug, OperatorSnapshot, SplitState, SubtaskIndex, WorkerId};

/// Which worker has which slot of the job.
pub type Placement = BTreeMap<SubtaskIndex, WorkerId>;

/// The workers offer fewer slots than the job needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{needed} slots are needed and {offered} are offered")]
pub struct NotEnoughSlots {
    /// Slots that the job needs: the highest parallelism of its nodes.
    pub needed: u32,
    /// Slots over all workers.
    pub offered: u32,
}

/// Deals `parallelism` slots of the job out to workers, as evenly as these allow. One stays
/// where it was in `previous` if that worker is still there and the spread stays even.
///
/// # Errors
/// The workers have fewer slots.
pub fn place(
    workers: &BTreeMap<WorkerId, u32>,
    parallelism: u32,
    previous: &Placement,
) -> Result<Placement, NotEnoughSlots> {
    let offered = workers
        .values()
        .fold(0_u32, |sum, slots| sum.saturating_add(*slots));
    if offered < parallelism {
        return Err(NotEnoughSlots {
            needed: parallelism,
            offered,
        });
    }
    let mut shares = even_shares(workers, parallelism);
    let mut placement = Placement::new();
    for subtask in (0..parallelism).map(SubtaskIndex) {
        if let Some(worker) = previous.get(&subtask)
            && let Some(share) = shares.get_mut(worker)
            && *share > 0
        {
            *share -= 1;
            placement.insert(subtask, worker.clone());
        }
    }
    let mut free = shares
        .into_iter()
        .flat_map(|(worker, share)| (0..share).map(move |_| worker.clone()));
    for subtask in (0..parallelism).map(SubtaskIndex) {
        if let std::collections::btree_map::Entry::Vacant(vacant) = placement.entry(subtask)
            && let Some(worker) = free.next()
        {
            vacant.insert(worker);
        }
    }
    Ok(placement)
}

/// How many subtasks each worker runs: one more for everybody with a free slot, in rounds.
fn even_shares(workers: &BTreeMap<WorkerId, u32>, parallelism: u32) -> BTreeMap<WorkerId, u32> {
    let mut shares: BTreeMap<WorkerId, u32> =
        workers.keys().map(|worker| (worker.clone(), 0)).collect();
    let mut left = parallelism;
    while left > 0 {
        let before = left;
        for (worker, share) in &mut shares {
            if left > 0 && workers.get(worker).is_some_and(|slots| *share < *slots) {
                *share += 1;
                left -= 1;
            }
        }
        if left == before {
            break;
        }
    }
    shares
}

/// How many unfinished and finished splits of one source each subtask has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitLoads {
    reading: Vec<usize>,
    finished: Vec<usize>,
}

impl SplitLoads {
    /// No splits yet in any of `parallelism` subtasks.
    pub fn new(parallelism: u32) -> Self {
        let subtasks = usize::try_from(parallelism).unwrap_or(usize::MAX);
        Self {
            reading: vec![0; subtasks],
            finished: vec![0; subtasks],
        }
    }

    /// Deals splits out, in order of their names, each to the subtask with the fewest so far.
    /// Finished splits cost nothing to read and are balanced by themselves. Subtasks that get
    /// none are not in the answer.
    pub fn assign(
        &mut self,
        mut splits: Vec<SplitState>,
    ) -> BTreeMap<SubtaskIndex, Vec<SplitState>> {
        splits.sort_by(|a, b| a.split.cmp(&b.split));
        let mut assigned: BTreeMap<SubtaskIndex, Vec<SplitState>> = BTreeMap::new();
        for split in splits {
            let loads = if split.finished {
                &mut self.finished
            } else {
                &mut self.reading
            };
            let Some((index, load)) = loads.iter_mut().enumerate().min_by_key(|(_, load)| **load)
            else {
                break;
            };
            *load += 1;
            let subtask = SubtaskIndex(u32::try_from(index).unwrap_or(u32::MAX));
            assigned.entry(subtask).or_default().push(split);
        }
        assigned
    }

    /// Unfinished splits of a subtask.
    pub fn reading(&self, subtask: SubtaskIndex) -> usize {
        usize::try_from(subtask.0)
            .ok()
            .and_then(|index| self.reading.get(index))
            .copied()
            .unwrap_or(0)
    }
}

/// One operator's state, dealt out to the subtasks of a new attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dealt {
    /// By subtask, one for each.
    pub snapshots: Vec<OperatorSnapshot>,
    /// Where its splits went.
    pub loads: SplitLoads,
}

/// Deals the state of one operator out to `parallelism` subtasks: splits anew, counters where they
/// were, those of vanished subtasks to subtask 0, keyed state and records in flight by the
/// `max_parallelism` key groups.
/// Committables are resolved before and go nowhere.
pub fn deal(
    restored: &BTreeMap<SubtaskIndex, OperatorSnapshot>,
    discovered: Vec<SplitState>,
    parallelism: u32,
    max_parallelism: u32,
) -> Dealt {
    let mut loads = SplitLoads::new(parallelism);
    let mut splits: Vec<SplitState> = restored
        .values()
        .flat_map(|snapshot| snapshot.splits.iter().cloned())
        .collect();
    splits.extend(discovered);
    if Bug::SplitLostAtRescale.is_seeded()
        && usize::try_from(parallelism) != Ok(restored.len())
        && !restored.is_empty()
    {
        splits.pop();
    }
    let mut assigned = loads.assign(splits);
    let mut states = keyed::deal(restored, parallelism, max_parallelism).into_iter();
    let in_flight = |subtask| keyed::in_flight(restored, subtask, parallelism, max_parallelism);
    let mut snapshots: Vec<OperatorSnapshot> = (0..parallelism)
        .map(|subtask| OperatorSnapshot {
            splits: assigned.remove(&SubtaskIndex(subtask)).unwrap_or_default(),
            state: states.next(),
            in_flight: in_flight(subtask),
            ..OperatorSnapshot::default()
        })
        .collect();
    for (subtask, snapshot) in restored {
        let index = if subtask.0 < parallelism {
            subtask.0
        } else {
            0
        };
        if let Some(target) = usize::try_from(index)
            .ok()
            .and_then(|index| snapshots.get_mut(index))
        {
            target.counters.add(snapshot.counters);
        }
    }
    Dealt { snapshots, loads }
}

#[cfg(test)]
mod tests;
