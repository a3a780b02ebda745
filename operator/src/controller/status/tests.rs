mod fixtures;

use millstream_crds::status::UpgradeStep;
use millstream_crds::stream_job::{Approval, DesiredState};
use millstream_crds::{ConditionType, JobPhase, Reason, StreamJobStatus};
use millstream_types::{ErrorCode, ErrorKind};

use super::{View, completed};
use crate::controller::decide::Inputs;
use crate::controller::decide::tests::world::World;
use crate::controller::memory::Trouble;
use crate::controller::observe::Observed;
use crate::controller::validate::Faults;
use crate::runtime_client::{CheckpointFailures, RuntimeFailure};

/// What kstatus makes of a status.
/// Source: kstatus, README of sigs.k8s.io/cli-utils/pkg/kstatus.
#[derive(Debug, PartialEq)]
enum Kstatus {
    InProgress,
    Failed,
    Current,
}

fn value<'a>(status: &'a StreamJobStatus, condition: &str) -> &'a str {
    let found = status.conditions.iter().find(|one| one.type_ == condition);
    found.map_or("missing", |one| one.status.as_str())
}

fn reason<'a>(status: &'a StreamJobStatus, condition: &str) -> &'a str {
    let found = status.conditions.iter().find(|one| one.type_ == condition);
    found.map_or("missing", |one| one.reason.as_str())
}

fn message<'a>(status: &'a StreamJobStatus, condition: &str) -> &'a str {
    let found = status.conditions.iter().find(|one| one.type_ == condition);
    found.map_or("missing", |one| one.message.as_str())
}

fn kstatus(status: &StreamJobStatus) -> Kstatus {
    if value(status, "Reconciling") == "True" {
        Kstatus::InProgress
    } else if value(status, "Stalled") == "True" {
        Kstatus::Failed
    } else if value(status, "Ready") == "True" {
        Kstatus::Current
    } else {
        Kstatus::InProgress
    }
}

/// The status of the world now; the world keeps it.
fn tell(world: &mut World) -> StreamJobStatus {
    tell_with(world, None)
}

fn tell_with(world: &mut World, trouble: Option<&Trouble>) -> StreamJobStatus {
    let observed = world.observe();
    tell_observed(world, trouble, &observed)
}

fn tell_observed(
    world: &mut World,
    trouble: Option<&Trouble>,
    observed: &Observed,
) -> StreamJobStatus {
    let wish = world.wish();
    let revision = world.status.revision.as_ref();
    let running = revision.and_then(|name| world.revisions.get(name));
    let running = running.and_then(|one| one.spec(1).ok());
    let before = world.status.clone();
    let deletion = world.deletion();
    let inputs = Inputs {
        meta: &world.meta,
        paused: world.spec.paused,
        deletion: &deletion,
        wish: wish.as_ref(),
        status: &before,
        observed,
        replaced: &world.replaced,
        now: world.now,
    };
    let view = View {
        inputs: &inputs,
        status: &before,
        running: running.as_ref(),
        trouble,
    };
    let status = completed(&view);
    check_whole(world, &status);
    world.status = status.clone();
    status
}

/// What holds of every status.
fn check_whole(world: &World, status: &StreamJobStatus) {
    let types: Vec<&str> = status
        .conditions
        .iter()
        .map(|one| one.type_.as_str())
        .collect();
    let all: Vec<&str> = ConditionType::ALL.iter().map(|one| one.as_str()).collect();
    assert_eq!(types, all);
    for condition in &status.conditions {
        assert_eq!(
            condition.observed_generation, world.meta.generation,
            "{condition:?}"
        );
        assert!(!condition.reason.is_empty(), "{condition:?}");
    }
    assert_eq!(status.observed_generation, world.meta.generation);
    let both = value(status, "Reconciling") == "True" && value(status, "Stalled") == "True";
    assert!(!both, "{status:#?}");
}

#[test]
fn a_job_that_could_not_be_stopped_with_a_savepoint_says_so_until_it_is_restarted() {
    let mut world = World::running();
    world.savepoints_fail = true;
    world.edit(|spec| "good-2".clone_into(&mut spec.image));
    let before = world.status.deployment;
    world.until(|world| world.status.deployment != before);
    world.savepoints_fail = false;
    for _ in 0..20 {
        world.reconcile(usize::MAX);
        world.tick();
        let status = tell(&mut world);
        if status.deployed.is_some_and(|deployed| deployed.claimed) {
            assert_eq!(
                reason(&world.status, "RestoredFromState"),
                "FellBackToCheckpoint"
            );
        }
    }
    assert_eq!(world.status.upgrade, None);
    let says = message(&world.status, "RestoredFromState");
    assert!(
        says.contains("could not be stopped with a savepoint"),
        "{says}"
    );
    world.edit(|spec| "good-3".clone_into(&mut spec.image));
    for _ in 0..20 {
        world.reconcile(usize::MAX);
        world.tick();
        tell(&mut world);
    }
    assert_eq!(reason(&world.status, "RestoredFromState"), "Restored");
}

