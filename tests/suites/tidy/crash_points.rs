//! Every named crash point is in a test that makes it happen, and in the table of its crate.

use std::collections::{BTreeMap, BTreeSet};

use super::{check, files_ending};

/// What arms one in a source file.
const MARK: &str = concat!("fail_", "point!(");

/// Names of the crash points in a source file, in order.
fn names_in(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (place, _) in text.match_indices(MARK) {
        let rest = &text[place + MARK.len()..];
        let name = rest.split('"').nth(1).unwrap_or_default();
        names.push(name.to_owned());
    }
    names
}

/// Whether a text that is no comment names the point, and not only one that begins like it.
fn arms(text: &str, name: &str) -> bool {
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    code.into_iter().any(|line| {
        line.match_indices(name).any(|(place, _)| {
            let next = line[place + name.len()..].chars().next();
            !next.is_some_and(|next| next.is_alphanumeric() || next == '-')
        })
    })
}

/// Crash points that no test arms.
fn untested(points: &BTreeSet<String>, tests: &BTreeMap<String, String>) -> Vec<String> {
    let is_armed = |name: &&String| tests.values().any(|text| arms(text, name));
    points
        .iter()
        .filter(|name| !is_armed(name))
        .map(|name| format!("`{name}` is in no test"))
        .collect()
}

#[test]
fn every_crash_point_is_in_a_test_and_in_the_table_of_its_crate() {
    let sources = files_ending(".rs");
    let (suites, sources): (BTreeMap<_, _>, BTreeMap<_, _>) = sources
        .into_iter()
        .filter(|(path, _)| !path.starts_with("tests/suites/tidy/"))
        .partition(|(path, _)| path.contains("tests/"));
    let points: BTreeSet<String> = sources.values().flat_map(|text| names_in(text)).collect();
    assert!(
        points.len() >= 37,
        "crash points in the sources: {points:?}"
    );
    let mut faults = untested(&points, &suites);
    let tables: String = sources
        .iter()
        .filter(|(path, _)| path.ends_with("/src/lib.rs"))
        .flat_map(|(_, text)| text.lines())
        .filter(|line| line.starts_with("//! | `"))
        .collect();
    for name in &points {
        if !tables.contains(&format!("`{name}`")) {
            faults.push(format!("`{name}` is in the table of no crate"));
        }
    }
    check("crash points", &faults);
}

#[test]
fn a_crash_point_in_no_test_is_seen() {
    let source = format!("{MARK}\"a::before-it\", |_| end());\n{MARK}\n    \"a::after-it\",");
    let points: BTreeSet<String> = names_in(&source).into_iter().collect();
    assert_eq!(points.len(), 2);
    let suite = |text: &str| [("suite.rs".to_owned(), text.to_owned())].into();
    let both = suite("\"a::before-it=return\"\n(\"a::after-it\", 2)");
    assert_eq!(untested(&points, &both).len(), 0);
    // A comment, or a longer name, is no test.
    let neither = suite("// a::before-it\n\"a::after-it-all=return\"");
    assert_eq!(untested(&points, &neither).len(), 2);
}
