//! The order job with sinks of PostgreSQL beside its own, in all modes, while workers, coordinators and the
//! server itself are killed.
//!
//! Two tables get every processed order, by prepared transactions and by rows that wait; what readers see of
//! them is compared with what is decided while the job runs. A third one has the newest order of each
//! customer, whose orders three subtasks write in any order; a fourth one the customer's totals.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millstream_tests::keyed;
use millstream_tests::oracle::Expected;
use millstream_tests::order_job::OrderJobFile;
use millstream_tests::wait::pause;
use millstream_tests::workload::Workload;
use millstream_tests::{Postgres, PostgresOptions};

use crate::faults::{Random, seed};
use crate::fixture::{OrderJob, Setup, feed};
use crate::machine;

/// Tables of every order, by the sink that writes them.
const EXACT: [(&str, &str, &str); 2] = [
    ("orders-prepared", "orders_prepared", "TwoPhaseCommit"),
    ("orders-buffered", "orders_buffered", "Buffered"),
];
const TABLES: &str = "
    CREATE TABLE orders_prepared (order_id text, customer_id text, quantity bigint, price numeric(12,2),
        ts timestamptz, sequence bigint, checksum bigint, total numeric);
    CREATE TABLE orders_buffered (LIKE orders_prepared);
    CREATE TABLE latest (LIKE orders_prepared, PRIMARY KEY (customer_id));
    CREATE TABLE totals (customer_id text PRIMARY KEY, orders bigint, items bigint, total numeric,
        sizes bigint, largest bigint, big bigint);";

/// Where the server of the running test listens.
static ADDRESS: Mutex<String> = Mutex::new(String::new());

fn sink(name: &str, input: &str, table: &str, more: &str) -> String {
    let address = ADDRESS.lock().unwrap_or_else(PoisonError::into_inner);
    format!(
        "      - name: {name}\n        input: {input}\n        postgres: {{servers: \"{address}\", database: \
         postgres, username: postgres, table: {table}, {more}}}\n"
    )
}

/// The order job with four more sinks.
fn with_tables(file: OrderJobFile) -> OrderJobFile {
    let mut sinks = "    sinks:\n".to_owned();
    for (name, table, mode) in EXACT {
        sinks += &sink(name, "enriched", table, &format!("mode: {mode}"));
    }
    let newest = "mode: Upsert, keyFields: [customer_id], versionField: sequence";
    sinks += &sink("latest", "enriched", "latest", newest);
    // As many as there are workers: the orders of a customer come from all of them.
    sinks += "        parallelism: 3\n";
    let totals = "mode: Upsert, keyFields: [customer_id]";
    sinks += &sink("totals-out", "totals", "totals", totals);
    let sql = keyed::SQL;
    let transforms = format!(
        "    transforms:\n      - name: totals\n        input: valid\n        sql: {sql}\n"
    );
    file.replace("    transforms:\n", &transforms)
        .replace("    sinks:\n", &sinks)
}

/// What is done to the job.
#[derive(Debug, Clone, Copy)]
enum Fault {
    KillWorker,
    KillCoordinator,
    RestartServer,
}

/// What was seen of the tables while the job ran.
#[derive(Debug, Default)]
struct Seen {
    /// How often new output was seen between two faults.
    between: u32,
    /// How often rows were compared with what is decided.
    looks: u32,
    /// Rows that were visible before they were decided.
    early: Vec<String>,
}

#[test]
fn tables_have_every_order_once_while_processes_and_the_server_are_killed() {
    let plan = [
        (Fault::KillWorker, 3),
        (Fault::KillCoordinator, 2),
        (Fault::RestartServer, 2),
    ];
    tables_under_faults(
        Workload::new(seed(), 150_000),
        Duration::from_secs(30),
        &plan,
    );
}

#[test]
fn extended_tables_have_every_order_once_under_many_faults() {
    let plan = [
        (Fault::KillWorker, 12),
        (Fault::KillCoordinator, 8),
        (Fault::RestartServer, 8),
    ];
    tables_under_faults(
        Workload::new(seed(), 1_000_000),
        Duration::from_mins(2),
        &plan,
    );
}

fn tables_under_faults(workload: Workload, feeding: Duration, plan: &[(Fault, usize)]) {
    let _machine = machine();
    println!("MILLSTREAM_SEED={}", workload.seed);
    let mut server = Postgres::start_with(&PostgresOptions {
        settings: vec![("max_prepared_transactions", "16".to_owned())],
        is_secure: false,
    });
    server.query(TABLES);
    *ADDRESS.lock().unwrap_or_else(PoisonError::into_inner) = server.address();
    let mut job = OrderJob::start(Setup {
        change: with_tables,
        ..Setup::new("tables", 3)
    });
    let brokers = Arc::clone(&job.brokers);
    let mut seen = Seen::default();
    std::thread::scope(|scope| {
        scope.spawn(|| feed(&brokers, workload, feeding));
        let mut random = Random::new(workload.seed);
        seen = run(&mut job, &mut server, &mut random, plan);
    });
    let finished = job.finish(workload);
    finished.check(workload);
    let mut expected = Expected::default();
    expected.read(brokers.any(), "orders");
    for (_, table, _) in EXACT {
        check_orders(&server, table, &expected);
    }
    check_latest(&server, &expected);
    check_totals(&server, &keyed::Expected::read(brokers.any(), "orders"));
    let left = "SELECT count(*) FROM pg_prepared_xacts; SELECT count(*) FROM millstream_staged";
    assert_eq!(server.query(left), "0\n0", "nothing is left open");
    println!("{seen:?}");
    assert_eq!(seen.early, Vec::<String>::new());
    // Without these the run would prove little.
    assert!(seen.looks >= 5, "looks");
    assert!(seen.between >= 2, "output was committed between faults");
    assert!(finished.swept >= 1, "transactions that were left open");
    assert!(finished.attempts > 5, "attempts");
}

