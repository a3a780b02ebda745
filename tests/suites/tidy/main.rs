//! The house rules, as tests.
//!
//! [`book`] that every page is in it, [`crates`] the arrows between crates, [`code`] sizes and names, [`crash_points`] that each is in
//! a test, [`keys`] who does what a key of a job file says, [`pages`] documents and the links between
//! them, [`from_flink`] what a guide to Flink has become here.

mod book;
mod code;
mod crash_points;
mod crates;
mod from_flink;
mod keys;
mod pages;

use std::collections::BTreeMap;
use std::process::Command;

use millstream_tests::tools::root;

/// Every file of the project with its text, by path from the top: what git tracks, and what it
/// would track. Files that are not text are left out.
fn files() -> BTreeMap<String, String> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git is there");
    assert!(output.status.success(), "git ls-files failed");
    let files: BTreeMap<String, String> = String::from_utf8(output.stdout)
        .expect("paths are UTF-8")
        .lines()
        .filter_map(|path| {
            let text = std::fs::read_to_string(root().join(path)).ok()?;
            Some((path.to_owned(), text))
        })
        .collect();
    assert!(files.contains_key("Cargo.toml"), "git lists the project");
    files
}

/// Files whose name ends so.
fn files_ending(end: &str) -> BTreeMap<String, String> {
    let mut files = files();
    files.retain(|path, _| path.ends_with(end));
    files
}

/// Fails with all faults at once.
#[track_caller]
fn check(rule: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{rule}:\n  {}", faults.join("\n  "));
}
