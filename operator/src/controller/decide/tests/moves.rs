//! Another checkpoint storage: the state is taken along from a chain that has come to its end, with
//! whatever that has come to, or the change is refused.

use millstream_crds::status::UpgradeStep;
use millstream_crds::stream_job::{DesiredState, UpgradeStrategy};

use super::beliefs::with_rollback;
use super::world::World;
use crate::runtime_client::RuntimeState;

const OTHER: &str = "s3://other";

fn move_to(world: &mut World, storage: &str, strategy: UpgradeStrategy) {
    world.edit(|spec| {
        storage.clone_into(&mut spec.checkpoint.storage);
        spec.upgrade.strategy = strategy;
    });
}

#[test]
fn a_moved_storage_takes_the_state_along() {
    for strategy in [UpgradeStrategy::Savepoint, UpgradeStrategy::LastState] {
        let mut world = World::running();
        let old = world.spec.checkpoint.storage.clone();
        move_to(&mut world, OTHER, strategy);
        world.settle();
        let start = world.last_start().clone();
        assert!(start.restore.starts_with(&World::folder(&old)), "{start:?}");
        assert!(!start.expect_state, "the new chain is empty");
        assert_eq!(world.state(), Some(RuntimeState::Running), "{strategy:?}");
        assert_eq!(world.status.storage.as_deref(), Some(OTHER));
        // And back, where an older chain of the job lies.
        move_to(&mut world, &old, strategy);
        world.settle();
        let start = world.last_start().clone();
        assert!(
            start.restore.starts_with(&World::folder(OTHER)),
            "{start:?}"
        );
        assert_eq!(world.state(), Some(RuntimeState::Running), "{strategy:?}");
        assert!(world.is_exact(), "{strategy:?}: {:?}", world.output);
    }
}

#[test]
fn a_job_whose_pods_are_just_coming_up_takes_its_state_along() {
    let mut world = World::running();
    world.edit(|spec| spec.restart_at = Some("2026-11-24T12:30:00Z".to_owned()));
    world.until_step(UpgradeStep::Deploying);
    assert!(world.process.is_none() || world.starts.is_empty());
    world.process = None;
    move_to(&mut world, OTHER, UpgradeStrategy::Savepoint);
    world.settle();
    assert_eq!(world.status.storage.as_deref(), Some(OTHER));
    assert_eq!(world.state(), Some(RuntimeState::Running));
    assert!(world.is_exact(), "{:?}", world.output);
}

#[test]
fn a_moved_storage_may_be_started_empty_if_that_is_asked_for() {
    let mut world = World::running();
    move_to(&mut world, OTHER, UpgradeStrategy::Stateless);
    world.settle();
    assert_eq!(world.last_start().restore, "fresh");
    assert_eq!(world.state(), Some(RuntimeState::Running));
}

#[test]
fn a_stateless_move_that_came_to_nothing_loses_no_state() {
    let mut world = World::running();
    world.run_for(3);
    world.edit(|spec| "fails".clone_into(&mut spec.image));
    move_to(&mut world, OTHER, UpgradeStrategy::Stateless);
    let before = world.status.deployment;
    world.until(|world| world.status.deployment != before);
    // Before its pods come up, another change is to keep the state.
    world.edit(|spec| {
        "good-2".clone_into(&mut spec.image);
        spec.upgrade.strategy = UpgradeStrategy::Savepoint;
    });
    world.settle();
    assert_eq!(world.status.storage.as_deref(), Some(OTHER));
    assert_eq!(world.state(), Some(RuntimeState::Running));
    assert!(world.is_exact(), "{:?}", world.output);
}

#[test]
fn a_failed_job_takes_its_state_along() {
    let mut world = World::running();
    world.edit(|spec| "fails".clone_into(&mut spec.image));
    world.settle();
    assert_eq!(world.state(), Some(RuntimeState::Failed));
    world.edit(|spec| "good-2".clone_into(&mut spec.image));
    move_to(&mut world, OTHER, UpgradeStrategy::LastState);
    world.settle();
    assert_eq!(world.state(), Some(RuntimeState::Running));
    assert_eq!(world.status.storage.as_deref(), Some(OTHER));
    assert!(world.is_exact(), "{:?}", world.output);
}

#[test]
fn a_storage_whose_state_cannot_be_taken_along_is_refused_and_the_old_revision_runs_on() {
    for strategy in [UpgradeStrategy::Savepoint, UpgradeStrategy::LastState] {
        let mut world = World::running();
        let (old, storage) = (world.wanted(), world.spec.checkpoint.storage.clone());
        world.silent = true;
        move_to(&mut world, OTHER, strategy);
        world.settle();
        let rejected = world.status.rejected.clone().unwrap();
        assert_eq!(rejected.reason, "StorageMoved", "{strategy:?}");
        assert!(rejected.message.contains(&storage) && rejected.message.contains(OTHER));
        assert_eq!(world.applied.as_ref().unwrap().revision, old);
        assert!(world.starts.is_empty() && world.status.upgrade.is_none());
        world.silent = false;
        world.settle();
        assert_eq!(world.state(), Some(RuntimeState::Running));
        // Once it is healthy it may be tried again.
        world.edit(|spec| spec.restart_at = Some("2026-11-24T12:30:00Z".to_owned()));
        world.settle();
        assert_eq!(world.status.storage.as_deref(), Some(OTHER));
        assert_eq!(world.status.rejected, None);
        assert!(world.is_exact(), "{strategy:?}: {:?}", world.output);
    }
}

