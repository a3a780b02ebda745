//! `drill`: deletes pods of a job that its user names, and says how long the job needed each time.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use millstream_crds::contract::PORT_COORDINATOR;
use millstream_types::api::{AuditReport, JobState, JobStatus};
use serde::Serialize;

use super::answer;
use super::gather::coordinator_pod;
use crate::arguments::{DrillOptions, Fault};
use crate::cluster::Cluster;
use crate::exit::{Exit, note, print};
use crate::pod;
use crate::problem::Problem;

/// From one look to the next.
const INTERVAL: Duration = Duration::from_millis(250);

/// What came of a drill.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    job: String,
    /// Whether the job recovered from every fault, and all its records add up.
    passed: bool,
    faults: Vec<Suffered>,
    /// Records that did not add up between two checkpoints.
    gaps: Vec<String>,
}

/// What came of a fault.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Suffered {
    fault: Fault,
    /// The pod that was deleted.
    pod: String,
    /// Until a checkpoint of a newer attempt had completed, milliseconds; nothing if not in time.
    recovery_ms: Option<u64>,
    /// The attempt before and after it.
    attempts: [u64; 2],
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Standing {
    attempt: u64,
    /// Its newest completed checkpoint, and the attempt that took it.
    checkpoint: Option<(u64, u64)>,
    runs: bool,
}

impl Standing {
    fn of(job: &JobStatus) -> Self {
        let last = job.last_checkpoint.as_ref();
        Self {
            attempt: job.attempt.0,
            checkpoint: last.map(|last| (last.id.0, last.attempt.0)),
            runs: job.state == JobState::Running,
        }
    }

    /// Whether a newer attempt than that of `before` runs and has completed a checkpoint.
    fn has_recovered_since(self, before: Self) -> bool {
        let taken_by = self.checkpoint.map(|(_, attempt)| attempt);
        self.runs && taken_by.is_some_and(|attempt| attempt > before.attempt)
    }
}

/// Runs the drill.
///
/// # Errors
/// It was not confirmed, the job does not run, or its pods may not be deleted.
pub async fn run(cluster: &Cluster, options: &DrillOptions) -> Result<Exit, Problem> {
    let job = cluster.job(&options.name.job).await?;
    let name = job.name();
    confirm(options, name)?;
    let before = ask::<JobStatus>(cluster, name, "/v1/job").await;
    if !before.is_some_and(|job| job.state == JobState::Running && job.last_checkpoint.is_some()) {
        return Err(Problem::NotNow {
            what: format!("`{name}` does not run, or has not completed a checkpoint yet"),
            hint: format!("`kubectl streamjob status {name}` shows what it waits for."),
        });
    }
    let mut faults = Vec::new();
    for round in 1..=options.rounds {
        for fault in options.faults() {
            note(&format!("round {round}: {}\n", fault.describe()));
            faults.push(suffer(cluster, name, fault, options.deadline).await?);
        }
    }
    let audit = ask::<AuditReport>(cluster, name, "/v1/audit").await;
    let gaps = audit.map_or_else(
        || vec!["the coordinator does not answer".to_owned()],
        |audit| audit.gaps,
    );
    let recovered = faults.iter().all(|fault| fault.recovery_ms.is_some());
    let report = Report {
        job: format!("{}/{name}", job.namespace()),
        passed: recovered && gaps.is_empty(),
        faults,
        gaps,
    };
    print(&answer(options.answer.output, &report, text)?)?;
    Ok(if report.passed {
        Exit::Done
    } else {
        Exit::Failed
    })
}

/// Nothing is done to a job that nobody has named.
fn confirm(options: &DrillOptions, name: &str) -> Result<(), Problem> {
    if options.yes {
        return Ok(());
    }
    let unconfirmed = |what: String| Problem::NotNow {
        what,
        hint: "A drill deletes pods of the job. Type its name, or give --yes.".to_owned(),
    };
    if !std::io::stdin().is_terminal() {
        return Err(unconfirmed(format!(
            "nobody has confirmed the drill of `{name}`"
        )));
    }
    note(&format!(
        "This deletes pods of the job `{name}`, which restarts from its newest checkpoint.\n\
         Type the name of the job to go on: "
    ));
    drop(std::io::stderr().flush());
    let mut line = String::new();
    match std::io::stdin().read_line(&mut line) {
        Ok(_) if line.trim() == name => Ok(()),
        _ => Err(unconfirmed(format!(
            "the drill of `{name}` was not confirmed"
        ))),
    }
}

