//! Running aggregates, ended and resumed at other parallelisms: in the end every customer's row is what
//! a plain map has of the same orders.
//!
//! The orders are written to files beside, exactly once, and the map is made of these files.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use millstream_tests::chain::ChainFolder;
use millstream_tests::cluster::Cluster;
use millstream_tests::keyed::{Expected, Faults, Judge, Processed, SQL};
use millstream_tests::server::Server;
use millstream_tests::tools;
use millstream_tests::wait::wait_until;
use millstream_tests::workload::cents;
use serde_json::Value;

const DEADLINE: Duration = Duration::from_mins(2);
const CUSTOMERS: u32 = 1_000;

const JOB: &str = "
apiVersion: millstream.dev/v1alpha1
kind: StreamJob
metadata: {name: keyed}
spec:
  parallelism: PARALLELISM
  checkpoint: {storage: 'file://DIRECTORY/checkpoints', interval: INTERVAL, minPause: 10msALIGNED}
  dataflow:
    sources:
    - {name: orders, generator: {seed: 3, rows: ROWS, rowsPerSecond: PACE, customers: CUSTOMERS}}
    transforms:
    - {name: valid, input: orders, sql: 'SELECT * FROM orders WHERE quantity > 0'}
    - {name: totals, input: valid, sql: 'AGGREGATES'}
    - {name: frequent, input: valid, sql: 'SELECT customer_id AS frequent, count(*) AS n FROM valid GROUP BY customer_id HAVING count(*) BETWEEN 20 AND 40'}
    sinks:
    - {name: orders-kept, input: valid, files: {path: DIRECTORY/orders}}
    - {name: shown, inputs: [totals], print: {}}
    - {name: shown-too, inputs: [frequent], print: {}}
";

struct Job {
    cluster: Cluster,
    interval: &'static str,
    /// Of barriers, if they may overtake.
    aligned_timeout: Option<&'static str>,
    rows: u64,
    pace: u64,
    /// Of each process, in their order.
    runs: Vec<Server>,
}

impl Job {
    fn new(interval: &'static str, rows: u64, pace: u64) -> Self {
        Self {
            cluster: Cluster::new("keyed", ""),
            interval,
            aligned_timeout: None,
            rows,
            pace,
            runs: Vec::new(),
        }
    }

    /// Starts the job, or goes on with it.
    fn run(&mut self, parallelism: u32) -> &mut Server {
        let here = self.cluster.directory().to_string_lossy().into_owned();
        let aligned = self
            .aligned_timeout
            .map(|it| format!(", alignedTimeout: {it}"));
        let text = JOB
            .replace("ALIGNED", &aligned.unwrap_or_default())
            .replace("DIRECTORY", &here)
            .replace("INTERVAL", self.interval)
            .replace("ROWS", &self.rows.to_string())
            .replace("PACE", &self.pace.to_string())
            .replace("CUSTOMERS", &CUSTOMERS.to_string())
            .replace("AGGREGATES", SQL)
            .replace("PARALLELISM", &parallelism.to_string());
        self.cluster.rewrite_job(&text);
        let file = self.cluster.directory().join("streamjob.yaml");
        let run = self.cluster.millstream("run").arg(file);
        let run = self
            .cluster
            .start("run", &run.args(["--progress", "lines"]));
        self.runs.push(run);
        self.runs.last_mut().expect("it was pushed")
    }

    /// The newest decided checkpoint; 0 before the first one.
    fn newest(&self) -> u64 {
        let folder = self.cluster.directory().join("checkpoints/default/keyed");
        let newest = ChainFolder::new(folder).newest_checkpoint();
        let newest = newest.ok().flatten();
        newest.map_or(0, |slot| {
            slot.manifest()["checkpoint"].as_u64().unwrap_or(0)
        })
    }

    /// Runs it until it has taken three checkpoints, and kills it.
    #[track_caller]
    fn run_and_kill(&mut self, parallelism: u32) {
        let before = self.newest();
        self.run(parallelism);
        wait_until("three checkpoints are decided", DEADLINE, || {
            let run = self.runs.last_mut().expect("it was started");
            assert!(run.is_running(), "it ended early:\n{}", tail(run));
            self.newest() >= before + 3
        });
        let run = self.runs.last_mut().expect("it was started");
        assert!(run.kill(), "it still ran");
    }

    #[track_caller]
    fn run_to_its_end(&mut self, parallelism: u32) {
        let run = self.run(parallelism);
        let status = run.wait(DEADLINE);
        assert!(status.success(), "{}", tail(run));
    }

