//! Files of checkpoints, in every order: uploaded, named, dropped, collected, copied.

use super::coordinator::Action::{Collect, Decide, Import, Savepoint, Upload, WriteSavepoint};
use super::rules::Rules;
use super::world::Event;
use super::{Size, bites, holds, size};

/// The first coordinator starts from the file of another chain.
fn imports(of: Size) -> Size {
    Size {
        imports: true,
        ..of
    }
}

/// Two checkpoints stay, and the slot of the older may be damaged.
fn damages(of: Size) -> Size {
    Size {
        retained: 2,
        damages: true,
        ..of
    }
}

#[test]
fn no_checkpoint_of_two_coordinators_ever_lacks_a_file() {
    holds(
        size(2, 2, 2),
        &[Upload, Collect, Decide, Upload, Decide, Collect],
        &[
            Event::Uploaded,
            Event::LostUpload,
            Event::LateUpload,
            Event::LateWrite,
            Event::Decided,
            Event::Fenced,
            Event::Settled,
            Event::FileCollected,
        ],
    );
}

#[test]
fn no_savepoint_of_two_coordinators_lacks_a_file() {
    holds(
        size(2, 2, 1),
        &[
            Upload,
            Decide,
            Savepoint,
            Upload,
            Decide,
            Collect,
            WriteSavepoint,
            Collect,
        ],
        &[
            Event::SavepointTriggered,
            Event::SavepointWritten,
            Event::Fenced,
            Event::FileCollected,
        ],
    );
}

#[test]
fn files_of_another_chain_are_left_alone_and_not_needed_after_the_first_checkpoint() {
    holds(
        imports(size(2, 2, 2)),
        &[Import, Upload, Decide, Collect, Decide],
        &[
            Event::Imported,
            Event::ForeignDeleted,
            Event::Decided,
            Event::Fenced,
            Event::FileCollected,
        ],
    );
}

#[test]
fn a_slot_that_cannot_be_read_keeps_its_files() {
    holds(
        damages(size(2, 2, 2)),
        &[Upload, Decide, Upload, Decide, Collect],
        &[
            Event::Damaged,
            Event::Repaired,
            Event::ClaimedUnreadable,
            Event::FileCollected,
        ],
    );
}

#[test]
fn extended_no_checkpoint_of_three_coordinators_ever_lacks_a_file() {
    let events = [
        Event::Uploaded,
        Event::Decided,
        Event::Fenced,
        Event::FileCollected,
    ];
    holds(
        size(3, 1, 0),
        &[Upload, Decide, Upload, Decide, Collect, Decide],
        &events,
    );
    holds(size(3, 1, 1), &[Upload, Collect, Decide, Collect], &events);
}

#[test]
fn rule_a_naming_a_dropped_file_again_would_name_what_is_deleted() {
    let rules = Rules::DroppedFilesAreNamedAgain;
    let plan = &[Upload, Decide, Upload, Decide, Collect, Decide];
    bites(size(1, 1, 0), plan, rules);
}

#[test]
fn rule_b_reusing_an_undecided_upload_would_name_what_is_deleted() {
    let rules = Rules::UndecidedUploadsAreReused;
    bites(size(2, 1, 0), &[Upload, Collect, Decide], rules);
}

#[test]
fn rule_c_collecting_beside_a_pending_savepoint_would_take_its_files() {
    let rules = Rules::SavepointsAreIgnored;
    let plan = &[
        Upload,
        Decide,
        Savepoint,
        Upload,
        Decide,
        Collect,
        WriteSavepoint,
    ];
    bites(size(1, 1, 0), plan, rules);
}

#[test]
fn rule_d_naming_a_file_of_another_chain_would_lose_it_with_that_chain() {
    let rules = Rules::ForeignIsNamed;
    bites(imports(size(1, 1, 0)), &[Import, Decide], rules);
}

#[test]
fn rule_d_collecting_files_of_another_chain_would_take_them_from_it() {
    let rules = Rules::ForeignIsCollected;
    bites(imports(size(1, 1, 0)), &[Import, Decide, Collect], rules);
}

#[test]
fn rule_e_collecting_beside_an_unreadable_slot_would_take_its_files() {
    let rules = Rules::UnreadableIsIgnored;
    let plan = &[Upload, Decide, Upload, Decide, Collect];
    bites(damages(size(2, 1, 1)), plan, rules);
}

#[test]
fn deleting_files_before_the_slots_that_name_them_would_leave_slots_without_files() {
    let rules = Rules::FilesGoFirst;
    let plan = &[Upload, Decide, Upload, Decide, Collect];
    bites(size(1, 1, 0), plan, rules);
}

#[test]
fn naming_an_upload_of_unknown_outcome_would_decide_what_is_not_there() {
    let rules = Rules::UnknownUploadsAreNamed;
    bites(size(1, 1, 1), &[Upload, Decide], rules);
}

#[test]
fn collecting_what_is_uploaded_for_the_next_checkpoint_would_take_it_away() {
    let rules = Rules::OwnUploadsAreCollected;
    bites(size(1, 1, 0), &[Upload, Collect, Decide], rules);
}
