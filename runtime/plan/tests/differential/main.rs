//! The same expressions here and in PostgreSQL 15, over all functions and operators at their edges.
//!
//! Every expression is computed by a planned transform, record by record, and by a real server of
//! PostgreSQL with the record's values as constants. What differs must be explained by one of the
//! reasons that docs/sql.md lists.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    clippy::print_stderr,
    reason = "a helper of a test that fails should fail the test"
)]

mod alike;
mod explained;
mod groups;
mod ours;
mod pools;
mod templates;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use millstream_tests::Postgres;

use explained::REASONS;
use ours::Outcome;
use templates::Template;

const BEGIN: &str = "<!-- differences: begin -->\n";
const END: &str = "<!-- differences: end -->";
/// Fewest expressions that are compared.
const FEWEST: usize = 10_000;

/// One expression over one record.
#[derive(Debug)]
struct Case {
    template: &'static Template,
    /// With the record's values, as PostgreSQL is given it.
    expression: String,
    ours: Outcome,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for template in templates::all() {
        let rows = pools::rows(template.types);
        let outcomes = ours::outcomes(template, &rows);
        for (row, ours) in rows.iter().zip(outcomes) {
            cases.push(Case {
                template,
                expression: pools::substituted(template.postgres(), template.types, row),
                ours,
            });
        }
    }
    cases
}

#[test]
fn every_expression_gives_what_postgresql_gives_or_is_explained() {
    let cases = cases();
    assert!(cases.len() >= FEWEST, "{} expressions", cases.len());
    let expressions: Vec<String> = cases.iter().map(|case| case.expression.clone()).collect();
    let theirs = Postgres::start().evaluate(&expressions);
    let mut unexplained: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut explained: BTreeMap<usize, usize> = BTreeMap::new();
    let mut same = 0;
    for (case, theirs) in cases.iter().zip(&theirs) {
        if alike::alike(&case.ours, theirs.as_deref()) {
            same += 1;
            continue;
        }
        match explained::reason(case.template, &case.ours, theirs.as_deref()) {
            Some(reason) => *explained.entry(reason).or_default() += 1,
            None => unexplained
                .entry(case.template.ours)
                .or_default()
                .push(format!(
                    "{}: {} here, {} there",
                    case.expression,
                    case.ours,
                    theirs.as_deref().unwrap_or("NULL")
                )),
        }
    }
    let count: usize = unexplained.values().map(Vec::len).sum();
    let mut report = String::new();
    for (template, cases) in &unexplained {
        let shown: String = cases
            .iter()
            .take(3)
            .map(|case| format!("    {case}\n"))
            .collect::<Vec<_>>()
            .concat();
        write!(report, "{template}: {} differ\n{shown}", cases.len()).unwrap();
    }
    eprintln!(
        "{} expressions: {same} the same, explained {explained:?}",
        cases.len()
    );
    assert_eq!(count, 0, "{count} differences without a reason:\n{report}");
    for (index, (_, reason)) in REASONS.iter().enumerate() {
        assert!(
            explained.contains_key(&index),
            "nothing differs by this reason any more: {reason}"
        );
    }
}

#[test]
fn the_page_lists_the_reasons() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sql.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (list, after) = rest.split_once(END).unwrap();
    let reasons: String = REASONS
        .iter()
        .map(|(_, reason)| format!("- {reason}\n"))
        .collect::<Vec<_>>()
        .concat();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&page, format!("{before}{BEGIN}{reasons}{END}{after}")).unwrap();
    } else {
        assert_eq!(
            list, reasons,
            "UPDATE_EXPECT=1 writes the list in docs/sql.md"
        );
    }
}

/// Which records share a batch never matters: not for values, and not for failures.
#[test]
fn an_expression_gives_the_same_whatever_shares_its_batch() {
    let mut compared = 0;
    for template in templates::all() {
        let rows = pools::rows(template.types);
        let alone = ours::outcomes(template, &rows);
        for width in [2, 7, rows.len()] {
            let together = ours::batched(template, &rows, width);
            let mut start = 0;
            for (length, batch) in together {
                let expected = &alone[start..start + length];
                match batch {
                    Ok(values) => {
                        let expected: Vec<String> =
                            expected.iter().map(ToString::to_string).collect();
                        assert_eq!(values, expected, "{}", template.ours);
                    }
                    // The first record that fails alone is the one that fails the batch.
                    Err(message) => {
                        let first = expected.iter().find_map(|outcome| match outcome {
                            Outcome::Failed(message) => Some(message),
                            _ => None,
                        });
                        assert_eq!(Some(&message), first, "{}", template.ours);
                    }
                }
                start += length;
                compared += length;
            }
        }
    }
    assert!(compared >= 3 * FEWEST, "{compared}");
}
