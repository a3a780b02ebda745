use millstream_crds::stream_job::{DeletionPolicy, DesiredState};

use millstream_spec::Retention;

use super::world::World;
use crate::controller::build::names::ANNOTATION_SKIP_FINALIZER;
use crate::controller::observe::pods::Quiet;
use crate::runtime_client::RuntimeState;

fn running(policy: DeletionPolicy) -> World {
    let mut world = World::new();
    world.spec.deletion.policy = Some(policy);
    world.settle();
    world.notices.clear();
    world
}

#[test]
fn a_finalizer_is_there_only_if_something_must_be_done() {
    assert!(!running(DeletionPolicy::Retain).finalized);
    assert!(running(DeletionPolicy::Savepoint).finalized);
    assert!(running(DeletionPolicy::DeleteCheckpoints).finalized);
}

#[test]
fn savepoint_stops_the_job_with_one_and_lets_it_go() {
    let mut world = running(DeletionPolicy::Savepoint);
    world.delete();
    world.until(|world| !world.finalized);
    let name = world.savepoints.keys().next().unwrap();
    assert!(name.starts_with("delete-"), "{name}");
    assert!(world.notices.contains(&"SavepointCompleted".to_owned()));
    assert!(!world.disposed);
}

#[test]
fn delete_checkpoints_waits_until_nobody_can_write_any_more() {
    let mut world = running(DeletionPolicy::DeleteCheckpoints);
    world.delete();
    world.until(|world| world.disposed);
    assert!(world.process.is_none() && world.savepoints.is_empty());
    world.until(|world| !world.finalized);
    assert!(world.notices.contains(&"StateDeleted".to_owned()));
}

/// A job that says nothing of its deletion and whose checkpoints go when it is cancelled.
fn deleting_on_cancellation() -> World {
    let mut world = World::new();
    world.spec.checkpoint.retention = Some(Retention::DeleteOnCancellation);
    world.settle();
    world.notices.clear();
    world
}

#[test]
fn checkpoints_that_are_not_retained_go_with_the_resource() {
    let mut world = deleting_on_cancellation();
    assert!(world.finalized);
    world.delete();
    world.until(|world| world.disposed);
    assert!(world.process.is_none() && world.savepoints.is_empty());
    world.until(|world| !world.finalized);
    assert!(world.notices.contains(&"StateDeleted".to_owned()));
}

#[test]
fn checkpoints_that_are_not_retained_stay_while_the_resource_does() {
    let mut world = deleting_on_cancellation();
    world.edit(|spec| spec.image = "good-2".to_owned());
    world.settle();
    world.edit(|spec| spec.state = DesiredState::Suspended);
    world.settle();
    assert!(world.process.is_none() && !world.savepoints.is_empty());
    world.edit(|spec| spec.state = DesiredState::Running);
    world.settle();
    world.process.as_mut().unwrap().state = RuntimeState::Failed;
    world.settle();
    assert!(!world.disposed, "{:?}", world.notices);
    assert!(world.finalized);
}

#[test]
fn a_suspended_job_deletes_its_checkpoints_too_if_they_are_not_retained() {
    let mut world = deleting_on_cancellation();
    world.edit(|spec| spec.state = DesiredState::Suspended);
    world.settle();
    assert!(!world.disposed);
    world.delete();
    world.until(|world| world.disposed);
    world.until(|world| !world.finalized);
}

#[test]
fn a_policy_that_contradicts_the_retention_deletes_nothing_and_says_so() {
    let mut world = deleting_on_cancellation();
    world.edit(|spec| spec.deletion.policy = Some(DeletionPolicy::Retain));
    world.delete();
    world.reconcile(usize::MAX);
    assert!(!world.finalized && !world.disposed);
    assert!(world.notices.contains(&"InvalidSpec".to_owned()));
}

#[test]
fn a_deleted_job_does_not_wait_for_pods_on_a_dead_node() {
    let mut world = running(DeletionPolicy::DeleteCheckpoints);
    world.delete();
    world.quiet = vec![Quiet {
        pod: "orders-coordinator-1".to_owned(),
        uid: None,
        node_lost: true,
        due: Some(world.now),
    }];
    assert_eq!(world.decide().remove, world.quiet);
}

#[test]
fn a_suspended_job_has_nothing_to_stop() {
    let mut world = running(DeletionPolicy::Savepoint);
    world.edit(|spec| spec.state = DesiredState::Suspended);
    world.settle();
    world.delete();
    world.reconcile(usize::MAX);
    assert!(!world.finalized);
}

#[test]
fn a_deletion_that_comes_while_a_savepoint_is_in_flight_uses_it() {
    let mut world = running(DeletionPolicy::Savepoint);
    world.edit(|spec| spec.state = DesiredState::Suspended);
    world.until(|world| !world.savepoints.is_empty());
    world.delete();
    world.until(|world| !world.finalized);
    assert_eq!(world.savepoints.len(), 1);
}

#[test]
fn a_job_that_does_not_answer_is_let_go_with_its_newest_checkpoint() {
    let mut world = running(DeletionPolicy::Savepoint);
    world.silent = true;
    world.delete();
    world.until(|world| !world.finalized);
    assert!(world.notices.contains(&"FellBackToCheckpoint".to_owned()));
}

#[test]
fn the_deadline_lets_everything_go_and_says_so() {
    let mut world = running(DeletionPolicy::Savepoint);
    world.delete();
    world.now = world
        .now
        .checked_add(jiff::SignedDuration::from_mins(6))
        .unwrap();
    world.reconcile(usize::MAX);
    assert!(!world.finalized);
    assert!(world.notices.contains(&"DeadlineExceeded".to_owned()));
}

#[test]
fn the_annotation_lets_everything_go_at_once() {
    let mut world = running(DeletionPolicy::DeleteCheckpoints);
    world.delete();
    let skip = (ANNOTATION_SKIP_FINALIZER.to_owned(), "true".to_owned());
    world.meta.annotations = Some([skip].into());
    world.reconcile(usize::MAX);
    assert!(!world.finalized && !world.disposed);
}
