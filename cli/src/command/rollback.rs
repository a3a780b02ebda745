//! `rollback`

use serde_json::{Value, json};

use super::act::wait;
use super::history::read;
use super::waiting::Goal;
use super::warn_of_git;
use crate::arguments::RollbackOptions;
use crate::cluster::{Cluster, Writing};
use crate::exit::{Exit, note, print};
use crate::job::Job;
use crate::problem::Problem;
use crate::revision::{Revision, covered, difference, history, merge_patch};

/// Writes an earlier revision back.
///
/// # Errors
/// There is no such revision, the API server refuses it, or the job changed meanwhile.
pub async fn run(cluster: &Cluster, options: &RollbackOptions) -> Result<Exit, Problem> {
    let job = cluster.job(&options.name.job).await?;
    let revisions = read(cluster, job.name()).await?;
    let current = covered(&job)?;
    let revision = choose(&job, &current, &revisions, options.to.as_deref())?;
    let name = job.name();
    let Some(spec) = merge_patch(&current, &revision.covered) else {
        print(&format!(
            "streamjob/{name} asks for {} already\n",
            revision.name
        ))?;
        return Ok(Exit::Done);
    };
    // The API server checks it first, so that what is shown is what can be done.
    patch(cluster, &job, &spec, Writing::DryRun).await?;
    print(&difference(
        "spec now",
        &current,
        &revision.name,
        &revision.covered,
    ))?;
    if options.dry_run {
        note(&format!("dry run: streamjob/{name} was not changed\n"));
        return Ok(Exit::Done);
    }
    warn_of_git(&job);
    let job = patch(cluster, &job, &spec, Writing::ForReal).await?;
    print(&format!(
        "streamjob/{} rolled back to {}\n",
        job.name(),
        revision.name
    ))?;
    wait(cluster, &job, Goal::Ready, options.waiting).await
}

/// Patches the spec of exactly the generation that was read. Each change of the status makes
/// another version of the resource: those are looked at again, changes of the spec are not passed
/// over.
async fn patch(
    cluster: &Cluster,
    job: &Job,
    spec: &Value,
    writing: Writing,
) -> Result<Job, Problem> {
    let mut latest = job.clone();
    loop {
        let patch = json!({
            "metadata": {"resourceVersion": latest.metadata.resource_version},
            "spec": spec,
        });
        match cluster.patch_job(job.name(), &patch, writing).await {
            Err(conflict @ Problem::Conflict { .. }) => {
                let now = cluster.job(job.name()).await?;
                let is_new = now.metadata.resource_version != latest.metadata.resource_version;
                if now.generation() != job.generation() || !is_new {
                    return Err(conflict);
                }
                latest = now;
            }
            done => return done,
        }
    }
}

/// The revision to go back to.
///
/// # Errors
/// There is none, or the name fits more than one.
pub fn choose<'a>(
    job: &Job,
    current: &Value,
    revisions: &'a [Revision],
    to: Option<&str>,
) -> Result<&'a Revision, Problem> {
    let Some(to) = to else {
        return newest_good(job, current, revisions);
    };
    let meant: Vec<&Revision> = revisions
        .iter()
        .filter(|revision| revision.is_meant(job.name(), to))
        .collect();
    match meant.as_slice() {
        [revision] => Ok(revision),
        [] => Err(Problem::NotFound {
            kind: "revision",
            name: to.to_owned(),
            namespace: job.namespace().to_owned(),
            known: names(revisions),
        }),
        _ => Err(Problem::NotNow {
            what: format!("`{to}` may be more than one revision"),
            hint: format!("There are: {}.", names(revisions).join(", ")),
        }),
    }
}

fn newest_good<'a>(
    job: &Job,
    current: &Value,
    revisions: &'a [Revision],
) -> Result<&'a Revision, Problem> {
    let entries = history(job, revisions);
    let good = entries.iter().filter(|entry| entry.marks.contains(&"good"));
    let mut found = good.filter_map(|entry| revisions.iter().find(|one| one.name == entry.name));
    found
        .find(|revision| revision.covered != *current)
        .ok_or_else(|| Problem::NotNow {
            what: format!(
                "no earlier revision of `{}` is known to be good",
                job.name()
            ),
            hint: if revisions.is_empty() {
                "It has no revision yet.".to_owned()
            } else {
                let names = names(revisions).join(", ");
                format!("--to chooses one all the same; there are: {names}.")
            },
        })
}

fn names(revisions: &[Revision]) -> Vec<String> {
    revisions
        .iter()
        .map(|revision| revision.name.clone())
        .collect()
}
