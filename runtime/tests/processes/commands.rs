//! Commands that look and end.

use std::fs;
use std::process::ExitStatus;

use crate::job::Job;
use crate::process::{Process, wait_for};

struct Answer {
    status: ExitStatus,
    output: String,
    errors: String,
}

impl Job {
    fn ask(&self, arguments: &[&str]) -> Answer {
        let (status, output, errors) = Process::start(self.path(), arguments).end();
        Answer {
            status,
            output,
            errors,
        }
    }

    fn storage(&self) -> String {
        format!("file://{}/checkpoints", self.path().display())
    }
}

#[test]
fn a_valid_job_is_valid_and_explained() {
    let job = Job::new(None);
    let answer = job.ask(&["validate", "job.yaml"]);
    assert!(answer.status.success(), "{}", answer.errors);
    assert!(
        answer.output.contains("job default/orders is valid"),
        "{}",
        answer.output
    );
    let answer = job.ask(&["explain", "job.yaml"]);
    assert!(answer.output.contains("vertex 0"), "{}", answer.output);
    let answer = job.ask(&["explain", "--dot", "job.yaml"]);
    assert!(answer.output.starts_with("digraph"), "{}", answer.output);
}

#[test]
fn an_invalid_job_is_refused_by_every_command_with_its_code_and_page() {
    let job = Job::new(None);
    job.edit("quantity * price", "quantity * priec");
    for arguments in [
        ["validate", "job.yaml"].as_slice(),
        &["explain", "job.yaml"],
        &["run", "job.yaml"],
        &[
            "coordinator",
            "--job",
            "job.yaml",
            "--listen",
            "127.0.0.1:0",
        ],
    ] {
        let answer = job.ask(arguments);
        assert_eq!(answer.status.code(), Some(2), "{arguments:?}");
        let errors = &answer.errors;
        assert!(
            errors.contains("MS0102") && errors.contains("docs/errors/MS0102.md"),
            "{errors}"
        );
        assert!(
            errors.contains("`price`"),
            "the nearest known name: {errors}"
        );
    }
}

/// Opening it would wait for somebody who writes into it.
#[test]
fn a_pipe_is_no_job_file_and_nothing_waits_for_it() {
    let job = Job::new(None);
    let made = std::process::Command::new("mkfifo")
        .arg(job.path().join("pipe.yaml"))
        .status();
    assert!(made.unwrap().success());
    for command in ["validate", "explain", "run"] {
        let answer = job.ask(&[command, "pipe.yaml"]);
        assert_eq!(
            answer.status.code(),
            Some(2),
            "{command}: {}",
            answer.errors
        );
        for part in ["pipe.yaml", "not a regular file"] {
            assert!(answer.errors.contains(part), "{command}: {}", answer.errors);
        }
    }
}

#[test]
fn what_s3_needs_and_does_not_get_is_named() {
    let job = Job::new(None);
    let list = ["checkpoints", "list", "s3://nowhere/checkpoints"];
    // Nothing of the machine's own settings.
    let nothing = [
        ("AWS_CONFIG_FILE", "/dev/null"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ];
    let keys = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];
    for (has, missing, what_to_do) in [
        (keys.as_slice(), "there is no region", "set AWS_REGION"),
        (
            &[("AWS_REGION", "eu-central-1")],
            "there are no credentials",
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ),
    ] {
        let environment = [nothing.as_slice(), has].concat();
        let process = Process::start_with(job.path(), &list, &environment);
        let (status, _, errors) = process.end();
        assert!(!status.success());
        for part in [missing, what_to_do, "s3://nowhere/checkpoints"] {
            assert!(errors.contains(part), "{part}: {errors}");
        }
    }
}

#[test]
fn checkpoints_are_listed_shown_and_verified() {
    let job = Job::new(None);
    Process::run(&job).succeeds();
    let storage = job.storage();
    let answer = job.ask(&["checkpoints", "list", &storage]);
    assert!(
        answer.output.contains("released: Completed"),
        "{}",
        answer.output
    );
    let chain = format!("{storage}/default/orders");
    let answer = job.ask(&["checkpoints", "show", &chain]);
    assert!(answer.output.contains("60,000"), "{}", answer.output);
    let answer = job.ask(&["checkpoints", "verify", &storage, "--output", "json"]);
    assert!(answer.status.success(), "{}", answer.output);
    assert!(
        answer.output.contains("\"faults\": []"),
        "{}",
        answer.output
    );
}

