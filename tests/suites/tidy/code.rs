//! Sizes and names of source files.

use super::{check, files, files_ending};

const FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 70;
const BANNED_NAMES: [&str; 7] = [
    "common", "helper", "helpers", "manager", "misc", "mod", "utils",
];
/// The one place that may let time pass.
const WAITS: &str = "tests/src/wait.rs";

/// Names and lengths of functions in rustfmt's layout: from the first line to the line that ends
/// it, which is indented alike. Blank lines and comments do not count.
fn function_lengths(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut lengths = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else {
            continue;
        };
        let end = lines[start..]
            .iter()
            .position(|last| indent(last) == indent(line) && last.ends_with(['}', ';']))
            .map_or(lines.len(), |length| start + length + 1);
        let length = lines[start..end]
            .iter()
            .filter(|line| !line.trim().is_empty() && !line.trim().starts_with("//"))
            .count();
        lengths.push((name, length));
    }
    lengths
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn function_name(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let is_prefix = |word: &&str| {
        word.starts_with("pub") || ["async", "const", "unsafe", "extern", "\"C\""].contains(word)
    };
    let word = words.by_ref().find(|word| !is_prefix(word))?;
    (word == "fn")
        .then(|| words.next().unwrap_or_default())
        .map(|name| {
            name.chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect()
        })
}

#[test]
fn files_and_functions_are_short() {
    let mut faults = Vec::new();
    for (path, text) in files_ending(".rs") {
        let lines = text.lines().count();
        if lines > FILE_LINES {
            faults.push(format!("{path} has {lines} lines, at most {FILE_LINES}"));
        }
        for (name, lines) in function_lengths(&text) {
            if lines > FUNCTION_LINES {
                faults.push(format!(
                    "{path}: `{name}` has {lines} lines, at most {FUNCTION_LINES}"
                ));
            }
        }
    }
    check("split by noun", &faults);
}

#[test]
fn a_long_function_is_seen() {
    let body = "        step();\n".repeat(80);
    let text = format!(
        "impl X {{\n    fn declared(&self);\n\n    pub(crate) async fn long(&self) {{\n{body}    }}\n}}\n"
    );
    assert_eq!(
        function_lengths(&text),
        [("declared".to_owned(), 1), ("long".to_owned(), 82)]
    );
}

#[test]
fn modules_are_named_after_what_they_hold() {
    let mut faults = Vec::new();
    for path in files_ending(".rs").keys() {
        let parts = path.trim_end_matches(".rs").split('/');
        if let Some(name) = parts.into_iter().find(|part| BANNED_NAMES.contains(part)) {
            faults.push(format!("{path}: `{name}` says nothing"));
        }
    }
    check("file names", &faults);
}

#[test]
fn tests_wait_for_conditions_and_none_is_left_out() {
    let mut faults = Vec::new();
    for (path, text) in files_ending(".rs") {
        let is_test_code = path.contains("tests/") || path.ends_with("tests.rs");
        let tests_start = if is_test_code {
            0
        } else {
            text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len())
        };
        if text.contains(concat!("#[", "ignore")) {
            faults.push(format!("{path}: a test is ignored"));
        }
        let sleeps = text[tests_start..].contains(concat!("sleep", "("));
        if sleeps && path != WAITS {
            faults.push(format!("{path}: a test sleeps; wait for a condition"));
        }
    }
    check("tests", &faults);
}

#[test]
fn no_file_names_a_place_of_one_machine() {
    let places = [
        concat!("/ro", "ot/"),
        concat!("/wo", "rk/"),
        concat!("/ho", "me/"),
    ];
    let mut faults = Vec::new();
    for (path, text) in files() {
        for (number, line) in text.lines().enumerate() {
            if let Some(place) = places.iter().find(|place| line.contains(**place)) {
                faults.push(format!("{path}:{}: `{place}`", number + 1));
            }
        }
    }
    check("machine paths", &faults);
}
