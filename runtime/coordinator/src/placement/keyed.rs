//! Keyed state and records in flight: which runs and files each subtask gets, and whether what the
//! subtasks hold fits together. Pure.
//!
//! A key belongs to a key group and a group to one subtask, whatever the parallelism
//! ([`keys::range`]). So a subtask gets the runs that hold any of its groups, cut to them; a file
//! that several subtasks need is named by each of them.

use std::collections::BTreeMap;

use millstream_types::snapshot::{KeyGroupRange, Run, StateSnapshot};
use millstream_types::{Bug, FileRef, OperatorSnapshot, SubtaskIndex, keys};

/// Keyed state of one operator that does not fit together. Going on with it would lose keys, or hold
/// them twice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// Some subtasks have state and this one has none.
    #[error("subtask {subtask} has no keyed state, and others have")]
    Missing {
        /// The subtask.
        subtask: SubtaskIndex,
    },
    /// A subtask holds other key groups than its own.
    #[error(
        "subtask {subtask} of {parallelism} holds key groups {found}, and its own are {own} of \
         {max_parallelism}"
    )]
    KeyGroups {
        /// The subtask.
        subtask: SubtaskIndex,
        /// Of how many.
        parallelism: u32,
        /// What it says that it holds.
        found: KeyGroupRange,
        /// What it must hold.
        own: KeyGroupRange,
        /// How many there are.
        max_parallelism: u32,
    },
    /// Two subtasks do not have the same states.
    #[error("subtask {subtask} has declared other states than the first")]
    Declarations {
        /// The subtask.
        subtask: SubtaskIndex,
    },
    /// A run of a state that nobody has declared.
    #[error("subtask {subtask} names the run {path} of a state `{state}` that it has not declared")]
    Undeclared {
        /// The subtask.
        subtask: SubtaskIndex,
        /// Path of the run's file.
        path: String,
        /// The state.
        state: String,
    },
    /// A run with key groups that are not the subtask's.
    #[error("subtask {subtask} names key groups {range} of the run {path}, and its own are {own}")]
    Outside {
        /// The subtask.
        subtask: SubtaskIndex,
        /// Path of the run's file.
        path: String,
        /// Key groups of the run.
        range: KeyGroupRange,
        /// Key groups of the subtask.
        own: KeyGroupRange,
    },
    /// Two runs of which none is the newer one hold the same key groups.
    #[error(
        "subtask {subtask} names two runs of state `{state}` with sequence {sequence} that hold the \
         same key groups: {first} and {second}"
    )]
    Ambiguous {
        /// The subtask.
        subtask: SubtaskIndex,
        /// The state.
        state: String,
        /// The sequence of both.
        sequence: u64,
        /// Path of one run's file.
        first: String,
        /// Path of the other's.
        second: String,
    },
}

/// Whether the keyed state of one operator fits together: every subtask holds its own key groups, so
/// that all of them together hold each group once.
///
/// # Errors
/// It does not.
pub fn check(
    subtasks: &BTreeMap<SubtaskIndex, OperatorSnapshot>,
    max_parallelism: u32,
) -> Result<(), Misfit> {
    let states = subtasks.values().filter_map(|it| it.state.as_ref());
    let Some(first) = states.clone().next() else {
        return Ok(());
    };
    // A subtask that has sent nothing at all is missing as well.
    let last = subtasks.keys().next_back();
    let parallelism = last.map_or(0, |last| last.0.saturating_add(1));
    for subtask in (0..parallelism).map(SubtaskIndex) {
        let snapshot = subtasks.get(&subtask);
        let state = snapshot.and_then(|snapshot| snapshot.state.as_ref());
        let state = state.ok_or(Misfit::Missing { subtask })?;
        let own = keys::range(subtask.0, parallelism, max_parallelism).into();
        if state.key_groups != own {
            return Err(Misfit::KeyGroups {
                subtask,
                parallelism,
                found: state.key_groups,
                own,
                max_parallelism,
            });
        }
        if state.declarations != first.declarations {
            return Err(Misfit::Declarations { subtask });
        }
        check_runs(subtask, state)?;
    }
    Ok(())
}

