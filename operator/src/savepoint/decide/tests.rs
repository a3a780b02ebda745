mod fixtures;

use serde_json::json;

use super::super::template::ANNOTATION;
use super::*;
use crate::controller::build::names::ANNOTATION_SKIP_FINALIZER;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_780_000_000 + seconds).unwrap()
}

/// A savepoint that was created at second 0 and has 10 minutes.
fn savepoint(status: &serde_json::Value) -> StreamSavepoint {
    serde_json::from_value(json!({
        "apiVersion": "millstream.dev/v1alpha1", "kind": "StreamSavepoint",
        "metadata": {
            "name": "before", "namespace": "shop", "uid": "u-1", "generation": 1,
            "creationTimestamp": at(0).to_string(),
        },
        "spec": {"jobRef": {"name": "orders"}, "deadline": "10m", "retain": true},
        "status": status,
    }))
    .unwrap()
}

fn template() -> Template {
    Template::of_spec(&json!({"image": "millstream:1"})).unwrap()
}

fn seen(runtime: RuntimeSeen) -> Seen {
    let job = JobSeen {
        phase: Some(JobPhase::Running),
        template: Some(template()),
        ..JobSeen::default()
    };
    Seen {
        job: Some(job),
        runtime,
        disposal: DisposalSeen::Absent,
    }
}

fn completed() -> RuntimeSeen {
    RuntimeSeen::Completed {
        path: "s3://state/sp".to_owned(),
        id: Some(7),
        size_bytes: Some(4_096),
    }
}

/// Value and reason of a condition.
fn condition(decision: &Decision, name: &str) -> (String, String) {
    let found = decision
        .status
        .conditions
        .iter()
        .find(|one| one.type_ == name);
    let found = found.unwrap_or_else(|| panic!("no condition {name}"));
    (found.status.clone(), found.reason.clone())
}

fn state(decision: &Decision) -> SavepointState {
    decision.status.state.unwrap()
}

fn message(decision: &Decision) -> &str {
    decision.status.message.as_deref().unwrap_or_default()
}

#[test]
fn a_new_savepoint_is_asked_for_once_the_status_says_so() {
    let decision = decide(
        &savepoint(&json!(null)),
        &seen(RuntimeSeen::NotAsked),
        at(3),
    );
    assert_eq!(decision.action, Action::Ask { dispose_with: None });
    assert_eq!(state(&decision), SavepointState::InProgress);
    assert_eq!(decision.status.tries, Some(1));
    assert_eq!(decision.status.triggered_at, Some(at(3).to_string()));
    assert_eq!(decision.status.observed_generation, Some(1));
    assert_eq!(
        condition(&decision, "Reconciling"),
        ("True".into(), "TakingSavepoint".into())
    );
    assert_eq!(condition(&decision, "Ready").0, "False");
}

#[test]
fn one_that_goes_with_its_resource_is_held_before_it_is_asked_for() {
    let mut savepoint = savepoint(&json!(null));
    savepoint.spec.retain = false;
    let decision = decide(&savepoint, &seen(RuntimeSeen::NotAsked), at(3));
    assert_eq!(
        decision.action,
        Action::Ask {
            dispose_with: Some(template())
        }
    );
    savepoint.metadata.finalizers = Some(vec![super::super::FINALIZER.to_owned()]);
    let decision = decide(&savepoint, &seen(RuntimeSeen::NotAsked), at(3));
    assert_eq!(decision.action, Action::Ask { dispose_with: None });
}

#[test]
fn a_coordinator_that_has_forgotten_is_asked_again_without_counting_a_try() {
    let status = json!({"state": "InProgress", "tries": 2, "triggeredAt": at(3).to_string()});
    let decision = decide(&savepoint(&status), &seen(RuntimeSeen::NotAsked), at(60));
    assert_eq!(decision.action, Action::Ask { dispose_with: None });
    assert_eq!(decision.status.tries, Some(2));
    assert_eq!(decision.status.triggered_at, Some(at(3).to_string()));
}

