//! Whether `transactionTimeout` goes with the checkpoint settings and with the broker. Pure.

use std::time::Duration;

use millstream_connect::Result;
use millstream_spec::{CheckpointSpec, TransactionBudget};
use millstream_types::duration::KubeDuration;

use crate::kafka::failure;
use crate::kafka::transaction::SLOTS;

/// Ids that one subtask needs beside those of checkpoints under way or failed: the open
/// transaction, the standby, one committed but still listed, and some savepoints.
const SLOTS_IN_RESERVE: u32 = 8;

/// Checks the timeout of the sink `sink`. `budget` is how long a transaction may have to stay
/// open, `broker_max` the broker's `transaction.max.timeout.ms`, where the user may see it.
///
/// # Errors
/// It is not above the budget, or above the broker's limit, or more checkpoints may be open than
/// a subtask has transactional ids. The message has all numbers.
pub(super) fn check(
    sink: &str,
    timeout: KubeDuration,
    budget: &TransactionBudget,
    broker_max: Option<Duration>,
) -> Result<()> {
    let limit = broker_max.map_or_else(
        || "the broker's transaction.max.timeout.ms is not visible to this user".to_owned(),
        |max| {
            let max = KubeDuration(max);
            format!("the broker allows at most {max} (transaction.max.timeout.ms)")
        },
    );
    if broker_max.is_some_and(|max| timeout.0 > max) {
        return Err(failure::transaction_timeout(format!(
            "sink `{sink}`: transactionTimeout {timeout} is too long: {limit}. Lower it or raise \
             the broker's limit; with the job's checkpoint settings it must stay longer than \
             {budget}"
        )));
    }
    if timeout <= budget.total() {
        return Err(failure::transaction_timeout(format!(
            "sink `{sink}`: transactionTimeout {timeout} is too short: the broker would abort \
             prepared transactions before their commit. It must be longer than {budget}; {limit}. \
             Raise it, or lower checkpoint.timeout, checkpoint.interval or \
             checkpoint.tolerableFailures"
        )));
    }
    Ok(())
}

/// Checks that a subtask has enough transactional ids.
///
/// # Errors
/// More checkpoints may be open at once than that.
pub(super) fn check_slots(sink: &str, checkpoint: &CheckpointSpec) -> Result<()> {
    let (failures, concurrent) = (checkpoint.tolerable_failures, checkpoint.max_concurrent);
    let ids = failures
        .saturating_add(concurrent)
        .saturating_add(SLOTS_IN_RESERVE);
    if ids <= SLOTS {
        return Ok(());
    }
    Err(failure::transaction_timeout(format!(
        "sink `{sink}`: tolerableFailures {failures} + maxConcurrent {concurrent} + \
         {SLOTS_IN_RESERVE} in reserve = {ids} transactions may be open at once per subtask; at \
         most {SLOTS} can be. Lower checkpoint.tolerableFailures"
    )))
}

#[cfg(test)]
mod tests {
    use millstream_types::ErrorCode;

    use super::*;

    fn budget(failures: u32) -> TransactionBudget {
        TransactionBudget {
            between_triggers: KubeDuration::from_secs(601),
            checkpoints: failures + 1,
            timeout: KubeDuration::from_secs(600),
            restart_delay: KubeDuration::from_secs(66),
        }
    }

    const BROKER: Option<Duration> = Some(Duration::from_mins(30));

    fn message(timeout: u64, budget: &TransactionBudget, broker: Option<Duration>) -> String {
        let failure = check("out", KubeDuration::from_secs(timeout), budget, broker).unwrap_err();
        assert_eq!(failure.code, ErrorCode::KafkaTransactionTimeout);
        failure.message
    }

    #[test]
    fn a_timeout_between_budget_and_limit_is_taken() {
        let budget = budget(0);
        let longest = budget.total().millis() + 1;
        check("out", KubeDuration::from_millis(longest), &budget, BROKER).unwrap();
        check("out", KubeDuration::from_secs(1_800), &budget, BROKER).unwrap();
    }

    #[test]
    fn a_timeout_that_a_failed_checkpoint_eats_up_is_refused_with_all_numbers() {
        let message = message(1_800, &budget(1), BROKER);
        for number in [
            "30m",
            "2 (tolerable",
            "10m1s",
            "+ 10m",
            "1m6s",
            "30s",
            "31m38s",
        ] {
            assert!(message.contains(number), "{number}: {message}");
        }
    }

    #[test]
    fn exactly_the_budget_is_too_short() {
        let budget = budget(0);
        assert!(check("out", budget.total(), &budget, BROKER).is_err());
    }

    #[test]
    fn a_timeout_above_the_brokers_limit_is_refused_with_both_numbers() {
        let message = message(3_600, &budget(0), BROKER);
        assert!(message.contains("1h"), "{message}");
        assert!(message.contains("at most 30m"), "{message}");
    }

    #[test]
    fn without_the_brokers_limit_the_rest_is_still_checked() {
        check("out", KubeDuration::from_secs(7_200), &budget(0), None).unwrap();
        message(30, &budget(0), None);
    }

    #[test]
    fn more_open_transactions_than_ids_are_refused() {
        let checkpoint = |failures: u32| -> CheckpointSpec {
            let text = format!(r#"{{"storage": "file:///x", "tolerableFailures": {failures}}}"#);
            serde_json::from_str(&text).unwrap()
        };
        check_slots("out", &checkpoint(55)).unwrap();
        let failure = check_slots("out", &checkpoint(56)).unwrap_err();
        assert!(
            failure.message.contains("tolerableFailures 56"),
            "{failure}"
        );
    }
}
