//! What an answer to `EndTxn(commit)` means. Pure.
//!
//! Source: Kafka's `TransactionCoordinator.endTransaction` and `TransactionMetadata`; the same
//! table is checked against live brokers in `tests/kafka_transactions.rs`:
//!
//! | broker's state of the id | `EndTxn` ≤ v4 with (producer id, epoch) |
//! |---|---|
//! | nothing known, or another producer id | 49 |
//! | Ongoing, same epoch | 0 |
//! | `PrepareCommit`, same epoch | 51 |
//! | `CompleteCommit`, same epoch | 0 |
//! | `PrepareAbort` or `CompleteAbort` by its client, same epoch | 48 |
//! | aborted by timeout or fenced: newer epoch | 90, or 47 in v1 |
//! | Empty, same epoch | 48 |
//! | initialised again: newer epoch | 90, or 47 in v1 |
//! | coordinator loading, moved, busy | 14, 15, 16, 51 |
//!
//! So 47, 48, 49 and 90 do not tell committed from aborted, and the coordinator is asked what it
//! knows about the id.

use super::super::client::{Described, Phase, Transaction, code, is_transient};

/// What to do after an answer to `EndTxn(commit)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterEnd {
    /// It is committed: by this request or by one before.
    Committed,
    /// The answer decides nothing; send it again.
    Again,
    /// The id is not in the state that a commit needs: ask what happened to it.
    Describe,
    /// The broker does not let this user commit. Somebody may put that right before the
    /// transaction's time is over.
    Forbidden,
}

/// Judges the error code of an answer to `EndTxn(commit)` of version 1 to 4.
pub(crate) const fn after_end(error_code: i16) -> AfterEnd {
    match error_code {
        code::NONE => AfterEnd::Committed,
        code::INVALID_PRODUCER_EPOCH
        | code::INVALID_TXN_STATE
        | code::INVALID_PRODUCER_ID_MAPPING
        | code::PRODUCER_FENCED => AfterEnd::Describe,
        code if is_transient(code) => AfterEnd::Again,
        // TRANSACTIONAL_ID_AUTHORIZATION_FAILED, and whatever a newer broker may say: it is not
        // known to be aborted, so it is not given up.
        _ => AfterEnd::Forbidden,
    }
}

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is committed, or the commit is decided and cannot fail any more.
    Committed,
    /// It is open, or in a state that this build has no word for: commit it again.
    Undecided,
    /// It was aborted, or nobody can tell any more.
    Lost(String),
}

/// Judges what the coordinator knows about the id of `transaction`, `None` if it knows nothing.
pub(crate) fn fate(transaction: &Transaction, described: Option<&Described>) -> Fate {
    let Some(described) = described else {
        return Fate::Lost("the cluster does not know its id (never used, or expired)".to_owned());
    };
    let is_same =
        described.producer_id == transaction.producer_id && described.epoch == transaction.epoch;
    match (&described.phase, is_same) {
        (Phase::CompleteCommit | Phase::PrepareCommit, true) => Fate::Committed,
        (Phase::Ongoing | Phase::Other(_), true) => Fate::Undecided,
        (Phase::PrepareAbort | Phase::CompleteAbort, _) => Fate::Lost(format!(
            "it was aborted{}",
            if is_same {
                ""
            } else {
                ", most likely because its timeout passed"
            }
        )),
        (Phase::Empty | Phase::Dead, true) => Fate::Lost("nothing was ever written to it".into()),
        (phase, _) => Fate::Lost(format!(
            "its id has a newer incarnation (producer id {}, epoch {}, {phase:?})",
            described.producer_id, described.epoch
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transaction() -> Transaction {
        Transaction {
            id: "orders-out-1-0-0".into(),
            producer_id: 1_000,
            epoch: 5,
        }
    }

    fn described(phase: Phase, producer_id: i64, epoch: i16) -> Described {
        Described {
            phase,
            producer_id,
            epoch,
            started_at_ms: -1,
            timeout_ms: 60_000,
        }
    }

    fn fate_of(phase: Phase, producer_id: i64, epoch: i16) -> Fate {
        fate(&transaction(), Some(&described(phase, producer_id, epoch)))
    }

    #[test]
    fn only_no_error_is_a_commit() {
        let committed: Vec<i16> = (i16::MIN..=i16::MAX)
            .filter(|code| after_end(*code) == AfterEnd::Committed)
            .collect();
        assert_eq!(committed, [0]);
    }

    #[test]
    fn four_answers_are_ambiguous() {
        let ambiguous: Vec<i16> = (i16::MIN..=i16::MAX)
            .filter(|code| after_end(*code) == AfterEnd::Describe)
            .collect();
        assert_eq!(ambiguous, [47, 48, 49, 90]);
    }

    #[test]
    fn busy_moved_loading_and_unknown_errors_are_tried_again() {
        for code in [-1, 7, 13, 14, 15, 16, 51] {
            assert_eq!(after_end(code), AfterEnd::Again, "{code}");
        }
    }

    #[test]
    fn a_missing_permission_is_not_a_loss() {
        for code in [53, 31, 35, 87, 120, 999] {
            assert_eq!(after_end(code), AfterEnd::Forbidden, "{code}");
        }
    }

    #[test]
    fn a_commit_of_exactly_this_incarnation_is_a_commit() {
        for phase in [Phase::CompleteCommit, Phase::PrepareCommit] {
            assert_eq!(fate_of(phase, 1_000, 5), Fate::Committed);
        }
    }

    #[test]
    fn an_open_transaction_of_this_incarnation_is_committed_again() {
        assert_eq!(fate_of(Phase::Ongoing, 1_000, 5), Fate::Undecided);
    }

    #[test]
    fn whatever_another_incarnation_did_says_nothing_about_this_one() {
        for phase in [
            Phase::Empty,
            Phase::Ongoing,
            Phase::PrepareCommit,
            Phase::PrepareAbort,
            Phase::CompleteCommit,
            Phase::CompleteAbort,
            Phase::PrepareEpochFence,
            Phase::Dead,
            Phase::Other("New".into()),
        ] {
            for (producer_id, epoch) in [(1_000, 6), (1_000, 4), (1_001, 5), (1_001, 0)] {
                let fate = fate_of(phase.clone(), producer_id, epoch);
                assert!(
                    matches!(fate, Fate::Lost(_)),
                    "{phase:?} {producer_id} {epoch}"
                );
            }
        }
    }

    #[test]
    fn a_state_without_a_word_is_unknown_and_not_a_loss() {
        assert_eq!(
            fate_of(Phase::Other("New".into()), 1_000, 5),
            Fate::Undecided
        );
    }

    #[test]
    fn aborted_and_empty_states_are_losses() {
        for phase in [
            Phase::Empty,
            Phase::PrepareAbort,
            Phase::CompleteAbort,
            Phase::PrepareEpochFence,
            Phase::Dead,
        ] {
            assert!(
                matches!(fate_of(phase.clone(), 1_000, 5), Fate::Lost(_)),
                "{phase:?}"
            );
        }
    }

    #[test]
    fn an_id_that_nobody_knows_is_a_loss() {
        assert!(matches!(fate(&transaction(), None), Fate::Lost(_)));
    }
}
