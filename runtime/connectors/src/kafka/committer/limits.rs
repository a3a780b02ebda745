//! Whether `transactionTimeout` goes with the checkpoint settings and with the broker. Pure.

use std::time::Duration;

use millstream_operators::Result;
use millstream_spec::CheckpointSpec;
use millstream_types::duration::KubeDuration;

use crate::kafka::failure;
use crate::kafka::transaction::SLOTS;

/// What a restart may take from a failure to the commit of what was prepared before it.
const RESTART_BUDGET: Duration = Duration::from_mins(1);
/// Ids that one subtask needs beside those of checkpoints under way or failed: the open
/// transaction, the standby, one committed but still listed, and some savepoints.
const SLOTS_IN_RESERVE: u32 = 8;

/// Longest time from a transaction's first record to its commit under which no setting is
/// violated. The broker's clock starts with the first record, right after a barrier; the next
/// barrier comes `interval` later; that checkpoint, and as many as may fail, take `timeout` and
/// pause `minPause`; then a restart may come between decision and commit.
fn longest_life(checkpoint: &CheckpointSpec) -> Duration {
    let attempts = checkpoint.tolerable_failures.saturating_add(1);
    let one = checkpoint.timeout.0.saturating_add(checkpoint.min_pause.0);
    checkpoint
        .interval
        .0
        .saturating_add(one.saturating_mul(attempts))
        .saturating_add(RESTART_BUDGET)
}

/// Checks the timeout of the sink `sink`. `broker_max` is the broker's
/// `transaction.max.timeout.ms`, where the user may see it.
///
/// # Errors
/// It is not above the longest life of a transaction, or above the broker's limit, or more
/// checkpoints may be open than a subtask has transactional ids. The message has all numbers.
pub(super) fn check(
    sink: &str,
    timeout: Duration,
    checkpoint: &CheckpointSpec,
    broker_max: Option<Duration>,
) -> Result<()> {
    let needed = longest_life(checkpoint);
    let limit = broker_max.map_or_else(
        || "the broker's transaction.max.timeout.ms is not visible to this user".to_owned(),
        |max| {
            format!(
                "the broker allows at most {} (transaction.max.timeout.ms)",
                show(max)
            )
        },
    );
    let sum = format!(
        "interval {} + (tolerableFailures {} + 1) x (timeout {} + minPause {}) + {} for a restart \
         = {}",
        checkpoint.interval,
        checkpoint.tolerable_failures,
        checkpoint.timeout,
        checkpoint.min_pause,
        show(RESTART_BUDGET),
        show(needed),
    );
    if broker_max.is_some_and(|max| timeout > max) {
        return Err(failure::transaction_timeout(format!(
            "sink `{sink}`: transactionTimeout {} is too long: {limit}. With the checkpoint \
             settings it must be longer than {sum}",
            show(timeout),
        )));
    }
    if timeout <= needed {
        return Err(failure::transaction_timeout(format!(
            "sink `{sink}`: transactionTimeout {} is too short: the broker would abort prepared \
             transactions before their commit. It must be longer than {sum}; {limit}. Raise \
             transactionTimeout, or lower checkpoint.timeout, checkpoint.interval or \
             checkpoint.tolerableFailures",
            show(timeout),
        )));
    }
    let ids = checkpoint
        .tolerable_failures
        .saturating_add(checkpoint.max_concurrent)
        .saturating_add(SLOTS_IN_RESERVE);
    if ids > SLOTS {
        return Err(failure::transaction_timeout(format!(
            "sink `{sink}`: tolerableFailures {} + maxConcurrent {} + {SLOTS_IN_RESERVE} in reserve \
             = {ids} transactions may be open at once per subtask; at most {SLOTS} can be. Lower \
             checkpoint.tolerableFailures",
            checkpoint.tolerable_failures, checkpoint.max_concurrent,
        )));
    }
    Ok(())
}

fn show(duration: Duration) -> String {
    KubeDuration(duration).to_string()
}

#[cfg(test)]
mod tests {
    use millstream_types::ErrorCode;

    use super::*;

    fn checkpoint(interval: u64, timeout: u64, tolerable_failures: u32) -> CheckpointSpec {
        CheckpointSpec {
            storage: "file:///tmp/x".into(),
            interval: KubeDuration::from_secs(interval),
            mode: millstream_spec::checkpoint::CheckpointMode::ExactlyOnce,
            min_pause: KubeDuration::from_millis(500),
            timeout: KubeDuration::from_secs(timeout),
            max_concurrent: 1,
            tolerable_failures,
            retained: 3,
            retention: millstream_spec::checkpoint::Retention::RetainOnCancellation,
            unaligned: millstream_spec::checkpoint::Unaligned::default(),
        }
    }

    const BROKER: Option<Duration> = Some(Duration::from_mins(15));

    fn message(timeout: u64, checkpoint: &CheckpointSpec, broker: Option<Duration>) -> String {
        let failure = check("out", Duration::from_secs(timeout), checkpoint, broker).unwrap_err();
        assert_eq!(failure.code, ErrorCode::KafkaTransactionTimeout);
        failure.message
    }

    #[test]
    fn the_default_settings_go_with_the_default_broker() {
        check(
            "out",
            Duration::from_mins(15),
            &checkpoint(10, 600, 0),
            BROKER,
        )
        .unwrap();
    }

    #[test]
    fn a_timeout_that_one_failed_checkpoint_eats_up_is_refused_with_all_numbers() {
        let message = message(900, &checkpoint(10, 600, 1), BROKER);
        for number in ["15m", "10s", "1 + 1", "10m", "500ms", "1m", "21m11s"] {
            assert!(message.contains(number), "{number}: {message}");
        }
    }

    #[test]
    fn longer_than_the_interval_is_not_enough() {
        message(11, &checkpoint(10, 60, 0), BROKER);
    }

    #[test]
    fn exactly_the_longest_life_is_too_short() {
        let checkpoint = checkpoint(10, 60, 0);
        let longest = longest_life(&checkpoint);
        assert!(check("out", longest, &checkpoint, BROKER).is_err());
        let longer = longest + Duration::from_millis(1);
        check("out", longer, &checkpoint, BROKER).unwrap();
    }

    #[test]
    fn a_timeout_above_the_brokers_limit_is_refused_with_both_numbers() {
        let message = message(1_800, &checkpoint(10, 60, 0), BROKER);
        assert!(message.contains("30m"), "{message}");
        assert!(message.contains("at most 15m"), "{message}");
    }

    #[test]
    fn without_the_brokers_limit_the_rest_is_still_checked() {
        check("out", Duration::from_mins(30), &checkpoint(10, 60, 0), None).unwrap();
        message(30, &checkpoint(10, 60, 0), None);
    }

    #[test]
    fn more_open_transactions_than_ids_are_refused() {
        let message = message(86_400, &checkpoint(10, 60, 60), None);
        assert!(message.contains("tolerableFailures 60"), "{message}");
    }
}
