use millstream_crds::status::UpgradeStep;
use millstream_crds::stream_job::DesiredState;

use super::world::World;
use crate::controller::decide::RuntimeRequest;

#[test]
fn the_name_of_the_savepoint_is_in_the_status_before_anybody_is_asked() {
    let mut world = World::running();
    world.edit(|spec| "good-2".clone_into(&mut spec.image));
    world.until_step(UpgradeStep::Stopping);
    let name = world.status.upgrade.clone().unwrap().savepoint.unwrap();
    assert!(world.savepoints.is_empty());
    let asked = world.decide().request.unwrap();
    assert_eq!(
        asked,
        RuntimeRequest::Stop {
            savepoint: Some(name)
        }
    );
}

#[test]
fn a_request_that_was_lost_is_made_again_with_the_same_name() {
    let mut world = World::running();
    world.edit(|spec| "good-2".clone_into(&mut spec.image));
    world.until_step(UpgradeStep::Stopping);
    let first = world.decide().request;
    world.reconcile(3);
    world.tick();
    assert_eq!(world.decide().request, first);
    world.settle();
    assert_eq!(world.savepoints.len(), 1);
}

#[test]
fn a_job_that_is_stopping_is_not_asked_again() {
    let mut world = World::running();
    world.edit(|spec| "good-2".clone_into(&mut spec.image));
    world.until_step(UpgradeStep::Stopping);
    world.reconcile(usize::MAX);
    assert_eq!(world.decide().request, None);
}

#[test]
fn a_suspension_that_comes_while_an_upgrade_stops_the_job_suspends_it() {
    let mut world = World::running();
    world.edit(|spec| "good-2".clone_into(&mut spec.image));
    world.until_step(UpgradeStep::Stopping);
    world.edit(|spec| spec.state = DesiredState::Suspended);
    world.settle();
    assert!(world.applied.is_none() && world.status.restore_point.is_some());
    world.edit(|spec| spec.state = DesiredState::Running);
    world.settle();
    assert_eq!(world.last_start().revision, world.wanted());
    assert!(world.is_exact());
}

#[test]
fn going_back_while_the_job_is_being_stopped_deploys_the_old_revision() {
    let mut world = World::running();
    let old = world.wanted();
    world.edit(|spec| "good-2".clone_into(&mut spec.image));
    world.until_step(UpgradeStep::Stopping);
    world.edit(|spec| "good-1".clone_into(&mut spec.image));
    world.settle();
    assert_eq!(world.starts.len(), 1);
    assert_eq!(world.last_start().revision, old);
    assert!(world.is_exact());
}

#[test]
fn a_job_that_completes_while_it_is_being_stopped_is_complete() {
    let mut world = World::running();
    world.edit(|spec| spec.state = DesiredState::Suspended);
    world.until_step(UpgradeStep::Stopping);
    if let Some(process) = &mut world.process {
        process.state = crate::runtime_client::RuntimeState::Completed;
    }
    world.reconcile(usize::MAX);
    assert!(world.status.completed_at.is_some() && world.status.upgrade.is_none());
}
