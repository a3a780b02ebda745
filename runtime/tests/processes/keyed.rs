//! Jobs whose transforms group records.

use std::collections::BTreeMap;

use crate::job::Job;
use crate::process::{Process, wait_for};

/// The first order of each customer, of which there are 10,000.
const FIRST_ORDERS: &str =
    "SELECT DISTINCT ON (customer_id) order_id, customer_id, price AS total FROM valid";

fn grouped(rows_per_second: Option<u64>, sql: &str) -> Job {
    let job = Job::new(rows_per_second);
    job.edit(
        "SELECT order_id, customer_id, quantity * price AS total FROM valid",
        sql,
    );
    job
}

#[test]
fn state_that_outgrows_its_memory_ends_the_attempt_and_says_how_much_it_needs() {
    let job = grouped(None, FIRST_ORDERS);
    job.edit("attempts: 100", "attempts: 1");
    job.edit(
        "parallelism: 2",
        "parallelism: 2\n  stateBackend: {memory: 1Mi}",
    );
    let (status, output, log) = Process::run(&job).end();
    assert_eq!(status.code(), Some(1), "{output}{log}");
    assert!(log.contains("MS0701"), "{log}");
    assert!(log.contains("and may have 1.0 MiB"), "{log}");
    // There is room for it now, and nothing of it was lost.
    job.edit("memory: 1Mi", "memory: 64Mi");
    Process::run(&job).succeeds();
    assert_eq!(customers(&job).len(), job.output().len());
}

#[test]
fn a_customer_counts_once_whoever_is_killed_at_whatever_parallelism() {
    let undisturbed = grouped(None, FIRST_ORDERS);
    Process::run(&undisturbed).succeeds();
    let expected = customers(&undisturbed);
    assert!(expected.len() > 5_000, "{} customers", expected.len());
    assert!(expected.values().all(|orders| *orders == 1));

    let job = grouped(Some(20_000), FIRST_ORDERS);
    for (before, now) in [(2, 3), (3, 1), (1, 4)] {
        let files = job.files().len();
        let run = Process::run(&job);
        wait_for("more is committed", || {
            (job.files().len() > files).then_some(())
        });
        run.kill();
        job.edit(
            &format!("parallelism: {before}\n"),
            &format!("parallelism: {now}\n"),
        );
    }
    Process::run(&job).succeeds();
    assert_eq!(customers(&job), expected);
}

/// How often each customer is in the output.
fn customers(job: &Job) -> BTreeMap<String, u32> {
    let mut customers = BTreeMap::new();
    for line in job.output() {
        let (_, rest) = line.split_once("\"customer_id\":\"").unwrap();
        let (customer, _) = rest.split_once('"').unwrap();
        *customers.entry(customer.to_owned()).or_default() += 1;
    }
    customers
}