/// Deletes a pod, and waits until the job has recovered.
async fn suffer(
    cluster: &Cluster,
    name: &str,
    fault: Fault,
    deadline: Duration,
) -> Result<Suffered, Problem> {
    let pods = cluster.pods(name).await?;
    let victim = match fault {
        Fault::DeleteCoordinator => coordinator_pod(&pods),
        Fault::DeleteWorker => {
            let mut workers = pods.iter().filter(|pod| pod::role(pod) == "worker");
            let running = workers.find(|pod| pod::is_running(pod));
            running.and_then(|pod| pod.metadata.name.clone())
        }
    };
    let victim = victim.ok_or_else(|| Problem::NotNow {
        what: format!("`{name}` has no running pod to delete for {}", fault.name()),
        hint: format!("`kubectl streamjob status {name}` shows its pods."),
    })?;
    let before = ask::<JobStatus>(cluster, name, "/v1/job").await;
    let before = before.map_or_else(nothing, |job| Standing::of(&job));
    let began = Instant::now();
    cluster.delete_pod_now(&victim).await?;
    let mut after = before;
    let mut recovery_ms = None;
    while recovery_ms.is_none() && began.elapsed() <= deadline {
        if let Some(job) = ask::<JobStatus>(cluster, name, "/v1/job").await {
            after = Standing::of(&job);
        }
        if after.has_recovered_since(before) {
            recovery_ms = u64::try_from(began.elapsed().as_millis()).ok();
        } else {
            tokio::time::sleep(INTERVAL).await;
        }
    }
    Ok(Suffered {
        fault,
        pod: victim,
        recovery_ms,
        attempts: [before.attempt, after.attempt],
    })
}

const fn nothing() -> Standing {
    Standing {
        attempt: 0,
        checkpoint: None,
        runs: false,
    }
}

/// What the coordinator says, if there is one and it answers.
async fn ask<T: serde::de::DeserializeOwned>(
    cluster: &Cluster,
    name: &str,
    path: &str,
) -> Option<T> {
    let pods = cluster.pods(name).await.ok()?;
    let pod = coordinator_pod(&pods)?;
    cluster.serve(&pod, PORT_COORDINATOR, path).await.ok()
}

impl Fault {
    const fn describe(self) -> &'static str {
        match self {
            Self::DeleteWorker => "a worker's pod is deleted at once",
            Self::DeleteCoordinator => "the coordinator's pod is deleted at once",
        }
    }
}

fn text(report: &Report) -> String {
    let mut lines = vec![format!("drill of {}\n", report.job)];
    lines.extend(report.faults.iter().map(|fault| {
        let [before, after] = fault.attempts;
        let name = fault.fault.name();
        let came = match fault.recovery_ms {
            Some(millis) => format!("recovered after {}.{:03} s", millis / 1_000, millis % 1_000),
            None => "NOT recovered in time".to_owned(),
        };
        format!("  {name:<18} {came}, attempt {before} → {after}\n")
    }));
    lines.extend(report.gaps.iter().map(|gap| format!("  GAP: {gap}\n")));
    lines.push(if report.passed {
        "passed: the job recovered from everything, and its records add up\n".to_owned()
    } else {
        "FAILED\n".to_owned()
    });
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(attempt: u64, checkpoint: Option<(u64, u64)>, runs: bool) -> Standing {
        Standing {
            attempt,
            checkpoint,
            runs,
        }
    }

    #[test]
    fn a_job_has_recovered_when_a_newer_attempt_has_completed_a_checkpoint() {
        let before = standing(3, Some((10, 3)), true);
        for (after, recovered) in [
            (before, false),
            (standing(3, Some((11, 3)), true), false),
            (standing(4, Some((10, 3)), true), false),
            (standing(4, None, true), false),
            (standing(4, Some((11, 4)), false), false),
            (standing(4, Some((11, 4)), true), true),
            (standing(6, Some((14, 5)), true), true),
        ] {
            assert_eq!(after.has_recovered_since(before), recovered, "{after:?}");
        }
    }

    #[test]
    fn a_report_says_what_was_not_recovered_and_what_does_not_add_up() {
        let suffered = |recovery_ms| Suffered {
            fault: Fault::DeleteWorker,
            pod: "orders-worker-a".to_owned(),
            recovery_ms,
            attempts: [3, 4],
        };
        let mut report = Report {
            job: "shop/orders".to_owned(),
            passed: true,
            faults: vec![suffered(Some(1_050))],
            gaps: Vec::new(),
        };
        assert_eq!(
            text(&report),
            "drill of shop/orders\n  delete-worker      recovered after 1.050 s, attempt 3 → 4\n\
             passed: the job recovered from everything, and its records add up\n"
        );
        report.passed = false;
        report.faults.push(suffered(None));
        report.gaps.push("checkpoint 7: one is missing".to_owned());
        let said = text(&report);
        assert!(said.contains("NOT recovered in time") && said.contains("GAP: checkpoint 7"));
        assert!(said.ends_with("FAILED\n"));
    }
}