    /// What the orders amount to that were written to files.
    fn expected(&self) -> (u64, Expected) {
        let (mut orders, mut expected) = (0, Expected::default());
        for file in self.files() {
            let text = std::fs::read_to_string(&file).expect("an output file is text");
            for line in text.lines() {
                let order: Value = serde_json::from_str(line).expect("every line is JSON");
                let customer = order["customer_id"].as_str().expect("it has a customer");
                let quantity = order["quantity"].as_i64().expect("it has a quantity");
                let price = line.split_once("\"price\":").expect("it has a price").1;
                let price = price.split([',', '}']).next().and_then(cents);
                expected.add_one(customer, quantity, price.expect("of two decimals"));
                orders += 1;
            }
        }
        (orders, expected)
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.cluster.directory().join("orders"));
        let paths = entries.into_iter().flatten().flatten();
        let paths = paths.map(|entry| entry.path());
        let name = |path: &PathBuf| {
            path.file_name()
                .map(|name| name.to_string_lossy().into_owned())
        };
        paths
            .filter(|path| name(path).is_some_and(|name| name.starts_with("part-")))
            .collect()
    }

    /// Compares what was printed with what must have been.
    #[track_caller]
    fn check(&self) {
        let (orders, expected) = self.expected();
        assert!(orders > self.rows * 8 / 10, "{orders} orders");
        assert_eq!(expected.customers(), usize::try_from(CUSTOMERS).unwrap());
        let mut judge = Judge::new(&expected, Processed::AnyOrder);
        let mut frequent = BTreeMap::new();
        for (run, number) in self.runs.iter().zip(0..) {
            let said = run.output();
            assert!(
                !said.contains("WRONG") && !said.contains("GAP"),
                "{}",
                tail(run)
            );
            for line in said.lines() {
                if line.contains("\"frequent\"") {
                    note(&mut frequent, line);
                } else {
                    judge.printed(line, number);
                }
            }
        }
        assert!(
            judge.changes > u64::from(CUSTOMERS) * 4,
            "{}",
            judge.changes
        );
        assert_eq!(judge.end(), Faults::default());
        let few: BTreeMap<String, u64> = expected
            .newest()
            .filter(|(_, totals)| (20..=40).contains(&totals.orders))
            .map(|(customer, totals)| (customer.to_owned(), totals.orders))
            .collect();
        assert_eq!(frequent, few);
    }
}

/// Takes note of a change of a row `{"frequent":…,"n":…}`.
fn note(rows: &mut BTreeMap<String, u64>, line: &str) {
    let (change, row) = line.split_once(' ').expect("a change and its row");
    let row: Value = serde_json::from_str(row).expect("a row is JSON");
    let customer = row["frequent"]
        .as_str()
        .expect("it has a customer")
        .to_owned();
    let count = row["n"].as_u64().expect("it has a count");
    if change.starts_with('+') {
        rows.insert(customer, count);
    } else {
        rows.remove(&customer);
    }
}

/// The last of what a process has printed.
fn tail(run: &Server) -> String {
    let said = run.output();
    let from = said.len().saturating_sub(4_000);
    said.get(from..).unwrap_or(&said).to_owned()
}

fn killed_and_resumed_it_ends_with_what_a_map_has(interval: &'static str, rows: u64, pace: u64) {
    let mut job = Job::new(interval, rows, pace);
    job.run_and_kill(2);
    job.run_and_kill(1);
    job.run_and_kill(3);
    job.run_to_its_end(2);
    job.check();
}

#[test]
fn totals_survive_kills_and_other_parallelisms_with_a_checkpoint_every_100_ms() {
    killed_and_resumed_it_ends_with_what_a_map_has("100ms", 60_000, 15_000);
}

/// The barriers of an `alignedTimeout` of nothing overtake whatever lies in their way.
#[test]
fn totals_survive_kills_and_other_parallelisms_with_unaligned_checkpoints() {
    let mut job = Job::new("100ms", 60_000, 15_000);
    job.aligned_timeout = Some("0s");
    job.run_and_kill(2);
    job.run_and_kill(1);
    job.run_and_kill(3);
    job.run_to_its_end(2);
    job.check();
}

#[test]
fn totals_survive_kills_and_other_parallelisms_with_a_checkpoint_every_second() {
    killed_and_resumed_it_ends_with_what_a_map_has("1s", 60_000, 5_000);
}

