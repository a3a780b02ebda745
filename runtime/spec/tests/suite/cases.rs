//! Changes of the example and the faults that each must lead to, and no others.
//!
//! `testdata/form.cases` is about what the schema forbids, `testdata/rules.cases` about what only
//! makes no sense. A case is a paragraph: `- ` a part of the example, `+ ` what it is replaced by
//! (`\n` is a line break), and for each fault `! ` its path, `: `, and a part of its message.
//! Without faults the changed job must be taken.

use millstream_spec::read;

use super::ORDERS;

#[test]
fn what_the_schema_forbids_is_refused() {
    check(include_str!("../../testdata/form.cases"), 60);
}

#[test]
fn what_makes_no_sense_is_refused() {
    check(include_str!("../../testdata/rules.cases"), 80);
}

/// A path and a part of a message.
type Expected<'a> = (&'a str, &'a str);

#[track_caller]
fn check(cases: &str, least: usize) {
    let cases: Vec<&str> = cases
        .split("\n\n")
        .filter(|case| case.contains("\n+"))
        .collect();
    assert!(cases.len() >= least, "only {} cases", cases.len());
    let problems: Vec<String> = cases.iter().filter_map(|case| problem(case)).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

/// What is not as the case says.
fn problem(case: &str) -> Option<String> {
    let (text, expected) = changed(case);
    let Err(found) = read(&text, "job.yaml") else {
        return (!expected.is_empty()).then(|| {
            format!(
                "{case}
is taken"
            )
        });
    };
    let mut left: Vec<&millstream_spec::Fault> = found.faults().iter().collect();
    let all_found = expected.iter().all(|(path, says)| {
        let is_it =
            |fault: &&millstream_spec::Fault| fault.path == *path && fault.message.contains(says);
        let at = left.iter().position(is_it);
        at.map(|at| left.remove(at)).is_some()
    });
    (!all_found || !left.is_empty()).then(|| format!("{case}\nleads to\n{found}"))
}

/// The example with the case's changes, and the faults it must have.
fn changed(case: &str) -> (String, Vec<Expected<'_>>) {
    let mut text = ORDERS.to_owned();
    let mut from = String::new();
    let mut expected = Vec::new();
    for line in case.lines() {
        let (kind, rest) = line.split_at(1);
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        match kind {
            "-" => from = rest.replace("\\n", "\n"),
            "+" => {
                assert!(
                    text.contains(&from),
                    "`{from}` is not in the example:\n{case}"
                );
                text = text.replacen(&from, &rest.replace("\\n", "\n"), 1);
            }
            "!" => expected.push(rest.split_once(": ").expect("a path and a message")),
            _ => panic!("not a line of a case: {line}"),
        }
    }
    (text, expected)
}
