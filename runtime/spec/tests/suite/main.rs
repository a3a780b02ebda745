//! Job files, good and bad.
//!
//! [`good`] what a job file becomes; [`yaml`] texts that are no job file's YAML; [`cases`] what
//! breaks a rule; [`arbitrary`] anything at all; [`pieces`] pieces of job files in the documentation;
//! [`documents`] the generated schema and the reference page.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "what tests share fails as they do"
)]

mod arbitrary;
mod cases;
mod documents;
mod good;
mod pieces;
mod yaml;

use std::path::{Path, PathBuf};

use millstream_spec::{JobFileError, read};

/// A job file that uses most of what there is.
const ORDERS: &str = include_str!("../../testdata/orders.yaml");

/// What is wrong with a text.
#[track_caller]
fn refusal(text: &str) -> JobFileError {
    match read(text, "job.yaml") {
        Ok(job) => panic!("{} is taken:\n{text}", job.id),
        Err(error) => error,
    }
}

/// Compares a text with a committed file; `UPDATE_EXPECT=1` writes the file instead.
#[track_caller]
fn expect_file(path: &Path, text: &str) {
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(path, text).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == text,
        "{} is not what it should be; run the test with UPDATE_EXPECT=1 and look at the change",
        path.display()
    );
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}
