//! What a deployment starts from is a belief, which the chain judges: whatever was seen of the
//! job, and however old it is, nothing is written twice or left out.

use jiff::SignedDuration;
use millstream_crds::status::UpgradeStep;
use millstream_crds::stream_job::{Approval, DesiredState, UpgradeStrategy};

use super::world::{Chain, World};
use crate::controller::build::names::ANNOTATION_APPROVE;
use crate::runtime_client::RuntimeState;

pub(super) fn with_rollback(world: &mut World, strategy: UpgradeStrategy, image: &str) {
    world.edit(|spec| {
        spec.upgrade.strategy = strategy;
        spec.upgrade.rollback.enabled = true;
        image.clone_into(&mut spec.image);
    });
}

#[test]
fn a_rollback_after_a_fallback_goes_on_from_what_the_chain_has() {
    let mut world = World::running();
    let good = world.wanted();
    world.run_for(3);
    world.silent = true;
    with_rollback(&mut world, UpgradeStrategy::Savepoint, "fails");
    let before = world.status.deployment;
    world.until(|world| world.status.deployment != before);
    assert_eq!(world.status.restore_point, None, "no savepoint came to be");
    world.silent = false;
    world.settle();
    assert_eq!(world.last_start().revision, good);
    assert_eq!(world.last_start().restore, "latest");
    assert!(world.is_exact(), "{:?}", world.output);
}

#[test]
fn a_checkpoint_that_was_seen_is_a_hint_and_no_restore_point() {
    let mut world = World::running();
    let old = world.wanted();
    world.silent = true;
    world.edit(|spec| "good-2".clone_into(&mut spec.image));
    world.settle();
    world.silent = false;
    world.settle();
    assert_eq!(world.status.restore_point, None);
    let entry = world.status.revisions.iter().find(|one| one.name == old);
    let entry = entry.unwrap();
    assert_eq!(entry.restore_point, None);
    assert!(entry.last_checkpoint.as_ref().unwrap().contains("/chain/"));
    assert!(world.is_exact());
}

#[test]
fn a_rollback_of_a_stateless_upgrade_goes_back_to_what_the_old_revision_had() {
    let mut world = World::running();
    let good = world.wanted();
    with_rollback(&mut world, UpgradeStrategy::Stateless, "fails");
    world.settle();
    let starts: Vec<_> = world.starts.iter().map(|one| one.restore.clone()).collect();
    assert_eq!(starts[0], "fresh");
    assert!(starts[1].contains("/savepoints/upgrade-"), "{starts:?}");
    assert_eq!(world.last_start().revision, good);
    assert_eq!(world.state(), Some(RuntimeState::Running));
    assert!(world.is_exact(), "{:?}", world.output);
}

#[test]
fn a_stateless_upgrade_without_a_savepoint_is_not_rolled_back() {
    let mut world = World::running();
    world.silent = true;
    with_rollback(&mut world, UpgradeStrategy::Stateless, "fails");
    let before = world.status.deployment;
    world.until(|world| world.status.deployment != before);
    world.silent = false;
    world.settle();
    let rejected = world.status.rejected.clone().unwrap();
    assert!(rejected.message.contains("no savepoint"), "{rejected:?}");
    assert_eq!(world.starts.len(), 1);
    assert!(world.is_exact());
}

#[test]
fn a_rollback_takes_nothing_back_that_nobody_saw() {
    for behind in [SignedDuration::ZERO, SignedDuration::from_hours(1)] {
        let mut world = World::running();
        world.clock_behind = behind;
        with_rollback(&mut world, UpgradeStrategy::Savepoint, "good-2");
        world.edit(|spec| spec.upgrade.rollback.after_checkpoints = 100);
        world.until(|world| world.starts.len() == 1);
        // It completes checkpoints while the operator is away, and its coordinator is restarted.
        for _ in 0..4 {
            world.tick();
        }
        world.kill();
        world.unhealthy = true;
        world.now += SignedDuration::from_mins(30);
        world.until(|world| world.starts.len() == 2);
        world.unhealthy = false;
        world.settle();
        assert!(world.is_exact(), "{behind}: {:?}", world.output);
    }
}

