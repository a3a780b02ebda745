//! Bugs that are seeded into the code: each is found, so that what is not found is not there to be
//! found by this.

use millstream_types::Bug;

use crate::scenario::Scenario;
use crate::seeds::run_caught;

/// Seeds within which a bug must be found.
const SEEDS: u64 = 2_000;

fn is_found(bug: Bug) {
    for seed in 0..SEEDS {
        let report = run_caught(Scenario::new(seed), Some(bug), false);
        if let Some(violation) = report.violations.first() {
            println!("{bug:?} is found by seed {seed}: {violation}");
            let without = run_caught(Scenario::new(seed), None, false);
            assert!(
                without.violations.is_empty(),
                "seed {seed} fails without the bug, too: {}",
                without.violations.join("; ")
            );
            return;
        }
    }
    panic!("{bug:?} is not found by {SEEDS} seeds");
}

macro_rules! found {
    ($($test:ident: $bug:ident,)*) => {
        $(
            #[test]
            fn $test() {
                is_found(Bug::$bug);
            }
        )*

        /// The names of the tests are checked against the bugs: a bug without a test does not compile.
        #[test]
        fn every_bug_has_a_test() {
            const fn has_a_test(bug: Bug) -> bool {
                match bug {
                    $(Bug::$bug)|* => true,
                }
            }
            assert!(has_a_test(Bug::CommitBeforeDecision));
        }
    };
}

found! {
    a_snapshot_that_lists_only_the_newest_transaction: EarlierTransactionNotListed,
    an_abort_that_forgets_a_transaction: AbortForgetsTransaction,
    a_completion_that_forgets_a_later_transaction: CompletedForgetsLaterTransaction,
    a_barrier_that_records_overtake: BarrierOvertaken,
    a_channel_that_is_read_on_behind_its_barrier: ChannelNotHeld,
    an_acknowledgement_that_counts_twice: AcknowledgementCountedTwice,
    the_number_of_an_aborted_checkpoint_used_again: AbortedNumberReused,
    an_end_without_a_last_checkpoint: EndWithoutCheckpoint,
    a_commit_before_the_decision: CommitBeforeDecision,
    a_commit_without_an_answer_that_counts_as_done: UnknownCommitIsDone,
    a_restart_from_the_checkpoint_before_the_newest: RestoreFromOlder,
    a_recovery_that_does_not_commit: RecoveryDoesNotCommit,
    a_decision_without_an_answer_that_counts_as_done: UnknownDecisionIsDone,
    a_taken_slot_that_counts_as_written: TakenSlotIsWritten,
    a_split_that_is_lost_at_a_rescale: SplitLostAtRescale,
    a_sweep_that_is_skipped: FenceSkipped,
}
