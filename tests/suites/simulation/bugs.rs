//! Bugs that are seeded into the code: each is found, so that what is not found is not there to be
//! found by this.

use millstream_types::Bug;

use crate::scenario::Scenario;
use crate::seeds::{Make, run_caught};

/// Seeds within which a bug must be found.
const SEEDS: u64 = 2_000;

fn is_found(scenario: Make, bug: Bug) {
    for seed in 0..SEEDS {
        let report = run_caught(scenario(seed), Some(bug), false);
        if let Some(violation) = report.violations.first() {
            println!("{bug:?} is found by seed {seed}: {violation}");
            let without = run_caught(scenario(seed), None, false);
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
    ($($test:ident: $bug:ident in $scenario:ident,)*) => {
        $(
            #[test]
            fn $test() {
                is_found(Scenario::$scenario, Bug::$bug);
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
    a_snapshot_that_lists_only_the_newest_transaction: EarlierTransactionNotListed in new,
    an_abort_that_forgets_a_transaction: AbortForgetsTransaction in new,
    a_completion_that_forgets_a_later_transaction: CompletedForgetsLaterTransaction in new,
    a_barrier_that_records_overtake: BarrierOvertaken in new,
    a_channel_that_is_read_on_behind_its_barrier: ChannelNotHeld in new,
    an_acknowledgement_that_counts_twice: AcknowledgementCountedTwice in new,
    the_number_of_an_aborted_checkpoint_used_again: AbortedNumberReused in new,
    an_end_without_a_last_checkpoint: EndWithoutCheckpoint in new,
    a_commit_before_the_decision: CommitBeforeDecision in new,
    a_commit_without_an_answer_that_counts_as_done: UnknownCommitIsDone in new,
    a_restart_from_the_checkpoint_before_the_newest: RestoreFromOlder in new,
    a_recovery_that_does_not_commit: RecoveryDoesNotCommit in new,
    a_decision_without_an_answer_that_counts_as_done: UnknownDecisionIsDone in new,
    a_taken_slot_that_counts_as_written: TakenSlotIsWritten in new,
    a_split_that_is_lost_at_a_rescale: SplitLostAtRescale in new,
    a_sweep_that_is_skipped: FenceSkipped in new,
    a_subtask_without_its_last_key_group: StateRangeTooShort in keyed,
    a_file_of_state_that_is_named_though_its_upload_failed: FailedUploadNamed in keyed,
    an_acknowledgement_before_the_upload: AcknowledgedBeforeUpload in keyed,
    changes_that_are_lost_after_a_failed_upload: ChangesLostAfterFailedUpload in keyed,
    a_deleted_key_that_comes_back: DeletionLost in keyed,
    a_restored_run_that_is_not_named_again: RestoredRunsNotNamed in keyed,
    an_older_run_that_wins: OlderRunWins in keyed,
    records_in_flight_that_are_restored_twice: InFlightRestoredTwice in unaligned,
    records_in_flight_that_are_not_restored: InFlightLost in unaligned,
    records_that_are_overtaken_and_not_persisted: OvertakenNotPersisted in unaligned,
    records_before_a_late_barrier_that_are_not_persisted: LateRecordsNotPersisted in unaligned,
}
