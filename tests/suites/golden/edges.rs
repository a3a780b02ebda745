//! A job whose records cross between subtasks, at several parallelisms: two sources become one
//! stream, and all orders of a customer go through one subtask.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream_tests::cluster::Cluster;
use millstream_tests::server::Server;
use millstream_tests::wait::wait_until;
use serde_json::Value;

const DEADLINE: Duration = Duration::from_mins(2);

/// Orders of each of the two sources.
const ROWS: u64 = 150_000;

const JOB: &str = "
apiVersion: millstream.dev/v1alpha1
kind: StreamJob
metadata: {name: edges}
spec:
  parallelism: PARALLELISM
  operatorChaining: CHAINING
  checkpoint: {storage: 'file://DIRECTORY/checkpoints', interval: 500ms}
  dataflow:
    sources:
    - {name: web, generator: {seed: 1, rows: ROWS, rowsPerSecond: 60000, customers: 500}}
    - {name: shop, parallelism: 1, generator: {seed: 2, rows: ROWS, rowsPerSecond: 60000, customers: 500}}
    transforms:
    - name: all
      inputs: [web, shop]
      sql: |
        SELECT order_id, customer_id, quantity, 'web' AS origin FROM web WHERE quantity > 1
        UNION ALL
        SELECT order_id, customer_id, quantity * 2, 'shop' FROM shop
    - name: by-customer
      input: all
      partitionBy: [customer_id]
      parallelism: 3
      sql: SELECT * FROM all
    sinks:
    - {name: out, input: by-customer, parallelism: 3, files: {path: DIRECTORY/out}}
    - {name: many, inputs: [web, shop], parallelism: 2, files: {path: DIRECTORY/many}}
";

struct Job {
    cluster: Cluster,
}

impl Job {
    fn new() -> Self {
        Self {
            cluster: Cluster::new("edges", ""),
        }
    }

    fn run(&mut self, parallelism: u32, chaining: bool) -> Server {
        let here = self.cluster.directory().to_string_lossy().into_owned();
        let text = JOB
            .replace("DIRECTORY", &here)
            .replace("ROWS", &ROWS.to_string())
            .replace("PARALLELISM", &parallelism.to_string())
            .replace("CHAINING", &chaining.to_string());
        self.cluster.rewrite_job(&text);
        let file = self.cluster.directory().join("streamjob.yaml");
        let run = self.cluster.millstream("run").arg(file);
        self.cluster
            .start("run", &run.args(["--progress", "lines"]))
    }

    fn files(&self, sink: &str) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.cluster.directory().join(sink)) else {
            return Vec::new();
        };
        let paths = entries.flatten().map(|entry| entry.path());
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        paths
            .filter(|path| path.is_file() && !name(path).starts_with(['.', '_']))
            .collect()
    }

    #[track_caller]
    fn wait_for_more(&self, run: &mut Server, files: usize) -> usize {
        wait_until("more output is committed", DEADLINE, || {
            assert!(run.is_running(), "it ended early:\n{}", run.output());
            self.files("out").len() > files
        });
        self.files("out").len()
    }

    /// All orders of a sink, each as `[order_id, origin]`, sorted.
    fn orders(&self, sink: &str) -> Vec<(String, String)> {
        let files = self.files(sink);
        let mut orders: Vec<_> = files
            .iter()
            .flat_map(|file| read(file))
            .map(|order| key(&order))
            .collect();
        orders.sort_unstable();
        orders
    }
}

fn read(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).expect("an output file is text");
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().expect("every line is JSON")
}

fn key(order: &Value) -> (String, String) {
    let text = |name: &str| order[name].as_str().unwrap_or_default().to_owned();
    (text("order_id"), text("origin"))
}

/// Customers by the file that has orders of theirs.
fn customers(file: &Path) -> BTreeSet<String> {
    let orders = read(file).into_iter();
    let customers =
        orders.map(|order| order["customer_id"].as_str().unwrap_or_default().to_owned());
    customers.collect()
}

#[test]
fn records_of_a_key_go_through_one_subtask_and_none_is_lost_or_doubled() {
    let mut job = Job::new();
    let mut run = job.run(2, true);
    assert!(run.wait(DEADLINE).success(), "{}", run.output());
    let said = run.output();
    assert!(!said.contains("WRONG") && !said.contains("GAP"), "{said}");
    let expected = job.orders("out");
    let origins = expected.iter().filter(|(_, origin)| origin == "shop");
    assert_eq!(origins.count() as u64, ROWS);
    assert_eq!(job.orders("many").len() as u64, 2 * ROWS);
    let unique: BTreeSet<_> = expected.iter().collect();
    assert_eq!(unique.len(), expected.len());

    // Which subtask has written a file is in its name.
    let mut subtasks: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in job.files("out") {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let subtask = name.rsplit('-').nth(1).unwrap_or_default().to_owned();
        for customer in customers(&file) {
            subtasks
                .entry(customer)
                .or_default()
                .insert(subtask.clone());
        }
    }
    assert_eq!(subtasks.len(), 500);
    let spread: BTreeSet<_> = subtasks.values().collect();
    assert_eq!(spread.len(), 3, "over three subtasks: {spread:?}");
    assert!(subtasks.values().all(|of| of.len() == 1), "{subtasks:?}");

    let mut other = Job::new();
    let mut run = other.run(3, false);
    let files = other.wait_for_more(&mut run, 0);
    assert!(run.kill());
    let mut run = other.run(1, true);
    let files = other.wait_for_more(&mut run, files);
    run.interrupt();
    assert!(run.wait(DEADLINE).success(), "{}", run.output());
    let mut run = other.run(4, true);
    other.wait_for_more(&mut run, files);
    assert!(run.wait(DEADLINE).success(), "{}", run.output());
    let said = run.output();
    assert!(!said.contains("WRONG") && !said.contains("GAP"), "{said}");
    assert_eq!(other.orders("out"), expected);
    assert_eq!(other.orders("many"), job.orders("many"));
}
