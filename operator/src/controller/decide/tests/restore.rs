use millstream_crds::stream_job::{DesiredState, RestorePolicy, UpgradeStrategy};

use super::world::World;

fn policy(world: &mut World, policy: RestorePolicy) {
    world.edit(|spec| spec.restore.policy = policy);
}

#[test]
fn the_first_deployment_starts_from_what_restore_says() {
    for (chosen, expected) in [
        (RestorePolicy::Latest, "latest"),
        (RestorePolicy::Fresh, "fresh"),
        (RestorePolicy::From, "elsewhere/monday"),
    ] {
        let mut world = World::new();
        world.source = Ok("elsewhere/monday".to_owned());
        policy(&mut world, chosen);
        world.settle();
        assert_eq!(world.starts.len(), 1);
        assert_eq!(world.last_start().restore, expected);
    }
}

#[test]
fn a_reference_that_does_not_exist_yet_is_waited_for() {
    let mut world = World::new();
    policy(&mut world, RestorePolicy::From);
    world.settle();
    assert!(world.applied.is_none());
    world.source = Ok("elsewhere/monday".to_owned());
    world.settle();
    assert_eq!(world.last_start().restore, "elsewhere/monday");
}

#[test]
fn restore_is_applied_once_and_not_again_by_an_upgrade() {
    let mut world = World::new();
    policy(&mut world, RestorePolicy::Fresh);
    world.settle();
    world.edit(|spec| "good-2".clone_into(&mut spec.image));
    world.settle();
    assert!(world.last_start().restore.contains("upgrade-"));
    assert!(world.is_exact());
}

#[test]
fn a_changed_restore_stops_the_job_and_starts_it_from_there() {
    let mut world = World::running();
    world.source = Ok("elsewhere/monday".to_owned());
    policy(&mut world, RestorePolicy::From);
    world.settle();
    assert_eq!(world.starts.len(), 1);
    assert_eq!(world.last_start().restore, "elsewhere/monday");
    assert_eq!(
        world.savepoints.len(),
        1,
        "the old one was stopped with a savepoint"
    );
    world.settle();
    assert_eq!(world.starts.len(), 1);
}

#[test]
fn going_back_to_latest_restarts_nothing_and_asking_again_is_heard() {
    let mut world = World::running();
    policy(&mut world, RestorePolicy::Fresh);
    world.settle();
    policy(&mut world, RestorePolicy::Latest);
    world.settle();
    assert_eq!(world.starts.len(), 1);
    policy(&mut world, RestorePolicy::Fresh);
    world.settle();
    assert_eq!(world.starts.len(), 2);
}

#[test]
fn restore_of_a_deployment_that_never_ran_is_not_forgotten() {
    let mut world = World::new();
    world.source = Ok("elsewhere/monday".to_owned());
    world.edit(|spec| {
        spec.restore.policy = RestorePolicy::From;
        "no-image".clone_into(&mut spec.image);
    });
    world.run_for(3);
    world.edit(|spec| "good-2".clone_into(&mut spec.image));
    world.settle();
    assert_eq!(world.last_start().restore, "elsewhere/monday");
}

#[test]
fn restore_of_a_deployment_that_never_ran_survives_a_suspension() {
    for (chosen, expected) in [
        (RestorePolicy::From, "elsewhere/monday"),
        (RestorePolicy::Fresh, "fresh"),
    ] {
        let mut world = World::new();
        world.source = Ok("elsewhere/monday".to_owned());
        world.edit(|spec| {
            spec.restore.policy = chosen;
            "no-image".clone_into(&mut spec.image);
        });
        world.run_for(3);
        world.edit(|spec| spec.state = DesiredState::Suspended);
        world.run_for(3);
        assert!(world.applied.is_none());
        world.edit(|spec| {
            spec.state = DesiredState::Running;
            "good-2".clone_into(&mut spec.image);
        });
        world.settle();
        assert_eq!(world.last_start().restore, expected);
    }
}

#[test]
fn a_stateless_upgrade_that_never_ran_does_not_make_the_next_one_stateless() {
    let mut world = World::running();
    world.edit(|spec| {
        spec.upgrade.strategy = UpgradeStrategy::Stateless;
        "good-2".clone_into(&mut spec.image);
    });
    world.until(|world| world.step() == Some(millstream_crds::status::UpgradeStep::Deploying));
    assert_eq!(world.status.deployed.as_ref().unwrap().restore, "fresh");
    world.process = None;
    world.edit(|spec| {
        spec.upgrade.strategy = UpgradeStrategy::Savepoint;
        "good-3".clone_into(&mut spec.image);
    });
    world.reconcile(usize::MAX);
    assert_eq!(world.status.deployed.as_ref().unwrap().restore, "latest");
}

#[test]
fn a_rejected_restore_leaves_the_job_alone_until_the_spec_changes() {
    let mut world = World::running();
    let before = world.applied.clone();
    world.source = Ok("elsewhere/monday".to_owned());
    world.edit(|spec| {
        spec.restore.policy = RestorePolicy::From;
        "no-check".clone_into(&mut spec.image);
    });
    world.settle();
    assert_eq!(world.applied, before);
    world.edit(|spec| {
        spec.restore.policy = RestorePolicy::Latest;
        "good-1".clone_into(&mut spec.image);
    });
    world.settle();
    assert_eq!(world.applied, before);
    assert_eq!(world.status.rejected, None);
}
