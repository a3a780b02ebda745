use millstream_crds::status::UpgradeStep;
use millstream_crds::stream_job::{Approval, UpgradeStrategy};

use super::world::World;
use crate::controller::build::names::ANNOTATION_APPROVE;
use crate::controller::validate::Faults;

fn image(world: &mut World, image: &str) {
    world.edit(|spec| image.clone_into(&mut spec.image));
}

#[test]
fn the_old_revision_runs_on_while_the_new_one_is_checked() {
    let mut world = World::running();
    let before = world.applied.clone();
    image(&mut world, "good-2");
    world.reconcile(usize::MAX);
    assert_eq!(world.step(), Some(UpgradeStep::Preflight));
    assert!(world.preflight.is_some());
    let check = world.decide();
    assert_eq!(world.applied, before);
    assert_eq!(
        check.status.upgrade.unwrap().changes.as_deref(),
        Some("operator out is new")
    );
}

#[test]
fn a_revision_that_fails_its_check_never_touches_the_running_one() {
    for bad in ["no-check", "no-image"] {
        let mut world = World::running();
        let before = world.applied.clone();
        image(&mut world, bad);
        world.settle();
        assert_eq!(world.applied, before, "{bad}");
        let rejected = world.status.rejected.clone().unwrap();
        assert_eq!(rejected.revision, world.wanted());
        assert_eq!(rejected.reason, "PreflightFailed");
        assert!(world.status.upgrade.is_none() && world.starts.is_empty());
    }
}

#[test]
fn a_rejected_revision_is_not_tried_again_until_the_spec_changes() {
    let mut world = World::running();
    image(&mut world, "no-check");
    world.settle();
    world.notices.clear();
    world.settle();
    assert!(world.notices.is_empty(), "{:?}", world.notices);
    image(&mut world, "good-3");
    world.settle();
    assert_eq!(world.status.rejected, None);
    assert_eq!(world.last_start().revision, world.wanted());
}

#[test]
fn a_check_without_a_verdict_is_made_again_until_the_deadline_and_rejects_nothing_before() {
    let mut world = World::running();
    world.checks_break = true;
    image(&mut world, "good-2");
    world.run_for(8);
    let upgrade = world.status.upgrade.clone().unwrap();
    assert_eq!(upgrade.step, UpgradeStep::Preflight);
    assert!(world.status.rejected.is_none() && world.starts.is_empty());
    // Nothing is changed in the spec: the weather is.
    world.checks_break = false;
    world.settle();
    assert_eq!(world.last_start().revision, world.wanted());
    assert!(world.status.upgrade.is_none() && world.is_exact());
}

#[test]
fn a_check_that_never_comes_to_a_verdict_ends_at_the_deadline_with_its_last_words() {
    let mut world = World::running();
    let before = world.applied.clone();
    world.checks_break = true;
    image(&mut world, "good-2");
    world.settle();
    let rejected = world.status.rejected.clone().unwrap();
    assert!(
        rejected.message.contains("the store answers 503"),
        "{rejected:?}"
    );
    assert!(rejected.message.contains("spec.restartAt"), "{rejected:?}");
    assert_eq!(world.applied, before);
}

#[test]
fn tries_of_a_check_are_not_taken_for_tries_of_a_savepoint() {
    let mut world = World::running();
    world.checks_break = true;
    image(&mut world, "good-2");
    world.run_for(12);
    let tries = |world: &World| world.status.upgrade.as_ref().unwrap().tries;
    assert!(tries(&world) >= 1, "{:?}", world.status.upgrade);
    world.checks_break = false;
    world.until_step(UpgradeStep::Stopping);
    assert!(tries(&world) <= 1, "{:?}", world.status.upgrade);
    world.settle();
    assert!(world.last_start().restore.contains("upgrade-"));
}

#[test]
fn an_image_that_comes_after_its_manifest_is_brought_in() {
    let mut world = World::running();
    image(&mut world, "no-image");
    // Longer than half a minute.
    world.run_for(12);
    assert_eq!(world.step(), Some(UpgradeStep::Preflight));
    assert!(world.status.rejected.is_none());
    let late = world.wanted();
    world.push_image(&late);
    world.settle();
    assert_eq!(world.last_start().revision, late);
    assert!(world.status.upgrade.is_none() && world.is_exact());
}

#[test]
fn a_coordinator_that_nobody_reaches_is_not_taken_for_one_that_runs() {
    let mut world = World::running();
    world.silent = true;
    world.unready = true;
    world.edit(|spec| {
        spec.restore.policy = millstream_crds::stream_job::RestorePolicy::Fresh;
    });
    world.until_step(UpgradeStep::Deploying);
    world.run_for(4);
    assert!(!world.status.deployed.as_ref().unwrap().claimed);
    // The kubelet finds that all tasks run: then it has claimed.
    world.unready = false;
    world.run_for(4);
    assert!(world.status.deployed.as_ref().unwrap().claimed);
    assert!(world.status.rejected.is_none());
}

#[test]
fn going_back_to_the_running_revision_forgets_the_rejected_one() {
    let mut world = World::running();
    image(&mut world, "no-check");
    world.settle();
    image(&mut world, "good-1");
    world.settle();
    assert_eq!(world.status.rejected, None);
    assert!(world.starts.is_empty());
}

#[test]
fn a_parallelism_that_came_with_a_rejected_revision_is_not_applied() {
    let mut world = World::running();
    world.edit(|spec| {
        "no-check".clone_into(&mut spec.image);
        spec.parallelism = 8;
    });
    world.settle();
    assert_eq!(world.applied.as_ref().unwrap().parallelism, 1);
    world.edit(|spec| spec.parallelism = 4);
    world.settle();
    assert_eq!(world.applied.as_ref().unwrap().parallelism, 4);
}

