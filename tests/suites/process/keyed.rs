//! Running aggregates beside the order job, while workers are killed and frozen and the connections
//! between them cut, and while the parallelism changes.
//!
//! The order job writes every customer's totals to a topic of their own. All orders of a customer lie in
//! one partition and keep their order, so every record there must be the totals of the customer's first
//! orders, and of more of them than the record before.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_tests::chain::ChainFolder;
use millstream_tests::cluster::Cluster;
use millstream_tests::kafka::brokers::Brokers;
use millstream_tests::kafka::topics::Isolation;
use millstream_tests::keyed::{Expected, Faults, Judge, SQL, Totals};
use millstream_tests::order_job::OrderJobFile;
use millstream_tests::wait::{pause, poll_until, wait_until};
use millstream_tests::workload::Workload;
use millstream_tests::{Broker, BrokerOptions, tools};

use serde_json::Value;

use crate::exchange::{self, Fault};
use crate::faults::{Random, seed};
use crate::fixture::{Between, OrderJob, Setup, feed};
use crate::machine;

/// The topic of the totals.
pub(crate) const TOTALS: &str = "totals";
const DEADLINE: Duration = Duration::from_mins(1);

const PLAN: &[(Fault, usize)] = &[
    (Fault::Kill, 4),
    (Fault::Freeze, 2),
    (Fault::Cut, 2),
    (Fault::Reset, 2),
];

/// As [`with_totals`], with barriers that overtake.
fn with_unaligned_totals<const PARALLELISM: u32>(file: OrderJobFile) -> OrderJobFile {
    let file = with_totals::<PARALLELISM>(file);
    file.replace("  checkpoint:\n", "  checkpoint:\n    alignedTimeout: 0s\n")
}

/// The order job with totals, at a parallelism.
pub(crate) fn with_totals<const PARALLELISM: u32>(file: OrderJobFile) -> OrderJobFile {
    let transforms = format!(
        "    transforms:\n      - name: totals\n        input: valid\n        sql: {SQL}\n"
    );
    let sinks = format!(
        "    sinks:\n      - name: totals-out\n        input: totals\n        kafka:\n          \
         bootstrapServers: KAFKA\n          topic: {TOTALS}\n          key: customer_id\n          \
         deliveryGuarantee: ExactlyOnce\n          transactionalIdPrefix: order-processor\n          \
         transactionTimeout: 15m\n        format:\n          json: {{}}\n"
    );
    let text = file.into_text();
    let servers = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("bootstrapServers: "));
    let sinks = sinks.replace("KAFKA", servers.expect("the job has a broker"));
    OrderJobFile::of(text)
        .replace("    transforms:\n", &transforms)
        .replace("    sinks:\n", &sinks)
        .replace("  parallelism: 2\n", &parallelism(PARALLELISM))
}

fn parallelism(subtasks: u32) -> String {
    format!("  parallelism: {subtasks}\n")
}

/// A workload with so many customers.
fn workload(seed: u64, records: u64, customers: u64) -> Workload {
    Workload {
        customers,
        ..Workload::new(seed, records)
    }
}

/// Compares the totals with the input.
#[track_caller]
pub(crate) fn check(brokers: &Brokers, workload: Workload) {
    let broker = brokers.any();
    let expected = Expected::read(broker, "orders");
    let customers = usize::try_from(workload.customers).expect("a number of customers");
    assert!(expected.customers() > customers * 9 / 10, "customers");
    assert_eq!(Judge::topic(&expected, broker, TOTALS), Faults::default());
}

#[test]
fn totals_are_exact_while_workers_and_their_links_fail() {
    totals_under_faults(workload(seed(), 400_000, 20_000), Duration::from_mins(1));
}

/// Takes two minutes of a machine that has nothing else to do, and ten of a busy one.
#[test]
fn extended_totals_of_100_000_customers_are_exact_while_workers_and_their_links_fail() {
    let workload = workload(seed(), 2_000_000, 100_000);
    totals_under_faults(workload, Duration::from_secs(110));
}

/// The orders come in so long.
fn totals_under_faults(workload: Workload, feeding: Duration) {
    let _machine = machine();
    let seed = workload.seed;
    println!("MILLSTREAM_SEED={seed}");
    let mut job = OrderJob::start(Setup {
        change: with_unaligned_totals::<3>,
        between: Between::Workers,
        three_brokers: true,
        more_topics: &[TOTALS],
        ..Setup::new("keyed", 3)
    });
    let brokers = Arc::clone(&job.brokers);
    let mut seen_between = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| feed(&brokers, workload, feeding));
        seen_between = exchange::run(&mut job, &mut Random::new(seed), PLAN);
    });
    let finished = job.finish(workload);
    finished.check(workload);
    check(&brokers, workload);
    // Without these the run would prove little.
    assert!(finished.attempts > 6, "attempts");
    assert!(finished.checkpoints > 20, "checkpoints");
    assert!(seen_between >= 4, "output was committed between faults");
}

/// Goes from one parallelism to another by a killed coordinator, with a worker killed before, and
/// again back.
fn rescale(from: u32, to: u32) {
    let seed = seed();
    println!("MILLSTREAM_SEED={seed} from {from} to {to}");
    let workload = workload(seed, 160_000, 5_000);
    let change = match from {
        1 => with_totals::<1>,
        2 => with_totals::<2>,
        3 => with_totals::<3>,
        _ => with_unaligned_totals::<4>,
    };
    let mut job = OrderJob::start(Setup {
        change,
        more_topics: &[TOTALS],
        ..Setup::new("rescale", 4)
    });
    let brokers = Arc::clone(&job.brokers);
    let mut random = Random::new(seed);
    std::thread::scope(|scope| {
        scope.spawn(|| feed(&brokers, workload, Duration::from_secs(16)));
        for (before, after) in [(from, to), (to, from), (from, to)] {
            let seen = job.seen();
            wait_until("output is committed", DEADLINE, || job.seen() > seen);
            pause(random.between(Duration::ZERO, Duration::from_secs(2)));
            let worker = usize::try_from(random.below(4)).expect("few workers");
            job.kill_worker(worker);
            job.change_file(|file| file.replace(&parallelism(before), &parallelism(after)));
            job.wait_until_running();
        }
    });
    let finished = job.finish(workload);
    finished.check(workload);
    check(&brokers, workload);
    assert!(finished.attempts > 3, "attempts");
}

