//! The file of results: a line that says what ran where, then one line for each run.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::Result;

/// Results that go to a file and to standard output.
pub struct Report {
    file: File,
}

/// What can be known of all runs.
#[derive(Serialize)]
struct Head<'a> {
    benchmark: &'static str,
    command: String,
    machine: String,
    profile: &'a str,
    /// Of the checkout that the driver was started in; builds of others are named.
    commit: String,
}

impl Report {
    /// Appends to a file, first the line that says what runs where, and how it was compiled.
    pub fn open(path: &Path, benchmark: &'static str, profile: &str) -> Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        let mut report = Self { file };
        report.line(&Head {
            benchmark,
            command: std::env::args().collect::<Vec<_>>().join(" "),
            machine: machine(),
            profile,
            commit: commit(),
        })?;
        Ok(report)
    }

    /// Adds a line.
    pub fn line(&mut self, line: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(line)?;
        println!("{text}");
        writeln!(self.file, "{text}")?;
        Ok(())
    }
}

fn commit() -> String {
    let asked = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR")])
        .args(["rev-parse", "--short", "HEAD"])
        .output();
    asked.map_or_else(
        |error| error.to_string(),
        |told| String::from_utf8_lossy(&told.stdout).trim().to_owned(),
    )
}

/// Processor, its cores, memory, kernel and load.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let value = |text: &str, key: &str| {
        text.lines()
            .find(|line| line.starts_with(key))
            .and_then(|line| line.split_once(':'))
            .map_or_else(
                || "unknown".to_owned(),
                |(_, value)| value.trim().to_owned(),
            )
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{}, {cores} cores, {}, Linux {}, load {}",
        value(&read("/proc/cpuinfo"), "model name"),
        value(&read("/proc/meminfo"), "MemTotal"),
        read("/proc/sys/kernel/osrelease").trim(),
        read("/proc/loadavg").trim(),
    )
}
