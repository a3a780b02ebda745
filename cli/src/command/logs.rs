//! `logs`

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::{AsyncBufRead, AsyncBufReadExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::arguments::{LogsOptions, Role};
use crate::cluster::Cluster;
use crate::exit::{Exit, note, print};
use crate::pod;
use crate::problem::Problem;

/// From one look for new pods to the next.
const INTERVAL: Duration = Duration::from_secs(2);
/// Lines that wait to be printed: what a slow terminal holds back.
const LINES_MAX: usize = 1_024;

/// A container of a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Source {
    pod: String,
    container: String,
    label: String,
}

/// Shows logs.
///
/// # Errors
/// The job or its pods cannot be read.
pub async fn run(cluster: &Cluster, options: &LogsOptions) -> Result<Exit, Problem> {
    // The job first: a wrong name is told as such, not as a job without pods.
    let job = cluster.job(&options.name.job).await?;
    if options.follow {
        return follow(cluster, job.name(), options).await;
    }
    let pods = cluster.pods(job.name()).await?;
    let sources = sources(job.name(), &pods, options.role);
    if sources.is_empty() {
        note(&format!("streamjob/{} has no pods\n", job.name()));
    }
    let width = width(&sources);
    for source in &sources {
        match cluster
            .log_stream(&source.pod, &parameters(source, options))
            .await
        {
            Ok(stream) => copy(stream, &source.label, width).await?,
            Err(problem) => note(&format!("{}: {problem}\n", source.label)),
        }
    }
    Ok(Exit::Done)
}

async fn copy(stream: impl AsyncBufRead + Send, label: &str, width: usize) -> Result<(), Problem> {
    let mut stream = std::pin::pin!(stream);
    let mut line = Vec::new();
    while read(&mut stream, &mut line).await {
        print(&prefixed(label, width, &line))?;
    }
    Ok(())
}

/// Reads a line; false at the end, which a broken connection is too.
async fn read(stream: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> bool {
    line.clear();
    matches!(stream.read_until(b'\n', line).await, Ok(1..))
}

/// A line with the pod that it is of.
fn prefixed(label: &str, width: usize, line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    format!(
        "{label:<width$} | {}\n",
        text.trim_end_matches(['\n', '\r'])
    )
}

/// All containers of the pods that are meant.
fn sources(job: &str, pods: &[Pod], role: Option<Role>) -> Vec<Source> {
    let meant = |pod: &&Pod| match role {
        Some(Role::Coordinator) => pod::role(pod) == "coordinator",
        Some(Role::Worker) => pod::role(pod) == "worker",
        Some(Role::Preflight) => pod::role(pod) == "preflight",
        None => matches!(pod::role(pod), "coordinator" | "worker"),
    };
    let mut sources = Vec::new();
    for pod in pods.iter().filter(meant) {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let short = name
            .strip_prefix(job)
            .unwrap_or(&name)
            .trim_start_matches('-')
            .to_owned();
        let containers = containers(pod);
        for container in &containers {
            let label = if containers.len() == 1 {
                short.clone()
            } else {
                format!("{short}/{container}")
            };
            sources.push(Source {
                pod: name.clone(),
                container: container.clone(),
                label,
            });
        }
    }
    sources
}

/// Names of a pod's containers.
pub fn containers(pod: &Pod) -> Vec<String> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers.map(|container| container.name.clone()).collect()
}

fn width(sources: &[Source]) -> usize {
    sources
        .iter()
        .map(|source| source.label.len())
        .max()
        .unwrap_or(0)
}

fn parameters(source: &Source, options: &LogsOptions) -> LogParams {
    let since = options.since.map(|since| seconds(since).max(1));
    LogParams {
        container: Some(source.container.clone()),
        follow: options.follow,
        previous: options.previous,
        since_seconds: since,
        tail_lines: options.tail,
        timestamps: options.timestamps,
        ..LogParams::default()
    }
}

fn seconds(length: Duration) -> i64 {
    i64::try_from(length.as_secs()).unwrap_or(i64::MAX)
}

/// Goes on with the logs of all pods, those that come later too, until a signal
/// ends the process.
async fn follow(cluster: &Cluster, job: &str, options: &LogsOptions) -> Result<Exit, Problem> {
    let (sender, mut lines) = mpsc::channel::<(String, Vec<u8>)>(LINES_MAX);
    let mut readers: JoinSet<Source> = JoinSet::new();
    let mut reading: BTreeSet<Source> = BTreeSet::new();
    let mut ended: BTreeMap<Source, Instant> = BTreeMap::new();
    let mut looks = tokio::time::interval(INTERVAL);
    let mut width_now = 0;
    loop {
        tokio::select! {
            Some((label, line)) = lines.recv() => print(&prefixed(&label, width_now, &line))?,
            Some(Ok(source)) = readers.join_next() => {
                reading.remove(&source);
                ended.insert(source, Instant::now());
            }
            _ = looks.tick() => {
                let pods = cluster.pods(job).await?;
                let running: Vec<Pod> = pods.into_iter().filter(pod::is_running).collect();
                let found = sources(job, &running, options.role);
                width_now = width(&found).max(width_now);
                for source in found {
                    if reading.insert(source.clone()) {
                        let mut parameters = parameters(&source, options);
                        if let Some(end) = ended.get(&source) {
                            // What was written while nobody read, and not what was read before.
                            parameters.since_seconds = Some(seconds(end.elapsed()) + 1);
                            parameters.tail_lines = None;
                        }
                        readers.spawn(reader(cluster.clone(), source, parameters, sender.clone()));
                    }
                }
            }

        }
    }
}

async fn reader(
    cluster: Cluster,
    source: Source,
    parameters: LogParams,
    lines: mpsc::Sender<(String, Vec<u8>)>,
) -> Source {
    // A container that does not run yet has no log; it is looked for again.
    if let Ok(stream) = cluster.log_stream(&source.pod, &parameters).await {
        let mut stream = std::pin::pin!(stream);
        let mut line = Vec::new();
        while read(&mut stream, &mut line).await {
            if lines
                .send((source.label.clone(), line.clone()))
                .await
                .is_err()
            {
                break;
            }
        }
    }
    source
}
