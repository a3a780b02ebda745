//! Those who run: Millstream, Flink, the bare client loop. Each reads the whole input topic and
//! writes a topic of its own; it is done when its consumer group has committed the input's end.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::Result;
use crate::flink::Flink;
use crate::process::Process;
use crate::topics::Topics;

/// Longest time for one run.
const DEADLINE: Duration = Duration::from_mins(10);
/// Between two looks at the group's offsets.
const POLL: Duration = Duration::from_millis(250);

/// What all contenders of a benchmark do, each in its own words.
pub trait Job {
    /// The job file of one run for Millstream.
    fn file(&self, run: &Run<'_>) -> String;
    /// The class of the same job for Flink.
    fn class(&self) -> &'static str;
    /// Makes what a run writes to: a topic, where the job has nothing else.
    fn make_output(&self, run: &Run<'_>) -> Result<()> {
        run.field.topics.create(run.output)
    }
    /// Removes it: a gigabyte a run, not all of them fit on the disk.
    fn remove_output(&self, run: &Run<'_>) -> Result<()> {
        run.field.topics.delete(run.output)
    }
    /// Checks what a run has written; returns the number of its records.
    fn check(&self, run: &Run<'_>, contender: &Contender) -> Result<u64>;
}

/// One run.
pub struct Run<'a> {
    /// What it has in common with the others.
    pub field: &'a Field<'a>,
    /// Its settings.
    pub settings: Settings,
    /// Its name, consumer group, and prefix of transactional ids.
    pub name: &'a str,
    /// The topic or table that it fills.
    pub output: &'a str,
}

impl Run<'_> {
    /// Arguments of the jobs of `benches/flink`, and what a job takes besides.
    pub fn flink_arguments(&self, options: &[String]) -> Vec<String> {
        let guarantee = if self.settings.exactly_once {
            "EXACTLY_ONCE"
        } else {
            "AT_LEAST_ONCE"
        };
        let of_all = [
            self.field.bootstrap.to_owned(),
            self.field.input.to_owned(),
            self.output.to_owned(),
            self.settings.interval_ms.to_string(),
            guarantee.to_owned(),
            self.name.to_owned(),
            "2".to_owned(),
        ];
        of_all.into_iter().chain(options.iter().cloned()).collect()
    }
}

/// What every run has in common.
pub struct Field<'a> {
    /// What is to be done.
    pub job: &'a dyn Job,
    /// The broker.
    pub bootstrap: &'a str,
    /// Process id of the broker.
    pub broker_pid: u32,
    /// Topics on it.
    pub topics: &'a Topics,
    /// The filled topic.
    pub input: &'a str,
    /// Its records.
    pub rows: u64,
    /// Where runs put their files.
    pub directory: &'a Path,
}

/// Settings of one run.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Settings {
    /// Checkpoint or commit interval, milliseconds.
    pub interval_ms: u64,
    /// Whether output is exactly once, or at least once.
    pub exactly_once: bool,
    /// Whether records are read with their timestamp and written with key, timestamp and a header;
    /// only Millstream is.
    pub metadata: bool,
}

impl Settings {
    /// The word of Millstream's job file for the guarantee.
    pub fn guarantee(self) -> &'static str {
        if self.exactly_once {
            "ExactlyOnce"
        } else {
            "AtLeastOnce"
        }
    }
}

/// What one run cost.
#[derive(Debug, Clone, Serialize)]
pub struct Measurement {
    /// Who ran.
    pub contender: String,
    /// How.
    #[serde(flatten)]
    pub settings: Settings,
    /// Records read.
    pub rows: u64,
    /// Records written.
    pub output_rows: u64,
    /// From start (or submission) to the commit of the last record, seconds.
    pub wall_seconds: f64,
    /// CPU-seconds of the contender's processes.
    pub cpu_seconds: f64,
    /// CPU-seconds of the broker in the same time.
    pub broker_cpu_seconds: f64,
    /// Millions of records per CPU-second.
    pub million_rows_per_cpu_second: f64,
    /// Peak resident set, mebibytes.
    pub peak_rss_mib: f64,
}

/// A contender that can run again and again.
pub enum Contender {
    /// `millstream run`, a fresh process for each run.
    Millstream {
        /// Its name in the results.
        name: String,
        /// The release binary.
        binary: PathBuf,
    },
    /// A Flink session cluster that stays up between runs.
    Flink {
        /// Its name in the results.
        name: String,
        /// The cluster.
        cluster: Rc<Flink>,
        /// What its job takes besides the arguments of every run.
        options: Vec<String>,
    },
    /// The bare client loop, a fresh process for each run.
    Loop {
        /// The release binary.
        binary: PathBuf,
    },
}

