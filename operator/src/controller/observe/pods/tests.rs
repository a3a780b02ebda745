use serde_json::{Value, json};

use super::*;

fn pod(status: &Value) -> Pod {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "orders-coordinator-1"},
        "status": status,
    }))
    .unwrap()
}

fn container(state: &Value, last: &Value) -> Pod {
    pod(&json!({"containerStatuses": [{
        "name": "coordinator", "image": "i", "imageID": "", "ready": false, "restartCount": 1,
        "state": state, "lastState": last,
    }]}))
}

fn kind(pod: &Pod) -> Option<ProblemKind> {
    problem_of(pod, None).map(|problem| problem.kind)
}

fn waiting(reason: &str) -> Pod {
    container(
        &json!({"waiting": {"reason": reason, "message": "why"}}),
        &json!({}),
    )
}

#[test]
fn an_image_that_must_be_there_and_is_not_is_final() {
    assert_eq!(
        kind(&waiting("ErrImageNeverPull")),
        Some(ProblemKind::ImageUnusable)
    );
    assert_eq!(
        kind(&waiting("InvalidImageName")),
        Some(ProblemKind::ImageUnusable)
    );
    assert!(ProblemKind::ImageUnusable.is_final());
}

#[test]
fn an_image_that_cannot_be_pulled_now_may_come() {
    assert_eq!(
        kind(&waiting("ImagePullBackOff")),
        Some(ProblemKind::ImagePull)
    );
    assert!(!ProblemKind::ImagePull.is_final());
}

#[test]
fn a_pod_that_is_being_made_has_no_problem_until_an_event_says_so() {
    let pod = waiting("ContainerCreating");
    assert_eq!(kind(&pod), None);
    let warned = problem_of(&pod, Some(&"secret \"kafka\" not found".to_owned())).unwrap();
    assert_eq!(warned.kind, ProblemKind::Container);
    assert_eq!(
        warned.message,
        "pod orders-coordinator-1: secret \"kafka\" not found"
    );
}

#[test]
fn exit_code_2_means_faults_of_the_job_file_with_the_containers_last_words() {
    let ended =
        json!({"terminated": {"exitCode": 2, "reason": "Error", "message": "spec.x: bad\n"}});
    let looping = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    for pod in [container(&ended, &json!({})), container(&looping, &ended)] {
        let problem = problem_of(&pod, None).unwrap();
        assert_eq!(problem.kind, ProblemKind::InvalidJob);
        assert!(
            problem
                .message
                .ends_with("Error with exit code 2: spec.x: bad"),
            "{problem:?}"
        );
    }
}

#[test]
fn an_image_that_is_being_pulled_again_is_named() {
    let mut pulling = waiting("ContainerCreating");
    pulling.spec = serde_json::from_value(
        json!({"containers": [{"name": "coordinator", "image": "localhost/none:1"}]}),
    )
    .unwrap();
    let problem = problem_of(&pulling, Some(&"Error: ErrImagePull".to_owned())).unwrap();
    assert_eq!(problem.kind, ProblemKind::ImagePull);
    assert!(problem.message.contains("localhost/none:1"), "{problem:?}");
    let mounts = "FailedMount: secret none is not there".to_owned();
    let problem = problem_of(&pulling, Some(&mounts)).unwrap();
    assert_eq!(problem.kind, ProblemKind::Container);
    assert!(problem.message.ends_with(&mounts), "{problem:?}");
}

#[test]
fn exit_code_3_means_that_a_newer_deployment_has_the_chain() {
    let ended = json!({"terminated": {
        "exitCode": 3, "reason": "Error", "message": "deployment 7 is fenced"}});
    let back_off = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    for pod in [container(&ended, &json!({})), container(&back_off, &ended)] {
        let problem = problem_of(&pod, None).unwrap();
        assert_eq!(problem.kind, ProblemKind::Fenced);
        assert!(!problem.kind.is_final() && !problem.kind.is_before_start());
        assert!(problem.message.contains("is fenced"), "{problem:?}");
    }
}

#[test]
fn any_other_exit_code_is_a_crash() {
    let ended = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
    assert_eq!(
        kind(&container(&ended, &json!({}))),
        Some(ProblemKind::Crash)
    );
}

#[test]
fn a_container_that_runs_again_has_no_problem() {
    let ended = json!({"terminated": {"exitCode": 1}});
    assert_eq!(kind(&container(&json!({"running": {}}), &ended)), None);
}

