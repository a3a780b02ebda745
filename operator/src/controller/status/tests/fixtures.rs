//! A `StreamJob` in every state, as the operator writes it: what Argo CD and kstatus are tested with.

use serde_json::{Value, json};

use super::*;
use crate::fixtures::{check, resource, with_paths};
use crate::runtime_client::AuditReport;

/// The job of a world with a status that was told before.
fn told(world: &World, status: Option<&StreamJobStatus>) -> Value {
    let mut metadata = json!({
        "generation": world.meta.generation,
        "creationTimestamp": "2026-11-24T11:59:50Z",
    });
    if world.finalized {
        metadata["finalizers"] = json!(["millstream.dev/state"]);
    }
    if let Some(deleted) = &world.meta.deletion_timestamp {
        metadata["deletionTimestamp"] = json!(deleted);
        metadata["deletionGracePeriodSeconds"] = json!(0);
    }
    let spec = serde_json::to_value(&world.spec).unwrap();
    let mut job = resource("StreamJob", "orders", &metadata, &spec);
    if let Some(status) = status {
        job["status"] = with_paths(serde_json::to_value(status).unwrap());
    }
    job
}

/// The job of a world as it stands now.
fn recorded(name: &str, world: &mut World) {
    let status = tell(world);
    check("StreamJob", name, &told(world, Some(&status)));
}

/// As [`World::running`], told once, with a checkpoint a moment ago.
fn running() -> World {
    let mut world = World::running();
    tell(&mut world);
    world
}

/// As [`running`], with another spec.
fn changed(change: impl FnOnce(&mut millstream_crds::StreamJobSpec)) -> World {
    let mut world = running();
    world.edit(change);
    world
}

#[test]
fn a_job_that_comes_up() {
    let mut world = World::new();
    check("StreamJob", "created", &told(&world, None));
    world.reconcile(usize::MAX);
    recorded("deploying", &mut world);
    world.until(|world| world.state() == Some(crate::runtime_client::RuntimeState::Running));
    recorded("first-checkpoint", &mut world);
    let mut world = running();
    recorded("running", &mut world);
    let status = tell(&mut world);
    world.edit(|spec| "good-2".clone_into(&mut spec.image));
    check("StreamJob", "changed", &told(&world, Some(&status)));
}

#[test]
fn a_job_that_does_not_go_on() {
    let mut world = running();
    world.unhealthy = true;
    world.run_for(1);
    recorded("restarting", &mut world);

    let mut world = running();
    world.now = world
        .now
        .checked_add(jiff::SignedDuration::from_mins(10))
        .unwrap();
    recorded("checkpoint-overdue", &mut world);

    let mut world = World::new();
    world.edit(|spec| "fails".clone_into(&mut spec.image));
    world.settle();
    recorded("failed", &mut world);

    let mut world = running();
    let gap = "orders → out: 3 records are missing between checkpoints 41 and 42";
    let audit: AuditReport =
        serde_json::from_value(json!({"checkpoint": 42, "edges": [], "gaps": [gap]})).unwrap();
    let mut observed = world.observe();
    observed.audit = Some(audit);
    let status = tell_observed(&mut world, None, &observed);
    check("StreamJob", "audit-gap", &told(&world, Some(&status)));
}

#[test]
fn a_job_that_is_upgraded() {
    let to = |image: &'static str| changed(|spec| image.clone_into(&mut spec.image));
    let mut world = to("good-2");
    world.reconcile(usize::MAX);
    recorded("preflight", &mut world);
    world.until_step(UpgradeStep::Stopping);
    world.reconcile(usize::MAX);
    recorded("stopping", &mut world);

    let mut world = to("no-check");
    world.settle();
    recorded("preflight-failed", &mut world);

    let mut world = to("hangs");
    world.settle();
    recorded("deadline-exceeded", &mut world);

    let mut world = changed(|spec| {
        spec.upgrade.rollback.enabled = true;
        "fails".clone_into(&mut spec.image);
    });
    world.settle();
    recorded("rolled-back", &mut world);

    let mut world = changed(|spec| {
        spec.upgrade.approval = Approval::Manual;
        "good-2".clone_into(&mut spec.image);
    });
    world.until_step(UpgradeStep::WaitingForApproval);
    recorded("waiting-for-approval", &mut world);

    let mut world = changed(|spec| spec.parallelism = 2);
    world.reconcile(usize::MAX);
    recorded("rescaling", &mut world);

    let mut world = changed(|spec| {
        spec.paused = true;
        "good-2".clone_into(&mut spec.image);
    });
    recorded("paused", &mut world);

    let mut world = running();
    let lines = [
        "spec.dataflow.sources[0]: nobody reads the records of source `orders`. Let a sink or a \
         transform read them, or remove it",
        "spec.dataflow.sinks[0].input: there is no node `nowhere`. Sources and transforms: `orders`",
    ];
    world.faulty = Some(Faults {
        lines: lines.map(str::to_owned).to_vec(),
    });
    recorded("invalid", &mut world);
}

#[test]
fn a_job_that_ends() {
    let mut world = changed(|spec| spec.state = DesiredState::Suspended);
    world.reconcile(usize::MAX);
    recorded("suspending", &mut world);
    world.settle();
    recorded("suspended", &mut world);

    let mut world = World::new();
    world.edit(|spec| spec.state = DesiredState::Suspended);
    world.settle();
    recorded("created-suspended", &mut world);

    let mut world = World::new();
    world.bounded = true;
    world.settle();
    recorded("completed", &mut world);

    let mut world = running();
    world.edit(|spec| {
        spec.deletion = serde_json::from_value(json!({"policy": "Savepoint"})).unwrap();
    });
    world.run_for(2);
    world.delete();
    world.reconcile(usize::MAX);
    recorded("deleting", &mut world);
}