#[test]
fn a_complete_one_says_where_it_lies_and_is_left_alone() {
    let status = json!({"state": "InProgress", "tries": 1});
    let before = savepoint(&status);
    let decision = decide(&before, &seen(completed()), at(9));
    assert!(decision.completes(&before));
    assert_eq!(state(&decision), SavepointState::Completed);
    assert_eq!(decision.status.path.as_deref(), Some("s3://state/sp"));
    assert_eq!(decision.status.checkpoint_id, Some(7));
    assert_eq!(decision.status.size_bytes, Some(4_096));
    assert_eq!(decision.status.completed_at, Some(at(9).to_string()));
    assert_eq!(
        condition(&decision, "Ready"),
        ("True".into(), "SavepointCompleted".into())
    );
    assert_eq!(condition(&decision, "Reconciling").0, "False");
    assert_eq!(condition(&decision, "Stalled").0, "False");
    assert_eq!(decision.notices.len(), 1);

    let mut after = savepoint(&json!(null));
    after.status = Some(decision.status.clone());
    assert!(!needs_runtime(&after));
    let again = decide(&after, &Seen::default(), at(5_000));
    assert!(!again.completes(&after));
    assert_eq!(again.status, decision.status);
    assert_eq!(
        (again.action, again.next),
        (Action::None, Next::on_change())
    );
    assert!(again.notices.is_empty());
}

#[test]
fn a_failed_try_is_tried_again_with_growing_delays() {
    let mut current = savepoint(&json!(null));
    let mut now = at(0);
    for (tries, delay) in [(1, 5), (2, 10), (3, 20), (4, 40), (5, 80)] {
        let asked = decide(&current, &seen(RuntimeSeen::Failed("earlier".into())), now);
        assert_eq!(
            asked.action,
            Action::Ask { dispose_with: None },
            "try {tries}"
        );
        assert_eq!(asked.status.tries, Some(tries));
        current.status = Some(asked.status);
        let failed = decide(
            &current,
            &seen(RuntimeSeen::Failed("disk full".into())),
            now,
        );
        assert_eq!(state(&failed), SavepointState::Pending);
        assert_eq!(failed.action, Action::None);
        assert!(
            message(&failed).contains("disk full"),
            "{}",
            message(&failed)
        );
        assert_eq!(failed.next, Next::after(Duration::from_secs(delay)));
        assert_eq!(failed.notices.len(), 1);
        current.status = Some(failed.status);
        let early = decide(
            &current,
            &seen(RuntimeSeen::Failed("disk full".into())),
            now,
        );
        assert_eq!(early.action, Action::None, "not before it is due");
        now = now.checked_add(Duration::from_secs(delay)).unwrap();
    }
    assert_eq!(backoff(40), RETRY_MAX);
}

#[test]
fn after_its_deadline_it_is_abandoned_with_the_last_reason() {
    let status = json!({"state": "Pending", "tries": 3, "message": "try 3 failed: disk full"});
    for runtime in [
        RuntimeSeen::NoCoordinator,
        RuntimeSeen::NotAsked,
        RuntimeSeen::InProgress,
        RuntimeSeen::Silent("refused".into()),
        RuntimeSeen::Failed("disk full".into()),
    ] {
        let decision = decide(&savepoint(&status), &seen(runtime.clone()), at(600));
        assert_eq!(state(&decision), SavepointState::Abandoned, "{runtime:?}");
        assert_eq!(decision.action, Action::None);
        assert!(message(&decision).contains("disk full"));
        assert_eq!(
            condition(&decision, "Stalled"),
            ("True".into(), "DeadlineExceeded".into())
        );
    }
}

#[test]
fn one_that_completes_at_its_deadline_is_complete() {
    let decision = decide(&savepoint(&json!(null)), &seen(completed()), at(900));
    assert_eq!(state(&decision), SavepointState::Completed);
}

