//! Texts that are no job file's YAML. Each is refused at once, with its line and column.

use millstream_spec::Place;
use millstream_types::ErrorCode;

use super::{ORDERS, refusal};

#[track_caller]
fn refused(text: &str, line: usize, column: usize, says: &str) {
    let error = refusal(text);
    assert_eq!(error.code(), ErrorCode::UnreadableJobFile, "{error}");
    let [fault] = error.faults() else {
        panic!("several faults:\n{error}")
    };
    assert_eq!(fault.place, Place { line, column }, "{error}");
    assert!(
        fault.message.contains(says),
        "does not say `{says}`:\n{error}"
    );
}

#[test]
fn a_text_without_a_value_is_refused() {
    refused("", 1, 1, "empty");
    refused("# nothing\n", 1, 1, "empty");
    refused("---\n", 1, 1, "empty");
    refused("~", 1, 1, "empty");
    refused(&" \n".repeat(100_000), 1, 1, "empty");
}

#[test]
fn a_text_that_does_not_parse_is_refused_where_the_parser_stops() {
    refused("a: [1, 2\nb: 3\n", 2, 2, "did not find expected ',' or ']'");
    refused("a:\n\tb: 1\n", 2, 1, "Indent with spaces");
    refused("a: @x\n", 1, 4, "must be in quotes");
    refused("a: b: c\n", 1, 5, "mapping values are not allowed");
    refused("a: 'b\n", 2, 1, "unexpected end of stream");
    refused("a: 1\n  b: 2\n", 2, 4, "mapping values are not allowed");
    refused("%YAML 9.9\n---\na: 1\n", 1, 1, "incompatible YAML document");
    refused("a: !!int x\n", 1, 4, "expected an integer");
    refused("---\n~\n---\n@", 4, 1, "cannot start any token");
}

#[test]
fn control_characters_are_refused() {
    refused("a: \"x\u{7}\"\n", 1, 6, "control character");
    refused("a: ä\n \0", 2, 2, "control character");
    refused("a: \u{9f}", 1, 4, "control character");
    refused("a: \u{feff}", 1, 4, "control character");
}

#[test]
fn a_byte_order_mark_at_the_start_is_allowed() {
    assert!(millstream_spec::read(&format!("\u{feff}{ORDERS}"), "bom.yaml").is_ok());
}

#[test]
fn keys_given_twice_are_refused_wherever_they_are() {
    refused(
        "a: 1\na: 2\n",
        2,
        1,
        "the key `a` is given twice, first on line 1",
    );
    refused("a:\n- {b: 1, c: 2,\n   b: 3}\n", 3, 4, "first on line 2");
    refused("a: 1\n'a': 2\n", 2, 1, "given twice");
    let text = ORDERS.replace("    interval: 10s", "    interval: 10s\n    interval: 20s");
    refused(
        &text,
        14,
        5,
        "the key `interval` is given twice, first on line 13",
    );
    refused("status: {x: 1, x: 2}", 1, 16, "given twice");
}

#[test]
fn keys_that_are_no_text_are_refused() {
    refused("1: a\n", 1, 1, "a key must be text");
    refused("a: {true: b}\n", 1, 5, "a key must be text");
    refused("a: {~: b}\n", 1, 5, "a key must be text");
    refused("[a]: b\n", 1, 2, "a key must be text");
    refused("name: {{ .Values.name }}\n", 1, 10, "a key must be text");
    refused(
        &format!("{}: 1\n", "k".repeat(600)),
        1,
        1,
        "more than 512 characters",
    );
}

#[test]
fn anchors_aliases_and_tags_are_refused() {
    refused("a: &x 1\nb: *x\n", 1, 4, "anchors");
    refused("a: 1\nb: *x\n", 2, 4, "anchors");
    refused("a: &x {b: 1}\nc:\n  <<: *x\n", 1, 4, "anchors");
    refused("a: !secret b\n", 1, 4, "tags");
    refused("a: !secret [b]\n", 1, 4, "tags");
    refused("a: !!binary aGk=\nb: !x\n", 2, 4, "tags");
    let doubling = |level| format!("a{level}: &a{level} [*a{0}, *a{0}]\n", level - 1);
    let bomb: Vec<String> = (1..60).map(doubling).collect();
    refused(&format!("a0: &a0 [x]\n{}", bomb.concat()), 1, 5, "anchors");
}