#[test]
fn a_flipped_bit_in_a_checkpoint_is_found() {
    let job = Job::new(None);
    Process::run(&job).succeeds();
    let slots = fs::read_dir(job.path().join("checkpoints/default/orders/chain")).unwrap();
    let newest = slots.map(|slot| slot.unwrap().path()).max().unwrap();
    let mut bytes = fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&newest, bytes).unwrap();
    let answer = job.ask(&["checkpoints", "verify", &job.storage()]);
    assert_eq!(answer.status.code(), Some(1));
    let name = newest.file_name().unwrap().to_string_lossy();
    assert!(
        answer.output.contains("FAULT") && answer.output.contains(&*name),
        "{}",
        answer.output
    );
}

#[test]
fn a_storage_without_a_job_is_an_error_that_names_it() {
    let job = Job::new(None);
    let answer = job.ask(&["checkpoints", "list", &job.storage()]);
    assert_eq!(answer.status.code(), Some(2));
    assert!(answer.errors.contains("MS0306"), "{}", answer.errors);
    assert!(answer.errors.contains(&job.storage()), "{}", answer.errors);
}

/// Checks the job file against the newest checkpoint, for programs.
const VALIDATE_LATEST: [&str; 6] = [
    "validate",
    "job.yaml",
    "--restore",
    "latest",
    "--output",
    "json",
];

/// What `validate` prints for programs.
fn report(answer: &Answer) -> serde_json::Value {
    let last = answer.output.lines().last();
    serde_json::from_str(last.expect(&answer.errors)).unwrap()
}

#[test]
fn a_change_is_compared_with_the_newest_checkpoint_before_it_is_made() {
    let job = Job::new(None);
    let answer = job.ask(&VALIDATE_LATEST);
    assert!(answer.status.success(), "{}", answer.errors);
    assert_eq!(report(&answer)["restorePoint"], serde_json::Value::Null);
    Process::run(&job).succeeds();

    job.edit(
        "name: processed, input: enriched",
        "name: renamed, input: enriched",
    );
    let rescaled = [VALIDATE_LATEST.as_slice(), &["--parallelism", "3"]].concat();
    let answer = job.ask(&rescaled);
    assert!(answer.status.success(), "{}", answer.errors);
    let good = report(&answer);
    let path = good["restorePoint"].as_str().unwrap().to_owned();
    assert!(path.contains("/chain/"), "{path}");
    assert_eq!(
        good["changes"],
        serde_json::json!([
            "parallelism changes from 2 to 3",
            "operator renamed is new",
            "operator processed is dropped"
        ])
    );
}

#[test]
fn a_source_that_is_gone_is_a_fault_unless_its_state_may_be_dropped() {
    let job = Job::new(None);
    Process::run(&job).succeeds();
    let path = report(&job.ask(&VALIDATE_LATEST))["restorePoint"].clone();
    let path = path.as_str().unwrap();
    job.edit(
        "- name: orders\n      generator",
        "- name: bestellungen\n      generator",
    );
    job.edit("input: orders, sql", "input: bestellungen, sql");
    job.edit("FROM orders", "FROM bestellungen");
    let summary = [VALIDATE_LATEST.as_slice(), &["--summary", "summary.json"]].concat();
    let answer = job.ask(&summary);
    assert_eq!(answer.status.code(), Some(2), "{}", answer.errors);
    assert!(answer.errors.contains("MS0104"), "{}", answer.errors);
    let bad = report(&answer);
    assert_eq!(
        (&bad["valid"], bad["restorePoint"].as_str()),
        (&false.into(), Some(path))
    );
    let fault = &bad["faults"][0];
    assert_eq!(fault["code"], "MS0104");
    for part in ["`orders`", "`bestellungen`", "allowDroppedState"] {
        assert!(fault["message"].as_str().unwrap().contains(part), "{fault}");
    }
    let changes = bad["changes"].as_array().unwrap();
    assert!(
        changes.contains(&"operator orders is dropped: 4 splits".into()),
        "{changes:?}"
    );
    let written = fs::read_to_string(job.path().join("summary.json")).unwrap();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&written).unwrap(),
        bad
    );

    let allowed = [VALIDATE_LATEST.as_slice(), &["--allow-dropped-state"]].concat();
    assert!(job.ask(&allowed).status.success());
    let chain = job.path().join("checkpoints/default/orders/chain");
    let before = fs::read_dir(&chain).unwrap().count();
    job.ask(&VALIDATE_LATEST);
    assert_eq!(
        fs::read_dir(&chain).unwrap().count(),
        before,
        "nothing is claimed"
    );
}

