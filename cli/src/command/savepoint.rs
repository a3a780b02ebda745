//! `savepoint`

use std::time::Duration;

use millstream_crds::contract::LABEL_JOB;
use millstream_crds::savepoint::JobReference;
use millstream_crds::{SavepointState, StreamSavepoint, StreamSavepointSpec};
use millstream_types::duration::KubeDuration;
use millstream_types::text::bytes;

use super::{answer, now};
use crate::arguments::{Output, SAVEPOINT_NAME_MAX, SavepointOptions};
use crate::cluster::Cluster;
use crate::exit::{Exit, note, print};
use crate::job::Job;
use crate::problem::Problem;

/// From one look to the next.
const INTERVAL: Duration = Duration::from_millis(500);
/// What the operator may need beyond the deadline to say that it has passed.
const GRACE: Duration = Duration::from_secs(30);

/// Takes a savepoint.
///
/// # Errors
/// There is no such job, the API server refuses it, or it did not complete.
pub async fn run(cluster: &Cluster, options: &SavepointOptions) -> Result<Exit, Problem> {
    let job = cluster.job(&options.name.job).await?;
    if job.text("/state") == Some("Suspended") {
        note(&format!(
            "warning: `{}` is suspended: the savepoint waits until it runs\n",
            job.name()
        ));
    }
    let time = now().strftime("%Y%m%d-%H%M%S").to_string();
    let wanted = wanted(&job, options, &time);
    let created = without_managers(cluster.create_savepoint(&wanted).await?);
    let output = options.answer.output;
    if !options.wait {
        let text = answer(output, &created, |savepoint| {
            format!("{} created\n", full_name(savepoint))
        })?;
        print(&text)?;
        return Ok(Exit::Done);
    }
    if output == Output::Text {
        note(&format!("{} created\n", full_name(&created)));
    }
    let name = created.metadata.name.unwrap_or_default();
    let give_up = Problem::WaitedInVain {
        what: format!("savepoint `{name}` was neither taken nor given up"),
        hint: format!(
            "`kubectl streamjob status {}` shows what it waits for.",
            job.name()
        ),
    };
    let done = tokio::time::timeout(options.deadline + GRACE, taken(cluster, &name)).await;
    let done = without_managers(done.unwrap_or(Err(give_up))?);
    print(&answer(output, &done, completed_text)?)?;
    Ok(Exit::Done)
}

/// As `kubectl get -o json` shows it.
fn without_managers(mut savepoint: StreamSavepoint) -> StreamSavepoint {
    savepoint.metadata.managed_fields = None;
    savepoint
}

/// The savepoint to create.
fn wanted(job: &Job, options: &SavepointOptions, time: &str) -> StreamSavepoint {
    let name = options.savepoint.clone();
    let name = name.unwrap_or_else(|| default_name(job.name(), time));
    let spec = StreamSavepointSpec {
        job_ref: JobReference {
            name: job.name().to_owned(),
        },
        deadline: KubeDuration(options.deadline),
        retain: !options.delete_with_resource,
    };
    let mut savepoint = StreamSavepoint::new(&name, spec);
    let labels = [(LABEL_JOB.to_owned(), job.name().to_owned())];
    savepoint.metadata.labels = Some(labels.into());
    savepoint
}

/// A name of the job and the time, short enough for the runtime.
fn default_name(job: &str, time: &str) -> String {
    let room = SAVEPOINT_NAME_MAX - time.len() - 1;
    let job: String = job
        .chars()
        .map(|c| if c == '.' { '-' } else { c })
        .take(room)
        .collect();
    format!("{}-{time}", job.trim_end_matches('-'))
}

fn full_name(savepoint: &StreamSavepoint) -> String {
    let name = savepoint.metadata.name.as_deref().unwrap_or_default();
    format!("streamsavepoint/{name}")
}

async fn taken(cluster: &Cluster, name: &str) -> Result<StreamSavepoint, Problem> {
    let mut told = String::new();
    loop {
        let savepoint = cluster.savepoint(name).await?;
        let status = savepoint.status.clone().unwrap_or_default();
        let message = status.message.unwrap_or_default();
        match status.state {
            Some(SavepointState::Completed) => return Ok(savepoint),
            Some(state @ (SavepointState::Failed | SavepointState::Abandoned)) => {
                return Err(Problem::WaitedInVain {
                    what: format!("savepoint `{name}` is {state:?}: {message}"),
                    hint: format!(
                        "Its resource stays for you to look at; `kubectl delete ssp {name}` \
                         removes it."
                    ),
                });
            }
            None
            | Some(
                SavepointState::Pending | SavepointState::InProgress | SavepointState::Unknown,
            ) => {}
        }
        if !message.is_empty() && message != told {
            note(&format!("waiting: {message}\n"));
            told = message;
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn completed_text(savepoint: &StreamSavepoint) -> String {
    let status = savepoint.status.clone().unwrap_or_default();
    let size = status.size_bytes.and_then(|size| u64::try_from(size).ok());
    let size = size.map(|size| format!(" ({})", bytes(size)));
    format!(
        "{} completed: {}{}\n",
        full_name(savepoint),
        status.path.unwrap_or_default(),
        size.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_name_fits_the_runtime() {
        assert_eq!(
            default_name("orders", "20261124-221100"),
            "orders-20261124-221100"
        );
        let long = default_name(&"a".repeat(63), "20261124-221100");
        assert_eq!(long.len(), SAVEPOINT_NAME_MAX);
        assert!(long.ends_with("a-20261124-221100"), "{long}");
        assert_eq!(default_name("a.b", "1"), "a-b-1");
    }
}