/// The job of `examples/orders-local` shows who orders most: the rows that are left are right.
#[test]
fn the_local_orders_job_shows_the_customers_with_the_most_orders() {
    let path = tools::root().join("examples/orders-local/streamjob.yaml");
    let text = std::fs::read_to_string(path).expect("the example is there");
    let mut cluster = Cluster::new("frequent", "");
    let here = cluster.directory().to_string_lossy().into_owned();
    let text = text
        .replace("file://./.run/orders-local", &format!("file://{here}"))
        .replace(".run/orders-local", &here);
    cluster.rewrite_job(&text);
    let file = cluster.directory().join("streamjob.yaml");
    let run = cluster.millstream("run").arg(file);
    let mut run = cluster.start("run", &run.args(["--progress", "lines"]));
    assert!(run.wait(DEADLINE).success(), "{}", tail(&run));
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    let entries = std::fs::read_dir(cluster.directory().join("processed-orders"));
    for entry in entries.expect("the output is there").flatten() {
        if entry.path().is_dir() {
            continue;
        }
        let text = std::fs::read_to_string(entry.path()).expect("an output file is text");
        for line in text.lines() {
            let order: Value = serde_json::from_str(line).expect("every line is JSON");
            let customer = order["customer_id"].as_str().expect("it has a customer");
            *expected.entry(customer.to_owned()).or_default() += 1;
        }
    }
    expected.retain(|_, orders| *orders >= 120);
    assert!(!expected.is_empty(), "somebody has ordered so often");
    let mut shown = BTreeMap::new();
    let said = run.output();
    let changes = said.lines().filter(|line| line.starts_with(['+', '-']));
    for change in changes.clone() {
        let (what, row) = change.split_once(' ').expect("a change and its row");
        let row: Value = serde_json::from_str(row).expect("a row is JSON");
        let customer = row["customer_id"].as_str().expect("it has a customer");
        if what.starts_with('+') {
            shown.insert(customer.to_owned(), row["orders"].as_u64().unwrap_or(0));
        } else {
            shown.remove(customer);
        }
    }
    assert_eq!(shown, expected);
    assert!(changes.count() < 200, "a person can read it");
}

/// The files that a manifest names.
fn named_files(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let (Some(path), Some(_)) = (fields.get("path"), fields.get("crc32c")) {
                found.extend(path.as_str().map(str::to_owned));
            }
            for field in fields.values() {
                named_files(field, found);
            }
        }
        Value::Array(items) => {
            for item in items {
                named_files(item, found);
            }
        }
        _ => {}
    }
}

#[test]
fn state_that_is_missing_cut_or_changed_is_named_and_the_job_goes_on_once_it_is_back() {
    let mut job = Job::new("100ms", 20_000, 10_000);
    job.run_and_kill(2);
    let folder = job.cluster.directory().join("checkpoints/default/keyed");
    let newest = ChainFolder::new(folder.clone()).newest_checkpoint();
    let newest = newest
        .expect("the chain can be read")
        .expect("there is one");
    let mut files = Vec::new();
    named_files(newest.manifest(), &mut files);
    let name = files.first().expect("it names files of state");
    let file = folder.join(name);
    let good = std::fs::read(&file).expect("the file is there");
    let validate = |job: &mut Job| {
        let job_file = job.cluster.directory().join("streamjob.yaml");
        let launch = job.cluster.millstream("validate").arg(job_file);
        let launch = launch.args(["--restore", "latest"]);
        let mut server = job.cluster.start("validate", &launch);
        let status = server.wait(DEADLINE);
        (status.success(), server.output())
    };
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    // The content is read by the start alone.
    for (what, content, is_seen_before) in [
        ("missing", None, true),
        ("cut", Some(&good[..good.len() - 1]), true),
        ("changed", Some(flipped.as_slice()), false),
    ] {
        match content {
            None => std::fs::remove_file(&file).expect("the file is there"),
            Some(content) => std::fs::write(&file, content).expect("the directory is ours"),
        }
        let (is_valid, said) = validate(&mut job);
        assert_eq!(is_valid, !is_seen_before, "{what}: {said}");
        if is_seen_before {
            assert!(
                said.contains("MS0303") && said.contains(name),
                "{what}: {said}"
            );
        }
        let run = job.run(2);
        wait_until("the start names the file", DEADLINE, || {
            let said = run.output();
            said.contains("MS0303") && said.contains(name)
        });
        run.kill();
    }
    std::fs::write(&file, good).expect("the directory is ours");
    let (is_valid, said) = validate(&mut job);
    assert!(is_valid, "{said}");
    job.run_to_its_end(1);
    job.check();
}
