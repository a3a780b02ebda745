//! Kubernetes jobs that do one thing: the check of a revision, the deletion of checkpoints.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use serde::Deserialize;

use super::TaskSeen;
use super::pods::{self, Problem, ProblemKind};
use crate::controller::apply::ANNOTATION_STEP;
use crate::controller::build::names::{LABEL_REVISION, LABEL_ROLE, Role};
use crate::controller::dereference::Dereferenced;

/// Label of a job's pods, by Kubernetes.
const LABEL_TASK: &str = "batch.kubernetes.io/job-name";

/// The check that belongs to the current step of the upgrade.
pub(super) fn preflight(facts: &Dereferenced) -> TaskSeen {
    let Some(upgrade) = &facts.status.upgrade else {
        return TaskSeen::Absent;
    };
    let to = upgrade.to.as_deref().unwrap_or_default();
    let task = of_role(facts, Role::Preflight).find(|task| {
        let revision = task.labels().get(LABEL_REVISION);
        task.annotations().get(ANNOTATION_STEP) == Some(&upgrade.since)
            && revision.is_some_and(|hash| to.ends_with(hash.as_str()))
    });
    task.map_or(TaskSeen::Absent, |task| seen(facts, task))
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
    let ended = |kind: &str| {
        let conditions = task.status.as_ref()?.conditions.as_ref()?;
        let mut conditions = conditions.iter();
        conditions.find(|one| one.type_ == kind && one.status == "True")
    };
    let words = last_words(&own);
    if ended("Complete").is_some() {
        return TaskSeen::Succeeded(words.unwrap_or_default());
    }
    if let Some(failed) = ended("Failed").or_else(|| ended("FailureTarget")) {
        let otherwise = || problem(facts, &own, &name).map(|problem| problem.message);
        let words = words.map(|words| verdict(&words)).or_else(otherwise);
        let why = failed.message.clone().unwrap_or_default();
        return TaskSeen::Failed(words.unwrap_or(why));
    }
    TaskSeen::Waiting(problem(facts, &own, &name))
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

    #[test]
    fn last_words_that_are_no_verdict_are_told_as_they_are() {
        assert_eq!(verdict("panicked at …\n"), "panicked at …");
    }
}
