//! `millstream run`.

use millstream_tests::ports::free_port;
use rustix::process::Signal;

use crate::job::{Job, ROWS};
use crate::process::{Process, post, wait_for};

#[test]
fn a_run_without_trouble_accounts_for_every_record() {
    let job = Job::new(None);
    let summary = Process::run(&job).succeeds();
    job.assert_exact();
    assert!(summary.contains("completed"), "{summary}");
    assert!(summary.contains("60,000 in = "), "{ROWS} rows: {summary}");
    assert!(summary.contains(" ok\n"), "{summary}");
}

#[test]
fn a_run_that_is_killed_again_and_again_writes_every_record_once() {
    let job = Job::new(Some(20_000));
    for _ in 0..5 {
        let before = job.files().len();
        let mut run = Process::run(&job);
        wait_for("a checkpoint is committed", || {
            assert!(run.is_running(), "{}", run.log());
            (job.files().len() > before).then_some(())
        });
        run.kill();
    }
    let summary = Process::run(&job).succeeds();
    job.assert_exact();
    assert!(
        summary.contains("60,000 in = "),
        "totals go on over restarts: {summary}"
    );
}

#[test]
fn an_interrupted_run_stops_cleanly_and_the_next_one_goes_on() {
    let job = Job::new(Some(20_000));
    let run = Process::run(&job);
    wait_for("a checkpoint is committed", || {
        (!job.files().is_empty()).then_some(())
    });
    run.signal(Signal::INT);
    let summary = run.succeeds();
    assert!(summary.contains("stopped"), "{summary}");
    assert!(summary.contains(" ok\n"), "{summary}");
    let written = job.output().len();
    assert!(
        summary
            .replace(',', "")
            .contains(&format!("{written} written")),
        "{summary}"
    );
    Process::run(&job).succeeds();
    job.assert_exact();
}

#[test]
fn ctrl_c_cancels_nothing_so_checkpoints_stay_whatever_their_retention() {
    let job = Job::new(Some(20_000));
    job.edit(
        "timeout: 10s",
        "timeout: 10s, retention: DeleteOnCancellation",
    );
    let run = Process::run(&job);
    wait_for("a checkpoint is committed", || {
        (!job.files().is_empty()).then_some(())
    });
    run.signal(Signal::INT);
    run.succeeds();
    let summary = Process::run(&job).succeeds();
    job.assert_exact();
    assert!(
        summary.contains("60,000 in = "),
        "it went on from where it was stopped: {summary}"
    );
}

#[test]
fn a_second_signal_ends_a_run_at_once() {
    let job = Job::new(Some(1_000));
    let run = Process::run(&job);
    wait_for("a checkpoint is committed", || {
        (!job.files().is_empty()).then_some(())
    });
    run.signal(Signal::INT);
    wait_for("the signal has come", || {
        run.log().contains("stopping").then_some(())
    });
    run.signal(Signal::INT);
    let (status, ..) = run.end();
    // The first one may have been quick.
    assert!(matches!(status.code(), Some(0 | 130)), "{status}");
}

#[test]
fn a_run_that_cannot_start_is_interrupted_by_one_signal() {
    let job = Job::new(None);
    // The storage's directory is a file.
    std::fs::write(job.path().join("checkpoints"), "in the way").unwrap();
    let run = Process::run(&job);
    wait_for("an attempt has failed", || {
        run.log().contains("MS0301").then_some(())
    });
    run.signal(Signal::TERM);
    let (status, ..) = run.end();
    assert_eq!(status.code(), Some(130));
}

#[test]
fn queues_between_the_steps_change_nothing() {
    let job = Job::new(Some(30_000));
    job.edit(
        "parallelism: 2",
        "parallelism: 2\n  operatorChaining: false",
    );
    let run = Process::run(&job);
    wait_for("a checkpoint is committed", || {
        (!job.files().is_empty()).then_some(())
    });
    run.kill();
    let summary = Process::run(&job).succeeds();
    job.assert_exact();
    assert!(summary.contains(" ok\n"), "{summary}");
}

#[test]
fn a_job_goes_on_from_the_savepoint_that_it_stopped_with() {
    let job = Job::new(Some(20_000));
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let run = Process::run_with(&job, &["--listen", &listen]);
    wait_for("a checkpoint is committed", || {
        (!job.files().is_empty()).then_some(())
    });
    let answer = post(port, "/v1/stop", r#"{"savepoint": "before-upgrade"}"#);
    assert!(answer.starts_with("HTTP/1.1 2"), "{answer}");
    let summary = run.succeeds();
    assert!(summary.contains("stopped with savepoint"), "{summary}");
    let path = summary
        .split_whitespace()
        .find(|word| word.starts_with("file://"));
    let path = path.expect("the savepoint's path");
    Process::run_with(&job, &["--restore", path]).succeeds();
    job.assert_exact();
}

#[test]
fn a_job_that_has_completed_says_so_when_it_is_run_again() {
    let job = Job::new(None);
    Process::run(&job).succeeds();
    let summary = Process::run(&job).succeeds();
    job.assert_exact();
    assert!(
        summary.contains("completed") && summary.contains(" ok\n"),
        "{summary}"
    );
}

#[test]
fn a_failure_is_said_once() {
    let job = Job::new(None);
    job.edit(
        "SELECT order_id, customer_id, quantity * price AS total FROM valid",
        "SELECT order_id, 1 / (quantity - quantity) AS total FROM valid",
    );
    let (status, output, log) = Process::run(&job).end();
    assert_eq!(status.code(), Some(2), "{log}");
    assert_eq!(log.matches("MS0402 ").count(), 1, "{log}");
    assert!(output.contains("failed after"), "{output}");
}
