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
//!
//! A broker that was frozen or cut off answers from memory until it hears that it is no longer the
//! coordinator. Such an answer is older than the truth: an older epoch, an id that it has not heard
//! of yet, or a transaction that has not begun. It says nothing. What could be believed is believed
//! only when it is said twice, so far apart that such a broker has noticed by then.

use std::time::Duration;

use tokio::time::Instant;

use super::super::client::{Described, Phase, Transaction, code, is_transient};

/// How long a broker can go on as if it were still what it was. Kafka's `broker.session.timeout.ms`
/// is 9 s by default.
pub(crate) const BROKER_SESSION: Duration = Duration::from_secs(10);
/// How far apart two answers must be that leave open whether a transaction was committed: what
/// they say costs output for good, and waiting costs nothing.
pub(crate) const DOUBT: Duration = Duration::from_secs(30);

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

/// What became of a transaction, as far as one answer tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is committed, or the commit is decided and cannot fail any more.
    Committed,
    /// It is open, or in a state that this build has no word for: commit it again.
    Open,
    /// The answer is older than the transaction, and why. It says nothing.
    Stale(String),
    /// It cannot be committed any more, if the answer can be believed.
    Gone(Gone),
}

/// Why a transaction cannot be committed any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gone {
    /// For people.
    pub(crate) reason: String,
    /// Whether it was aborted for certain, and nothing of it was ever committed.
    pub(crate) is_aborted: bool,
}

impl Gone {
    /// How far apart two answers must be that say this. An abort is said by nobody who has not
    /// seen it; what else is said may be said of another cluster, or of a restored one.
    pub(crate) const fn doubt(&self) -> Duration {
        if self.is_aborted {
            BROKER_SESSION
        } else {
            DOUBT
        }
    }

    fn aborted(reason: &str) -> Fate {
        Fate::Gone(Self {
            reason: reason.to_owned(),
            is_aborted: true,
        })
    }

    fn unknown(reason: String) -> Fate {
        Fate::Gone(Self {
            reason,
            is_aborted: false,
        })
    }
}

/// Judges what the coordinator knows about the id of `transaction`, `None` if it knows nothing.
/// A transaction that `is_young` has not used up its timeout: nobody can have forgotten it.
pub(crate) fn fate(
    transaction: &Transaction,
    described: Option<&Described>,
    is_young: bool,
) -> Fate {
    let Some(described) = described else {
        return if is_young {
            Fate::Stale("it does not know the id, which is younger than its timeout".to_owned())
        } else {
            Gone::unknown(
                "the cluster does not know its id (any more). If that has expired \
                 (transactional.id.expiration.ms) since the commit was decided, nobody can tell \
                 whether it was committed before"
                    .to_owned(),
            )
        };
    };
    if described.producer_id != transaction.producer_id {
        return another_incarnation(described);
    }
    match described.epoch.cmp(&transaction.epoch) {
        std::cmp::Ordering::Less => Fate::Stale(format!(
            "it knows the id up to epoch {} only",
            described.epoch
        )),
        std::cmp::Ordering::Equal => fate_of_its_own(&described.phase, is_young),
        std::cmp::Ordering::Greater => match &described.phase {
            // The broker raises the epoch by one when it aborts for a timeout, or for a newer
            // incarnation. One that was committed is never aborted after that: its id is not
            // used again while a checkpoint lists it.
            Phase::PrepareAbort | Phase::CompleteAbort | Phase::PrepareEpochFence
                if described.epoch == transaction.epoch.saturating_add(1) =>
            {
                Gone::aborted("it was aborted, most likely because its timeout passed")
            }
            _ => another_incarnation(described),
        },
    }
}

fn another_incarnation(described: &Described) -> Fate {
    Gone::unknown(format!(
        "its id has another incarnation (producer id {}, epoch {}, {})",
        described.producer_id,
        described.epoch,
        described.phase.name()
    ))
}

/// The newest incarnation is the one in question.
fn fate_of_its_own(phase: &Phase, is_young: bool) -> Fate {
    match phase {
        Phase::CompleteCommit | Phase::PrepareCommit => Fate::Committed,
        Phase::Ongoing | Phase::Other(_) => Fate::Open,
        Phase::PrepareAbort | Phase::CompleteAbort | Phase::PrepareEpochFence => {
            Gone::aborted("it was aborted")
        }
        Phase::Empty if is_young => {
            Fate::Stale("it has not heard that the transaction has begun".to_owned())
        }
        Phase::Empty => Gone::unknown("nothing was ever written to it".to_owned()),
        Phase::Dead => Gone::unknown("its id is being forgotten".to_owned()),
    }
}

/// What was said of a transaction, until it is believed.
#[derive(Debug, Default)]
pub(crate) struct Suspicion {
    first: Option<(Gone, Instant)>,
}

/// How far what was said is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Belief {
    /// It is said for the first time, or something else was said before.
    New,
    /// It was said again, too soon.
    Repeated,
    /// It was said again when long enough had passed.
    Proved,
}

impl Suspicion {
    /// Whether `gone` is proved, now that it was said: when that was asked, and heard.
    pub(crate) fn hear(&mut self, gone: &Gone, (asked, heard): (Instant, Instant)) -> Belief {
        match &self.first {
            Some((first, before)) if first == gone => {
                if asked.saturating_duration_since(*before) >= gone.doubt() {
                    Belief::Proved
                } else {
                    Belief::Repeated
                }
            }
            _ => {
                self.first = Some((gone.clone(), heard));
                Belief::New
            }
        }
    }