#[test]
fn it_waits_for_its_job_and_says_what_a_person_can_do() {
    let with = |phase: JobPhase| {
        let job = JobSeen {
            phase: Some(phase),
            template: None,
            ..JobSeen::default()
        };
        Seen {
            job: Some(job),
            ..Seen::default()
        }
    };
    for (seen, reason, hint) in [
        (Seen::default(), "ReferenceMissing", "no StreamJob orders"),
        (with(JobPhase::Suspended), "Suspended", "Resume it"),
        (with(JobPhase::Suspending), "Suspended", "Resume it"),
        (with(JobPhase::Completed), "Completed", "is complete"),
        (
            with(JobPhase::Deploying),
            "WaitingForPods",
            "no coordinator",
        ),
        (
            Seen {
                runtime: RuntimeSeen::Silent("timed out".into()),
                ..with(JobPhase::Running)
            },
            "CoordinatorUnreachable",
            "timed out",
        ),
    ] {
        let decision = decide(&savepoint(&json!(null)), &seen, at(1));
        assert_eq!(state(&decision), SavepointState::Pending, "{reason}");
        assert_eq!(decision.action, Action::None);
        assert_eq!(
            condition(&decision, "Reconciling"),
            ("True".into(), reason.into())
        );
        assert!(message(&decision).contains(hint), "{}", message(&decision));
        assert!(
            message(&decision).contains(&at(600).to_string()),
            "it says until when"
        );
        assert_eq!(decision.next, Next::after(LATER));
        assert_eq!(decision.status.tries, None, "waiting is no try");
    }
}

#[test]
fn waiting_says_the_same_every_time() {
    let first = decide(&savepoint(&json!(null)), &Seen::default(), at(1));
    let mut again = savepoint(&json!(null));
    again.status = Some(first.status.clone());
    let second = decide(&again, &Seen::default(), at(31));
    assert_eq!(
        first.status, second.status,
        "or every look would be a write"
    );
}

#[test]
fn a_refusal_for_good_fails_it_and_any_other_is_tried_again() {
    let status = json!({"state": "InProgress", "tries": 1});
    let current = savepoint(&status);
    let announced = current.status.clone().unwrap();
    let after = |error: &RuntimeError| refused(&current, announced.clone(), error, at(4));
    let taken = RuntimeError::Conflict {
        code: Some("MS0307".to_owned()),
        message: "another savepoint has the name".to_owned(),
    };
    let decision = after(&taken);
    assert_eq!(state(&decision), SavepointState::Failed);
    assert_eq!(
        condition(&decision, "Stalled"),
        ("True".into(), "SavepointFailed".into())
    );

    let stopping = RuntimeError::Conflict {
        code: None,
        message: "the job is stopping".to_owned(),
    };
    let decision = after(&stopping);
    assert_eq!(state(&decision), SavepointState::Pending);
    assert!(message(&decision).contains("the job is stopping"));

    let silent = RuntimeError::Unreachable {
        address: "x".to_owned(),
        reason: "y".to_owned(),
    };
    let decision = after(&silent);
    assert_eq!(
        state(&decision),
        SavepointState::InProgress,
        "it may have been taken"
    );
    assert_eq!(decision.status, announced);
}

/// A savepoint that is being deleted and whose data goes with it.
fn leaving(status: &serde_json::Value, annotations: &serde_json::Value) -> StreamSavepoint {
    let mut leaving = savepoint(status);
    leaving.spec.retain = false;
    leaving.metadata.deletion_timestamp = Some(Time(at(0)));
    leaving.metadata.finalizers = Some(vec![super::super::FINALIZER.to_owned()]);
    leaving.metadata.annotations = serde_json::from_value(annotations.clone()).unwrap();
    leaving
}

fn complete_status() -> serde_json::Value {
    json!({"state": "Completed", "path": "s3://state/sp", "tries": 1})
}

#[test]
fn data_that_stays_needs_nothing() {
    let mut kept = savepoint(&complete_status());
    kept.metadata.deletion_timestamp = Some(Time(at(0)));
    assert!(!needs_disposal(&kept));
    assert_eq!(decide(&kept, &Seen::default(), at(9)).action, Action::None);
}

