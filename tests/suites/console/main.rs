//! The console, as a person uses it: Chromium looks at jobs that run in processes of their own.
//!
//! What is looked at stands in `browser.py`, a function for each walk. With `MILLSTREAM_PICTURES=DIRECTORY`
//! the pictures that it takes are kept there.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use millstream_tests::cluster::{Cluster, Coordinator};
use millstream_tests::kafka::topics::WholeRecord;
use millstream_tests::server::{Launch, Server};
use millstream_tests::tools;
use millstream_tests::wait::wait_until;
use millstream_tests::{Broker, KafkaVersion};
use millstream_types::api::JobState;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

const DEADLINE: Duration = Duration::from_mins(4);

/// Orders without an end, and a count for each customer.
const ORDERS: &str = r"
apiVersion: millstream.dev/v1alpha1
kind: StreamJob
metadata: {name: orders-per-customer}
spec:
  parallelism: 2
  checkpoint: {storage: STORAGE, interval: 1s, timeout: 60s}
  restart: RESTART
  dataflow:
    sources:
      - name: orders
        generator: {seed: 1, rows: 100000000, rowsPerSecond: 4000, invalidRatio: 0.1}
        watermark: {column: ts, maxOutOfOrderness: 5s}
    transforms:
      - {name: valid, input: orders, sql: SELECT * FROM orders WHERE quantity > 0 AND price > 0}
      - name: frequent
        input: valid
        sql: SELECT customer_id, count(*) AS orders, sum(quantity * price) AS total FROM valid GROUP BY customer_id
    sinks:
      - {name: processed-orders, input: valid, blackhole: {}}
      - {name: frequent-customers, input: frequent, blackhole: {}}
";

/// A coordinator that goes on answering when the job has failed.
fn lingering(launch: Launch) -> Launch {
    launch.args(["--deployment", "1"])
}

/// Each checkpoint takes longer than the interval from one to the next.
fn with_a_slow_store(launch: Launch) -> Launch {
    lingering(launch).env("MILLSTREAM_STORAGE_DELAY", "600ms")
}

/// A job with its coordinator and two workers.
struct Running {
    cluster: Cluster,
    coordinator: Coordinator,
    workers: Vec<Server>,
}

impl Running {
    #[track_caller]
    fn start(name: &str, job: &str, restart: &str) -> Self {
        Self::start_with(name, job, restart, lingering)
    }

    #[track_caller]
    fn start_with(name: &str, job: &str, restart: &str, how: fn(Launch) -> Launch) -> Self {
        let mut cluster = Cluster::new(name, "");
        let here = cluster.directory().to_string_lossy().into_owned();
        let job = job.replace("STORAGE", &format!("file://{here}/checkpoints"));
        cluster.rewrite_job(&job.replace("RESTART", restart));
        let coordinator = cluster.coordinator_with(None, how);
        let grpc = coordinator.addresses.grpc.clone();
        let workers = ["worker-a", "worker-b"].map(|name| cluster.worker(name, &grpc, 1));
        let running = Self {
            cluster,
            coordinator,
            workers: workers.into(),
        };
        running.wait_for("has completed checkpoints", |running| {
            let list = running.coordinator.rest.checkpoints();
            list.is_ok_and(|list| list.counts.completed >= 3)
        });
        running
    }

    #[track_caller]
    fn wait_for(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        wait_until(&format!("the job {what}"), DEADLINE, || is_so(self));
    }

    fn is(&self, state: JobState) -> bool {
        let job = self.coordinator.rest.job();
        job.is_ok_and(|job| job.state == state)
    }

    /// Starts a walk.
    #[track_caller]
    fn walk(&mut self, name: &str) -> Server {
        let suite = tools::root().join("tests/suites/console/browser.py");
        let python = tools::install("browser.sh", &[]);
        let pictures = std::env::var_os("MILLSTREAM_PICTURES");
        let pictures = pictures.map_or_else(|| self.cluster.directory().to_owned(), PathBuf::from);
        let launch = Launch::new(python.trim_end())
            .arg(suite)
            .arg(name)
            .arg(format!("http://{}", self.coordinator.addresses.rest))
            .arg(pictures);
        self.cluster.start(name, &launch)
    }

    /// Takes a walk to its end.
    #[track_caller]
    fn walked(&mut self, name: &str) {
        let walk = self.walk(name);
        ended(walk);
    }
}

#[track_caller]
fn ended(mut walk: Server) {
    let status = walk.wait(DEADLINE);
    let output = walk.output();
    assert!(status.success() && output.ends_with("> done\n"), "{output}");
    println!("{output}");
}

#[track_caller]
fn wait_for_word(walk: &mut Server, word: &str) {
    wait_until(&format!("the walk says {word}"), DEADLINE, || {
        assert!(walk.is_running(), "{}", walk.output());
        walk.output().contains(&format!("> {word}\n"))
    });
}

#[test]
fn the_graph_is_shown_in_both_themes_and_both_widths_and_is_small() {
    Running::start("console-graph", ORDERS, "{exponentialDelay: {}}").walked("graph");
}

