//! Commands that look and end.

use std::fs;
use std::process::ExitStatus;

use crate::job::Job;
use crate::process::Process;

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
