//! How much of the state the next run holds.
//!
//! A run with only what has changed since the one before is the smallest, and leaves the most behind: runs
//! of which less and less is needed. Three rules keep them few and small, without a checkpoint that
//! rewrites everything:
//!
//! - *Small runs are merged.* When what the newest small ones hold comes to a [unit](Limits::units), the
//!   next run replaces them all.
//! - *A run of a unit renews a little more of the state than it has changes*: it holds some key groups
//!   completely, those that were not renewed for longest. When all groups had their turn, it has no
//!   group left for which it is needed. So there are at most about [as many](Limits::units) such runs,
//!   more than half of what they hold together is the state, and all are about as large.
//! - *Of many small runs* the newest that are about as large are merged before they come to a unit.
//!
//! What this costs is in `docs/decisions/0018-state-runs.md`.

use std::ops::Range;

use crate::breakage::Breakage;
use crate::coverage::{Coverage, EVERYTHING, Held, Sequence};

/// Sizes that decide.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// A unit is this part of the state.
    pub(crate) units: u64,
    /// It is not smaller than this, what nobody notices, in bytes.
    pub(crate) least_unit: u64,
    /// But of a state that has at least two of those it is at most this part.
    pub(crate) fewest_units: u64,
    /// Most runs that are smaller than a unit.
    pub(crate) small_runs: usize,
    /// With more runs than this, or more than [`MANY_BYTES`], the state is renewed faster. It happens
    /// after a change of parallelism, when a subtask has the runs of several.
    pub(crate) many_runs: usize,
    /// A file has about so many bytes in memory, and one key group at least.
    pub(crate) file_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            units: 64,
            least_unit: 4 << 20,
            fewest_units: 10,
            small_runs: 12,
            many_runs: 160,
            file_bytes: 64 << 20,
        }
    }
}

impl Limits {
    fn unit(self, live: u64) -> u64 {
        let least = if live < 2 * self.least_unit {
            self.least_unit
        } else {
            self.least_unit.min(live / self.fewest_units)
        };
        least.max(live / self.units)
    }
}

/// How much of the state a run renews, in hundredths of what has changed.
const RENEWED: u64 = 125;
/// So many times the state, in runs that are needed, are many.
const MANY_BYTES: u64 = 3;
/// A state that is renewed faster is renewed by at least this part of the groups.
const HURRY: u64 = 8;
/// Bytes of a row, as long as nothing was written.
const GUESSED_ROW: u64 = 32;

/// What there is when a run is planned.
pub(crate) struct Situation<'a> {
    pub(crate) limits: Limits,
    /// The subtask's key groups.
    pub(crate) groups: Range<u32>,
    /// Keys that there are.
    pub(crate) keys: u64,
    /// Up to this number all changes are in runs.
    pub(crate) settled: Sequence,
    /// From the oldest to the newest.
    pub(crate) runs: &'a [Held],
    /// How many keys have changed since a number.
    pub(crate) changed_since: &'a dyn Fn(Sequence) -> u64,
}

/// What the next run holds; none if nothing has changed.
pub(crate) fn plan(situation: &Situation<'_>) -> Option<Coverage> {
    let changed = (situation.changed_since)(situation.settled + 1);
    if changed == 0 {
        return None;
    }
    let row = row_bytes(situation.runs);
    let live = situation.keys * row;
    let unit = situation.limits.unit(live);
    let small = small_runs(situation.runs, unit);
    let since = |runs: &[Held]| {
        let oldest = runs.iter().map(|held| held.coverage.since).min();
        oldest.map_or(situation.settled + 1, |since| {
            since.min(situation.settled + 1)
        })
    };
    let rows = (situation.changed_since)(since(small));
    let full = Coverage {
        range: situation.groups.clone(),
        complete: 0..0,
        since: EVERYTHING,
    };
    // With that many changes, everything is hardly more.
    if situation.runs.is_empty() || rows * 2 >= situation.keys {
        return Some(full);
    }
    let hurry = hurry(situation, live);
    let is_unit = rows * row >= unit && !Breakage::NothingIsRenewed.is_seeded();
    let (since, renewed) = if is_unit {
        (since(small), rows)
    } else {
        (since(merged(small, situation.limits, changed)), 0)
    };
    let groups = u64::from(situation.groups.end - situation.groups.start);
    let renewed = groups * renewed * RENEWED / 100 / situation.keys.max(1);
    // A unit renews something, or the oldest runs would stay.
    let renewed = renewed.max(u64::from(is_unit)).max(hurry);
    let complete = oldest_groups(situation, renewed);
    if complete == situation.groups {
        return Some(full);
    }
    Some(Coverage {
        complete,
        since,
        ..full
    })
}

/// Bytes of a row in files.
fn row_bytes(runs: &[Held]) -> u64 {
    let rows: u64 = runs.iter().map(|held| held.rows).sum();
    let bytes: u64 = runs.iter().map(|held| held.run.file.bytes).sum();
    bytes.checked_div(rows).unwrap_or(GUESSED_ROW).max(1)
}

/// The newest runs that renew nothing and are smaller than a unit.
fn small_runs(runs: &[Held], unit: u64) -> &[Held] {
    let is_small = |held: &Held| {
        held.coverage.complete.is_empty()
            && held.coverage.since != EVERYTHING
            && held.run.file.bytes < unit
    };
    let small = runs.iter().rev().take_while(|held| is_small(held)).count();
    &runs[runs.len() - small..]
}

/// Which of the small runs the next one replaces: none as long as they are few, else the newest up to one
/// that is larger than half of those together.
fn merged(small: &[Held], limits: Limits, changed: u64) -> &[Held] {
    if small.len() < limits.small_runs || Breakage::SmallRunsStay.is_seeded() {
        return &small[small.len()..];
    }
    let (mut rows, mut count) = (changed, 0);
    for held in small.iter().rev() {
        if held.needed_rows() > changed * 2 && held.needed_rows() > rows / 2 && count > 0 {
            break;
        }
        rows += held.needed_rows();
        count += 1;
    }
    &small[small.len() - count..]
}

/// How many groups to renew in any case.
fn hurry(situation: &Situation<'_>, live: u64) -> u64 {
    let needed = |held: &Held| held.run.file.bytes * held.needed_rows() / held.rows.max(1);
    let bytes: u64 = situation.runs.iter().map(needed).sum();
    let is_much = bytes > MANY_BYTES * live.max(situation.limits.least_unit);
    let groups = u64::from(situation.groups.end - situation.groups.start);
    if is_much || situation.runs.len() > situation.limits.many_runs {
        groups.div_ceil(HURRY)
    } else {
        0
    }
}

/// This many groups, from the first for which the oldest run is needed.
fn oldest_groups(situation: &Situation<'_>, count: u64) -> Range<u32> {
    let groups = &situation.groups;
    let oldest = situation.runs.first();
    let start = oldest.map_or(groups.start, |held| held.needed.hull().start);
    let start = start.clamp(groups.start, groups.end);
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let end = start.saturating_add(count).min(groups.end);
    if count > 0 { start..end } else { 0..0 }
}