#[test]
fn a_job_that_runs_is_ready_and_current() {
    let mut world = World::running();
    let status = tell(&mut world);
    assert_eq!(kstatus(&status), Kstatus::Current);
    assert_eq!(status.state, Some(JobPhase::Running));
    assert_eq!(value(&status, "CheckpointHealthy"), "True");
    assert_eq!(status.message, None);
    assert_eq!(status.workers.unwrap().summary, "1/1");
    assert_eq!(status.replicas, Some(1));
}

#[test]
fn a_new_job_is_in_progress_until_its_first_checkpoint() {
    let mut world = World::new();
    for _ in 0..3 {
        world.reconcile(usize::MAX);
        let status = tell(&mut world);
        assert_eq!(kstatus(&status), Kstatus::InProgress, "{status:#?}");
        assert_eq!(value(&status, "Ready"), "False");
        assert!(status.message.is_some());
        world.tick();
    }
}

#[test]
fn a_job_whose_revision_is_checked_stays_ready() {
    let mut world = World::running();
    world.edit(|spec| "good-2".clone_into(&mut spec.image));
    world.reconcile(usize::MAX);
    let status = tell(&mut world);
    assert_eq!(value(&status, "Ready"), "True");
    assert_eq!(kstatus(&status), Kstatus::InProgress);
    assert_eq!(reason(&status, "Reconciling"), "Preflight");
    assert_eq!(status.state, Some(JobPhase::Upgrading));
}

#[test]
fn a_job_that_waits_for_approval_says_how_to_give_it() {
    let mut world = World::running();
    world.edit(|spec| {
        spec.upgrade.approval = Approval::Manual;
        "good-2".clone_into(&mut spec.image);
    });
    world.until_step(UpgradeStep::WaitingForApproval);
    let status = tell(&mut world);
    let wanted = world.wanted();
    assert!(
        message(&status, "Reconciling").contains(&format!("millstream.dev/approve={wanted}")),
        "{status:#?}"
    );
    assert!(message(&status, "Reconciling").contains("operator out is new"));
}

#[test]
fn a_rejected_revision_stalls_the_job_though_it_is_ready() {
    let mut world = World::running();
    world.edit(|spec| "no-check".clone_into(&mut spec.image));
    world.settle();
    let status = tell(&mut world);
    assert_eq!(kstatus(&status), Kstatus::Failed);
    assert_eq!(value(&status, "Ready"), "True");
    assert_eq!(value(&status, "Valid"), "False");
    assert_eq!(reason(&status, "Stalled"), "PreflightFailed");
    assert!(message(&status, "Stalled").contains("there is no column amont"));
    assert!(message(&status, "Stalled").contains("runs on"));
}

#[test]
fn faults_of_the_spec_are_told_and_what_runs_is_ready() {
    let mut world = World::running();
    let lines = ["spec.a: bad", "spec.b: worse"].map(str::to_owned).to_vec();
    world.faulty = Some(Faults { lines });
    let status = tell(&mut world);
    assert_eq!(kstatus(&status), Kstatus::Failed);
    assert_eq!(
        (value(&status, "Valid"), value(&status, "Ready")),
        ("False", "True")
    );
    assert_eq!(message(&status, "Valid"), "spec.a: bad\nspec.b: worse");
    assert_eq!(status.state, Some(JobPhase::Running));
}

#[test]
fn faults_of_a_first_spec_make_it_invalid() {
    let mut world = World::new();
    world.faulty = Some(Faults {
        lines: vec!["spec.a: bad".to_owned()],
    });
    let status = tell(&mut world);
    assert_eq!(status.state, Some(JobPhase::Invalid));
    assert_eq!(kstatus(&status), Kstatus::Failed);
}

#[test]
fn a_suspended_job_says_where_its_state_lies_and_how_to_resume_it() {
    let mut world = World::running();
    world.edit(|spec| spec.state = DesiredState::Suspended);
    world.reconcile(usize::MAX);
    let stopping = tell(&mut world);
    assert_eq!(stopping.state, Some(JobPhase::Suspending));
    assert_eq!(value(&stopping, "SavepointInProgress"), "True");
    world.settle();
    let status = tell(&mut world);
    assert_eq!(status.state, Some(JobPhase::Suspended));
    assert_eq!(value(&status, "Suspended"), "True");
    assert_eq!(value(&status, "Reconciling"), "False");
    let point = status.restore_point.clone().unwrap();
    assert!(message(&status, "Suspended").contains(&point));
    assert!(message(&status, "Suspended").contains("spec.state: Running"));
    assert_eq!(status.replicas, Some(0));
}