#[test]
fn a_rollback_that_comes_late_takes_nothing_back() {
    for lag in 0..6 {
        let mut world = World::running();
        with_rollback(&mut world, UpgradeStrategy::Savepoint, "good-2");
        world.unhealthy = true;
        world.until_step(UpgradeStep::Verifying);
        world.until(|world| world.decide().status.rolled_back_from.is_some());
        // What was decided is carried out when the job has come to life.
        world.unhealthy = false;
        world.lag = lag;
        world.reconcile(usize::MAX);
        world.lag = 0;
        assert!(world.status.rolled_back_from.is_some());
        world.settle();
        assert!(world.is_exact(), "{lag}: {:?}", world.output);
    }
}

#[test]
fn a_stop_whose_release_is_lost_is_asked_for_again_with_another_savepoint() {
    for change in [
        |world: &mut World| world.edit(|spec| "good-2".clone_into(&mut spec.image)),
        |world: &mut World| world.edit(|spec| spec.state = DesiredState::Suspended),
    ] {
        let mut world = World::running();
        change(&mut world);
        world.until(World::has_savepoint);
        world.kill();
        world.goes_on = true;
        // The next coordinator has gone on before anybody looks.
        for _ in 0..5 {
            world.tick();
        }
        assert_eq!(world.state(), Some(RuntimeState::Running));
        world.settle();
        assert_eq!(world.savepoints.len(), 2);
        world.edit(|spec| spec.state = DesiredState::Running);
        world.settle();
        let newest = world.savepoints.keys().next_back().unwrap();
        assert!(world.last_start().restore.ends_with(newest.as_str()));
        assert!(world.is_exact(), "{:?}", world.output);
    }
}

#[test]
fn a_stop_that_the_next_coordinator_finishes_keeps_its_savepoint() {
    for ticks in 0..4 {
        let mut world = World::running();
        world.edit(|spec| "good-2".clone_into(&mut spec.image));
        world.until(World::has_savepoint);
        let asked = world.last_noted_savepoint().unwrap().to_owned();
        world.kill();
        for _ in 0..ticks {
            world.tick();
        }
        world.settle();
        assert_eq!(world.savepoints.len(), 1, "looked at after {ticks} ticks");
        let restore = &world.last_start().restore;
        assert!(restore.ends_with(&asked), "{ticks}: {restore}");
        let told = world
            .notices
            .iter()
            .any(|one| one == "FellBackToCheckpoint");
        assert!(!told, "{ticks}: {:?}", world.notices);
        assert!(world.is_exact(), "{ticks}: {:?}", world.output);
    }
}

#[test]
fn a_stateless_change_that_is_taken_back_once_it_is_deployed_is_another_one() {
    let mut world = World::running();
    let good = world.wanted();
    world.edit(|spec| {
        spec.upgrade.strategy = UpgradeStrategy::Stateless;
        "hangs".clone_into(&mut spec.image);
    });
    let before = world.status.deployment;
    world.until(|world| world.status.deployment != before);
    world.edit(|spec| "good-1".clone_into(&mut spec.image));
    world.settle();
    assert_eq!(world.last_start().revision, good);
    assert_eq!(world.last_start().restore, "fresh");
    assert_eq!(world.state(), Some(RuntimeState::Running));
    assert!(world.is_exact(), "{:?}", world.output);
}

#[test]
fn a_stop_of_somebody_else_is_not_taken_for_ours() {
    let mut world = World::running();
    world.edit(|spec| "good-2".clone_into(&mut spec.image));
    world.until(World::has_savepoint);
    world.kill();
    world.goes_on = true;
    for _ in 0..5 {
        world.tick();
    }
    world.stop_by_hand();
    for _ in 0..3 {
        world.tick();
    }
    assert_eq!(world.state(), Some(RuntimeState::Stopped));
    world.settle();
    assert_eq!(world.last_start().restore, "latest");
    assert!(world.is_exact(), "{:?}", world.output);
}

#[test]
fn a_suspended_job_that_was_run_by_hand_goes_on_from_where_that_ended() {
    let mut world = World::running();
    world.edit(|spec| spec.state = DesiredState::Suspended);
    world.settle();
    world.run_by_hand();
    world.edit(|spec| spec.state = DesiredState::Running);
    world.settle();
    assert!(world.last_start().unless_advanced);
    assert!(world.is_exact(), "{:?}", world.output);
}