/// Carries the plan out.
fn run(
    job: &mut OrderJob,
    server: &mut Postgres,
    random: &mut Random,
    plan: &[(Fault, usize)],
) -> Seen {
    let faults = plan.iter().flat_map(|(fault, times)| vec![*fault; *times]);
    let mut faults: Vec<Fault> = faults.collect();
    random.shuffle(&mut faults);
    let mut seen = Seen::default();
    let decided = job.decided();
    for fault in faults {
        let before = rows(server, "orders_prepared");
        pause(random.between(Duration::from_millis(1_500), Duration::from_secs(5)));
        job.tend();
        let visible = EXACT.map(|(sink, table, _)| (sink, rows(server, table)));
        // Asked later, so it can only be more.
        if let Some(decided) = decided() {
            seen.looks += 1;
            for (sink, visible) in visible {
                let decided = decided.get(sink).copied().unwrap_or_default();
                if visible > decided {
                    seen.early.push(format!("{sink}: {visible} of {decided}"));
                }
            }
        }
        seen.between += u32::from(rows(server, "orders_prepared") > before);
        println!("{fault:?} after {} records", job.seen());
        match fault {
            Fault::KillWorker => {
                let worker = usize::try_from(random.below(3)).expect("few workers");
                job.kill_worker(worker);
            }
            Fault::KillCoordinator => job.kill_coordinator(),
            Fault::RestartServer => {
                server.kill();
                pause(random.between(Duration::ZERO, Duration::from_secs(2)));
                server.restart();
            }
        }
    }
    seen
}

fn rows(server: &Postgres, table: &str) -> u64 {
    let count = server.query(&format!("SELECT count(*) FROM {table}"));
    count.parse().expect("a number")
}

/// Every order once, with all of its columns.
#[track_caller]
fn check_orders(server: &Postgres, table: &str, expected: &Expected) {
    let found = server.query(&format!(
        "SELECT order_id, customer_id, quantity, (price * 100)::bigint, sequence, (total * 100)::bigint \
         FROM {table}"
    ));
    let line = |order: &millstream_tests::oracle::ExpectedOrder| {
        let total = order.total_cents;
        let order = &order.order;
        format!(
            "{}|{}|{}|{}|{}|{total}",
            order.order_id, order.customer_id, order.quantity, order.price_cents, order.sequence
        )
    };
    let mut found: Vec<&str> = found.lines().collect();
    let rows = found.len();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), rows, "{table} has orders twice");
    let found: BTreeSet<&str> = found.into_iter().collect();
    let expected: BTreeSet<String> = expected.orders.values().map(line).collect();
    let lost = expected.iter().find(|line| !found.contains(line.as_str()));
    assert_eq!(lost, None, "{table} lacks an order");
    let phantom = found.iter().find(|line| !expected.contains(**line));
    assert_eq!(phantom, None, "{table} has an order too much");
}

/// The newest order of each customer.
#[track_caller]
fn check_latest(server: &Postgres, expected: &Expected) {
    let mut newest: BTreeMap<String, (u64, String)> = BTreeMap::new();
    for expected in expected.orders.values() {
        let order = &expected.order;
        let new = (order.sequence, order.order_id.clone());
        let known = newest.entry(order.customer_id.clone()).or_default();
        if new >= *known {
            *known = new;
        }
    }
    let found = server.query("SELECT customer_id, sequence, order_id FROM latest");
    let found: BTreeSet<&str> = found.lines().collect();
    let expected = newest.iter();
    let expected = expected.map(|(customer, (sequence, id))| format!("{customer}|{sequence}|{id}"));
    let expected: BTreeSet<String> = expected.collect();
    let expected: BTreeSet<&str> = expected.iter().map(String::as_str).collect();
    assert!(found == expected, "the newest order of each customer");
}

/// The totals of each customer.
#[track_caller]
fn check_totals(server: &Postgres, expected: &keyed::Expected) {
    let found = "SELECT customer_id, orders, items, (total * 100)::bigint, big FROM totals";
    let found = server.query(found);
    let found: BTreeSet<&str> = found.lines().collect();
    let line = |(customer, totals): (&str, keyed::Totals)| {
        format!(
            "{customer}|{}|{}|{}|{}",
            totals.orders, totals.items, totals.cents, totals.big
        )
    };
    let expected: BTreeSet<String> = expected.newest().map(line).collect();
    let expected: BTreeSet<&str> = expected.iter().map(String::as_str).collect();
    assert!(found == expected, "the totals of each customer");
}