#[test]
fn an_upgrade_waits_for_a_person_if_so_wished() {
    let mut world = World::running();
    let before = world.applied.clone();
    world.edit(|spec| {
        spec.upgrade.approval = Approval::Manual;
        "good-2".clone_into(&mut spec.image);
    });
    world.settle();
    assert_eq!(world.step(), Some(UpgradeStep::WaitingForApproval));
    assert_eq!(world.applied, before);
    let approve = |world: &mut World, revision: String| {
        let annotations = world.meta.annotations.get_or_insert_default();
        annotations.insert(ANNOTATION_APPROVE.to_owned(), revision);
    };
    approve(&mut world, "orders-another".to_owned());
    world.settle();
    assert_eq!(world.applied, before);
    let wanted = world.wanted();
    approve(&mut world, wanted.clone());
    world.settle();
    assert_eq!(world.applied.as_ref().unwrap().revision, wanted);
}

#[test]
fn another_spec_during_the_check_is_what_is_checked() {
    let mut world = World::running();
    image(&mut world, "no-check");
    world.reconcile(usize::MAX);
    image(&mut world, "good-3");
    world.settle();
    assert_eq!(world.last_start().revision, world.wanted());
    assert_eq!(world.starts.len(), 1);
}

#[test]
fn faults_during_the_check_end_the_upgrade() {
    let mut world = World::running();
    let before = world.applied.clone();
    image(&mut world, "good-2");
    world.reconcile(usize::MAX);
    world.faulty = Some(Faults {
        lines: vec!["spec.x: bad".to_owned()],
    });
    world.settle();
    assert_eq!(world.applied, before);
    assert!(world.status.upgrade.is_none());
}

#[test]
fn a_revision_that_fails_stalls_without_rollback_and_is_left_to_look_at() {
    for bad in ["fails", "hangs"] {
        let mut world = World::running();
        image(&mut world, bad);
        world.settle();
        let applied = world.applied.clone().unwrap();
        assert_eq!(applied.revision, world.wanted());
        assert_eq!(
            world.status.rejected.as_ref().unwrap().revision,
            applied.revision
        );
        world.settle();
        assert_eq!(
            world.applied.as_ref(),
            Some(&applied),
            "nothing is changed any more"
        );
        image(&mut world, "good-3");
        world.settle();
        assert_eq!(world.applied.as_ref().unwrap().revision, world.wanted());
        assert!(world.is_exact(), "{bad}");
    }
}

#[test]
fn a_revision_that_fails_is_rolled_back_to_the_pinned_savepoint() {
    for (bad, reason) in [
        ("fails", "JobFailed"),
        ("hangs", "ProgressDeadlineExceeded"),
    ] {
        let mut world = World::running();
        let good = world.wanted();
        world.edit(|spec| {
            spec.upgrade.rollback.enabled = true;
            bad.clone_into(&mut spec.image);
        });
        world.settle();
        let savepoint = world.starts[0].restore.clone();
        assert_eq!(world.starts.len(), 2, "{bad}");
        assert_eq!(world.last_start().revision, good);
        assert_eq!(world.last_start().restore, savepoint);
        assert_eq!(world.status.rejected.as_ref().unwrap().reason, reason);
        assert_eq!(world.status.rolled_back_from, Some(world.wanted()));
        assert!(world.status.upgrade.is_none() && world.is_exact());
        image(&mut world, "good-3");
        world.settle();
        assert_eq!(world.status.rolled_back_from, None);
        assert_eq!(world.applied.as_ref().unwrap().revision, world.wanted());
    }
}

#[test]
fn a_rollback_after_checkpoints_of_the_new_revision_takes_nothing_back() {
    let mut world = World::running();
    world.edit(|spec| {
        spec.upgrade.rollback.enabled = true;
        spec.upgrade.rollback.after_checkpoints = 50;
        "good-2".clone_into(&mut spec.image);
    });
    world.settle();
    assert_eq!(world.starts.len(), 2);
    assert_eq!(world.last_start().restore, "latest");
    assert!(world.is_exact());
}

#[test]
fn the_first_revision_has_nothing_to_be_rolled_back_to() {
    let mut world = World::new();
    world.edit(|spec| {
        spec.upgrade.rollback.enabled = true;
        "fails".clone_into(&mut spec.image);
    });
    world.settle();
    assert_eq!(world.starts.len(), 1);
    assert_eq!(world.status.rejected.as_ref().unwrap().reason, "JobFailed");
    assert_eq!(world.status.rolled_back_from, None);
}

#[test]
fn a_deployment_that_comes_to_life_after_its_deadline_is_good_after_all() {
    let mut world = World::new();
    world.unhealthy = true;
    world.settle();
    assert!(world.status.rejected.is_some());
    world.unhealthy = false;
    world.settle();
    assert!(world.status.rejected.is_none() && world.status.upgrade.is_none());
}

#[test]
fn a_first_revision_that_never_ran_is_replaced_without_waiting() {
    let mut world = World::new();
    image(&mut world, "no-image");
    world.run_for(3);
    image(&mut world, "good-2");
    world.reconcile(usize::MAX);
    assert_eq!(world.step(), Some(UpgradeStep::Deploying));
    assert_eq!(world.status.revision, Some(world.wanted()));
}

#[test]
fn the_strategy_in_force_is_the_one_when_the_upgrade_begins_to_act() {
    let mut world = World::running();
    image(&mut world, "good-2");
    world.reconcile(usize::MAX);
    world.edit(|spec| spec.upgrade.strategy = UpgradeStrategy::LastState);
    world.settle();
    assert_eq!(world.last_start().restore, "latest");
    assert!(world.savepoints.is_empty() && world.is_exact());
}
