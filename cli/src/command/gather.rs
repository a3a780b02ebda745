//! Reads everything that belongs to a job. Only the job itself must be readable; what else is
//! not becomes a gap that is told.

use k8s_openapi::api::core::v1::Pod;
use millstream_crds::contract::PORT_COORDINATOR;
use millstream_types::api::{CheckpointList, JobStatus};

use crate::cluster::Cluster;
use crate::coordinator::Coordinator;
use crate::pod;
use crate::problem::Problem;
use crate::screen::Gathered;

/// Reads everything about a job.
///
/// # Errors
/// The job cannot be read.
pub async fn gather(cluster: &Cluster, name: &str) -> Result<Gathered, Problem> {
    let job = cluster.job(name).await?;
    let (pods, events, savepoints) = futures::join!(
        cluster.pods(name),
        cluster.events(),
        cluster.savepoints(name)
    );
    let mut gaps = Vec::new();
    let pods = known("pods", pods, &mut gaps);
    let coordinator = match coordinator_pod(&pods) {
        Some(pod) => ask(cluster, &pod, &mut gaps).await,
        None => Coordinator::None,
    };
    Ok(Gathered {
        job,
        coordinator,
        pods,
        events: known("events", events, &mut gaps),
        savepoints: known("savepoints", savepoints, &mut gaps),
        gaps,
    })
}

fn known<T>(what: &str, answer: Result<Vec<T>, Problem>, gaps: &mut Vec<String>) -> Vec<T> {
    answer.unwrap_or_else(|problem| {
        gaps.push(format!("{what}: {problem}"));
        Vec::new()
    })
}

/// The pod of the coordinator that runs, the newest if there are two.
pub fn coordinator_pod(pods: &[Pod]) -> Option<String> {
    let running = pods
        .iter()
        .filter(|pod| pod::role(pod) == "coordinator" && pod::is_running(pod));
    let newest = running.max_by_key(|pod| {
        let created = pod.metadata.creation_timestamp.as_ref();
        created.map(|time| time.0)
    })?;
    newest.metadata.name.clone()
}

async fn ask(cluster: &Cluster, pod: &str, gaps: &mut Vec<String>) -> Coordinator {
    let job = cluster.serve::<JobStatus>(pod, PORT_COORDINATOR, "/v1/job");
    let checkpoints = cluster.serve::<CheckpointList>(pod, PORT_COORDINATOR, "/v1/checkpoints");
    let (job, checkpoints) = futures::join!(job, checkpoints);
    match job {
        Ok(job) => Coordinator::Answers {
            job: Box::new(job),
            checkpoints: checkpoints.unwrap_or_default().checkpoints,
        },
        Err(problem @ Problem::Forbidden { .. }) => {
            gaps.push(format!("what the coordinator says: {problem}"));
            Coordinator::None
        }
        Err(problem) => Coordinator::Silent {
            reason: problem.to_string(),
        },
    }
}
