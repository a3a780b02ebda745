//! A rate, kept by the clock it is told.

use std::time::Duration;

use super::RATE_GRAIN;

/// Most time whose rows may be made up for after a stall.
const BURST: Duration = Duration::from_secs(1);

/// Shortest wait that is asked for.
const SHORTEST_WAIT: Duration = Duration::from_micros(1);

/// Counts rows against time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pace {
    /// Rows per second.
    rate: f64,
    /// Since when `made` is counted.
    since: Duration,
    made: f64,
    /// Fewest rows that are worth a batch.
    grain: f64,
}

impl Pace {
    /// A rate in rows per second, from `now` on.
    pub(super) fn new(rate: f64, now: Duration) -> Self {
        Self {
            rate,
            since: now,
            made: 0.0,
            grain: (rate / RATE_GRAIN as f64).max(1.0).floor(),
        }
    }

    /// How many rows may be made now, or how long to wait for some.
    pub(super) fn allowance(&mut self, now: Duration) -> Result<usize, Duration> {
        let elapsed = now.saturating_sub(self.since).as_secs_f64();
        let mut due = elapsed * self.rate - self.made;
        let most = (BURST.as_secs_f64() * self.rate).max(self.grain);
        if due > most {
            // What a stall has cost beyond the burst is not made up for.
            self.made += due - most;
            due = most;
        }
        if due >= self.grain {
            return Ok(whole(due));
        }
        let wait = (self.grain - due) / self.rate;
        // Never no time at all: what is missing may be less than the clock can tell.
        let wait = Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX);
        Err(wait.max(SHORTEST_WAIT))
    }

    /// Rows were made.
    pub(super) fn made(&mut self, rows: usize) {
        self.made += rows as f64;
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "at least 1, and what is too large saturates"
)]
const fn whole(rows: f64) -> usize {
    rows as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn rows_become_due_with_time_and_not_before() {
        let mut pace = Pace::new(1_000.0, second(5.0));
        assert_eq!(pace.allowance(second(5.0)), Err(second(0.01)));
        assert_eq!(pace.allowance(second(5.5)), Ok(500));
        pace.made(500);
        assert!(pace.allowance(second(5.5)).is_err());
        assert_eq!(pace.allowance(second(5.52)), Ok(20));
    }

    #[test]
    fn a_slow_rate_waits_for_one_row() {
        let mut pace = Pace::new(0.5, Duration::ZERO);
        assert_eq!(pace.allowance(Duration::ZERO), Err(second(2.0)));
        assert_eq!(pace.allowance(second(2.0)), Ok(1));
    }

    #[test]
    fn after_a_stall_at_most_one_second_is_made_up_for() {
        let mut pace = Pace::new(1_000.0, Duration::ZERO);
        assert_eq!(pace.allowance(second(60.0)), Ok(1_000));
        pace.made(1_000);
        assert!(pace.allowance(second(60.0)).is_err());
        assert_eq!(pace.allowance(second(60.1)), Ok(100));
    }

    #[test]
    fn over_a_minute_the_rate_is_kept_whatever_the_steps() {
        let mut pace = Pace::new(777.0, Duration::ZERO);
        let (mut now, mut made) = (Duration::ZERO, 0);
        while now < second(60.0) {
            match pace.allowance(now) {
                Ok(rows) => {
                    pace.made(rows.min(50));
                    made += rows.min(50);
                }
                Err(wait) => now += wait,
            }
        }
        assert!((46_600..=46_640).contains(&made), "{made}");
    }
}