#[test]
fn data_is_deleted_while_the_job_is_down_and_after_it_is_gone() {
    let noted = json!({ANNOTATION: r#"{"image": "millstream:noted"}"#});
    let leaving = leaving(&complete_status(), &noted);
    assert!(needs_disposal(&leaving) && !needs_runtime(&leaving));
    let suspended = Seen {
        job: Some(JobSeen {
            phase: Some(JobPhase::Suspended),
            template: Some(template()),
            ..JobSeen::default()
        }),
        ..Seen::default()
    };
    for (seen, image) in [
        (suspended, "millstream:1"),
        (Seen::default(), "millstream:noted"),
    ] {
        let decision = decide(&leaving, &seen, at(9));
        let Action::Dispose { path, template } = decision.action else {
            panic!("{:?}", decision.action)
        };
        assert_eq!(
            (path.as_str(), template.image.as_str()),
            ("s3://state/sp", image)
        );
    }
}

#[test]
fn the_resource_goes_once_its_data_is_gone() {
    let leaving = leaving(&complete_status(), &json!({}));
    let with = |disposal: DisposalSeen| Seen {
        disposal,
        ..seen(RuntimeSeen::NoCoordinator)
    };
    let running = decide(&leaving, &with(DisposalSeen::Running), at(9));
    assert_eq!(running.action, Action::None);
    let done = decide(&leaving, &with(DisposalSeen::Succeeded), at(9));
    assert_eq!(done.action, Action::Release);
}

#[test]
fn a_failed_disposal_is_shown_and_tried_again_later() {
    let leaving = leaving(&complete_status(), &json!({}));
    let failed = DisposalSeen::Failed {
        message: "access denied".into(),
        at: Some(at(10)),
    };
    let with = Seen {
        disposal: failed,
        ..seen(RuntimeSeen::NoCoordinator)
    };
    let decision = decide(&leaving, &with, at(40));
    assert_eq!(decision.action, Action::None);
    assert!(message(&decision).contains("access denied"));
    assert!(message(&decision).contains(ANNOTATION_SKIP_FINALIZER));
    assert_eq!(decision.next, Next::after(Duration::from_secs(90)));
    assert_eq!(decision.notices.len(), 1);
    assert_eq!(
        decide(&leaving, &with, at(130)).action,
        Action::RetryDisposal
    );
}

#[test]
fn a_disposal_that_never_succeeds_lets_the_resource_go_at_its_deadline_and_says_what_stays() {
    let leaving = leaving(&complete_status(), &json!({}));
    let seen = |disposal: DisposalSeen| Seen {
        disposal,
        ..seen(RuntimeSeen::NoCoordinator)
    };
    let failed = DisposalSeen::Failed {
        message: "access denied".into(),
        at: Some(at(1_000)),
    };
    let late = |disposal: &DisposalSeen| decide(&leaving, &seen(disposal.clone()), at(2_000));
    for stuck in [failed, DisposalSeen::Running, DisposalSeen::Absent] {
        let decision = late(&stuck);
        assert_eq!(decision.action, Action::Release, "{stuck:?}");
        let told = &decision.notices.last().unwrap().message;
        assert!(told.contains("s3://state/sp stays"), "{told}");
        assert!(told.contains("10m"), "{told}");
    }
    assert!(late(&DisposalSeen::Succeeded).notices.is_empty());
}

#[test]
fn the_annotation_lets_a_resource_go_and_says_what_stays() {
    let skip = leaving(
        &complete_status(),
        &json!({ANNOTATION_SKIP_FINALIZER: "true"}),
    );
    let decision = decide(&skip, &Seen::default(), at(9));
    assert_eq!(decision.action, Action::Release);
    assert!(decision.notices[0].message.contains("s3://state/sp stays"));
}

#[test]
fn without_any_way_to_delete_it_the_resource_goes_and_says_what_stays() {
    let leaving = leaving(&complete_status(), &json!({}));
    let decision = decide(&leaving, &Seen::default(), at(9));
    assert_eq!(decision.action, Action::Release);
    assert!(decision.notices[0].warning);
}

#[test]
fn one_that_is_deleted_in_flight_is_waited_for_and_then_deleted() {
    let leaving = leaving(&json!({"state": "InProgress", "tries": 1}), &json!({}));
    assert!(needs_runtime(&leaving));
    let decision = decide(&leaving, &seen(RuntimeSeen::InProgress), at(9));
    assert_eq!(decision.action, Action::None);
    assert_eq!(decision.next, Next::after(SOON));
    let decision = decide(&leaving, &seen(completed()), at(9));
    assert!(
        matches!(decision.action, Action::Dispose { .. }),
        "{:?}",
        decision.action
    );
    assert_eq!(decision.status.path.as_deref(), Some("s3://state/sp"));
    for runtime in [RuntimeSeen::NotAsked, RuntimeSeen::Failed("no".into())] {
        assert_eq!(
            decide(&leaving, &seen(runtime), at(9)).action,
            Action::Release
        );
    }
    assert_eq!(
        decide(&leaving, &seen(RuntimeSeen::InProgress), at(700)).action,
        Action::Release
    );
}
