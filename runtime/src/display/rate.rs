//! Records per second, from totals that are looked at now and then. Pure; time comes in.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use millstream_types::OperatorUid;
use millstream_types::snapshot::Counters;

/// Rates are taken over this time: long enough to be calm, short enough to follow.
const WINDOW: Duration = Duration::from_secs(5);

/// Totals of the last few seconds.
#[derive(Debug, Default)]
pub(super) struct Rates {
    looks: VecDeque<(Duration, BTreeMap<OperatorUid, Counters>)>,
}

impl Rates {
    /// Notes the totals at `now`.
    pub(super) fn observe(&mut self, totals: &BTreeMap<OperatorUid, Counters>, now: Duration) {
        self.looks.push_back((now, totals.clone()));
        while self.looks.len() > 2
            && self
                .looks
                .get(1)
                .is_some_and(|(at, _)| now.saturating_sub(*at) >= WINDOW)
        {
            self.looks.pop_front();
        }
    }

    /// Records per second of `total` of one operator; `None` while there is nothing to compare,
    /// and 0 after a restart took totals back.
    pub(super) fn per_second(&self, uid: &OperatorUid, total: fn(&Counters) -> u64) -> Option<u64> {
        let ((from, first), (to, last)) = (self.looks.front()?, self.looks.back()?);
        // An operator that was not there yet may be restored, so that its totals are no growth.
        let (first, last) = (first.get(uid)?, last.get(uid)?);
        let grown = u128::from(total(last).saturating_sub(total(first)));
        let millis = to.saturating_sub(*from).as_millis();
        let rate = (grown * 1_000).checked_div(millis)?;
        Some(u64::try_from(rate).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(records_in: u64) -> BTreeMap<OperatorUid, Counters> {
        let counters = Counters {
            records_in,
            ..Counters::default()
        };
        BTreeMap::from([("orders".into(), counters)])
    }

    fn rate(looks: &[(u64, u64)]) -> Option<u64> {
        let mut rates = Rates::default();
        for (second, records) in looks {
            rates.observe(&totals(*records), Duration::from_secs(*second));
        }
        rates.per_second(&"orders".into(), |counters| counters.records_in)
    }

    #[test]
    fn a_rate_is_growth_over_the_last_seconds() {
        assert_eq!(rate(&[(0, 0), (1, 500)]), Some(500));
        assert_eq!(rate(&[(0, 0), (10, 0), (15, 500), (20, 1_000)]), Some(100));
    }

    #[test]
    fn there_is_no_rate_without_two_looks_or_after_a_restart() {
        assert_eq!(rate(&[(0, 500)]), None);
        assert_eq!(rate(&[(0, 500), (1, 400)]), Some(0));
    }
}