/// `examples/per-customer` as it is, but for its addresses: killed and started again. Of its records a reader
/// needs the last of each key only.
#[test]
fn the_example_counts_every_order_once_though_it_is_killed() {
    let _machine = machine();
    let broker = Broker::start(BrokerOptions::default());
    broker.create_topic("orders", 4);
    let compacted = [("cleanup.policy", "compact")];
    broker.create_topic_with("per-customer", 4, &compacted);
    let path = tools::root().join("examples/per-customer/streamjob.yaml");
    let text = std::fs::read_to_string(path).expect("the example is there");
    let mut cluster = Cluster::new("per-customer", "");
    let here = cluster.directory().display().to_string();
    let text = text
        .replace("kafka:9092", &broker.bootstrap())
        .replace(
            "s3://millstream/checkpoints",
            &format!("file://{here}/checkpoints"),
        )
        .replace("interval: 10s", "interval: 300ms");
    cluster.rewrite_job(&text);
    let file = cluster.directory().join("streamjob.yaml");
    let workload = workload(seed(), 30_000, 2_000);
    let mut start = || {
        let run = cluster.millstream("run").arg(&file);
        cluster.start("run", &run.args(["--progress", "lines"]))
    };
    std::thread::scope(|scope| {
        scope.spawn(|| broker.produce("orders", workload.records()));
        let mut run = start();
        wait_until("something is written", DEADLINE, || {
            assert!(run.is_running(), "{}", run.output());
            !rows(&broker).is_empty()
        });
        assert!(run.kill(), "it runs until it is stopped");
    });
    let expected = Expected::read(&broker, "orders");
    let row = |(customer, totals): (&str, Totals)| {
        let Totals { orders, cents, .. } = totals;
        let total = format!("{}.{:02}", cents / 100, cents % 100);
        let row = format!(r#"{{"customer_id":"{customer}","orders":{orders},"total":{total}}}"#);
        (customer.to_owned(), row)
    };
    let expected: BTreeMap<String, String> = expected.newest().map(row).collect();
    assert_eq!(expected.len(), 2_000);
    let mut run = start();
    // What is wrong is for the comparison to show.
    poll_until(DEADLINE, || (rows(&broker) == expected).then_some(()));
    run.interrupt();
    assert!(run.wait(DEADLINE).success(), "{}", run.output());
    assert_eq!(rows(&broker), expected);
    compare_state(&mut cluster, &broker);
}

/// The state in every checkpoint of the example that is still there is the counts of the orders before its
/// positions.
#[track_caller]
fn compare_state(cluster: &mut Cluster, broker: &Broker) {
    let folder = cluster.directory().join("checkpoints/default/per-customer");
    let chain = ChainFolder::new(&folder);
    let mut newest = chain.newest_checkpoint().expect("the chain can be read");
    let mut compared = 0;
    while let Some(slot) = newest {
        let number = slot.manifest()["checkpoint"].to_string();
        let positions = slot.understood().positions("orders");
        let expected = Expected::read_before(broker, "orders", &positions);
        let expected: BTreeMap<String, u64> = expected
            .newest()
            .map(|(customer, totals)| (customer.to_owned(), totals.orders))
            .collect();
        let address = format!("file://{}", folder.display());
        let read = cluster.millstream("checkpoints").args(["state", &address]);
        let read = read.args([&number, "--operator", "totals/aggregate"]);
        let mut process = cluster.start("state", &read);
        assert!(process.wait(DEADLINE).success(), "{}", process.output());
        let output = process.output();
        let counts = output.lines().filter(|line| line.starts_with('{'));
        let counts: BTreeMap<String, u64> = counts.map(count).collect();
        assert_eq!(counts, expected, "checkpoint {number}");
        compared += 1;
        newest = chain.checkpoint_before(&slot);
    }
    assert!(compared > 0, "a checkpoint is there");
    println!("{compared} checkpoints compared");
}

/// The customer and its count in a row of state: the only whole number that is kept.
fn count(line: &str) -> (String, u64) {
    let row: Value = serde_json::from_str(line).expect("a row of state is JSON");
    let customer = row["key"]["customer_id"].as_str().expect("its key");
    let value = row["value"].as_object().expect("what is kept");
    let count = value.values().find_map(Value::as_u64);
    (customer.to_owned(), count.expect("a count is kept"))
}

/// The newest row of each customer in the topic of the example.
fn rows(broker: &Broker) -> BTreeMap<String, String> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("keys and values are texts");
    let mut rows = BTreeMap::new();
    for record in broker.read_to_end("per-customer", Isolation::Committed) {
        rows.insert(text(record.key), text(record.value));
    }
    rows
}

#[test]
fn totals_are_exact_when_one_subtask_becomes_three() {
    let _machine = machine();
    rescale(1, 3);
}

#[test]
fn totals_are_exact_when_four_subtasks_become_two() {
    let _machine = machine();
    rescale(4, 2);
}

#[test]
fn extended_totals_are_exact_from_any_parallelism_to_any_other() {
    let _machine = machine();
    for from in 1..=4 {
        for to in (1..=4).filter(|to| *to != from) {
            rescale(from, to);
        }
    }
}
