//! The job of these tests, and what it has written.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::process::Process;

pub(crate) const ROWS: u64 = 60_000;

/// A directory with a job file, its checkpoints and its output.
pub(crate) struct Job {
    directory: TempDir,
}

impl Job {
    /// The job, making this many orders per second; as fast as it can without a rate.
    pub(crate) fn new(rows_per_second: Option<u64>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().display();
        let rate =
            rows_per_second.map_or_else(String::new, |rate| format!("rowsPerSecond: {rate}, "));
        let text = format!(
            r#"
apiVersion: millstream.dev/v1alpha1
kind: StreamJob
metadata: {{name: orders}}
spec:
  parallelism: 2
  checkpoint: {{storage: "file://{root}/checkpoints", interval: 100ms, timeout: 10s}}
  restart: {{fixedDelay: {{delay: 50ms, attempts: 100}}}}
  dataflow:
    sources:
    - name: orders
      generator: {{seed: 7, rows: {ROWS}, {rate}splits: 4}}
      watermark: {{column: ts, maxOutOfOrderness: 5s}}
    transforms:
    - {{name: valid, input: orders, sql: "SELECT * FROM orders WHERE quantity > 0 AND price > 0"}}
    - {{name: enriched, input: valid, sql: "SELECT order_id, customer_id, quantity * price AS total FROM valid"}}
    sinks:
    - {{name: processed, input: enriched, files: {{path: "{root}/out"}}}}
"#
        );
        fs::write(directory.path().join("job.yaml"), text).unwrap();
        Self { directory }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join("job.yaml")
    }

    /// Changes the job file.
    pub(crate) fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.file()).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(self.file(), text.replace(from, to)).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Visible output files.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.path().join("out")) else {
            return Vec::new();
        };
        let visible = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_string_lossy();
            path.is_file() && !name.starts_with(['.', '_'])
        };
        entries
            .map(|entry| entry.unwrap().path())
            .filter(visible)
            .collect()
    }

    /// All visible records, sorted.
    pub(crate) fn output(&self) -> Vec<String> {
        let text = |path: PathBuf| fs::read_to_string(path).unwrap();
        let mut lines: Vec<String> = self
            .files()
            .into_iter()
            .flat_map(|path| text(path).lines().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        lines.sort_unstable();
        lines
    }

    /// Fails unless the output is exactly that of a run without trouble.
    pub(crate) fn assert_exact(&self) {
        let (expected, found) = (undisturbed(), self.output());
        let count = |lines: &[String]| lines.len();
        assert_eq!(
            count(&found),
            count(expected),
            "records in {}",
            self.path().display()
        );
        assert!(found == *expected, "as many records, but others");
    }
}

/// Output of a run without trouble.
pub(crate) fn undisturbed() -> &'static Vec<String> {
    static OUTPUT: OnceLock<Vec<String>> = OnceLock::new();
    OUTPUT.get_or_init(|| {
        let job = Job::new(None);
        Process::run(&job).succeeds();
        let output = job.output();
        let rows = usize::try_from(ROWS).unwrap();
        // A tenth of the orders is invalid, give or take.
        assert!(
            (rows * 85 / 100..rows * 95 / 100).contains(&output.len()),
            "{}",
            output.len()
        );
        output
    })
}