impl Contender {
    /// Its name in the results.
    pub fn name(&self) -> &str {
        match self {
            Self::Millstream { name, .. } | Self::Flink { name, .. } => name,
            Self::Loop { .. } => "librdkafka loop",
        }
    }

    /// Runs once under a name that no other run has, and checks the output.
    pub fn run(&self, field: &Field<'_>, settings: Settings, name: &str) -> Result<Measurement> {
        let output = format!("out-{name}");
        let run = Run {
            field,
            settings,
            name,
            output: &output,
        };
        field.job.make_output(&run)?;
        let broker_before = crate::process::cpu_seconds(field.broker_pid)?;
        let began = Instant::now();
        let (cpu_seconds, peak_rss_bytes) = self.go(&run)?;
        let wall_seconds = began.elapsed().as_secs_f64();
        let broker_cpu_seconds = crate::process::cpu_seconds(field.broker_pid)? - broker_before;
        let output_rows = field.job.check(&run, self)?;
        field.job.remove_output(&run)?;
        Ok(Measurement {
            contender: self.name().to_owned(),
            settings,
            rows: field.rows,
            output_rows,
            wall_seconds,
            cpu_seconds,
            broker_cpu_seconds,
            million_rows_per_cpu_second: field.rows as f64 / cpu_seconds / 1e6,
            peak_rss_mib: peak_rss_bytes as f64 / 1_048_576.0,
        })
    }

    /// Runs to the end; CPU-seconds and peak memory.
    fn go(&self, run: &Run<'_>) -> Result<(f64, u64)> {
        let field = run.field;
        match self {
            Self::Millstream { binary, .. } => {
                let file = field.directory.join(format!("{}.yaml", run.name));
                std::fs::write(&file, field.job.file(run))?;
                let mut command = Command::new(binary);
                command.arg("run").arg(file).args(["--restore", "fresh"]);
                one_process(&mut command, run)
            }
            Self::Loop { binary } => {
                let mut command = Command::new(binary);
                command.args([field.bootstrap, field.input, run.output]);
                command.arg(field.topics.partitions.to_string());
                command.arg(run.settings.interval_ms.to_string());
                one_process(command.arg(run.name), run)
            }
            Self::Flink {
                cluster, options, ..
            } => one_submission(cluster, options, run),
        }
    }
}

fn wait_for_end(run: &Run<'_>, mut alive: impl FnMut() -> Result<()>) -> Result<()> {
    let began = Instant::now();
    let field = run.field;
    while !field.topics.group_is_at_end(run.name, field.input)? {
        alive()?;
        if began.elapsed() > DEADLINE {
            return Err(format!("{} is not at the end after {DEADLINE:?}", run.name).into());
        }
        std::thread::park_timeout(POLL);
    }
    Ok(())
}

fn one_process(command: &mut Command, run: &Run<'_>) -> Result<(f64, u64)> {
    let log = run.field.directory.join(format!("{}.log", run.name));
    let mut process = Process::start(command, &log)?;
    // A process that has ended keeps its numbers until it is waited for, which `ended` does: so
    // they are read in every turn and the last ones that could be read are kept.
    let mut last = (0.0, 0);
    let read = |process: &Process, last: &mut (f64, u64)| {
        if let Ok(seconds) = process.cpu_seconds() {
            last.0 = seconds;
        }
        if let Ok(bytes) = process.peak_rss_bytes() {
            last.1 = bytes;
        }
    };
    wait_for_end(run, || {
        read(&process, &mut last);
        Ok(())
    })
    .map_err(|error| {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        format!("{error}; the process said: {said}")
    })?;
    read(&process, &mut last);
    process.stop()?;
    Ok(last)
}

fn one_submission(cluster: &Flink, options: &[String], run: &Run<'_>) -> Result<(f64, u64)> {
    let before = cluster.cpu_seconds()?;
    let arguments = run.flink_arguments(options);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let job = cluster.submit(run.field.job.class(), &arguments)?;
    wait_for_end(run, || Ok(()))?;
    let used = cluster.cpu_seconds()? - before;
    cluster.cancel(&job)?;
    Ok((used, cluster.peak_rss_bytes()?))
}
