//! When values that are kept one by one are looked through: whether their keys still live.

use std::ops::Range;
use std::time::Duration;

/// So many parts of the key groups are looked through one after the other, so that no look takes long.
const PARTS: u64 = 64;
/// A value that no look has renewed is gone after so many times to live. What a key that lives has is
/// renewed before that: a round takes half a time to live, and a part waits for its look no longer than
/// for a row twice, each less than a time to live if a key is to survive it.
const SPARE: u32 = 4;

/// Goes through the key groups again and again, once in half a time to live.
#[derive(Debug)]
pub(super) struct Rounds {
    groups: Range<u32>,
    /// Milliseconds.
    length: u64,
    begun: u64,
    /// Parts of this round that were looked at.
    done: u64,
}

/// What is to be looked at.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) groups: Range<u32>,
    /// What was renewed since this time needs no look.
    pub(super) before: u64,
}

impl Rounds {
    /// After a restore everything is due.
    pub(super) fn new(groups: Range<u32>, ttl: Duration) -> Self {
        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        Self {
            groups,
            length: (ttl / 2).max(1),
            begun: 0,
            done: 0,
        }
    }

    /// How long values are kept that no look renews.
    pub(super) const fn ttl_of_values(ttl: Duration) -> Duration {
        ttl.saturating_mul(SPARE)
    }

    /// What has become due.
    pub(super) fn due(&mut self, now: u64) -> Option<Due> {
        let passed = u128::from(now.saturating_sub(self.begun)) * u128::from(PARTS);
        let due = passed / u128::from(self.length);
        let due = u64::try_from(due).unwrap_or(PARTS).min(PARTS);
        if due <= self.done {
            return None;
        }
        let (from, to) = (self.group_at(self.done), self.group_at(due));
        self.done = due;
        if due == PARTS {
            self.begun = now;
            self.done = 0;
        }
        (from < to).then_some(Due {
            groups: from..to,
            before: now.saturating_sub(self.length),
        })
    }

    /// Where a part begins.
    fn group_at(&self, part: u64) -> u32 {
        let groups = u64::from(self.groups.end - self.groups.start);
        let offset = u32::try_from(groups * part / PARTS).unwrap_or(u32::MAX);
        self.groups.start.saturating_add(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_is_due_once_in_half_a_time_to_live_and_at_once_after_a_pause() {
        for groups in [0..1, 3..10, 100..1_124] {
            let mut rounds = Rounds::new(groups.clone(), Duration::from_secs(2));
            let first = rounds.due(1_000_000);
            let before = 999_000;
            let all = groups.clone();
            assert_eq!(
                first,
                Some(Due {
                    groups: all,
                    before
                })
            );
            assert_eq!(rounds.due(1_000_000), None);
            for round in 0..3 {
                let mut next = groups.start;
                for now in 1..=1_000 {
                    if let Some(due) = rounds.due(1_000_000 + round * 1_000 + now) {
                        assert_eq!(due.groups.start, next);
                        next = due.groups.end;
                    }
                }
                assert_eq!(next, groups.end, "round {round} of {groups:?}");
            }
            let late = rounds.due(2_000_000).unwrap();
            assert_eq!(late.groups, groups);
        }
    }
}