#[test]
fn signs_of_anchors_within_texts_are_texts() {
    for sql in [
        "\"SELECT a & b, *\"",
        "'SELECT * FROM orders WHERE x = ''&y'''",
        "SELECT\n        *\n        FROM orders",
        "|\n        SELECT\n        *x, &y\n        FROM orders",
    ] {
        let text = ORDERS.replace(
            "\"SELECT * FROM orders WHERE quantity > 0 AND price > 0\"",
            sql,
        );
        let text = text.replace(
            "{name: valid, input: orders, sql:",
            "name: valid\n      input: orders\n      sql:",
        );
        let text = text
            .replace("price > 0\"}", "price > 0\"")
            .replace(&format!("{sql}}}"), sql);
        let read = millstream_spec::read(&text, "job.yaml");
        assert!(read.is_ok(), "{sql}: {}", read.unwrap_err());
    }
}

#[test]
fn several_documents_are_refused_and_an_empty_one_is_not_another() {
    let lines = ORDERS.lines().count();
    refused(
        &format!("{ORDERS}---\n{ORDERS}"),
        lines + 2,
        1,
        "a second YAML document",
    );
    refused("a: 1\n...\n---\n- b\n", 4, 3, "a second YAML document");
    assert!(millstream_spec::read(&format!("---\n{ORDERS}---\n"), "job.yaml").is_ok());
}

#[test]
fn large_texts_are_refused() {
    refused(
        &format!("a: {}", "x".repeat(1_048_576)),
        1,
        1,
        "1048579 bytes",
    );
    refused(
        &format!("[{}]", "1,".repeat(200_000)),
        1,
        200_000,
        "more than 100000",
    );
    let keys: Vec<String> = (0..60_000)
        .map(|number| format!("k{number}: 1\n"))
        .collect();
    refused(&keys.concat(), 50_000, 9, "more than 100000");
}

#[test]
fn deep_texts_are_refused_however_they_nest() {
    refused(&"[".repeat(1_000_000), 1, 65, "more than 64 deep");
    refused(&"{a: ".repeat(250_000), 1, 257, "more than 64 deep");
    refused(&"[{a: ".repeat(200_000), 1, 161, "more than 64 deep");
    refused(&"- ".repeat(500_000), 1, 129, "more than 64 deep");
    refused(&"? ".repeat(500_000), 1, 129, "more than 64 deep");
    refused(&"[[],".repeat(250_000), 1, 254, "more than 64 deep");
    let indented: Vec<String> = (0..1_000)
        .map(|level| format!("{}a:\n", " ".repeat(level)))
        .collect();
    refused(&indented.concat(), 65, 65, "more than 64 deep");
}

#[test]
fn what_stands_before_a_deep_part_does_not_hide_it() {
    let deep = "{a: ".repeat(200_000);
    let lists = format!("[{}", "[],".repeat(20_000));
    refused(&format!("{lists}{deep}"), 1, 60_254, "more than 64 deep");
    let closing = "[\"]\", ".repeat(100_000);
    refused(&closing, 1, 385, "more than 64 deep");
    let text = format!("a: \"{}\"\nb: {deep}", " [".repeat(50_000));
    refused(&text, 2, 256, "more than 64 deep");
    let text = format!("a: !!int x\nb: {deep}");
    refused(&text, 1, 4, "expected an integer");
    let comment = format!("# {}\n{deep}", "] ".repeat(50_000));
    refused(&comment, 2, 257, "more than 64 deep");
}

#[test]
fn brackets_that_nest_nothing_are_read() {
    let text = ORDERS.replace("SELECT *,", &format!("SELECT '{}',", " [".repeat(30_000)));
    assert!(millstream_spec::read(&text, "job.yaml").is_ok());
    let text = format!("# {}\n{ORDERS}", "[ { ".repeat(200_000));
    assert!(millstream_spec::read(&text, "job.yaml").is_ok());
}

#[test]
fn sixty_four_levels_are_read() {
    let error = refusal(&format!("status: {}{}", "[".repeat(63), "]".repeat(63)));
    assert_eq!(error.code(), ErrorCode::InvalidJob, "{error}");
    refused(
        &format!("status: {}{}", "[".repeat(64), "]".repeat(64)),
        1,
        72,
        "more than 64 deep",
    );
}
