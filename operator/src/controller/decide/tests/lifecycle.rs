use millstream_crds::stream_job::DesiredState;

use super::world::World;
use crate::controller::build::names::Role;
use crate::controller::observe::pods::{PutOff, Quiet};
use crate::controller::validate::Faults;
use crate::runtime_client::RuntimeState;

#[test]
fn a_new_job_is_deployed_without_a_check_and_is_good_after_its_first_checkpoint() {
    let mut world = World::new();
    world.reconcile(usize::MAX);
    let upgrade = world.status.upgrade.clone().unwrap();
    assert_eq!((upgrade.from, upgrade.to), (None, Some(world.wanted())));
    assert_eq!(world.applied.as_ref().unwrap().restore, "latest");
    world.settle();
    assert!(world.status.upgrade.is_none());
    assert!(world.status.revisions[0].good);
    assert!(world.notices.contains(&"StartedFresh".to_owned()));
}

#[test]
fn the_deployment_is_in_the_status_before_any_object_carries_it() {
    let mut world = World::new();
    world.reconcile(2);
    assert!(world.status.deployment.is_some() && world.applied.is_none());
    world.reconcile(usize::MAX);
    assert_eq!(
        world.applied.as_ref().map(|it| it.deployment),
        world.status.deployment
    );
}

#[test]
fn a_deployment_number_is_the_time_or_one_more_than_the_last() {
    let mut world = World::new();
    world.status.deployment = Some(i64::MAX - 10);
    world.reconcile(usize::MAX);
    assert_eq!(world.status.deployment, Some(i64::MAX - 9));
    let mut world = World::new();
    world.reconcile(usize::MAX);
    assert_eq!(world.status.deployment, Some(world.now.as_millisecond()));
}

#[test]
fn a_job_that_was_created_suspended_makes_nothing() {
    let mut world = World::new();
    world.edit(|spec| spec.state = DesiredState::Suspended);
    world.settle();
    assert!(world.applied.is_none() && world.status.deployment.is_none());
    world.edit(|spec| spec.state = DesiredState::Running);
    world.settle();
    assert_eq!(world.state(), Some(RuntimeState::Running));
}

#[test]
fn a_suspended_job_is_stopped_with_a_savepoint_and_goes_on_from_it() {
    let mut world = World::running();
    world.edit(|spec| spec.state = DesiredState::Suspended);
    world.settle();
    let point = world.status.restore_point.clone().unwrap();
    assert!(point.contains("suspend-"), "{point}");
    assert!(world.applied.is_none() && world.process.is_none());
    world.edit(|spec| spec.state = DesiredState::Running);
    world.settle();
    assert_eq!(world.last_start().restore, point);
    assert!(world.is_exact());
}

#[test]
fn a_job_that_cannot_take_a_savepoint_is_suspended_on_its_newest_checkpoint() {
    let mut world = World::running();
    world.silent = true;
    world.edit(|spec| spec.state = DesiredState::Suspended);
    world.settle();
    assert!(world.applied.is_none());
    assert_eq!(world.status.restore_point, None);
    assert!(world.notices.contains(&"FellBackToCheckpoint".to_owned()));
    world.silent = false;
    world.edit(|spec| spec.state = DesiredState::Running);
    world.settle();
    assert_eq!(world.last_start().restore, "latest");
    assert!(world.is_exact());
}

#[test]
fn another_restart_at_is_an_upgrade_without_a_change() {
    let mut world = World::running();
    world.edit(|spec| spec.restart_at = Some("2026-11-24T12:30:00Z".to_owned()));
    world.settle();
    assert_eq!(world.starts.len(), 1);
    assert!(world.last_start().restore.contains("upgrade-"));
    assert!(world.is_exact());
}

#[test]
fn a_rescale_keeps_the_deployment_and_what_it_was_restored_from() {
    let mut world = World::running();
    let before = world.applied.clone().unwrap();
    world.edit(|spec| spec.parallelism = 5);
    world.reconcile(usize::MAX);
    let after = world.applied.clone().unwrap();
    assert_eq!(
        (after.deployment, after.restore),
        (before.deployment, before.restore)
    );
    assert_eq!(after.parallelism, 5);
    assert!(world.status.rescaled_at.is_some());
    world.settle();
    assert!(world.status.rescaled_at.is_none());
    assert!(world.starts.is_empty() && world.is_exact());
}

#[test]
fn a_bounded_job_is_complete_and_runs_again_for_another_revision_only() {
    let mut world = World::new();
    world.bounded = true;
    world.settle();
    assert!(world.status.completed_at.is_some() && world.applied.is_none());
    let runs = world.starts.len();
    world.edit(|spec| spec.parallelism = 3);
    world.settle();
    assert_eq!(world.starts.len(), runs);
    world.edit(|spec| "good-2".clone_into(&mut spec.image));
    world.settle();
    assert_eq!(world.starts.len(), runs + 1);
    assert_eq!(world.last_start().restore, "latest");
    assert!(world.is_exact());
}

