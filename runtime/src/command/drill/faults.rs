//! What is done to the job, and how long it needs until its output goes on.

use std::time::{Duration, Instant};

use millstream_types::api::{JobState, JobStatus};
use millstream_types::{Failure, Timestamp};
use serde::Serialize;

use super::processes::Processes;
use super::{failed, pause};
use crate::cli::Fault;
use crate::role::clock;

/// Between two looks at the job.
const LOOK: Duration = Duration::from_millis(50);

/// How long things may take, and last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// From a fault to the next completed checkpoint.
    pub(super) recovery: Duration,
    /// How long a worker is frozen.
    pub(super) pause: Duration,
    /// How much longer each write to the storage takes.
    pub(super) delay: Duration,
}

impl Fault {
    /// What is done.
    pub(super) fn describe(self, patience: &Patience) -> String {
        match self {
            Self::KillWorker => "kill -9 of a worker, which is started again".to_owned(),
            Self::KillCoordinator => {
                "kill -9 of the coordinator, which is started again".to_owned()
            }
            Self::PauseWorker => format!(
                "a worker is frozen for {:?} and replaced, then it wakes up",
                patience.pause
            ),
            Self::SlowStore => format!(
                "each write to the checkpoint storage takes {:?} longer until a checkpoint completes",
                patience.delay
            ),
        }
    }
}

/// What came of a fault.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Suffered {
    /// What was done.
    pub(super) fault: Fault,
    /// From the fault until a checkpoint that was triggered after it had completed, and with it all
    /// output before: milliseconds. Nothing if that did not happen in time,
    /// or the job stood still once the fault was over.
    pub(super) recovery_ms: Option<u64>,
    /// The attempt before and after it.
    pub(super) attempts: [u64; 2],
}

/// Does it, and waits until the job has recovered.
pub(super) async fn suffer(
    fault: Fault,
    processes: &mut Processes,
    patience: &Patience,
) -> Result<Suffered, Failure> {
    let before = processes.job().map_or(0, |job| job.attempt.0);
    let (since, began) = (clock().now(), Instant::now());
    match fault {
        Fault::KillWorker => {
            processes.worker()?.kill()?;
            drop(processes.restart_worker(0)?);
        }
        Fault::KillCoordinator => {
            processes.coordinator()?.kill()?;
            processes.start_coordinator().await?;
        }
        Fault::PauseWorker => {
            processes.worker()?.freeze()?;
            let frozen = processes.restart_worker(0)?;
            processes.set_aside(frozen);
        }
        Fault::SlowStore => {
            processes.delay = patience.delay;
            processes.coordinator()?.kill()?;
            processes.start_coordinator().await?;
        }
    }
    let mut recovered = wait_for_checkpoint(processes, since, patience.recovery).await?;
    let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    if fault == Fault::SlowStore {
        // The store is as fast as before; what follows is no part of the fault.
        processes.delay = Duration::ZERO;
        let since = clock().now();
        processes.coordinator()?.kill()?;
        processes.start_coordinator().await?;
        recovered &= wait_for_checkpoint(processes, since, patience.recovery).await?;
    }
    if fault == Fault::PauseWorker {
        pause(patience.pause.saturating_sub(began.elapsed())).await;
        recovered &= wake(processes, patience).await?;
    }
    let after = processes.job().map_or(0, |job| job.attempt.0);
    Ok(Suffered {
        fault,
        recovery_ms: recovered.then_some(took),
        attempts: [before, after],
    })
}

/// A worker that was taken for dead goes on. Whether the job does, too.
async fn wake(processes: &mut Processes, patience: &Patience) -> Result<bool, Failure> {
    processes.wake_replaced()?;
    wait_for_checkpoint(processes, clock().now(), patience.recovery).await
}

/// Waits until a checkpoint has completed that was triggered after `since`. Whether one has, in time.
async fn wait_for_checkpoint(
    processes: &mut Processes,
    since: Timestamp,
    deadline: Duration,
) -> Result<bool, Failure> {
    let began = Instant::now();
    while began.elapsed() <= deadline {
        processes.tend().await?;
        if processes.job().is_some_and(|job| goes_on(&job, since)) {
            return Ok(true);
        }
        pause(LOOK).await;
    }
    Ok(false)
}

/// Whether a checkpoint has completed that was triggered after `since`.
fn goes_on(job: &JobStatus, since: Timestamp) -> bool {
    let last = job.last_checkpoint.as_ref();
    job.state == JobState::Running && last.is_some_and(|last| last.triggered_at > since)
}

/// Waits for the first checkpoint.
pub(super) async fn wait_until_running(
    processes: &mut Processes,
    deadline: Duration,
) -> Result<(), Failure> {
    if wait_for_checkpoint(processes, clock().now(), deadline).await? {
        return Ok(());
    }
    let says = processes.job();
    let says = says.map_or_else(
        || "its coordinator does not answer".to_owned(),
        |job| format!("it is {:?}: {}", job.state, job.message),
    );
    Err(failed(format!(
        "no checkpoint of the job has completed within {deadline:?}, without any fault: {says}"
    )))
}
