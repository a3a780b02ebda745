//! `report`

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use millstream_crds::contract::{PORT_COORDINATOR, PORT_WORKER};
use serde_json::json;

use super::gather::{coordinator_pod, gather};
use super::logs::containers;
use super::now;
use crate::arguments::ReportOptions;
use crate::cluster::Cluster;
use crate::exit::{Exit, note, print};
use crate::pod;
use crate::problem::Problem;
use crate::redact::Redactor;
use crate::report::Report;
use crate::screen::{Gathered, Screen, is_about};

/// Bytes of one log at most.
const LOG_BYTES_MAX: i64 = 10 * 1_024 * 1_024;

/// Collects a report.
///
/// # Errors
/// The job cannot be read, or the file cannot be written.
pub async fn run(cluster: &Cluster, options: &ReportOptions) -> Result<Exit, Problem> {
    let name = &options.name.job;
    let gathered = gather(cluster, name).await?;
    let now = now();
    let path = options.file.clone().unwrap_or_else(|| {
        let time = now.strftime("%Y%m%dT%H%M%SZ");
        PathBuf::from(format!(
            "streamjob-{}-{name}-{time}.zip",
            cluster.namespace()
        ))
    });
    if std::fs::exists(&path).unwrap_or(false) {
        return Err(Problem::System {
            what: format!("{} cannot be created", path.display()),
            reason: "it exists already".to_owned(),
        });
    }
    let mut report = Report::new(Redactor::new(&options.redact)?);
    report.add_text("status.txt", &Screen::of(&gathered).text(now));
    resources(cluster, &gathered, &mut report).await;
    coordinator(cluster, &gathered, &mut report).await;
    for pod in &gathered.pods {
        metrics(cluster, pod, &mut report).await;
        if !options.no_logs {
            logs(cluster, pod, options, &mut report).await;
        }
    }
    report.write(create(&path)?, now)?;
    for gap in report.gaps() {
        note(&format!("missing: {gap}"));
    }
    print(&format!(
        "{} written: {} files, {} places redacted; look through it before you give it away\n",
        path.display(),
        report.file_names().count() + 3,
        report.redacted()
    ))?;
    Ok(Exit::Done)
}

fn create(path: &Path) -> Result<File, Problem> {
    let mut options = OpenOptions::new();
    options.write(true).read(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|error| Problem::System {
        what: format!("{} cannot be created", path.display()),
        reason: error.to_string(),
    })
}

async fn resources(cluster: &Cluster, gathered: &Gathered, report: &mut Report) {
    let job = &gathered.job;
    let name = job.name();
    let resource = json!({
        "metadata": job.metadata, "spec": job.spec, "status": job.status,
    });
    report.add_resource("streamjob.yaml", &resource);
    report.add_resource("savepoints.yaml", &gathered.savepoints);
    report.add_resource("pods.yaml", &gathered.pods);
    let events = gathered.events.iter().filter(|event| is_about(name, event));
    report.add_resource("events.yaml", &events.collect::<Vec<_>>());
    for gap in &gathered.gaps {
        report.add_gap("status", gap);
    }
    match cluster.deployments(name).await {
        Ok(deployments) => report.add_resource("deployments.yaml", &deployments),
        Err(problem) => report.add_gap("deployments.yaml", &problem.to_string()),
    }
    match cluster.revisions(name).await {
        Ok(maps) => {
            for map in maps {
                let name = map.metadata.name.clone().unwrap_or_default();
                for (key, text) in map.data.into_iter().flatten() {
                    let file = format!("revisions/{name}/{key}");
                    match serde_yaml::from_str::<serde_json::Value>(&text) {
                        Ok(value) => report.add_resource(&file, &value),
                        Err(_) => report.add_text(&file, &text),
                    }
                }
            }
        }
        Err(problem) => report.add_gap("revisions", &problem.to_string()),
    }
    match cluster.server_version().await {
        Ok(version) => report.add_resource("kubernetes.yaml", &version),
        Err(problem) => report.add_gap("kubernetes.yaml", &problem.to_string()),
    }
}

async fn coordinator(cluster: &Cluster, gathered: &Gathered, report: &mut Report) {
    let Some(pod) = coordinator_pod(&gathered.pods) else {
        report.add_gap("coordinator", "no pod of it runs");
        return;
    };
    for what in ["job", "checkpoints", "audit"] {
        let file = format!("coordinator/{what}.json");
        let path = format!("/v1/{what}");
        match cluster.serve_text(&pod, PORT_COORDINATOR, &path).await {
            Ok(text) => report.add_json(&file, &text),
            Err(problem) => report.add_gap(&file, &problem.to_string()),
        }
    }
}

async fn metrics(cluster: &Cluster, pod: &Pod, report: &mut Report) {
    let port = match pod::role(pod) {
        "coordinator" => PORT_COORDINATOR,
        "worker" => PORT_WORKER,
        _ => return,
    };
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let file = format!("metrics/{name}.txt");
    match cluster.serve_text(name, port, "/metrics").await {
        Ok(text) => report.add_text(&file, &text),
        Err(problem) => report.add_gap(&file, &problem.to_string()),
    }
}

async fn logs(cluster: &Cluster, pod: &Pod, options: &ReportOptions, report: &mut Report) {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    for container in containers(pod) {
        for (previous, end) in [(false, "log"), (true, "previous.log")] {
            if previous && !has_previous(pod, &container) {
                continue;
            }
            let params = LogParams {
                container: Some(container.clone()),
                limit_bytes: Some(LOG_BYTES_MAX),
                previous,
                tail_lines: Some(options.tail),
                timestamps: true,
                ..LogParams::default()
            };
            let file = format!("logs/{name}.{container}.{end}");
            match cluster.log(name, &params).await {
                Ok(text) => report.add_text(&file, &text),
                Err(problem) => report.add_gap(&file, &problem.to_string()),
            }
        }
    }
}

fn has_previous(pod: &Pod, container: &str) -> bool {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    let mut statuses = statuses.into_iter().flatten();
    statuses.any(|status| status.name == container && status.restart_count > 0)
}