#[test]
fn a_spec_with_faults_changes_nothing_of_what_runs() {
    let mut world = World::running();
    let before = world.applied.clone();
    world.spec.parallelism = 9;
    world.faulty = Some(Faults {
        lines: vec!["spec.x: bad".to_owned()],
    });
    world.settle();
    assert_eq!(world.applied, before);
    assert_eq!(world.state(), Some(RuntimeState::Running));
}

#[test]
fn a_paused_job_is_observed_and_not_touched() {
    let mut world = World::running();
    let before = world.applied.clone();
    world.edit(|spec| {
        spec.paused = true;
        "good-2".clone_into(&mut spec.image);
    });
    world.settle();
    assert_eq!(world.applied, before);
    assert!(world.decide().hands_off);
    world.edit(|spec| spec.paused = false);
    world.settle();
    assert_eq!(
        world.applied.as_ref().map(|it| it.revision.clone()),
        Some(world.wanted())
    );
}

#[test]
fn a_job_that_somebody_stopped_over_rest_is_deployed_again() {
    let mut world = World::running();
    if let Some(process) = &mut world.process {
        process.state = RuntimeState::Stopping;
    }
    world.tick();
    world.settle();
    assert_eq!(world.state(), Some(RuntimeState::Running));
    assert_eq!(world.starts.len(), 1);
    assert!(world.is_exact());
}

#[test]
fn pods_that_are_gone_come_again_with_the_same_deployment() {
    let mut world = World::running();
    let before = world.applied.take();
    world.process = None;
    world.settle();
    assert_eq!(world.applied, before);
    assert!(world.starts.is_empty());
    assert_eq!(world.state(), Some(RuntimeState::Running));
}

#[test]
fn pods_that_the_kubelet_lets_wait_are_replaced_unless_the_job_is_paused_or_deleted() {
    let pod = PutOff {
        pod: "orders-workers-1".to_owned(),
        uid: Some("u".to_owned()),
        message: "OOMKilled with exit code 137 after 185s".to_owned(),
    };
    let mut world = World::running();
    world.put_off = vec![pod.clone()];
    let decision = world.decide();
    let both = [(Role::Coordinator, pod.clone()), (Role::Worker, pod)];
    assert_eq!(decision.replace, both);
    let told = decision.notices.first().unwrap();
    assert_eq!(
        told.message,
        "replaces pod orders-workers-1: OOMKilled with exit code 137 after 185s"
    );
    world.edit(|spec| spec.paused = true);
    assert_eq!(world.decide().replace, []);
    world.edit(|spec| spec.paused = false);
    world.delete();
    assert_eq!(world.decide().replace, []);
}

#[test]
fn a_role_whose_pods_die_again_and_again_is_left_to_the_kubelet() {
    let mut world = World::running();
    world.put_off = vec![PutOff {
        pod: "orders-workers-1".to_owned(),
        uid: None,
        message: "OOMKilled with exit code 137 after 15s".to_owned(),
    }];
    let now = world.now;
    world.replaced.note(Role::Worker, 5, now);
    let roles = |world: &World| -> Vec<Role> {
        let replace = world.decide().replace;
        replace.into_iter().map(|(role, _)| role).collect()
    };
    assert_eq!(roles(&world), [Role::Coordinator]);
    world.now = now
        .checked_add(jiff::SignedDuration::from_mins(11))
        .unwrap();
    assert_eq!(roles(&world), [Role::Coordinator, Role::Worker]);
}

fn quiet(world: &World, node_lost: bool, due_in: Option<i64>) -> Vec<Quiet> {
    let due = due_in.map(|seconds| {
        let seconds = jiff::SignedDuration::from_secs(seconds);
        world.now.checked_add(seconds).unwrap()
    });
    vec![Quiet {
        pod: "orders-workers-1".to_owned(),
        uid: None,
        node_lost,
        due,
    }]
}

#[test]
fn pods_of_a_lost_node_are_removed_at_once_unless_the_job_goes_on_all_the_same() {
    let mut world = World::running();
    world.quiet = quiet(&world, true, None);
    assert_eq!(world.decide().remove, [], "only the kubelet is away");
    world.silent = true;
    assert_eq!(world.decide().remove, world.quiet);
    world.silent = false;
    world.unhealthy = true;
    world.tick();
    assert_eq!(world.decide().remove, world.quiet);
    world.edit(|spec| spec.paused = true);
    assert_eq!(world.decide().remove, [], "nothing is touched");
}

#[test]
fn a_pod_that_is_to_end_and_never_does_is_removed_by_force() {
    let mut world = World::running();
    world.quiet = quiet(&world, true, Some(25));
    assert_eq!(world.decide().remove, world.quiet, "its node is lost");
    world.quiet = quiet(&world, false, Some(25));
    assert_eq!(world.decide().remove, [], "its kubelet may still end it");
    world.quiet = quiet(&world, false, Some(-16));
    assert_eq!(world.decide().remove, world.quiet);
    // Also where everything else is done, and in the time that is left until then.
    world.edit(|spec| spec.state = DesiredState::Suspended);
    world.quiet.clear();
    world.settle();
    world.quiet = quiet(&world, false, Some(5));
    let decision = world.decide();
    assert_eq!(decision.remove, []);
    assert_eq!(decision.requeue, std::time::Duration::from_secs(20));
}