#[test]
fn a_job_that_was_suspended_without_a_savepoint_stays_in_its_storage() {
    let mut world = World::running();
    let old = world.wanted();
    world.silent = true;
    world.edit(|spec| spec.state = DesiredState::Suspended);
    world.settle();
    world.silent = false;
    assert_eq!(world.status.restore_point, None);
    world.edit(|spec| spec.state = DesiredState::Running);
    move_to(&mut world, OTHER, UpgradeStrategy::Savepoint);
    world.settle();
    assert_eq!(world.last_start().revision, old);
    assert_eq!(
        world.status.rejected.as_ref().unwrap().reason,
        "StorageMoved"
    );
    assert!(world.is_exact());
}

#[test]
fn a_suspended_job_wakes_up_in_another_storage_with_its_newest_state() {
    for by_hand in [false, true] {
        let mut world = World::running();
        let old = World::folder(&world.spec.checkpoint.storage);
        world.edit(|spec| spec.state = DesiredState::Suspended);
        world.settle();
        if by_hand {
            world.run_by_hand();
        }
        world.edit(|spec| spec.state = DesiredState::Running);
        move_to(&mut world, OTHER, UpgradeStrategy::Savepoint);
        world.settle();
        assert_eq!(world.last_start().restore, old);
        assert_eq!(world.status.storage.as_deref(), Some(OTHER));
        assert!(world.is_exact(), "{by_hand}: {:?}", world.output);
    }
}

#[test]
fn a_storage_that_is_moved_to_and_fro_takes_the_state_along_each_time() {
    for strategy in [UpgradeStrategy::Savepoint, UpgradeStrategy::LastState] {
        let mut world = World::running();
        let home = world.spec.checkpoint.storage.clone();
        for storage in [OTHER, &home, OTHER, &home] {
            move_to(&mut world, storage, strategy);
            world.settle();
            assert_eq!(world.status.storage.as_deref(), Some(storage));
            assert_eq!(world.state(), Some(RuntimeState::Running), "{strategy:?}");
            assert!(world.is_exact(), "{strategy:?}: {:?}", world.output);
        }
    }
}

/// Its coordinator claims the chain and commits, and its pods are gone before anybody looks.
#[test]
fn a_first_deployment_that_nobody_has_seen_takes_its_state_along() {
    let mut world = World::new();
    world.reconcile(usize::MAX);
    for _ in 0..6 {
        world.tick();
    }
    assert!(world.output.end() > 0, "it has committed something");
    world.kill();
    move_to(&mut world, OTHER, UpgradeStrategy::Savepoint);
    world.settle();
    assert_eq!(world.status.storage.as_deref(), Some(OTHER));
    assert_eq!(world.state(), Some(RuntimeState::Running));
    assert!(world.is_exact(), "{:?}", world.output);
}

#[test]
fn a_first_deployment_that_nobody_has_seen_and_that_is_suspended_stays_in_its_storage() {
    let mut world = World::new();
    world.reconcile(usize::MAX);
    for _ in 0..6 {
        world.tick();
    }
    let first = world.status.revision.clone();
    world.kill();
    world.edit(|spec| spec.state = DesiredState::Suspended);
    world.reconcile(usize::MAX);
    assert_eq!(world.status.deployed, None, "nobody answers");
    world.edit(|spec| spec.state = DesiredState::Running);
    move_to(&mut world, OTHER, UpgradeStrategy::Savepoint);
    world.settle();
    let rejected = world.status.rejected.clone().unwrap();
    assert_eq!(rejected.reason, "StorageMoved");
    assert_eq!(Some(&world.last_start().revision), first.as_ref());
    // Now it runs, and can be taken along.
    world.edit(|spec| spec.restart_at = Some("2026-11-24T12:30:00Z".to_owned()));
    world.settle();
    assert_eq!(world.status.storage.as_deref(), Some(OTHER));
    assert_eq!(world.state(), Some(RuntimeState::Running));
    assert!(world.is_exact(), "{:?}", world.output);
}

/// What it was to start from has not been touched.
#[test]
fn a_first_deployment_whose_pods_cannot_start_begins_in_another_storage() {
    let mut world = World::new();
    world.edit(|spec| "no-image".clone_into(&mut spec.image));
    world.run_for(3);
    world.edit(|spec| "good-1".clone_into(&mut spec.image));
    move_to(&mut world, OTHER, UpgradeStrategy::Savepoint);
    world.settle();
    assert_eq!(world.status.storage.as_deref(), Some(OTHER));
    assert_eq!(world.state(), Some(RuntimeState::Running));
    assert!(world.is_exact(), "{:?}", world.output);
}

#[test]
fn nothing_is_rolled_back_across_storages() {
    let mut world = World::running();
    let good = world.wanted();
    with_rollback(&mut world, UpgradeStrategy::Savepoint, "fails");
    world.edit(|spec| OTHER.clone_into(&mut spec.checkpoint.storage));
    world.settle();
    assert_eq!(world.starts.len(), 1);
    let rejected = world.status.rejected.clone().unwrap();
    assert!(rejected.message.contains("not rolled back"), "{rejected:?}");
    assert!(rejected.message.contains(&good));
    assert_eq!(world.status.rolled_back_from, None);
}

#[test]
fn a_deployment_that_may_have_come_to_life_elsewhere_keeps_the_job_there() {
    let mut world = World::running();
    move_to(&mut world, OTHER, UpgradeStrategy::Savepoint);
    world.until_step(UpgradeStep::Deploying);
    let moved = world.wanted();
    world.until(|world| world.process.is_some() && world.starts.is_empty());
    // Its coordinator is there, has not been heard of, and then runs unseen.
    world.silent = true;
    world.edit(|spec| "s3://bucket/jobs".clone_into(&mut spec.checkpoint.storage));
    world.settle();
    world.silent = false;
    world.settle();
    assert!(world.is_exact(), "{:?}", world.output);
    assert_eq!(world.starts[0].revision, moved);
}
