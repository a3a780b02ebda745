//! Looking again at what older attempts have left open, while a newer one runs. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_checkpoint::{ChainState, EARLIER_MAX};
use millstream_types::Attempt;

use crate::opened::Opened;

/// How many older attempts are looked at again, as many as a claim remembers. A worker hears of a
/// restart long before the job has restarted this often, or it is cut off and hears nothing until its
/// next message is refused.
const REVISITED_MAX: usize = EARLIER_MAX;
/// How often older attempts are looked at again, and how long after the last look: first, and at
/// most. All in all that is longer than brokers keep transactions open.
const REVISITS: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_mins(10);

/// When older attempts are looked at again, and which.
///
/// A writer that does not know that its attempt is over, because its process was cut off or
/// frozen, may open a transaction behind the first sweep, which would hide everything behind it
/// until its timeout. So they are looked at again for a while; and anew when a worker joins, which
/// may be one that has just woken up.
#[derive(Debug, Default)]
pub(super) struct Revisit {
    opened: Vec<Opened>,
    left: u32,
    /// Time of the last look by the keeper's monotonic clock.
    last: Option<Duration>,
    /// From the last look to the next.
    pause: Duration,
}

impl Revisit {
    /// The newest attempts before `own`: those whose workers may still be somewhere. Attempts whose
    /// claims the chain does not list any more are taken to have had the sinks of this one, and as many
    /// subtasks as later claims remember; where none does, as many as any whose claim is listed.
    pub(super) fn new(state: &ChainState, own: &Opened) -> Self {
        let listed = state.claims.iter().map(|claim| claim.holder.parallelism);
        let most = listed.fold(own.parallelism, u32::max);
        let remembered = state.claims.iter().flat_map(|claim| &claim.earlier);
        let remembered: BTreeMap<Attempt, u32> = remembered
            .map(|earlier| (earlier.attempt, earlier.parallelism))
            .collect();
        let older = (1..own.attempt.0).rev().map(Attempt).take(REVISITED_MAX);
        let opened = older.map(|attempt| {
            let claim = state.claims.iter().find(|claim| claim.attempt == attempt);
            claim.map_or_else(
                || Opened {
                    attempt,
                    parallelism: remembered.get(&attempt).copied().unwrap_or(most),
                    ..own.clone()
                },
                Opened::from,
            )
        });
        Self {
            opened: opened.collect(),
            left: REVISITS,
            last: None,
            pause: FIRST_PAUSE,
        }
    }

    /// Begins anew.
    pub(super) const fn again(&mut self) {
        self.left = REVISITS;
        self.pause = FIRST_PAUSE;
    }

    /// Attempts to look at now, if it is time.
    pub(super) fn next(&mut self, now: Duration) -> Option<Vec<Opened>> {
        let is_due = self
            .last
            .is_none_or(|last| now >= last.saturating_add(self.pause));
        if self.opened.is_empty() || self.left == 0 || !is_due {
            return None;
        }
        if self.last.replace(now).is_some() {
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
        self.left -= 1;
        Some(self.opened.clone())
    }

    /// The attempts, whether or not it is time.
    pub(super) fn opened(&self) -> &[Opened] {
        &self.opened
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revisit() -> Revisit {
        Revisit {
            opened: vec![Opened {
                attempt: Attempt(1),
                parallelism: 2,
                sinks: BTreeMap::new(),
            }],
            left: REVISITS,
            last: None,
            pause: FIRST_PAUSE,
        }
    }

    /// Looks every second, for so long. When it was due.
    fn looks(revisit: &mut Revisit, from: u64, to: u64) -> Vec<u64> {
        let due = |second: &u64| revisit.next(Duration::from_secs(*second)).is_some();
        (from..to).filter(due).collect()
    }

    #[test]
    fn older_attempts_are_looked_at_a_few_times_and_then_no_more() {
        let mut revisit = revisit();
        let seen = looks(&mut revisit, 0, 100_000);
        assert_eq!(seen, [0, 10, 30, 70, 150, 310, 630, 1230]);
        let longest_transaction = 15 * 60;
        assert!(seen.last() > Some(&longest_transaction));
    }

    #[test]
    fn a_worker_that_joins_has_them_looked_at_anew_and_never_in_a_rush() {
        let mut revisit = revisit();
        looks(&mut revisit, 0, 5_000);
        revisit.again();
        assert_eq!(looks(&mut revisit, 5_000, 5_021), [5_000, 5_020]);
        for _ in 0..10 {
            revisit.again();
            assert_eq!(looks(&mut revisit, 5_021, 5_022), [0_u64; 0]);
        }
    }

    #[test]
    fn without_older_attempts_nobody_is_asked() {
        assert_eq!(looks(&mut Revisit::default(), 0, 100), [0_u64; 0]);
    }
}
