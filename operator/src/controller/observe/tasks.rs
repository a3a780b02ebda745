//! Kubernetes jobs that do one thing: the check of a revision, the deletion of checkpoints.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use millstream_crds::status::UpgradeStatus;
use serde::Deserialize;

use super::TaskSeen;
use super::pods::{self, Problem, ProblemKind};
use crate::controller::apply::ANNOTATION_STEP;
use crate::controller::build::names::{LABEL_REVISION, LABEL_ROLE, Role};
use crate::controller::build::preflight::EXIT_INVALID;
use crate::controller::dereference::Dereferenced;

/// Label of a job's pods, by Kubernetes.
const LABEL_TASK: &str = "batch.kubernetes.io/job-name";

/// The check that belongs to the current step of the upgrade.
pub(super) fn preflight(facts: &Dereferenced) -> TaskSeen {
    let Some(upgrade) = &facts.status.upgrade else {
        return TaskSeen::Absent;
    };
    let to = upgrade.to.as_deref().unwrap_or_default();
    let mark = step_mark(upgrade);
    let task = of_role(facts, Role::Preflight).find(|task| {
        let revision = task.labels().get(LABEL_REVISION);
        task.annotations().get(ANNOTATION_STEP) == Some(&mark)
            && revision.is_some_and(|hash| to.ends_with(hash.as_str()))
    });
    task.map_or(TaskSeen::Absent, |task| seen(facts, task))
}

/// Tells the tries of a step of an upgrade from each other: an older job of the same name is that
/// of another try.
pub fn step_mark(upgrade: &UpgradeStatus) -> String {
    match upgrade.tries {
        0 => upgrade.since.clone(),
        tries => format!("{}/{tries}", upgrade.since),
    }
}

/// The deletion of the job's checkpoints.
pub(super) fn disposal(facts: &Dereferenced) -> TaskSeen {
    let name = facts.names().disposal();
    let task = of_role(facts, Role::Disposal).find(|task| task.name_any() == name);
    task.map_or(TaskSeen::Absent, |task| seen(facts, task))
}

fn of_role(facts: &Dereferenced, role: Role) -> impl Iterator<Item = &Job> {
    facts.tasks.iter().filter(move |task| {
        task.labels().get(LABEL_ROLE).map(String::as_str) == Some(role.as_str())
            && task.metadata.deletion_timestamp.is_none()
    })
}

fn seen(facts: &Dereferenced, task: &Job) -> TaskSeen {
    let name = task.name_any();
    let own: Vec<&Pod> = facts
        .pods
        .iter()
        .filter(|pod| pod.labels().get(LABEL_TASK) == Some(&name))
        .collect();
    let problem = problem(facts, &own, &name);
    outcome(task, &own, problem)
}

/// What a Kubernetes job has come to, by itself, its pods, and why those do not start.
fn outcome(task: &Job, own: &[&Pod], problem: Option<Problem>) -> TaskSeen {
    let ended = |kind: &str| {
        let conditions = task.status.as_ref()?.conditions.as_ref()?;
        let mut conditions = conditions.iter();
        conditions.find(|one| one.type_ == kind && one.status == "True")
    };
    let words = last_words(own);
    if ended("Complete").is_some() {
        return TaskSeen::Succeeded(words.unwrap_or_default());
    }
    let Some(failed) = ended("Failed").or_else(|| ended("FailureTarget")) else {
        return TaskSeen::Waiting(problem);
    };
    let otherwise = || problem.map(|problem| problem.message);
    let words = words.map(|words| verdict(&words)).or_else(otherwise);
    let message = words.unwrap_or_else(|| failed.message.clone().unwrap_or_default());
    if own.iter().any(|pod| exit_code(pod) == Some(EXIT_INVALID)) {
        return TaskSeen::Failed(message);
    }
    let at = failed.last_transition_time.as_ref().map(|time| time.0);
    TaskSeen::Broken { message, at }
}

