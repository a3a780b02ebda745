//! Every strategy against every health of the running revision, and the table of what happens.

use millstream_crds::stream_job::UpgradeStrategy;

use super::world::World;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Health {
    Healthy,
    Unhealthy,
    Silent,
}

/// What the new revision starts from, and whether falling back is told.
fn outcome(strategy: UpgradeStrategy, health: Health) -> (&'static str, bool) {
    match (strategy, health) {
        (UpgradeStrategy::Savepoint, Health::Healthy | Health::Unhealthy) => ("savepoint", false),
        (UpgradeStrategy::Savepoint, Health::Silent) => ("latest", true),
        (UpgradeStrategy::LastState, _) => ("latest", false),
        (UpgradeStrategy::Stateless, _) => ("fresh", false),
    }
}

#[test]
fn each_strategy_finds_its_state_whatever_the_health_of_the_job() {
    for strategy in [
        UpgradeStrategy::Savepoint,
        UpgradeStrategy::LastState,
        UpgradeStrategy::Stateless,
    ] {
        for health in [Health::Healthy, Health::Unhealthy, Health::Silent] {
            let mut world = World::running();
            world.unhealthy = health == Health::Unhealthy;
            world.silent = health == Health::Silent;
            world.run_for(2);
            world.edit(|spec| {
                spec.upgrade.strategy = strategy;
                "good-2".clone_into(&mut spec.image);
            });
            let before = world.status.deployment;
            world.until(|world| world.status.deployment != before);
            world.silent = false;
            world.unhealthy = false;
            world.settle();
            let (expected, told) = outcome(strategy, health);
            let restore = world.last_start().restore.clone();
            let kind = if restore.contains('/') {
                "savepoint"
            } else {
                restore.as_str()
            };
            assert_eq!(kind, expected, "{strategy:?} {health:?}");
            let fell_back = world
                .notices
                .iter()
                .any(|one| one == "FellBackToCheckpoint");
            assert_eq!(fell_back, told, "{strategy:?} {health:?}");
            assert_eq!(world.last_start().revision, world.wanted());
            assert!(
                world.status.upgrade.is_none() && world.is_exact(),
                "{strategy:?} {health:?}"
            );
        }
    }
}

#[test]
fn a_savepoint_that_fails_again_and_again_gives_way_to_the_newest_checkpoint() {
    let mut world = World::running();
    world.savepoints_fail = true;
    world.edit(|spec| "good-2".clone_into(&mut spec.image));
    world.settle();
    assert_eq!(world.last_start().restore, "latest");
    assert!(world.notices.contains(&"FellBackToCheckpoint".to_owned()) && world.is_exact());
}

#[test]
fn a_failed_job_is_upgraded_from_its_newest_checkpoint_at_once() {
    let mut world = World::running();
    if let Some(process) = &mut world.process {
        process.state = crate::runtime_client::RuntimeState::Failed;
    }
    world.edit(|spec| "good-2".clone_into(&mut spec.image));
    world.run_for(4);
    assert_eq!(world.applied.as_ref().unwrap().restore, "latest");
}

#[test]
fn lost_output_is_accepted_by_the_deployment_that_comes_after_saying_so() {
    let mut world = World::running();
    if let Some(process) = &mut world.process {
        process.state = crate::runtime_client::RuntimeState::Failed;
    }
    world.edit(|spec| spec.restore.accept_lost_output = Some(42));
    world.run_for(4);
    let accepted = |world: &World| world.status.deployed.as_ref().unwrap().accept_lost_output;
    assert_eq!(
        accepted(&world),
        None,
        "the job is still the one that failed"
    );
    world.edit(|spec| spec.restart_at = Some("2026-11-24T12:30:00Z".to_owned()));
    world.run_for(4);
    assert_eq!(accepted(&world), Some(42));
    assert_eq!(world.applied.as_ref().unwrap().restore, "latest");
}