#[test]
fn a_job_that_had_state_expects_it_and_one_that_had_none_does_not() {
    let mut world = World::new();
    world.until(|world| world.starts.len() == 1);
    assert!(!world.last_start().expect_state);
    world.settle();
    world.edit(|spec| {
        spec.upgrade.strategy = UpgradeStrategy::LastState;
        "good-2".clone_into(&mut spec.image);
    });
    world.settle();
    assert!(world.last_start().expect_state);
    // Somebody empties the bucket, and the pod comes again.
    world.kill();
    world.chains.clear();
    world.settle();
    let state = world.state();
    assert_eq!(state, Some(RuntimeState::Failed), "it starts from nothing");
    assert!(world.is_exact());
}

/// The operator that deployed the job before it was deleted had a clock that was ahead of ours.
#[test]
fn a_job_whose_chain_has_seen_a_greater_number_is_deployed_beyond_it() {
    let hour = 3_600_000;
    for ahead in [1, hour / 60, 3 * hour, 24 * 365 * hour] {
        let mut world = World::new();
        let seen = world.now.as_millisecond() + ahead;
        world
            .chains
            .insert("s3://bucket/jobs".to_owned(), Chain::left_by(seen, 7));
        world.output.commit(0, 7, 0);
        world.settle();
        assert!(world.status.deployment > Some(seen), "{ahead} ms ahead");
        assert_eq!(world.state(), Some(RuntimeState::Running), "{ahead}");
        assert_eq!(world.starts.len(), 1, "{ahead}");
        assert_eq!(world.status.rejected, None);
        assert!(world.is_exact(), "{ahead}: {:?}", world.output);
    }
}

/// A number never goes back, whatever the clock does.
#[test]
fn a_clock_that_jumps_back_gives_out_no_smaller_number() {
    let mut world = World::running();
    let before = world.status.deployment;
    world.now -= SignedDuration::from_hours(48);
    world.edit(|spec| "good-2".clone_into(&mut spec.image));
    world.settle();
    assert!(world.status.deployment > before);
    assert_eq!(world.state(), Some(RuntimeState::Running));
    assert!(world.is_exact(), "{:?}", world.output);
}

#[test]
fn a_deployment_that_was_claimed_and_is_fenced_is_not_deployed_again() {
    let mut world = World::running();
    let number = world.status.deployment;
    world.chains.get_mut("s3://bucket/jobs").unwrap().deployment += 1;
    world.kill();
    world.settle();
    assert_eq!(world.status.deployment, number);
    assert_eq!(world.state(), None);
}

/// What each test here is about is seen by the model: a coordinator that takes a belief for an
/// order, as one without `--unless-advanced` does, writes twice.
#[test]
fn a_belief_that_nobody_judges_writes_twice() {
    let mut world = World::running();
    world.obeys = true;
    world.edit(|spec| spec.state = DesiredState::Suspended);
    world.settle();
    world.run_by_hand();
    world.edit(|spec| spec.state = DesiredState::Running);
    world.settle();
    assert!(world.output.doubled > 0, "{:?}", world.output);
}

#[test]
fn an_approval_that_was_used_does_not_approve_the_same_revision_again() {
    let mut world = World::running();
    let approve = |world: &mut World, value: &str| {
        let annotations = world.meta.annotations.get_or_insert_default();
        annotations.insert(ANNOTATION_APPROVE.to_owned(), value.to_owned());
    };
    world.edit(|spec| {
        spec.upgrade.approval = Approval::Manual;
        "good-2".clone_into(&mut spec.image);
    });
    let second = world.wanted();
    approve(&mut world, &second);
    world.settle();
    assert_eq!(world.applied.as_ref().unwrap().revision, second);
    // Back without being asked, and on to the same once more.
    world.edit(|spec| {
        spec.upgrade.approval = Approval::Automatic;
        "good-1".clone_into(&mut spec.image);
    });
    world.settle();
    world.edit(|spec| {
        spec.upgrade.approval = Approval::Manual;
        "good-2".clone_into(&mut spec.image);
    });
    world.settle();
    assert_eq!(world.step(), Some(UpgradeStep::WaitingForApproval));
    let wanted = world.status.upgrade.clone().unwrap().approval.unwrap();
    assert!(wanted.starts_with(&format!("{second}/")), "{wanted}");
    approve(&mut world, &wanted);
    world.settle();
    assert_eq!(world.applied.as_ref().unwrap().revision, second);
}
