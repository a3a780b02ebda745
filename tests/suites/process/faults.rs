//! What is done to a job, and when: a pure function of a seed.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use millstream_tests::workload::mix;

/// The seed that `MILLSTREAM_SEED` names, or a new one.
pub(crate) fn seed() -> u64 {
    match std::env::var("MILLSTREAM_SEED") {
        Ok(text) => text.parse().expect("MILLSTREAM_SEED is a number"),
        Err(_) => RandomState::new().hash_one(0),
    }
}

/// Numbers that follow from a seed.
#[derive(Debug)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A number from 0 to `below - 1`.
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        self.state = self.state.wrapping_add(1);
        mix(self.state) % below
    }

    /// A time from `from` to `to`.
    pub(crate) fn between(&mut self, from: Duration, to: Duration) -> Duration {
        let span = u64::try_from(to.saturating_sub(from).as_micros()).expect("a short time");
        from + Duration::from_micros(self.below(span))
    }

    /// Brings things into any order.
    pub(crate) fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            let bound = u64::try_from(last + 1).expect("few things");
            let other = usize::try_from(self.below(bound)).expect("few things");
            things.swap(last, other);
        }
    }
}
