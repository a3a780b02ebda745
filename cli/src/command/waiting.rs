//! Waiting until a job is as it was asked to be.

use std::time::Duration;

use millstream_crds::{ConditionType, JobPhase};

use crate::cluster::Cluster;
use crate::exit::note;
use crate::job::Job;
use crate::problem::Problem;

/// From one look to the next.
const INTERVAL: Duration = Duration::from_millis(500);

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// The job runs, is restored, and has completed a checkpoint.
    Ready,
    /// It is suspended.
    Suspended,
    /// It is no longer waiting for approval.
    Approved,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// It is so.
    Reached,
    /// Not yet, and why.
    NotYet(String),
    /// It will not be so without a person.
    Stuck(String),
}

/// Whether a job has reached a goal, with a spec of at least this generation.
pub fn progress(job: &Job, goal: Goal, generation: i64) -> Progress {
    if job.status.observed_generation.unwrap_or(0) < generation {
        return Progress::NotYet("the operator has not looked at the change yet".to_owned());
    }
    for (condition, value) in [
        (ConditionType::Valid, "False"),
        (ConditionType::Stalled, "True"),
    ] {
        if let Some(condition) = job.condition(condition).filter(|one| one.status == value) {
            return Progress::Stuck(format!("{}: {}", condition.reason, condition.message));
        }
    }
    let reached = match goal {
        Goal::Ready => job.has(ConditionType::Ready, "True") && job.status.upgrade.is_none(),
        Goal::Suspended => job.has(ConditionType::Suspended, "True"),
        Goal::Approved => job.status.upgrade.as_ref().is_none_or(|upgrade| {
            upgrade.step != millstream_crds::status::UpgradeStep::WaitingForApproval
        }),
    };
    if reached {
        return Progress::Reached;
    }
    if goal == Goal::Ready && job.status.state == Some(JobPhase::Completed) {
        return Progress::Reached;
    }
    let message = job.status.message.clone().filter(|text| !text.is_empty());
    let state = job.status.state.map(|state| format!("{state:?}"));
    Progress::NotYet(message.or(state).unwrap_or_default())
}

/// Waits until a job has reached a goal, and tells on standard error what is waited for.
///
/// # Errors
/// It is stuck, the time is over, or the job cannot be read.
pub async fn until(
    cluster: &Cluster,
    changed: &Job,
    goal: Goal,
    timeout: Duration,
) -> Result<(), Problem> {
    let name = changed.name();
    let give_up = Problem::WaitedInVain {
        what: format!("`{name}` was not {goal:?} within {} s", timeout.as_secs()),
        hint: format!("`kubectl streamjob status {name}` shows what it waits for."),
    };
    let watching = async {
        let mut told = String::new();
        loop {
            let job = cluster.job(name).await?;
            match progress(&job, goal, changed.generation()) {
                Progress::Reached => return Ok(()),
                Progress::Stuck(message) => {
                    return Err(Problem::WaitedInVain {
                        what: format!("`{name}` is stuck: {message}"),
                        hint: format!("`kubectl streamjob status {name}` shows more."),
                    });
                }
                Progress::NotYet(message) if message != told => {
                    note(&format!("waiting: {message}\n"));
                    told = message;
                }
                Progress::NotYet(_) => {}
            }
            tokio::time::sleep(INTERVAL).await;
        }
    };
    tokio::time::timeout(timeout, watching)
        .await
        .unwrap_or(Err(give_up))
}
