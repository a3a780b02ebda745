//! A check of a start says what the start says.

use std::fs;

use crate::job::Job;
use crate::process::{Process, wait_for};

/// Runs the job until it has written something, and kills it.
fn killed(job: &Job) {
    let run = Process::run(job);
    wait_for("a checkpoint is committed", || {
        (!job.files().is_empty()).then_some(())
    });
    run.kill();
}

/// Runs the job until its first checkpoint is decided, and not further.
fn ended_behind_a_decision(job: &Job) {
    let file = job.file().display().to_string();
    let arguments = ["run", "--progress", "none", &file];
    let points = [("FAILPOINTS", "coordinator::after-decide=return")];
    let (status, _, log) = Process::start_with(job.path(), &arguments, &points).end();
    assert_eq!(status.code(), None, "it did not end there: {log}");
}

/// What a check and a start say, both with these options, which both must refuse.
fn refused_alike(job: &Job, options: &[&str]) -> String {
    let file = job.file().display().to_string();
    let check = [&["validate", "--live", &file], options].concat();
    let start = [&["run", "--progress", "none", &file], options].concat();
    let [check, start] = [check, start].map(|arguments| {
        let (status, _, log) = Process::start(job.path(), &arguments).end();
        let said = log.lines().find(|line| line.starts_with("error:"));
        (status.code(), said.unwrap_or(&log).to_owned())
    });
    assert_ne!(start.0, Some(0), "it has started");
    assert_eq!(check, start);
    check.1
}

#[test]
fn a_chain_of_another_job_is_refused_by_a_live_check() {
    let job = Job::new(Some(20_000));
    job.edit("{name: orders}", "{name: orders, uid: first}");
    killed(&job);
    job.edit("uid: first", "uid: second");
    let said = refused_alike(&job, &[]);
    assert!(said.contains("MS0305") && said.contains("first"), "{said}");
    let file = job.file().display().to_string();
    let allowed = ["validate", "--live", "--take-over", &file];
    Process::start(job.path(), &allowed).succeeds();
}

#[test]
fn a_restore_point_that_is_in_use_is_refused_by_a_live_check() {
    let job = Job::new(Some(20_000));
    ended_behind_a_decision(&job);
    let folder = format!("file://{}/checkpoints/default/orders", job.path().display());
    job.edit("{name: orders}", "{name: others}");
    job.edit("/out\"", "/others\"");
    let said = refused_alike(&job, &["--restore", &folder]);
    assert!(said.contains("MS0310") && said.contains("--fork"), "{said}");
    // Then it is this one's to commit, which it cannot from another directory.
    let said = refused_alike(&job, &["--restore", &folder, "--fork"]);
    assert!(said.contains("MS0602"), "{said}");
}

#[test]
fn decided_output_of_a_sink_that_is_gone_is_refused_by_a_live_check() {
    let job = Job::new(Some(20_000));
    ended_behind_a_decision(&job);
    job.edit("{name: processed,", "{name: renamed,");
    job.edit("/out\"", "/renamed\"");
    let said = refused_alike(&job, &["--allow-dropped-state"]);
    assert!(said.contains("MS0104"), "{said}");
    assert!(
        said.contains("prepared transactions of sink processed"),
        "{said}"
    );
}

#[test]
fn decided_output_that_is_lost_is_refused_by_a_live_check() {
    let job = Job::new(Some(20_000));
    ended_behind_a_decision(&job);
    let hidden = job.path().join("out/.millstream/processed");
    for file in fs::read_dir(hidden).unwrap() {
        let file = file.unwrap();
        if file.file_name() != "owner.json" {
            fs::remove_file(file.path()).unwrap();
        }
    }
    let said = refused_alike(&job, &[]);
    assert!(said.contains("is lost"), "{said}");
}

#[test]
fn faults_of_the_sql_are_named_beside_all_others() {
    let job = Job::new(None);
    job.edit("parallelism: 2", "parallelism: 0");
    job.edit("quantity * price", "quantity * priec");
    job.edit("quantity > 0", "quantity > 'none'");
    let file = job.file().display().to_string();
    let (status, _, log) = Process::start(job.path(), &["validate", &file]).end();
    assert_eq!(status.code(), Some(2), "{log}");
    for part in [
        "spec.parallelism: ",
        "transform `valid`, line 1, column",
        "of its sql (line 15 of the job file): ",
    ] {
        assert!(log.contains(part), "no `{part}` in {log}");
    }
}
