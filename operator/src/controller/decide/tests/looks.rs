//! How often a job is looked at while nothing changes: each look is several reads of the API server.

use std::time::Duration;

use jiff::SignedDuration;
use millstream_crds::stream_job::{DeletionPolicy, DesiredState};

use super::world::World;
use crate::controller::decide::{SELDOM, SOON, STEADY};

/// Looks for so long, as often as each decision wishes; how often that was.
fn looks(world: &mut World, time: Duration) -> usize {
    let until = world.now + SignedDuration::try_from(time).unwrap();
    let mut count = 0;
    while world.now < until {
        let pause = world.decide().requeue;
        world.reconcile(usize::MAX);
        assert!(pause >= Duration::from_millis(100), "{pause:?}");
        world.now += SignedDuration::try_from(pause).unwrap();
        count += 1;
    }
    count
}

#[test]
fn what_takes_long_is_looked_at_less_and_less_often() {
    let mut world = World::new();
    world.edit(|spec| "no-image".clone_into(&mut spec.image));
    world.reconcile(usize::MAX);
    // At first as soon as something could be there.
    let at_first = looks(&mut world, SOON * 10);
    assert!((9..=11).contains(&at_first), "{at_first} looks");
    let first_minute = looks(&mut world, Duration::from_mins(1));
    assert!(first_minute <= 45, "{first_minute} looks in a minute");
    world.now += SignedDuration::from_mins(1);
    assert_eq!(looks(&mut world, STEADY * 12), 12);
}

#[test]
fn a_check_a_stop_and_a_deletion_that_take_long_are_looked_at_less_often() {
    let silent = |world: &mut World| world.silent = true;
    let changes: [fn(&mut World); 3] = [
        |world| world.edit(|spec| "no-image".clone_into(&mut spec.image)),
        |world| world.edit(|spec| spec.state = DesiredState::Suspended),
        |world| {
            world.edit(|spec| {
                spec.deletion.policy = Some(DeletionPolicy::Savepoint);
            });
            world.delete();
        },
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut world = World::running();
        silent(&mut world);
        change(&mut world);
        let count = looks(&mut world, Duration::from_secs(25));
        assert!(
            (10..=90).contains(&count),
            "{number}: {count} looks in 25 s"
        );
    }
}

#[test]
fn a_job_at_rest_is_looked_at_seldom() {
    let mut world = World::running();
    assert_eq!(world.decide().requeue, STEADY);
    world.edit(|spec| spec.state = DesiredState::Suspended);
    world.settle();
    assert_eq!(world.decide().requeue, SELDOM);
}

/// The state of a job that was suspended cannot be brought into another storage.
#[test]
fn a_refused_start_is_not_looked_at_without_a_pause() {
    let mut world = World::running();
    world.silent = true;
    world.edit(|spec| spec.state = DesiredState::Suspended);
    world.settle();
    world.edit(|spec| {
        spec.state = DesiredState::Running;
        spec.checkpoint.storage = "s3://other".to_owned();
        spec.image = "no-image".to_owned();
    });
    let count = looks(&mut world, Duration::from_mins(5));
    assert!(count <= 130, "{count} looks in five minutes");
}
