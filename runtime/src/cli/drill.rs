//! Options of `drill`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{Output, duration};

/// Options of `drill`.
#[derive(Debug, Args)]
pub struct DrillOptions {
    /// The job file.
    pub file: PathBuf,
    /// The job may be run and hurt: do not ask for its name.
    #[arg(long)]
    pub yes: bool,
    /// What is done to it; may be repeated. Everything, one after the other, if not given.
    #[arg(long = "fault", value_name = "FAULT")]
    pub fault: Vec<Fault>,
    /// How often all of it is done.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub rounds: u32,
    /// How many workers.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub workers: u32,
    /// How long a worker is frozen. It is taken for dead after 10 seconds.
    #[arg(long, default_value = "15s", value_parser = duration, value_name = "DURATION")]
    pub pause: Duration,
    /// How much longer each write to the checkpoint storage takes while it is slow.
    #[arg(long, default_value = "2s", value_parser = duration, value_name = "DURATION")]
    pub storage_delay: Duration,
    /// How long the job may take for its first checkpoint, for recovering from a fault, and for
    /// stopping.
    #[arg(long, default_value = "2m", value_parser = duration, value_name = "DURATION")]
    pub deadline: Duration,
    /// Where the logs of its processes go; a new directory for temporary files if not given.
    #[arg(long, value_name = "DIRECTORY")]
    pub logs: Option<PathBuf>,
    /// How the answer looks.
    #[arg(long, default_value = "text")]
    pub output: Output,
}

impl DrillOptions {
    /// What is done, in this order.
    pub fn faults(&self) -> Vec<Fault> {
        if self.fault.is_empty() {
            Fault::value_variants().to_vec()
        } else {
            self.fault.clone()
        }
    }
}

/// What is done to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// `kill -9` of a worker, in whose place another one is started.
    KillWorker,
    /// `kill -9` of the coordinator, which is started again.
    KillCoordinator,
    /// A worker is frozen, replaced, and wakes up.
    PauseWorker,
    /// Writes to the checkpoint storage take longer.
    SlowStore,
}

impl Fault {
    /// As it is typed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::KillWorker => "kill-worker",
            Self::KillCoordinator => "kill-coordinator",
            Self::PauseWorker => "pause-worker",
            Self::SlowStore => "slow-store",
        }
    }
}
