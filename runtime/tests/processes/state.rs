//! Running counts by key: their state in every checkpoint is what the records say, over kills and at
//! another parallelism, and can be read while the job runs.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::job::{Job, undisturbed};
use crate::process::{Process, wait_for};

const OPERATOR: &str = "per_customer/aggregate";
const COUNTS: &str =
    "SELECT customer_id, count(*) AS n, sum(total) AS total FROM enriched GROUP BY customer_id";

/// The job of these tests, with what it writes counted by customer.
fn counting(rows_per_second: Option<u64>) -> Job {
    let job = Job::new(rows_per_second);
    let sink = format!(
        "- {{name: per_customer, input: enriched, sql: \"{COUNTS}\"}}\n    sinks:\n    \
         - {{name: counted, input: per_customer, blackhole: {{}}}}"
    );
    let root = job.path().display().to_string();
    let before = format!(
        "sinks:\n    - {{name: processed, input: enriched, files: {{path: \"{root}/out\"}}}}"
    );
    job.edit(&before, &sink);
    job
}

/// Count of each customer, and the sum in hundredths.
type Counts = BTreeMap<String, (u64, u64)>;

/// By the records themselves: what a run without trouble of the job that does not count has written.
fn expected() -> Counts {
    let mut counts = Counts::new();
    for line in undisturbed() {
        let record: Value = serde_json::from_str(line).unwrap();
        let customer = record["customer_id"].as_str().unwrap().to_owned();
        let sum = counts.entry(customer).or_default();
        sum.0 += 1;
        sum.1 += hundredths(&record["total"]);
    }
    counts
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sums of prices are small"
)]
fn hundredths(value: &Value) -> u64 {
    (value.as_f64().unwrap() * 100.0).round() as u64
}

/// The rows of `millstream checkpoints state`.
fn rows(job: &Job, rest: &[&str]) -> Option<Vec<Value>> {
    let chain = format!("file://{}/checkpoints/default/orders", job.path().display());
    let arguments = [&["checkpoints", "state", &chain][..], rest].concat();
    let (status, output, errors) = Process::start(job.path(), &arguments).end();
    if !status.success() {
        // The checkpoint may have gone while it was read, or not be there yet.
        assert!(errors.contains("MS0306"), "{errors}");
        return None;
    }
    let rows = output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    Some(rows.collect())
}

fn counts(rows: &[Value]) -> Counts {
    let of = |row: &Value| {
        let customer = row["key"]["customer_id"].as_str().unwrap().to_owned();
        (customer, kept(row))
    };
    rows.iter().map(of).collect()
}

/// Count and sum of a row. Columns are named after their calls; a sum keeps how many it has as well.
fn kept(row: &Value) -> (u64, u64) {
    let kept = row["value"].as_object().unwrap();
    let sum = kept.iter().find(|(name, _)| name.ends_with("sum")).unwrap();
    let count = kept.values().next().unwrap();
    (count.as_u64().unwrap(), hundredths(sum.1))
}

#[test]
fn the_state_of_a_job_is_what_its_records_say() {
    let job = counting(None);
    Process::run(&job).succeeds();
    let all = rows(&job, &["--operator", OPERATOR]).unwrap();
    assert_eq!(counts(&all), expected());
    let (customer, sums) = expected().pop_first().unwrap();
    let one = rows(&job, &["--operator", OPERATOR, "--key", &customer]).unwrap();
    assert_eq!((one.len(), kept(&one[0])), (1, sums));
    let chain = format!("file://{}/checkpoints/default/orders", job.path().display());
    let list = ["checkpoints", "state", &chain, "--output", "json"];
    let (_, output, errors) = Process::start(job.path(), &list).end();
    let listed: Value = serde_json::from_str(&output).expect(&errors);
    assert_eq!(listed[0]["operator"], OPERATOR);
    assert_eq!(listed[0]["keys"].as_u64(), Some(all.len() as u64));
    let missing = [
        "checkpoints",
        "state",
        &chain,
        "--operator",
        OPERATOR,
        "--key",
        "nobody",
    ];
    let (status, output, _) = Process::start(job.path(), &missing).end();
    assert_eq!((status.code(), output.as_str()), (Some(1), ""));
}

#[test]
fn state_goes_on_over_kills_and_at_another_parallelism() {
    // Six seconds of records.
    let job = counting(Some(10_000));
    let mut parallelism = 2;
    for (next, least) in [(3, 5_000), (1, 20_000), (4, 35_000)] {
        let running = Process::run(&job);
        // Beside the job that runs.
        wait_for("progress in the state", || {
            let rows = rows(&job, &["--operator", OPERATOR])?;
            let seen: u64 = counts(&rows).values().map(|(n, _)| n).sum();
            (seen > least).then_some(())
        });
        running.kill();
        job.edit(
            &format!("parallelism: {parallelism}"),
            &format!("parallelism: {next}"),
        );
        parallelism = next;
    }
    Process::run(&job).succeeds();
    let all = rows(&job, &["--operator", OPERATOR]).unwrap();
    assert_eq!(counts(&all), expected());
    let chain = format!("file://{}/checkpoints", job.path().display());
    let verify = ["checkpoints", "verify", &chain];
    let (status, output, _) = Process::start(job.path(), &verify).end();
    assert!(status.success(), "{output}");
}

#[test]
fn what_becomes_of_the_state_is_said_before_a_change_is_made() {
    let job = counting(None);
    Process::run(&job).succeeds();
    let validate = || {
        let arguments = [
            "validate",
            "job.yaml",
            "--restore",
            "latest",
            "--output",
            "json",
        ];
        let (status, output, errors) = Process::start(job.path(), &arguments).end();
        let last = output.lines().last().expect(&errors).to_owned();
        let report: Value = serde_json::from_str(&last).unwrap();
        (status.code(), report)
    };
    let (code, report) = validate();
    let changes = report["changes"].to_string();
    assert_eq!(code, Some(0), "{report}");
    assert!(
        changes.contains(&format!("state of {OPERATOR} is kept")),
        "{changes}"
    );
    // Another filter keeps what is kept.
    job.edit("FROM enriched GROUP", "FROM enriched WHERE total > 1 GROUP");
    assert_eq!(validate().0, Some(0));
    job.edit("count(*) AS n, ", "");
    let (code, report) = validate();
    assert_eq!(code, Some(2), "{report}");
    let fault = report["faults"][0].to_string();
    for part in ["MS0104", OPERATOR, "count(*) int64", "its aggregates"] {
        assert!(fault.contains(part), "no `{part}` in: {fault}");
    }
    // A start says the same. The job has completed, so it is told from where to start.
    let chain = format!("file://{}/checkpoints/default/orders", job.path().display());
    let start = ["run", "job.yaml", "--progress", "none", "--restore", &chain];
    let (status, _, errors) = Process::start(job.path(), &start).end();
    assert_eq!(status.code(), Some(2), "{errors}");
    assert!(
        errors.contains("MS0104") && errors.contains(OPERATOR),
        "{errors}"
    );
}
