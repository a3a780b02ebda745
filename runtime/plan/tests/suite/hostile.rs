//! SQL that tries to exhaust the planner.

use std::sync::Arc;

use arrow_array::RecordBatch;
use millstream_plan::NodeKind;
use proptest::prelude::*;

use crate::jobs::{described, node, one, refused};

fn select(expression: &str) -> String {
    format!("SELECT {expression} AS x FROM orders")
}

/// Expressions as deep as they may be.
fn deepest() -> [String; 4] {
    [
        vec!["quantity"; 299].join(" + "),
        vec!["quantity > 0"; 149].join(" AND "),
        format!("{}quantity{}", "abs(".repeat(30), ")".repeat(30)),
        format!(
            "{}1{}",
            "CASE WHEN paid THEN ".repeat(25),
            " END".repeat(25)
        ),
    ]
}

#[test]
fn expressions_of_the_greatest_depth_are_planned_and_evaluated_on_a_small_stack() {
    for expression in deepest() {
        let graph = one(&select(&expression)).graph();
        let NodeKind::Sql(sql) = &node(&graph, "t").kind else {
            panic!("`t` is a transform")
        };
        let output = Arc::clone(&sql.selects[0].projection[0].expression);
        let batch = RecordBatch::new_empty(Arc::clone(&node(&graph, "orders").schema));
        // As small as the stack of any thread that tasks run on.
        let thread = std::thread::Builder::new().stack_size(2 * 1_024 * 1_024);
        let evaluated = thread
            .spawn(move || output.evaluate(&batch).map(drop))
            .unwrap();
        evaluated.join().unwrap().unwrap();
    }
}

#[test]
fn deeper_expressions_are_refused_before_they_are_walked() {
    let deep = [
        vec!["quantity"; 7_000].join("+"),
        vec!["paid"; 6_000].join(" OR "),
        format!("{}quantity{}", "(".repeat(20_000), ")".repeat(20_000)),
        format!("{}quantity{}", "abs(".repeat(10_000), ")".repeat(10_000)),
        format!("{}paid", "NOT ".repeat(12_000)),
        format!("{}quantity", "- ".repeat(12_000)),
        format!(
            "{}1{}",
            "CASE WHEN paid THEN ".repeat(2_000),
            " END".repeat(2_000)
        ),
        format!("{}quantity", "coalesce(quantity, ".repeat(3_000)),
    ];
    for expression in deep {
        let message = refused(&select(&expression));
        assert!(message.contains("operators deep"), "{message}");
        assert!(message.len() < 700, "{}", message.len());
    }
}

#[test]
fn what_the_parser_nests_is_refused_with_a_place_or_a_reason() {
    let nested = format!("{}quantity{}", "(".repeat(100), ")".repeat(100));
    let message = refused(&select(&nested));
    assert!(message.contains("nest too deep"), "{message}");
}

#[test]
fn what_doubles_with_every_level_is_refused() {
    for (open, close) in [
        ("coalesce(", ", 1)"),
        ("nullif(", ", 1)"),
        ("CASE ", " WHEN 1 THEN 2 WHEN 3 THEN 4 ELSE 5 END"),
    ] {
        let nested = format!("{}quantity{}", open.repeat(20), close.repeat(20));
        let message = refused(&select(&nested));
        assert!(message.contains("more than 200000 parts"), "{message}");
    }
}

#[test]
fn a_wide_select_is_planned() {
    let columns: Vec<String> = (0..1_000)
        .map(|i| format!("quantity + {i} AS c{i}"))
        .collect();
    let job = one(&format!("SELECT {} FROM orders", columns.join(", ")));
    assert_eq!(job.graph().nodes.len(), 3);
}

#[test]
fn a_text_full_of_faults_names_only_the_first_ones() {
    let many = vec!["prise"; 9_000].join(", ");
    let message = refused(&format!("SELECT {many} FROM orders"));
    let named = message.matches("there is no column").count();
    assert!((50..100).contains(&named), "{named}");
    let stars = refused(&format!(
        "SELECT {} FROM orders",
        vec!["*"; 30_000].join(",")
    ));
    assert!(stars.contains("is there twice"));
    assert!(stars.len() < 100_000, "{}", stars.len());
}

/// What is planned has columns; what is refused says why, within the text.
fn planned_or_refused(sql: &str) {
    let mut job = one("SELECT 1 AS x FROM orders").valid();
    // A job file would refuse some of these before they come here.
    sql.clone_into(&mut job.transforms[0].sql);
    match millstream_plan::plan(&job) {
        Ok(graph) => assert!(!described(&node(&graph, "t").schema).is_empty()),
        Err(error) => {
            for fault in error.faults() {
                let place = fault.place.as_ref();
                assert!(!fault.message.is_empty() && !fault.message.contains("panicked"));
                assert!(place.is_none_or(|place| sql.lines().any(|line| line == place.text)));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn any_words_in_any_order_are_planned_or_refused(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "SELECT", "FROM", "orders", "WHERE", "*", ",", "(", ")", "quantity", "price", "AS",
                "x", "+", "-", "CASE", "WHEN", "THEN", "END", "'a'", "1", "1.5", "AND", "IN", "IS",
                "NULL", "NOT", "->>", "::", "int", "upper", "json_get_str", "EXCLUDE", "[", "]",
                "\"", "BETWEEN", "LIKE", ".", ";", "--", "INTERVAL", "CAST", "@", "$1", "?",
            ]),
            0..25,
        ),
    ) {
        planned_or_refused(&format!("SELECT {}", words.join(" ")));
    }

    #[test]
    fn any_text_is_planned_or_refused(text in "\\PC{1,60}") {
        planned_or_refused(&text);
    }
}
