//! `suspend`, `resume`, `restart`, `upgrade approve`: one patch each.

use millstream_crds::contract::ANNOTATION_APPROVE;
use millstream_crds::status::UpgradeStep;
use serde_json::{Value, json};

use super::waiting::{Goal, until};
use super::{now, warn_of_git};
use crate::arguments::{ActOptions, ApproveOptions, Waiting};
use crate::cluster::{Cluster, Writing};
use crate::exit::{Exit, print};
use crate::job::Job;
use crate::problem::Problem;

/// Stops a job.
///
/// # Errors
/// The API server refuses it, or it did not stop in time.
pub async fn suspend(cluster: &Cluster, options: &ActOptions) -> Result<Exit, Problem> {
    let job = cluster.job(&options.name.job).await?;
    if job.text("/state") == Some("Suspended") {
        print(&format!(
            "streamjob/{} is to be suspended already\n",
            job.name()
        ))?;
        return wait(cluster, &job, Goal::Suspended, options.waiting).await;
    }
    let patch = json!({"spec": {"state": "Suspended"}});
    let job = change(cluster, &job, &patch, "suspended").await?;
    wait(cluster, &job, Goal::Suspended, options.waiting).await
}

/// Goes on with a suspended job.
///
/// # Errors
/// The API server refuses it, or it did not run in time.
pub async fn resume(cluster: &Cluster, options: &ActOptions) -> Result<Exit, Problem> {
    let job = cluster.job(&options.name.job).await?;
    if job.text("/state").unwrap_or("Running") == "Running" {
        print(&format!("streamjob/{} is to run already\n", job.name()))?;
        return wait(cluster, &job, Goal::Ready, options.waiting).await;
    }
    let patch = json!({"spec": {"state": "Running"}});
    let job = change(cluster, &job, &patch, "resumed").await?;
    wait(cluster, &job, Goal::Ready, options.waiting).await
}

/// Restarts a job.
///
/// # Errors
/// It is suspended, the API server refuses it, or it did not run in time.
pub async fn restart(cluster: &Cluster, options: &ActOptions) -> Result<Exit, Problem> {
    let job = cluster.job(&options.name.job).await?;
    if job.text("/state") == Some("Suspended") {
        return Err(Problem::NotNow {
            what: format!("`{}` is suspended, there is nothing to restart", job.name()),
            hint: format!("`kubectl streamjob resume {}` goes on with it.", job.name()),
        });
    }
    let time = now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let patch = json!({"spec": {"restartAt": time}});
    let job = change(cluster, &job, &patch, "restarted").await?;
    wait(cluster, &job, Goal::Ready, options.waiting).await
}

/// Lets an upgrade go on.
///
/// # Errors
/// None waits, or another one than was meant; the API server refuses it.
pub async fn approve(cluster: &Cluster, options: &ApproveOptions) -> Result<Exit, Problem> {
    let job = cluster.job(&options.name.job).await?;
    let revision = approvable(&job, options.revision.as_deref())?;
    let upgrade = job.status.upgrade.as_ref();
    let value = upgrade.and_then(|upgrade| upgrade.approval.as_ref());
    let value = value.unwrap_or(&revision);
    let patch = json!({"metadata": {"annotations": {ANNOTATION_APPROVE: value}}});
    let job = cluster
        .patch_job(job.name(), &patch, Writing::ForReal)
        .await?;
    print(&format!("streamjob/{}: {revision} approved\n", job.name()))?;
    if options.waiting.wait {
        until(cluster, &job, Goal::Approved, options.waiting.timeout).await?;
    }
    wait(cluster, &job, Goal::Ready, options.waiting).await
}

/// The revision that waits for approval.
///
/// # Errors
/// None waits, or another one than was meant.
pub fn approvable(job: &Job, meant: Option<&str>) -> Result<String, Problem> {
    let name = job.name();
    let upgrade = job.status.upgrade.as_ref();
    let waiting = upgrade.filter(|upgrade| upgrade.step == UpgradeStep::WaitingForApproval);
    let Some(revision) = waiting.and_then(|upgrade| upgrade.to.clone()) else {
        let step = upgrade.map_or_else(
            || "no upgrade is under way".to_owned(),
            |upgrade| format!("its upgrade is at step {:?}", upgrade.step),
        );
        return Err(Problem::NotNow {
            what: format!("no upgrade of `{name}` waits for approval: {step}"),
            hint: format!(
                "Upgrades wait only with spec.upgrade.approval: Manual, and after their check; \
                 `kubectl streamjob status {name}` shows where it is."
            ),
        });
    };
    let hash = revision.strip_prefix(name).unwrap_or(&revision);
    match meant {
        Some(meant) if meant != revision && meant != hash.trim_start_matches('-') => {
            Err(Problem::NotNow {
                what: format!("{revision} waits for approval, not {meant}"),
                hint: "Look at what it changes before you approve it.".to_owned(),
            })
        }
        _ => Ok(revision),
    }
}

async fn change(cluster: &Cluster, job: &Job, patch: &Value, done: &str) -> Result<Job, Problem> {
    warn_of_git(job);
    let job = cluster
        .patch_job(job.name(), patch, Writing::ForReal)
        .await?;
    print(&format!("streamjob/{} {done}\n", job.name()))?;
    Ok(job)
}

/// Waits, if that was asked for.
///
/// # Errors
/// It did not happen.
pub async fn wait(
    cluster: &Cluster,
    job: &Job,
    goal: Goal,
    waiting: Waiting,
) -> Result<Exit, Problem> {
    if waiting.wait {
        until(cluster, job, goal, waiting.timeout).await?;
        print(&format!("streamjob/{} is {goal:?}\n", job.name()))?;
    }
    Ok(Exit::Done)
}