fn check_runs(subtask: SubtaskIndex, state: &StateSnapshot) -> Result<(), Misfit> {
    let own = state.key_groups;
    for run in &state.runs {
        let mut declared = state.declarations.iter();
        if !declared.any(|declaration| declaration.name == run.state) {
            return Err(Misfit::Undeclared {
                subtask,
                path: run.file.path.clone(),
                state: run.state.clone(),
            });
        }
        if run.range.first < own.first || run.range.end > own.end {
            return Err(Misfit::Outside {
                subtask,
                path: run.file.path.clone(),
                range: run.range,
                own,
            });
        }
    }
    let mut runs: Vec<&Run> = state.runs.iter().collect();
    runs.sort_by(|a, b| {
        let key = |run: &Run| (run.sequence, run.range.first, run.range.end);
        a.state.cmp(&b.state).then(key(a).cmp(&key(b)))
    });
    let both = runs.windows(2).find_map(|pair| match pair {
        [first, second] => {
            let is_same = (&first.state, first.sequence) == (&second.state, second.sequence);
            (is_same && meet(first.range, second.range).is_some()).then_some((first, second))
        }
        _ => None,
    });
    both.map_or(Ok(()), |(first, second)| {
        Err(Misfit::Ambiguous {
            subtask,
            state: first.state.clone(),
            sequence: first.sequence,
            first: first.file.path.clone(),
            second: second.file.path.clone(),
        })
    })
}

/// Deals the keyed state of one operator out to `parallelism` subtasks, one snapshot for each; none if
/// it has no state. Sequences stay as they are: keys of different old subtasks are different, and of
/// one key the newest run stays the newest.
pub(super) fn deal(
    restored: &BTreeMap<SubtaskIndex, OperatorSnapshot>,
    parallelism: u32,
    max_parallelism: u32,
) -> Vec<StateSnapshot> {
    let states = || restored.values().filter_map(|it| it.state.as_ref());
    let Some(first) = states().next() else {
        return Vec::new();
    };
    let subtasks = 0..parallelism;
    let dealt = subtasks.map(|subtask| {
        let own = keys::range(subtask, parallelism, max_parallelism).into();
        let read = if Bug::StateRangeTooShort.is_seeded() {
            without_last(own)
        } else {
            own
        };
        let meeting = states().filter(|state| meet(state.key_groups, own).is_some());
        let runs = meeting.clone().flat_map(|state| {
            let held = move |run: &Run| meet(meet(run.range, state.key_groups)?, read);
            let runs = state.runs.iter();
            runs.filter_map(move |run| {
                let range = held(run)?;
                Some(Run {
                    range,
                    ..run.clone()
                })
            })
        });
        StateSnapshot {
            declarations: first.declarations.clone(),
            key_groups: own,
            runs: joined(runs.collect()),
            // A timer that has fired is gone from the state: the earliest fires none twice.
            timer_watermark: meeting.filter_map(|state| state.timer_watermark).min(),
        }
    });
    dealt.collect()
}

/// The files of records in flight that a subtask reads, of which it takes what is its own: at the same
/// parallelism its own. At another one those of every subtask that had any of its key groups; and, as
/// records that are dealt out in turn have none, those of every subtask whose number leaves its own as the
/// remainder by the parallelism.
pub(super) fn in_flight(
    restored: &BTreeMap<SubtaskIndex, OperatorSnapshot>,
    subtask: u32,
    parallelism: u32,
    max_parallelism: u32,
) -> Vec<FileRef> {
    let last = restored.keys().next_back();
    let before = last.map_or(0, |last| last.0.saturating_add(1));
    let own = keys::range(subtask, parallelism, max_parallelism).into();
    let reads = |old: SubtaskIndex| {
        if before == parallelism {
            return old.0 == subtask;
        }
        let had = keys::range(old.0, before, max_parallelism).into();
        meet(had, own).is_some() || old.0 % parallelism == subtask
    };
    let read = restored.iter().filter(|(old, _)| reads(**old));
    read.flat_map(|(_, snapshot)| snapshot.in_flight.iter().cloned())
        .collect()
}

/// A seeded bug: the group before the last counts as the last.
const fn without_last(range: KeyGroupRange) -> KeyGroupRange {
    KeyGroupRange {
        first: range.first,
        end: range.end.saturating_sub(1),
    }
}

/// Key groups that both ranges have; `None` if they have none in common.
fn meet(one: KeyGroupRange, other: KeyGroupRange) -> Option<KeyGroupRange> {
    let (first, end) = (one.first.max(other.first), one.end.min(other.end));
    (first < end).then_some(KeyGroupRange { first, end })
}

/// The same runs, with the neighbouring parts of a file in one: it had been dealt out before, and is
/// read once now.
fn joined(mut runs: Vec<Run>) -> Vec<Run> {
    runs.sort_by(|a, b| {
        let key = |run: &Run| (run.sequence, run.range.first);
        let names = (&a.state, &a.file).cmp(&(&b.state, &b.file));
        names.then(key(a).cmp(&key(b)))
    });
    runs.dedup_by(|next, run| {
        let is_same = (&run.state, &run.file, run.sequence)
            == (&next.state, &next.file, next.sequence)
            && run.range.end == next.range.first;
        if is_same {
            run.range.end = next.range.end;
        }
        is_same
    });
    runs.sort_by(|a, b| (&a.state, a.sequence, &a.file).cmp(&(&b.state, b.sequence, &b.file)));
    runs
}

#[cfg(test)]
mod tests;
