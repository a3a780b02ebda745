//! What is measured, one figure per line, for README. Deadlines here only catch what is broken.

use std::time::{Duration, Instant};

use millstream_tests::kubernetes::GROUP;
use millstream_tests::kubernetes::flow::Flow;
use millstream_tests::kubernetes::stage::{DEADLINE, Stage, holds};
use millstream_tests::wait::{pause, wait_until};
use serde_json::{Value, json};

use crate::alone;

const ROUNDS: usize = 5;

fn print(figure: &str, mut times: Vec<Duration>) {
    times.sort();
    let middle = times[times.len() / 2];
    println!("figure: {figure}: median {middle:.1?} of {times:.1?}");
}

/// Resident memory of a process, MiB.
fn resident(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.unwrap_or(0_u64) / 1024
}

/// How long nothing is committed when something happens to a running job, over some rounds.
fn gaps(stage: &Stage, flow: &Flow, what: &str, happen: impl Fn()) {
    let attempt = |job: &Value| job["status"]["attempt"].as_i64();
    let gaps = (0..ROUNDS).map(|_| {
        let before = attempt(&stage.job("orders"));
        flow.gap_during(|| {
            happen();
            stage.wait_for_job("orders", "the next attempt runs", DEADLINE, |job| {
                attempt(job) > before && holds(job, "Ready", "True")
            });
            flow.wait_for_more("after it");
        })
    });
    let figure = format!("{what}, longest time without committed output");
    print(&figure, gaps.collect());
}

#[test]
fn figures_of_one_job() {
    let _alone = alone();
    let stage = Stage::new("figures");
    let mut ready = Vec::new();
    for round in 0..ROUNDS {
        let job = stage.generated(&format!("round-{round}"), None);
        let started = Instant::now();
        stage.apply(&job);
        stage.wait_ready(job.name());
        ready.push(started.elapsed());
        stage.api().delete(&stage.job_path(job.name()));
    }
    print("kubectl apply to Ready", ready);

    let flow = Flow::start_fast(&stage);
    stage.apply(&stage.orders());
    stage.wait_ready("orders");
    flow.wait_for_more("before the measurements");
    let mut upgrades = Vec::new();
    for round in 0..ROUNDS {
        let old = stage.job("orders")["status"]["revision"].clone();
        let gap = flow.gap_during(|| {
            stage.change("orders", &json!({"checkpoint": {"retained": 4 + round}}));
            stage.wait_for_job("orders", "the upgrade has ended", DEADLINE, |job| {
                job["status"]["revision"] != old
                    && job["status"]["upgrade"].is_null()
                    && holds(job, "Ready", "True")
            });
            flow.wait_for_more("after the upgrade");
        });
        upgrades.push(gap);
    }
    print(
        "savepoint upgrade, longest time without committed output",
        upgrades,
    );
    for role in ["worker", "coordinator"] {
        gaps(&stage, &flow, &format!("{role} pods deleted"), || {
            stage.kill_pods("orders", role);
        });
        gaps(&stage, &flow, &format!("{role} processes killed"), || {
            // What ended sooner could not start, and the kubelet makes it wait.
            pause(Duration::from_secs(12));
            stage.kill_processes("orders", role);
        });
    }
    let pid = stage.operator.pid();
    println!(
        "figure: operator with one job, this build: {} MiB resident",
        resident(pid)
    );
    starts(&stage, "with one job");
    stage.finish(flow, "orders");
}

/// CPU that a process has used, ticks of a hundredth of a second.
fn ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let field = |index: usize| {
        fields
            .get(index)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0)
    };
    // utime and stime, counted from the state that follows the name.
    field(11) + field(12)
}

/// Memory and CPU of the operator over a minute in which nothing is asked of it.
fn idle(stage: &mut Stage, what: &str) {
    let pid = stage.operator.pid();
    let before = ticks(pid);
    pause(Duration::from_mins(1));
    let used = ticks(pid) - before;
    println!(
        "figure: operator {what}, this build: {} MiB resident, {}.{:02} s of CPU per minute",
        resident(pid),
        used / 100,
        used % 100
    );
}

#[test]
fn figures_of_many_jobs() {
    let _alone = alone();
    let mut stage = Stage::new("many");
    idle(&mut stage, "without a job");
    let suspended = stage
        .generated("s", None)
        .set("/spec/state", json!("Suspended"));
    let path = stage.path(&format!("apis/{GROUP}"), "streamjobs");
    for number in 0..1_000 {
        let job = suspended.clone().named(&format!("suspended-{number}"));
        stage.api().create(&path, job.json()).expect("a new job");
    }
    let last = "suspended-999";
    stage.wait_condition(last, "Suspended", "True");
    idle(&mut stage, "with 1,000 suspended jobs");
    for number in 0..20 {
        let few = json!({"rowsPerSecond": 10});
        let job = stage.generated(&format!("running-{number}"), None);
        stage.apply(&job.set("/spec/dataflow/sources/0/generator", few));
    }
    for number in 0..20 {
        stage.wait_ready(&format!("running-{number}"));
    }
    idle(&mut stage, "with 1,000 suspended and 20 running jobs");
    starts(&stage, "with all of them");
}

/// How long an operator that is started takes until it has reconciled a job.
fn starts(stage: &Stage, what: &str) {
    let starts = (0..ROUNDS).map(|_| {
        stage.operator.kill();
        let started = Instant::now();
        stage.operator.run();
        stage.operator.wait_until_ready();
        wait_until("it has reconciled a job", DEADLINE, || {
            reconciles(&stage.operator.metrics()) > 0.0
        });
        started.elapsed()
    });
    let figure = format!("operator start to first reconcile {what}");
    print(&figure, starts.collect());
}

/// How many reconciles there have been, of all kinds and results.
fn reconciles(metrics: &str) -> f64 {
    let samples = metrics.lines().filter_map(|line| {
        let (_, value) = line
            .strip_prefix("millstream_controller_reconciles_total")?
            .rsplit_once(' ')?;
        value.parse::<f64>().ok()
    });
    samples.sum()
}