    /// Something else was said.
    pub(crate) fn clear(&mut self) {
        self.first = None;
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
            partitions: Vec::new(),
            timeout_ms: 60_000,
        }
    }

    fn fate_of(phase: Phase, producer_id: i64, epoch: i16) -> Fate {
        let described = described(phase, producer_id, epoch);
        let [young, old] = [true, false].map(|young| fate(&transaction(), Some(&described), young));
        assert_eq!(young, old, "{described:?}");
        young
    }

    fn is_aborted(fate: &Fate) -> bool {
        matches!(fate, Fate::Gone(gone) if gone.is_aborted)
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
        for phase in [Phase::Ongoing, Phase::Other("New".into())] {
            assert_eq!(fate_of(phase, 1_000, 5), Fate::Open);
        }
    }

    fn all_phases() -> [Phase; 9] {
        [
            Phase::Empty,
            Phase::Ongoing,
            Phase::PrepareCommit,
            Phase::PrepareAbort,
            Phase::CompleteCommit,
            Phase::CompleteAbort,
            Phase::PrepareEpochFence,
            Phase::Dead,
            Phase::Other("New".into()),
        ]
    }

    #[test]
    fn an_older_epoch_is_a_broker_that_is_behind_and_says_nothing() {
        for phase in all_phases() {
            let fate = fate_of(phase.clone(), 1_000, 4);
            assert!(matches!(fate, Fate::Stale(_)), "{phase:?}: {fate:?}");
        }
    }

    #[test]
    fn an_id_that_nobody_knows_says_nothing_before_the_timeout_has_passed() {
        assert!(matches!(fate(&transaction(), None, true), Fate::Stale(_)));
        let Fate::Gone(gone) = fate(&transaction(), None, false) else {
            panic!("an expired id cannot be committed");
        };
        assert!(!gone.is_aborted);
        assert!(gone.reason.contains("nobody can tell"), "{gone:?}");
    }

    #[test]
    fn a_transaction_that_has_not_begun_says_nothing_before_the_timeout_has_passed() {
        let empty = described(Phase::Empty, 1_000, 5);
        let young = fate(&transaction(), Some(&empty), true);
        assert!(matches!(young, Fate::Stale(_)), "{young:?}");
        let old = fate(&transaction(), Some(&empty), false);
        assert!(matches!(old, Fate::Gone(_)) && !is_aborted(&old), "{old:?}");
    }

    #[test]
    fn a_newer_incarnation_is_gone_and_proves_no_abort_but_the_next_epoch_aborted_does() {
        for phase in all_phases() {
            for (producer_id, epoch) in [(1_000, 6), (1_000, 7), (1_001, 5), (1_001, 0), (999, 6)] {
                let fate = fate_of(phase.clone(), producer_id, epoch);
                assert!(matches!(fate, Fate::Gone(_)), "{phase:?} {fate:?}");
                let is_the_broker_s = (producer_id, epoch) == (1_000, 6)
                    && matches!(
                        phase,
                        Phase::PrepareAbort | Phase::CompleteAbort | Phase::PrepareEpochFence
                    );
                assert_eq!(is_aborted(&fate), is_the_broker_s, "{phase:?} {fate:?}");
            }
        }
    }

    #[test]
    fn an_abort_of_this_incarnation_is_an_abort() {
        for phase in [
            Phase::PrepareAbort,
            Phase::CompleteAbort,
            Phase::PrepareEpochFence,
        ] {
            let fate = fate_of(phase, 1_000, 5);
            assert!(is_aborted(&fate), "{fate:?}");
        }
    }

    #[test]
    fn a_loss_is_believed_when_it_is_said_twice_a_broker_session_apart() {
        let gone = |reason: &str| Gone {
            reason: reason.to_owned(),
            is_aborted: false,
        };
        let began = Instant::now();
        let mut suspicion = Suspicion::default();
        let mut say = |reason: &str, times: f32| {
            let asked = began + DOUBT.mul_f32(times);
            suspicion.hear(&gone(reason), (asked, asked + Duration::from_millis(1)))
        };
        assert_eq!(say("first", 0.0), Belief::New);
        assert_eq!(say("first", 0.5), Belief::Repeated, "too soon");
        assert_eq!(
            say("first", 1.0),
            Belief::Repeated,
            "asked before a session had passed since the answer"
        );
        assert_eq!(say("first", 1.1), Belief::Proved);
        assert_eq!(say("other", 2.2), Belief::New, "another one");
        assert_eq!(say("other", 3.3), Belief::Proved);
        suspicion.clear();
        let asked = began + DOUBT.mul_f32(4.4);
        assert_eq!(
            suspicion.hear(&gone("other"), (asked, asked)),
            Belief::New,
            "denied meanwhile"
        );
        let aborted = Gone {
            is_aborted: true,
            ..gone("aborted")
        };
        assert_eq!(suspicion.hear(&aborted, (asked, asked)), Belief::New);
        let asked = asked + BROKER_SESSION;
        assert_eq!(suspicion.hear(&aborted, (asked, asked)), Belief::Proved);
    }
}
