//! Jobs whose transforms group records.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use millstream_tests::disk::{SmallDisk, as_root};

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

/// What lies in the directory for state that does not fit into memory.
fn local(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

#[test]
fn state_that_outgrows_memory_goes_to_the_directory_that_the_job_names() {
    let undisturbed = grouped(None, FIRST_ORDERS);
    Process::run(&undisturbed).succeeds();

    let job = grouped(Some(20_000), FIRST_ORDERS);
    let directory = job.path().join("state");
    let backend = format!(
        "stateBackend: {{memory: 1Mi, directory: {}}}",
        directory.display()
    );
    job.edit("parallelism: 2", &format!("parallelism: 2\n  {backend}"));
    job.edit("attempts: 100", "attempts: 1");
    let is_cold = || {
        let own = local(&directory).into_iter();
        let stores = own.flat_map(|name| local(&directory.join(name)));
        stores
            .into_iter()
            .any(|name| name.ends_with("cold"))
            .then_some(())
    };
    let run = Process::run(&job);
    wait_for("keys have left memory", is_cold);
    let files = job.files().len();
    wait_for("more is committed", || {
        (job.files().len() > files).then_some(())
    });
    run.kill();
    let left = local(&directory);
    assert!(!left.is_empty(), "a killed process leaves its files");

    job.edit("parallelism: 2\n", "parallelism: 3\n");
    let run = Process::run(&job);
    wait_for("what was left is gone", || {
        let now = local(&directory);
        let is_gone = left.iter().all(|name| !now.contains(name));
        (is_gone && !now.is_empty()).then_some(())
    });
    wait_for("keys have left memory again", is_cold);
    run.succeeds();
    assert_eq!(customers(&job), customers(&undisturbed));
    assert_eq!(local(&directory), Vec::<String>::new());
}

#[test]
fn a_directory_for_state_that_cannot_be_used_is_named_at_the_start() {
    let job = grouped(None, FIRST_ORDERS);
    let file = job.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    let backend = format!("stateBackend: {{directory: {}/state}}", file.display());
    job.edit("parallelism: 2", &format!("parallelism: 2\n  {backend}"));
    job.edit("attempts: 100", "attempts: 1");
    let (status, output, log) = Process::run(&job).end();
    assert_eq!(status.code(), Some(1), "{output}{log}");
    assert!(log.contains("MS0702"), "{log}");
    assert!(log.contains(&format!("{}/state", file.display())), "{log}");
    assert!(job.files().is_empty());
}

#[test]
fn a_full_disk_below_state_that_does_not_fit_into_memory_costs_no_record() {
    as_root(
        "keyed::a_full_disk_below_state_that_does_not_fit_into_memory_costs_no_record",
        fill_below_state,
    );
}

fn fill_below_state() {
    let undisturbed = grouped(None, FIRST_ORDERS);
    Process::run(&undisturbed).succeeds();

    let job = grouped(Some(10_000), FIRST_ORDERS);
    let disk = SmallDisk::of_mebibytes(32);
    let directory = disk.path().display();
    let backend = format!("stateBackend: {{memory: 1Mi, directory: {directory}}}");
    job.edit("parallelism: 2", &format!("parallelism: 2\n  {backend}"));
    job.edit("attempts: 100", "attempts: 1000");
    let run = Process::run(&job);
    let is_cold = || {
        let own = local(disk.path()).into_iter();
        let stores = own.flat_map(|name| local(&disk.path().join(name)));
        stores
            .into_iter()
            .any(|name| name.ends_with("cold"))
            .then_some(())
    };
    wait_for("keys have left memory", is_cold);
    disk.fill();
    wait_for("nothing can be written", || {
        let log = run.log();
        let says = log.contains("MS0702") && log.contains("No space left on device");
        (says && log.contains(&directory.to_string())).then_some(())
    });
    disk.make_room();
    run.succeeds();
    assert_eq!(customers(&job), customers(&undisturbed));
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