#[test]
fn a_source_with_another_connector_does_not_go_on_from_positions_of_the_old_one() {
    let job = Job::new(None);
    Process::run(&job).succeeds();
    let text = fs::read_to_string(job.file()).unwrap();
    let generator = text
        .lines()
        .find(|line| line.contains("generator:"))
        .unwrap();
    job.edit(generator, "      files: {path: \"/nowhere\"}");
    job.edit("      watermark: {column: ts, maxOutOfOrderness: 5s}\n", "      schema: [{name: order_id, type: string}, {name: customer_id, type: string}, {name: quantity, type: int64}, {name: price, type: \"decimal(12,2)\"}, {name: ts, type: timestamp}]\n");
    let folder = format!("{}/default/orders", job.storage());
    for arguments in [
        ["validate", "job.yaml", "--restore", "latest"].as_slice(),
        &[
            "run",
            "job.yaml",
            "--progress",
            "none",
            "--restore",
            &folder,
        ],
    ] {
        let answer = job.ask(arguments);
        assert_eq!(answer.status.code(), Some(2), "{}", answer.errors);
        for part in ["MS0104", "generator", "files"] {
            assert!(answer.errors.contains(part), "{}", answer.errors);
        }
    }
}

#[test]
fn faults_of_a_job_file_are_told_to_programs_with_their_places() {
    let job = Job::new(None);
    job.edit("parallelism: 2", "parallelism: 0");
    job.edit("interval: 100ms", "interval: soon");
    let answer = job.ask(&["validate", "job.yaml", "--output", "json"]);
    assert_eq!(answer.status.code(), Some(2));
    let report = report(&answer);
    let paths: Vec<&str> = report["faults"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| fault["path"].as_str().unwrap())
        .collect();
    assert_eq!(paths, ["spec.parallelism", "spec.checkpoint.interval"]);
    job.edit("parallelism: 0", "parallelism: 2");
    job.edit("interval: soon", "interval: 1s");
    job.edit("quantity * price", "quantity * priec");
    let answer = job.ask(&["validate", "job.yaml", "--output", "json"]);
    let fault = &self::report(&answer)["faults"][0];
    assert_eq!(fault["path"], "spec.dataflow.transforms[enriched].sql");
    assert_eq!(fault["code"], "MS0102");
}

#[test]
fn savepoints_and_jobs_are_deleted_and_nothing_else() {
    let job = Job::new(None);
    Process::run(&job).succeeds();
    let storage = job.storage();
    let folder = format!("{storage}/default/orders");
    let refused = job.ask(&["checkpoints", "delete", &folder]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        refused.errors.contains("nothing was deleted"),
        "{}",
        refused.errors
    );
    let gone = job.ask(&[
        "checkpoints",
        "delete",
        &format!("{folder}/savepoints/never"),
    ]);
    assert!(
        gone.status.success() && gone.output.contains("already gone"),
        "{}",
        gone.errors
    );
    let delete = [
        "checkpoints",
        "delete",
        "--job",
        &storage,
        "default",
        "orders",
    ];
    let deleted = job.ask(&delete);
    assert!(deleted.status.success(), "{}", deleted.errors);
    assert!(
        deleted.output.contains("deleted 3 checkpoints"),
        "{}",
        deleted.output
    );
    assert!(!deleted.errors.contains("lost"), "{}", deleted.errors);
    let again = job.ask(&delete);
    assert!(
        again.status.success() && again.output.contains("already gone"),
        "{}",
        again.output
    );
    let nothing = job.ask(&["checkpoints", "delete"]);
    assert_eq!(nothing.status.code(), Some(2));
}

#[test]
fn what_a_start_would_refuse_is_refused_by_the_check() {
    let job = Job::new(Some(20_000));
    let run = Process::run(&job);
    wait_for("a checkpoint is committed", || {
        (!job.files().is_empty()).then_some(())
    });
    run.kill();
    job.edit("seed: 7", "seed: 8");
    let file = job.file().display().to_string();
    let check = job.ask(&["validate", &file, "--restore", "latest"]);
    let (status, _, log) = Process::run(&job).end();
    assert_eq!(check.status.code(), Some(2), "{}", check.output);
    assert_eq!(status.code(), Some(2), "{log}");
    let said = |text: &str| {
        text.lines()
            .find(|line| line.starts_with("error:"))
            .map(str::to_owned)
    };
    assert!(said(&log).is_some(), "{log}");
    assert_eq!(said(&check.errors), said(&log));
}

#[test]
fn a_live_check_of_a_job_that_can_start_changes_nothing() {
    let job = Job::new(None);
    Process::run(&job).succeeds();
    let file = job.file().display().to_string();
    let before = job.ask(&["checkpoints", "list", &job.storage()]).output;
    let check = job.ask(&["validate", "--live", &file]);
    assert!(check.status.success(), "{}", check.errors);
    assert!(
        check.output.contains("it can go on from"),
        "{}",
        check.output
    );
    assert_eq!(
        job.ask(&["checkpoints", "list", &job.storage()]).output,
        before
    );
    job.assert_exact();
}