/// Why its pods do not start. How they end is for the job to judge.
fn problem(facts: &Dereferenced, own: &[&Pod], task: &str) -> Option<Problem> {
    let ended = |kind| matches!(kind, ProblemKind::InvalidJob | ProblemKind::Crash);
    let of_pods = own
        .iter()
        .filter_map(|pod| pods::problem_of(pod, facts.warnings.get(&pod.name_any())))
        .find(|problem| !ended(problem.kind));
    of_pods.or_else(|| {
        facts.warnings.get(task).map(|message| Problem {
            kind: ProblemKind::NotCreated,
            message: format!("job {task}: {message}"),
        })
    })
}

fn exit_code(pod: &Pod) -> Option<i32> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    Some(status.state.as_ref()?.terminated.as_ref()?.exit_code)
}

/// What the newest pod that has ended wrote at its end.
fn last_words(own: &[&Pod]) -> Option<String> {
    let ended = own.iter().filter_map(|pod| {
        let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
        let ended = status.state.as_ref()?.terminated.as_ref()?;
        let words = ended
            .message
            .as_deref()
            .filter(|words| !words.trim().is_empty())?;
        Some((pod.creation_timestamp(), words.to_owned()))
    });
    ended
        .max_by_key(|(created, _)| created.clone())
        .map(|(_, words)| words)
}

/// The faults of a check as text; anything else as it is.
fn verdict(words: &str) -> String {
    #[derive(Deserialize)]
    struct Verdict {
        faults: Vec<Fault>,
    }
    #[derive(Deserialize)]
    struct Fault {
        #[serde(default)]
        path: Option<String>,
        message: String,
        #[serde(default)]
        code: Option<String>,
    }
    let Ok(verdict) = serde_json::from_str::<Verdict>(words.trim()) else {
        return words.trim().to_owned();
    };
    let lines: Vec<String> = verdict
        .faults
        .into_iter()
        .map(|fault| {
            let path = fault.path.filter(|path| !path.is_empty());
            let path = path.map_or_else(String::new, |path| format!("{path}: "));
            let code = fault
                .code
                .map_or_else(String::new, |code| format!(" ({code})"));
            format!("{path}{}{code}", fault.message)
        })
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_told_fault_by_fault_with_path_and_code() {
        let words = r#"{"valid": false, "restorePoint": null, "changes": [], "faults": [
            {"path": "spec.dataflow.transforms[0].sql", "message": "no column `amont`", "code": "MS0102"},
            {"path": null, "message": "operator x is dropped", "code": null}
        ]}"#;
        assert_eq!(
            verdict(words),
            "spec.dataflow.transforms[0].sql: no column `amont` (MS0102)\noperator x is dropped"
        );
    }

    fn task(status: &serde_json::Value) -> Job {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "orders-preflight-1"}, "status": status,
        }))
        .unwrap()
    }

    fn ended(exit_code: i32) -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p"},
            "status": {"containerStatuses": [{
                "name": "preflight", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": exit_code, "message": "words"}},
            }]},
        }))
        .unwrap()
    }

    #[test]
    fn only_a_verdict_is_a_failure() {
        let failed = task(&serde_json::json!({"conditions": [
            {"type": "Failed", "status": "True", "message": "BackoffLimitExceeded",
             "lastTransitionTime": "2026-11-24T12:00:00Z"}]}));
        let seen = |pods: &[&Pod]| outcome(&failed, pods, None);
        assert_eq!(seen(&[&ended(2)]), TaskSeen::Failed("words".to_owned()));
        // The store does not answer; the pod was evicted; the image could not be pulled in time.
        let at = "2026-11-24T12:00:00Z".parse().ok();
        let broken = |message: &str| TaskSeen::Broken {
            message: message.to_owned(),
            at,
        };
        assert_eq!(seen(&[&ended(1)]), broken("words"));
        assert_eq!(seen(&[]), broken("BackoffLimitExceeded"));
        let running = task(&serde_json::json!({}));
        assert_eq!(outcome(&running, &[], None), TaskSeen::Waiting(None));
    }

    #[test]
    fn last_words_that_are_no_verdict_are_told_as_they_are() {
        assert_eq!(verdict("panicked at …\n"), "panicked at …");
    }
}