#[test]
fn a_pod_without_a_node_is_not_scheduled() {
    let pod = pod(&json!({"conditions": [
        {"type": "PodScheduled", "status": "False", "message": "0/1 nodes: insufficient cpu"}
    ]}));
    assert_eq!(kind(&pod), Some(ProblemKind::NotScheduled));
}

#[test]
fn a_deployment_whose_pods_are_refused_says_why() {
    let deployment: Deployment = serde_json::from_value(json!({
        "metadata": {"name": "orders-workers"},
        "status": {"conditions": [
            {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: small"}
        ]},
    }))
    .unwrap();
    let problem = not_created(&deployment).unwrap();
    assert_eq!(problem.kind, ProblemKind::NotCreated);
    assert_eq!(
        problem.message,
        "deployment orders-workers: exceeded quota: small"
    );
}

#[test]
fn a_worker_that_ended_with_its_job_has_no_problem() {
    let ended = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
    let looping = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    assert_eq!(kind(&container(&looping, &ended)), None);
}

#[test]
fn a_process_that_had_worked_is_not_kept_waiting_by_the_kubelet() {
    let looping = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    let ended = |at: &str| {
        json!({"terminated": {
            "exitCode": 137, "reason": "OOMKilled",
            "startedAt": "2026-11-25T01:00:00Z", "finishedAt": at,
        }})
    };
    let found = |state: &Value, last: &Value| put_off(&container(state, last));
    let late = found(&looping, &ended("2026-11-25T01:03:05Z")).unwrap();
    assert_eq!(late.pod, "orders-coordinator-1");
    assert_eq!(late.message, "OOMKilled with exit code 137 after 185s");
    let too_short = ended("2026-11-25T01:00:09Z");
    assert_eq!(found(&looping, &too_short), None, "it cannot start");
    let runs = json!({"running": {}});
    assert_eq!(found(&runs, &ended("2026-11-25T01:03:05Z")), None);
    assert_eq!(found(&looping, &json!({})), None);
}

#[test]
fn a_process_that_ended_in_peace_is_not_replaced() {
    let looping = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    let ended = json!({"terminated": {
        "exitCode": 0, "reason": "Completed",
        "startedAt": "2026-11-25T01:00:00Z", "finishedAt": "2026-11-25T03:00:00Z",
    }});
    assert_eq!(put_off(&container(&looping, &ended)), None);
}

/// A pod as it is while its node is well, and as others have left it.
fn with_conditions(phase: &str, conditions: &Value) -> Pod {
    pod(&json!({"phase": phase, "conditions": conditions}))
}

#[test]
fn a_pod_of_a_lost_node_is_told_from_one_that_its_kubelet_finds_not_ready() {
    let lost = json!([
        {"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "True"}]);
    assert!(is_on_lost_node(&with_conditions("Running", &lost)));
    for well in [
        json!([{"type": "Ready", "status": "True"}, {"type": "ContainersReady", "status": "True"}]),
        json!([{"type": "Ready", "status": "False", "reason": "ContainersNotReady"},
               {"type": "ContainersReady", "status": "False", "reason": "ContainersNotReady"}]),
        json!([{"type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady"},
               {"type": "ContainersReady", "status": "True"}]),
        json!([]),
    ] {
        assert!(
            !is_on_lost_node(&with_conditions("Running", &well)),
            "{well}"
        );
    }
}

#[test]
fn a_pod_that_was_sent_to_a_dead_node_is_known_by_its_eviction() {
    let evicted = json!([{"type": "DisruptionTarget", "status": "True",
        "reason": "DeletionByTaintManager"}]);
    assert!(is_on_lost_node(&with_conditions("Pending", &evicted)));
    // One that runs may still end in peace.
    assert!(!is_on_lost_node(&with_conditions("Running", &evicted)));
}

#[test]
fn the_kubelet_is_believed_where_it_asks_for_the_tasks_of_this_deployment() {
    let coordinator = |path: &str, deployment: &str| -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "c", "labels": {"millstream.dev/role": "coordinator",
                "millstream.dev/deployment": deployment}},
            "spec": {"containers": [{"name": "coordinator",
                "readinessProbe": {"httpGet": {"path": path, "port": "rest"}}}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }))
        .unwrap()
    };
    assert!(is_running(&[coordinator("/readyz", "7")], Some(7)));
    assert!(
        !is_running(&[coordinator("/healthz", "7")], Some(7)),
        "it only lives"
    );
    assert!(
        !is_running(&[coordinator("/readyz", "6")], Some(7)),
        "an older one"
    );
    assert!(!is_running(&[], None));
}
