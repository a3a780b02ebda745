//! What a run holds, and therefore which older runs it replaces.
//!
//! A run holds, of each of its key groups, everything that has changed since some sequence. It replaces
//! an older run in a group if that one holds what has changed since the same sequence or a later one. So
//! runs are merged without reading any: the memory has the newest of each.

use std::ops::Range;

use millstream_types::Run;

use crate::breakage::Breakage;

/// Number of a run: newer ones have higher ones. The first is 1.
pub(crate) type Sequence = u32;

/// Everything that a key group has ever held has changed since this.
pub(crate) const EVERYTHING: Sequence = 0;

/// What a run holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Coverage {
    /// Its key groups.
    pub(crate) range: Range<u32>,
    /// Of these groups everything, and no deletions: there is nothing older.
    pub(crate) complete: Range<u32>,
    /// Of the others what has changed since.
    pub(crate) since: Sequence,
}

impl Coverage {
    /// Whether it holds all of all its groups.
    pub(crate) fn is_complete(&self) -> bool {
        self.since == EVERYTHING || meet(&self.complete, &self.range) == self.range
    }

    /// The same of fewer groups.
    pub(crate) fn within(&self, range: &Range<u32>) -> Self {
        Self {
            range: meet(&self.range, range),
            complete: meet(&self.complete, range),
            since: self.since,
        }
    }

    /// Its groups, each once, with what is held of them.
    fn parts(&self) -> impl Iterator<Item = (Range<u32>, Sequence)> + use<> {
        let complete = meet(&self.complete, &self.range);
        let parts = if complete.is_empty() {
            [(self.range.clone(), self.since), (0..0, 0), (0..0, 0)]
        } else {
            [
                (self.range.start..complete.start, self.since),
                (complete.clone(), EVERYTHING),
                (complete.end..self.range.end, self.since),
            ]
        };
        parts.into_iter().filter(|(range, _)| !range.is_empty())
    }
}

/// What two ranges have in common.
pub(crate) fn meet(one: &Range<u32>, other: &Range<u32>) -> Range<u32> {
    let start = one.start.max(other.start);
    start..one.end.min(other.end).max(start)
}

/// The groups for which a run is needed: those in which no newer one has replaced it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Needed(Vec<(Range<u32>, Sequence)>);

impl Needed {
    pub(crate) fn new(coverage: &Coverage) -> Self {
        Self(coverage.parts().collect())
    }

    /// A newer run is there.
    pub(crate) fn replace(&mut self, newer: &Coverage) {
        for (covered, since) in newer.parts() {
            let parts = std::mem::take(&mut self.0);
            for (range, held) in parts {
                let gone = meet(&range, &covered);
                let is_older = Breakage::ReplacesTooMuch.is_seeded() && since > held + 1;
                let is_kept = !Breakage::ReplacesTooMuch.is_seeded() && since > held;
                if is_older || is_kept || gone.is_empty() {
                    self.0.push((range, held));
                    continue;
                }
                let rests = [range.start..gone.start, gone.end..range.end];
                let rests = rests.into_iter().filter(|rest| !rest.is_empty());
                self.0.extend(rests.map(|rest| (rest, held)));
            }
        }
        self.0.sort_by_key(|(range, _)| range.start);
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn contains(&self, group: u32) -> bool {
        self.0.iter().any(|(range, _)| range.contains(&group))
    }

    /// How many groups.
    pub(crate) fn groups(&self) -> u64 {
        self.0.iter().map(|(range, _)| range.len() as u64).sum()
    }

    /// From the first to the last of them.
    pub(crate) fn hull(&self) -> Range<u32> {
        let start = self.0.first().map_or(0, |(range, _)| range.start);
        start..self.0.last().map_or(start, |(range, _)| range.end)
    }
}

/// A run that the next snapshot names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) run: Run,
    pub(crate) sequence: Sequence,
    pub(crate) coverage: Coverage,
    pub(crate) needed: Needed,
    /// Rows in the file.
    pub(crate) rows: u64,
}

impl Held {
    /// As a snapshot names it.
    pub(crate) fn named(&self) -> Run {
        Run {
            range: self.needed.hull().into(),
            ..self.run.clone()
        }
    }

    /// Rows that are still needed, about.
    pub(crate) fn needed_rows(&self) -> u64 {
        let groups = self.coverage.range.len() as u64;
        self.rows * self.needed.groups() / groups.max(1)
    }
}

/// From which number on a later run may ask what has changed: since where the newest runs begin that hold
/// only changes, and which it may replace. `settled` is the number of the newest run.
pub(crate) fn floor(runs: &[Held], settled: Sequence) -> Sequence {
    let holds_changes =
        |held: &&Held| held.coverage.complete.is_empty() && held.coverage.since != EVERYTHING;
    let changes = runs.iter().rev().take_while(holds_changes);
    let since = changes.map(|held| held.coverage.since).min();
    since.map_or(settled + 1, |since| since.min(settled + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn coverages() -> impl Strategy<Value = Coverage> {
        let ranges = (0u32..8, 1u32..4, 0u32..8, 0u32..4);
        (ranges, 0u32..4).prop_map(|((start, groups, complete, completed), since)| Coverage {
            range: start..start + groups,
            complete: complete..complete + completed,
            since,
        })
    }

    fn since(coverage: &Coverage, group: u32) -> Option<Sequence> {
        let is_complete = coverage.complete.contains(&group);
        let since = if is_complete { 0 } else { coverage.since };
        coverage.range.contains(&group).then_some(since)
    }

    proptest! {
        #[test]
        fn a_group_needs_a_run_until_a_newer_one_holds_as_much_of_it(
            run in coverages(), newer in prop::collection::vec(coverages(), 0..4),
        ) {
            let mut needed = Needed::new(&run);
            for coverage in &newer {
                needed.replace(coverage);
            }
            for group in 0..12 {
                let replaces = |newer: &Coverage| match (since(newer, group), since(&run, group)) {
                    (Some(newer), Some(held)) => newer <= held,
                    _ => false,
                };
                let expected = run.range.contains(&group) && !newer.iter().any(replaces);
                prop_assert_eq!(needed.contains(group), expected, "group {}", group);
                prop_assert!(!expected || needed.hull().contains(&group));
            }
            let all = (0..12).filter(|group| needed.contains(*group)).count();
            prop_assert_eq!(needed.groups(), all as u64);
            prop_assert_eq!(needed.is_empty(), all == 0);
        }
    }
}
