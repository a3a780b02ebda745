//! Those who run: Millstream, Flink, the bare client loop. Each reads the whole input topic and
//! writes a topic of its own; it is done when its consumer group has committed the input's end.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::flink::Flink;
use crate::process::Process;
use crate::topics::Topics;
use crate::{Result, orders};

/// Longest time for one run.
const DEADLINE: Duration = Duration::from_mins(10);
/// Between two looks at the group's offsets.
const POLL: Duration = Duration::from_millis(250);

/// What every run has in common.
pub struct Field<'a> {
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
        cluster: Box<Flink>,
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
    pub fn run(&self, field: &Field<'_>, settings: Settings, run: &str) -> Result<Measurement> {
        let output = format!("out-{run}");
        field.topics.create(&output)?;
        let broker_before = crate::process::cpu_seconds(field.broker_pid)?;
        let began = Instant::now();
        let (cpu_seconds, peak_rss_bytes) = match self {
            Self::Millstream { binary, .. } => {
                let job = write_job(field, settings, run, &output)?;
                let mut command = Command::new(binary);
                command.arg("run").arg(job).args(["--restore", "fresh"]);
                one_process(&mut command, field, run)?
            }
            Self::Loop { binary } => {
                let mut command = Command::new(binary);
                command.args([field.bootstrap, field.input, &output]);
                command.arg(field.topics.partitions.to_string());
                command.arg(settings.interval_ms.to_string()).arg(run);
                one_process(&mut command, field, run)?
            }
            Self::Flink { cluster, .. } => one_submission(cluster, field, settings, run, &output)?,
        };
        let wall_seconds = began.elapsed().as_secs_f64();
        let broker_cpu_seconds = crate::process::cpu_seconds(field.broker_pid)? - broker_before;
        self.check(field, settings, &output)?;
        Ok(Measurement {
            contender: self.name().to_owned(),
            settings,
            rows: field.rows,
            wall_seconds,
            cpu_seconds,
            broker_cpu_seconds,
            million_rows_per_cpu_second: field.rows as f64 / cpu_seconds / 1e6,
            peak_rss_mib: peak_rss_bytes as f64 / 1_048_576.0,
        })
    }

    fn check(&self, field: &Field<'_>, settings: Settings, output: &str) -> Result<()> {
        let wanted = match self {
            Self::Loop { .. } => field.rows,
            Self::Millstream { .. } | Self::Flink { .. } => orders::valid_rows(field.rows),
        };
        let found = field.topics.count_committed(output)?;
        if found == wanted || (!settings.exactly_once && found >= wanted) {
            // A gigabyte a run: not all of them fit on the disk.
            return field.topics.delete(output);
        }
        Err(format!(
            "{}: {output} has {found} records, {wanted} expected",
            self.name()
        )
        .into())
    }
}

fn wait_for_end(
    field: &Field<'_>,
    group: &str,
    mut alive: impl FnMut() -> Result<()>,
) -> Result<()> {
    let began = Instant::now();
    while !field.topics.group_is_at_end(group, field.input)? {
        alive()?;
        if began.elapsed() > DEADLINE {
            return Err(format!("{group} is not at the end after {DEADLINE:?}").into());
        }
        std::thread::park_timeout(POLL);
    }
    Ok(())
}

fn one_process(command: &mut Command, field: &Field<'_>, run: &str) -> Result<(f64, u64)> {
    let mut process = Process::start(command, &field.directory.join(format!("{run}.log")))?;
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
    wait_for_end(field, run, || {
        read(&process, &mut last);
        Ok(())
    })?;
    read(&process, &mut last);
    process.stop()?;
    Ok(last)
}

fn one_submission(
    cluster: &Flink,
    field: &Field<'_>,
    settings: Settings,
    run: &str,
    output: &str,
) -> Result<(f64, u64)> {
    let before = cluster.cpu_seconds()?;
    let interval = settings.interval_ms.to_string();
    let guarantee = if settings.exactly_once {
        "EXACTLY_ONCE"
    } else {
        "AT_LEAST_ONCE"
    };
    let job = cluster.submit(&[
        field.bootstrap,
        field.input,
        output,
        &interval,
        guarantee,
        run,
        "2",
    ])?;
    wait_for_end(field, run, || Ok(()))?;
    let used = cluster.cpu_seconds()? - before;
    cluster.cancel(&job)?;
    Ok((used, cluster.peak_rss_bytes()?))
}

/// The same job as `flink/OrdersJob.java`, for Millstream.
fn write_job(field: &Field<'_>, settings: Settings, run: &str, output: &str) -> Result<PathBuf> {
    let guarantee = if settings.exactly_once {
        "ExactlyOnce"
    } else {
        "AtLeastOnce"
    };
    let checkpoints = field.directory.join("checkpoints");
    let text = format!(
        r#"apiVersion: millstream.dev/v1alpha1
kind: StreamJob
metadata: {{name: {run}}}
spec:
  parallelism: 2
  checkpoint: {{storage: "file://{checkpoints}", interval: {interval}ms, mode: {guarantee}, timeout: 60s}}
  dataflow:
    sources:
    - name: orders
      kafka: {{bootstrapServers: "{bootstrap}", topics: [{input}], groupId: {run}}}
      format: {{json: {{}}}}
      schema: [{{name: order_id, type: string}}, {{name: customer_id, type: string}}, {{name: quantity, type: int64}}, {{name: price, type: "decimal(12,2)"}}, {{name: ts, type: int64}}]
    transforms:
    - {{name: enriched, input: orders, sql: "SELECT *, quantity * price AS total FROM orders WHERE quantity > 0 AND price > 0"}}
    sinks:
    - name: processed-orders
      input: enriched
      kafka: {{bootstrapServers: "{bootstrap}", topic: {output}, deliveryGuarantee: {guarantee}, transactionalIdPrefix: {run}, transactionTimeout: 10m}}
      format: {{json: {{}}}}
"#,
        checkpoints = checkpoints.display(),
        interval = settings.interval_ms,
        bootstrap = field.bootstrap,
        input = field.input,
    );
    let path = field.directory.join(format!("{run}.yaml"));
    std::fs::write(&path, text)?;
    Ok(path)
}