#[test]
fn an_autoscaler_is_shown_pods_only_where_each_is_one_replica() {
    let mut world = World::running();
    let selector = tell(&mut world).selector;
    assert!(selector.is_some_and(|text| text.contains("millstream.dev/job=orders")));
    world.edit(|spec| spec.workers.slots = 2);
    world.settle();
    let status = tell(&mut world);
    assert_eq!(status.selector, None);
    assert_eq!(status.replicas, Some(1), "`kubectl scale` still works");
}

#[test]
fn a_complete_job_is_neither_reconciling_nor_stalled() {
    let mut world = World::new();
    world.bounded = true;
    world.settle();
    let status = tell(&mut world);
    assert_eq!(status.state, Some(JobPhase::Completed));
    assert_eq!(value(&status, "Completed"), "True");
    assert_eq!(
        (value(&status, "Reconciling"), value(&status, "Stalled")),
        ("False", "False")
    );
}

#[test]
fn a_job_that_failed_says_why_and_what_to_do() {
    let mut world = World::new();
    world.edit(|spec| "fails".clone_into(&mut spec.image));
    world.settle();
    let status = tell(&mut world);
    assert_eq!(kstatus(&status), Kstatus::Failed);
    assert_eq!(status.state, Some(JobPhase::Failed));
    assert!(message(&status, "Stalled").contains("there is no column amont"));
}

#[test]
fn a_job_that_cannot_run_as_it_is_written_is_not_valid() {
    let mut world = World::new();
    world.failure_kind = ErrorKind::InvalidJob;
    world.edit(|spec| "fails".clone_into(&mut spec.image));
    world.settle();
    let status = tell(&mut world);
    assert_eq!(
        (value(&status, "Valid"), reason(&status, "Valid")),
        ("False", "InvalidSpec")
    );
    assert_eq!(reason(&status, "Stalled"), "InvalidSpec");
}

#[test]
fn a_rolled_back_job_is_ready_and_stalled() {
    let mut world = World::running();
    world.edit(|spec| {
        spec.upgrade.rollback.enabled = true;
        "fails".clone_into(&mut spec.image);
    });
    world.settle();
    let status = tell(&mut world);
    assert_eq!(
        (value(&status, "Ready"), value(&status, "RolledBack")),
        ("True", "True")
    );
    assert_eq!(kstatus(&status), Kstatus::Failed);
}

#[test]
fn a_paused_job_is_not_reconciling() {
    let mut world = World::running();
    world.edit(|spec| {
        spec.paused = true;
        "good-2".clone_into(&mut spec.image);
    });
    let status = tell(&mut world);
    assert_eq!(kstatus(&status), Kstatus::Current);
    assert_eq!(reason(&status, "Reconciling"), "Paused");
}

#[test]
fn what_kubernetes_refuses_is_told_until_it_does_not() {
    let mut world = World::new();
    world.reconcile(2);
    let trouble = Trouble {
        message: "Deployment orders-workers: exceeded quota: small".to_owned(),
        since: world.now,
        next: world.now,
        generation: 1,
        tries: 3,
    };
    let status = tell_with(&mut world, Some(&trouble));
    assert_eq!(reason(&status, "Reconciling"), "ApplyFailed");
    assert!(message(&status, "Reconciling").contains("exceeded quota: small"));
    let status = tell(&mut world);
    assert_ne!(reason(&status, "Reconciling"), "ApplyFailed");
}

#[test]
fn an_overdue_checkpoint_is_told_while_the_job_runs() {
    let mut world = World::running();
    world.now = world
        .now
        .checked_add(jiff::SignedDuration::from_mins(10))
        .unwrap();
    let status = tell(&mut world);
    assert_eq!(reason(&status, "CheckpointHealthy"), "CheckpointOverdue");
    assert_eq!(value(&status, "Ready"), "True");
}

#[test]
fn failing_checkpoints_are_told_with_their_cause() {
    let mut world = World::running();
    world.checkpoint_failures = Some(CheckpointFailures {
        in_a_row: 2,
        tolerable: 3,
        last: RuntimeFailure {
            code: ErrorCode::StoreUnavailable.into(),
            kind: ErrorKind::Retryable.into(),
            message: "the store answers 503".to_owned(),
        },
    });
    let status = tell(&mut world);
    assert_eq!(value(&status, "CheckpointHealthy"), "False");
    assert_eq!(reason(&status, "CheckpointHealthy"), "CheckpointFailing");
    assert_eq!(
        message(&status, "CheckpointHealthy"),
        "2 checkpoints in a row have failed, 4 restart the job; the last one: MS0301 \
         StoreUnavailable: the store answers 503"
    );
    assert_eq!(value(&status, "Ready"), "True");
}

