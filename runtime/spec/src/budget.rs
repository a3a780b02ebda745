//! How long a transaction of an exactly-once sink may have to stay open.

use std::fmt;

use millstream_types::duration::KubeDuration;

use crate::{CheckpointSpec, RestartStrategy};

/// What a failure may take beside the restart strategy's delay: noticing it, starting a process,
/// claiming and reading the chain, committing.
pub const RECOVERY: KubeDuration = KubeDuration::from_secs(30);

/// The longest time from the first record of a transaction to its commit under which no setting
/// of the job is violated. A broker must keep a transaction open for longer.
///
/// A transaction is opened right after a barrier, at the earliest when that checkpoint is
/// triggered. The next checkpoint follows after `interval`, or when the last one has taken all of
/// its `timeout` and `minPause` has passed, whichever is later. One savepoint may come in between,
/// which commits nothing and may take all of its `timeout` too. `tolerableFailures` checkpoints in
/// a row may fail before one must succeed, which again may take all of its `timeout`: that is from
/// its trigger to its decision. Between its decision and the commit the job may fail and wait for
/// the restart's delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionBudget {
    /// From one trigger to the next at worst: the larger of `interval` and `timeout + minPause`,
    /// and a savepoint's `timeout`.
    pub between_triggers: KubeDuration,
    /// Checkpoints until one must succeed: `tolerableFailures + 1`.
    pub checkpoints: u32,
    /// How long the last one may take.
    pub timeout: KubeDuration,
    /// Largest delay of the restart strategy.
    pub restart_delay: KubeDuration,
}

impl TransactionBudget {
    /// The budget under these settings.
    pub fn new(checkpoint: &CheckpointSpec, restart: &RestartStrategy) -> Self {
        let slow = sum(checkpoint.timeout, checkpoint.min_pause);
        Self {
            between_triggers: sum(checkpoint.interval.max(slow), checkpoint.timeout),
            checkpoints: checkpoint.tolerable_failures.saturating_add(1),
            timeout: checkpoint.timeout,
            restart_delay: restart.largest_delay(),
        }
    }

    /// The whole time.
    pub fn total(&self) -> KubeDuration {
        let waiting = self
            .between_triggers
            .millis()
            .saturating_mul(u64::from(self.checkpoints));
        let waiting = sum(KubeDuration::from_millis(waiting), self.timeout);
        sum(waiting, sum(self.restart_delay, RECOVERY))
    }
}

fn sum(one: KubeDuration, other: KubeDuration) -> KubeDuration {
    KubeDuration::from_millis(one.millis().saturating_add(other.millis()))
}

impl fmt::Display for TransactionBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (tolerableFailures + 1) × {} (the larger of interval and timeout + minPause, and a \
             savepoint's timeout) + {} (timeout) + {} (restart delay) + {RECOVERY} (recovery) = {}",
            self.checkpoints,
            self.between_triggers,
            self.timeout,
            self.restart_delay,
            self.total()
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::restart::FixedDelay;

    fn checkpoint(interval: u64, timeout: u64, pause: u64, failures: u32) -> CheckpointSpec {
        let text = format!(
            r#"{{"storage": "file:///x", "interval": "{interval}ms", "timeout": "{timeout}ms",
                "minPause": "{pause}ms", "tolerableFailures": {failures}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn fixed_delay(millis: u64) -> RestartStrategy {
        let delay = KubeDuration::from_millis(millis);
        RestartStrategy::FixedDelay(FixedDelay { delay, attempts: 1 })
    }

    /// Plays the worst case: every checkpoint takes all of its timeout, all but the last fail, and
    /// a savepoint that takes all of its timeout begins the moment when one is due.
    fn played(checkpoint: &CheckpointSpec, delay: u64) -> u64 {
        let (interval, timeout) = (checkpoint.interval.millis(), checkpoint.timeout.millis());
        let mut triggered = 0;
        let mut now = timeout;
        for _ in 0..=checkpoint.tolerable_failures {
            now = (now + checkpoint.min_pause.millis()).max(triggered + interval) + timeout;
            triggered = now;
            now += timeout;
        }
        now + delay + RECOVERY.millis()
    }

    proptest! {
        #[test]
        fn the_budget_is_the_worst_case_played(
            interval in 10_u64..1_000_000,
            timeout in 10_u64..1_000_000,
            pause in 0_u64..1_000_000,
            failures in 0_u32..20,
            delay in 0_u64..1_000_000,
        ) {
            let checkpoint = checkpoint(interval, timeout, pause, failures);
            let budget = TransactionBudget::new(&checkpoint, &fixed_delay(delay));
            prop_assert_eq!(budget.total().millis(), played(&checkpoint, delay));
        }
    }

    #[test]
    fn the_defaults_leave_most_of_a_broker_s_fifteen_minutes() {
        let checkpoint: CheckpointSpec =
            serde_json::from_str(r#"{"storage": "file:///x"}"#).unwrap();
        let budget = TransactionBudget::new(&checkpoint, &RestartStrategy::default());
        assert_eq!(budget.total().to_string(), "4m36s");
    }
}
