//! `docs/from-flink.md`: no empty cell, and every test that it names is there.

use std::collections::BTreeSet;
use std::fs;

use millstream_tests::tools::root;

use super::{check, files_ending};

const PAGE: &str = "docs/from-flink.md";
/// What stands in place of a test where there is nothing to test yet.
const NOT_BUILT: &str = "not built (issue ";
/// Columns: the guide's, ours, and what shows it.
const COLUMNS: usize = 3;

/// Names of all tests of the project.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for text in files_ending(".rs").values() {
        let mut is_test = false;
        for line in text.lines().map(str::trim_start) {
            if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                is_test = true;
            } else if let Some((_, rest)) = line.split_once("fn ").filter(|_| is_test) {
                names.extend(rest.split('(').next().map(str::to_owned));
                is_test = false;
            }
        }
    }
    names
}

/// What is wrong with the tables of a page, with the lines.
fn faults_of(page: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, line) in page.lines().enumerate() {
        let Some(row) = line.strip_prefix('|') else {
            continue;
        };
        let place = format!("{PAGE}:{}", number + 1);
        let row = row.trim_end().trim_end_matches('|');
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        if cells.iter().all(|cell| cell.chars().all(|one| one == '-')) {
            continue;
        }
        if cells.len() != COLUMNS || cells.iter().any(|cell| cell.is_empty()) {
            faults.push(format!("{place}: a row has {COLUMNS} cells, none empty"));
            continue;
        }
        let shown = cells[COLUMNS - 1];
        if shown == "Shown by" || shown.starts_with(NOT_BUILT) {
            continue;
        }
        let named: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        if named.is_empty() {
            faults.push(format!("{place}: names no test, and not what is not built"));
        }
        let unknown = named.iter().filter(|name| !tests.contains(**name));
        faults.extend(unknown.map(|name| format!("{place}: there is no test `{name}`")));
    }
    faults
}

#[test]
fn every_line_of_the_guide_has_its_place_here_and_a_test_that_shows_it() {
    let page = fs::read_to_string(root().join(PAGE)).expect("the page is there");
    let rows = page.lines().filter(|line| line.starts_with("| ")).count();
    assert!(rows > 80, "the page has {rows} rows");
    check(
        "fill the cells, name tests that are there",
        &faults_of(&page, &tests()),
    );
}

#[test]
fn an_empty_cell_and_a_test_that_is_not_there_are_seen() {
    let tests = BTreeSet::from(["there_is_one".to_owned()]);
    let page = |row: &str| format!("| Guide | Millstream | Shown by |\n|---|---|---|\n{row}\n");
    let faults = |row: &str| faults_of(&page(row), &tests).len();
    assert_eq!(faults("| a | b | `there_is_one` |"), 0);
    assert_eq!(faults("| a | b | not built (issue 14, point 1) |"), 0);
    assert_eq!(faults("| a | b | `there_is_none` |"), 1);
    assert_eq!(faults("| a |  | `there_is_one` |"), 1);
    assert_eq!(faults("| a | b | soon |"), 1);
    assert_eq!(faults("| a | `there_is_one` |"), 1);
}