#[test]
fn a_transition_keeps_its_time_while_the_value_stays() {
    let mut world = World::running();
    let first = tell(&mut world);
    world.run_for(5);
    let second = tell(&mut world);
    let since = |status: &StreamJobStatus| status.conditions[0].last_transition_time.clone();
    assert_eq!(since(&first), since(&second));
}

#[test]
fn a_job_that_is_not_ready_for_longer_than_its_deadline_stalls() {
    let mut world = World::running();
    tell(&mut world);
    world.unhealthy = true;
    world.tick();
    let status = tell(&mut world);
    assert_eq!(kstatus(&status), Kstatus::InProgress);
    later(&mut world, 3);
    let status = tell(&mut world);
    assert_eq!(reason(&status, "Stalled"), "ProgressDeadlineExceeded");
}

fn later(world: &mut World, minutes: i64) {
    let minutes = jiff::SignedDuration::from_mins(minutes);
    world.now = world.now.checked_add(minutes).unwrap();
}

#[test]
fn a_coordinator_that_the_kubelet_finds_ready_and_nobody_reaches_stalls_with_the_likely_reason() {
    // A job that has run for long, and one that is deployed right now.
    for deploying in [false, true] {
        let mut world = World::running();
        if deploying {
            world.edit(|spec| "good-2".clone_into(&mut spec.image));
            world.until_step(UpgradeStep::Deploying);
            world.run_for(3);
        }
        world.silent = true;
        let status = tell(&mut world);
        assert_eq!(value(&status, "Ready"), "Unknown");
        assert_eq!(kstatus(&status), Kstatus::InProgress);
        assert!(deploying || status.state == Some(JobPhase::Running));
        later(&mut world, 3);
        world.reconcile(usize::MAX);
        let status = tell(&mut world);
        assert_eq!(kstatus(&status), Kstatus::Failed, "{status:#?}");
        assert_eq!(reason(&status, "Stalled"), "CoordinatorUnreachable");
        let said = message(&status, "Stalled");
        assert!(
            said.contains("mesh") && said.contains("network policy"),
            "{said}"
        );
        assert!(said.contains("8081"), "{said}");
        assert_eq!(status.rejected, None, "it works, only nobody can ask it");
        world.silent = false;
        world.settle();
        assert_eq!(kstatus(&tell(&mut world)), Kstatus::Current);
    }
}

#[test]
fn one_look_without_an_answer_changes_nothing() {
    let mut world = World::running();
    let before = tell(&mut world);
    world.heard_before = world.observe().runtime.current().cloned();
    world.silent = true;
    assert_eq!(tell(&mut world), before);
    world.heard_before = None;
    let status = tell(&mut world);
    assert_eq!(reason(&status, "Ready"), "CoordinatorUnreachable");
}

#[test]
fn a_job_is_not_suspended_while_its_pods_are_ending() {
    let mut world = World::running();
    world.edit(|spec| spec.state = DesiredState::Suspended);
    while world.applied.is_some() {
        world.tick();
        world.reconcile(usize::MAX);
    }
    assert!(world.process.is_some(), "its pod is still there");
    let status = tell(&mut world);
    assert_eq!(value(&status, "Suspended"), "False");
    assert_eq!(status.state, Some(JobPhase::Suspending));
    assert_eq!(kstatus(&status), Kstatus::InProgress);
    world.settle();
    assert_eq!(value(&tell(&mut world), "Suspended"), "True");
}

#[test]
fn a_rejection_of_any_length_keeps_the_status_small() {
    let mut world = World::running();
    world.verdict = "ä".repeat(1_000_000);
    world.edit(|spec| "no-check".clone_into(&mut spec.image));
    world.settle();
    let status = tell(&mut world);
    assert!(status.rejected.is_some());
    let size = serde_json::to_string(&status).unwrap().len();
    assert!(size < 32 * 1024, "{size} bytes");
}

#[test]
fn the_longest_messages_keep_the_status_small() {
    let mut world = World::running();
    let lines = (0..100)
        .map(|n| format!("spec.field{n}: {}", "ä".repeat(500)))
        .collect();
    world.faulty = Some(Faults { lines });
    let status = tell(&mut world);
    let size = serde_json::to_string(&status).unwrap().len();
    assert!(size < 16 * 1024, "{size} bytes");
}

#[test]
fn the_documentation_lists_every_condition_and_every_reason() {
    let text = include_str!("../../../../docs/operator.md");
    for condition in ConditionType::ALL {
        let row = format!("| `{}` |", condition.as_str());
        assert!(text.contains(&row), "no row {row}");
    }
    let (_, reasons) = text.split_once("| reason | |").unwrap();
    let rows: Vec<&str> = reasons
        .lines()
        .skip(2)
        .map_while(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    let all: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(rows, all);
}