#[test]
fn checkpoints_show_how_each_task_took_part_and_a_savepoint_is_taken() {
    Running::start("console-checkpoints", ORDERS, "{exponentialDelay: {}}").walked("checkpoints");
}

/// A job that reads the topic `clicks`.
const CLICKS: &str = r#"
apiVersion: millstream.dev/v1alpha1
kind: StreamJob
metadata: {name: clicks}
spec:
  parallelism: 2
  checkpoint: {storage: STORAGE, interval: 500ms}
  restart: RESTART
  dataflow:
    sources: [{name: clicks, kafka: {bootstrapServers: "SERVERS", topics: [clicks]}, format: {raw: {}}}]
    sinks: [{name: out, input: clicks, blackhole: {}}]
"#;

#[test]
fn lag_is_shown_and_whose_transaction_causes_it_and_that_checkpoints_are_slow() {
    let broker = Broker::shared(KafkaVersion::V4_4);
    broker.create_topic("clicks", 3);
    let job = CLICKS.replace("SERVERS", &broker.bootstrap());
    let restart = "{exponentialDelay: {}}";
    let mut running = Running::start_with("console-lag", &job, restart, with_a_slow_store);
    let record = WholeRecord {
        value: Some(b"click".to_vec()),
        ..WholeRecord::default()
    };
    let mut client = broker.client();
    client.set("transactional.id", "somebody-else");
    let producer: BaseProducer = client.create().expect("the settings are valid");
    producer
        .init_transactions(DEADLINE)
        .expect("the id is free");
    producer.begin_transaction().expect("it is initialised");
    let open = BaseRecord::<(), str>::to("clicks").partition(1);
    let sent = producer.send(open.payload("open"));
    sent.map_err(|(error, _)| error).expect("there is room");
    producer.flush(DEADLINE).expect("the record is written");
    for partition in 0..3 {
        broker.produce_whole("clicks", partition, &vec![record.clone(); 50]);
    }
    running.walked("lag");
}

#[test]
fn everything_can_be_reached_and_done_by_keyboard() {
    Running::start("console-keyboard", ORDERS, "{exponentialDelay: {}}").walked("keyboard");
}

#[test]
fn a_failure_is_shown_with_its_place_and_page_and_a_job_that_is_given_up_as_failed() {
    let restart = "{fixedDelay: {attempts: 1, delay: 200ms}}";
    let mut running = Running::start("console-failures", ORDERS, restart);
    running.workers.remove(0).kill();
    running.wait_for("restarts", |running| {
        let job = running.coordinator.rest.job();
        job.is_ok_and(|job| job.restarts == 1)
    });
    let grpc = running.coordinator.addresses.grpc.clone();
    running
        .workers
        .push(running.cluster.worker("worker-c", &grpc, 1));
    running.wait_for("runs again", |running| running.is(JobState::Running));
    running.walked("failures");

    running.workers.remove(0).kill();
    running.wait_for("is given up", |running| running.is(JobState::Failed));
    running.walked("failed");
}

#[test]
fn a_coordinator_that_is_away_is_said_and_what_is_shown_is_said_to_be_old() {
    let mut running = Running::start("console-silence", ORDERS, "{exponentialDelay: {}}");
    let mut walk = running.walk("silence");
    wait_for_word(&mut walk, "live");
    running.coordinator.server.kill();
    wait_for_word(&mut walk, "silent");
    let addresses = running.coordinator.addresses.clone();
    running.coordinator = running
        .cluster
        .coordinator_with(Some(&addresses), lingering);
    ended(walk);
}

#[test]
fn many_vertices_with_long_names_do_not_lie_over_each_other() {
    let job = many();
    Running::start("console-many", &job, "{exponentialDelay: {}}").walked("many");
}

/// A job of many vertices: its transforms change the parallelism, so that no two share a task.
fn many() -> String {
    let (head, _) = ORDERS
        .split_once("    transforms:")
        .expect("it has transforms");
    let mut job =
        format!("{head}    transforms:\n").replace("rowsPerSecond: 4000", "rowsPerSecond: 500");
    let mut sinks = String::new();
    for region in ["europe-north-and-west", "asia-pacific", "americas"] {
        let name = format!("orders-of-all-customers-in-{region}-with-what");
        let checked = format!("checked-{region}");
        writeln!(
            job,
            "      - {{name: {name}, input: orders, parallelism: 1, sql: SELECT * FROM orders WHERE quantity > 0}}\n      \
             - {{name: {checked}, input: {name}, sql: 'SELECT * FROM \"{name}\" WHERE price > 0'}}\n      \
             - {{name: totals-{region}, input: {checked}, sql: 'SELECT customer_id, count(*) AS orders FROM \"{checked}\" GROUP BY customer_id'}}"
        )
        .expect("text takes text");
        writeln!(
            sinks,
            "      - {{name: totals-of-{region}-for-the-reporting-warehouse, input: totals-{region}, parallelism: 1, partitionBy: [customer_id], blackhole: {{}}}}\n      \
             - {{name: rejected-{region}, input: {name}, blackhole: {{}}}}"
        )
        .expect("text takes text");
    }
    format!("{job}    sinks:\n{sinks}")
}
