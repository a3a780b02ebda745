//! What a user gets wrong, each with its error.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, StringArray};
use millstream_tests::Postgres;
use millstream_types::{Batch, CheckpointId, ErrorCode, ErrorKind};
use serde_json::json;

use crate::fixture::{Sink, batch, options, prepared, shared};

fn rows() -> Batch {
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    batch(vec![("id", ids), ("text", texts)])
}

fn sink(server: &Postgres, table: &str, mode: &str, more: &serde_json::Value) -> Sink {
    let options = options(&server.address(), table, mode, more);
    Sink::new(options, &rows().schema())
}

#[test]
fn a_missing_table_is_named_with_what_makes_it() {
    let server = shared();
    let failure = sink(&server, "no\"where", "TwoPhaseCommit", &json!({})).refusal();
    assert_eq!(failure.code, ErrorCode::PostgresTable);
    let expected = r#"CREATE TABLE "public"."no""where" ("id" bigint, "text" text)"#;
    assert!(failure.message.contains(expected), "{failure}");
    // What it says can be done.
    let (_, statement) = failure.message.split_once("for example: ").unwrap();
    server.query(statement);
    sink(&server, "no\"where", "TwoPhaseCommit", &json!({}))
        .preflight()
        .unwrap();
}

#[test]
fn every_column_that_does_not_fit_is_named() {
    let server = shared();
    server.query(
        "CREATE TABLE misfit (id integer, region text NOT NULL, note text NOT NULL DEFAULT '', extra text)",
    );
    let failure = sink(&server, "misfit", "Buffered", &json!({})).refusal();
    assert_eq!(
        (failure.code, failure.kind),
        (ErrorCode::PostgresTable, ErrorKind::InvalidJob)
    );
    let faults: Vec<&str> = failure.message.lines().skip(1).map(str::trim).collect();
    assert_eq!(faults.len(), 3, "{failure}");
    assert!(faults[0].starts_with("id: the sink's int64 does not go into the table's integer"));
    assert!(faults[1].starts_with("text: the table has no such column for the sink's string"));
    assert!(
        faults[2].starts_with("region: the table's column (text) is NOT NULL"),
        "{failure}"
    );
}

#[test]
fn a_table_without_the_key_cannot_be_upserted_to() {
    let server = shared();
    server.query("CREATE TABLE no_key (id bigint, text text, UNIQUE (id, text))");
    let failure = sink(&server, "no_key", "Upsert", &json!({"keyFields": ["id"]})).refusal();
    assert_eq!(failure.code, ErrorCode::PostgresTable);
    assert!(
        failure.message.contains("ADD PRIMARY KEY (\"id\")"),
        "{failure}"
    );
    let both = json!({"keyFields": ["text", "id"]});
    sink(&server, "no_key", "Upsert", &both)
        .preflight()
        .unwrap();
}

#[test]
fn too_few_prepared_transactions_are_said_with_how_many_are_needed() {
    for (most, fits) in [(0, false), (3, false), (4, true)] {
        let server = Postgres::start_with(&prepared(most));
        server.query("CREATE TABLE t (id bigint, text text)");
        let sink = sink(&server, "t", "TwoPhaseCommit", &json!({}));
        if fits {
            sink.preflight().unwrap();
            continue;
        }
        let failure = sink.refusal();
        assert_eq!(failure.code, ErrorCode::PostgresPreparedTransactions);
        // Two subtasks; one checkpoint at a time, and one that was decided.
        let said = format!("max_prepared_transactions is {most}, and this sink may have 4");
        assert!(failure.message.contains(&said), "{failure}");
        assert!(failure.message.contains("mode: Buffered"), "{failure}");
    }
}

#[test]
fn a_server_that_is_away_is_named_after_the_deadline() {
    let port = millstream_tests::ports::free_port();
    let more = json!({"connectTimeout": "300ms"});
    let mut options = options("", "t", "Buffered", &more);
    options.servers = format!("127.0.0.1:{port}");
    let failure = Sink::new(options, &rows().schema()).refusal();
    assert_eq!(failure.code, ErrorCode::PostgresUnreachable);
    assert_eq!(failure.kind, ErrorKind::Retryable);
    assert!(failure.message.contains(&port.to_string()), "{failure}");
}

#[test]
fn another_database_schema_or_user_is_refused() {
    let server = shared();
    for (key, value, code) in [
        ("database", "nowhere", ErrorCode::PostgresTable),
        ("schema", "nowhere", ErrorCode::PostgresTable),
        ("username", "nobody", ErrorCode::PostgresAccess),
    ] {
        let failure = sink(&server, "t", "Buffered", &json!({key: value})).refusal();
        assert_eq!(
            (failure.code, failure.kind),
            (code, ErrorKind::InvalidJob),
            "{failure}"
        );
    }
}

#[test]
fn a_user_who_may_not_write_is_refused() {
    let server = shared();
    server.query("CREATE TABLE closed (id bigint, text text); CREATE ROLE reader LOGIN");
    let sink = sink(
        &server,
        "closed",
        "Buffered",
        &json!({"username": "reader"}),
    );
    let failure = sink.refusal();
    assert_eq!(failure.code, ErrorCode::PostgresAccess, "{failure}");
    assert!(failure.message.contains("millstream_"), "{failure}");
}

#[test]
fn a_row_that_the_server_refuses_ends_the_job() {
    let server = shared();
    server.query("CREATE TABLE strict (id bigint CHECK (id < 2), text varchar(1))");
    let sink = sink(&server, "strict", "TwoPhaseCommit", &json!({}));
    sink.preflight().unwrap();
    let mut writer = sink.writer(1);
    writer.write(&rows()).unwrap();
    let failure = writer.prepare(CheckpointId(1)).unwrap_err();
    assert_eq!(
        (failure.code, failure.kind),
        (ErrorCode::PostgresRow, ErrorKind::InvalidJob)
    );
    assert!(failure.message.contains("strict_id_check"), "{failure}");
    assert!(!failure.message.contains("Failing row"), "{failure}");
    // Sticky: what follows would make a transaction with a gap.
    assert_eq!(writer.write(&rows()).unwrap_err(), failure);
}

#[test]
fn tables_of_the_sinks_own_that_are_gone_are_not_made_anew() {
    let server = Postgres::start_with(&prepared(64));
    server.query("CREATE TABLE t (id bigint, text text)");
    let sink = sink(&server, "t", "TwoPhaseCommit", &json!({}));
    let committer = sink.committer();
    let failure = sink.block_on(committer.preflight(true)).unwrap_err();
    assert_eq!(failure.code, ErrorCode::PostgresTable);
    assert!(failure.message.contains("millstream_commits"), "{failure}");
    // Somebody who only looks makes nothing.
    sink.block_on(committer.inspect(false)).unwrap();
    assert_eq!(
        server.query("SELECT to_regclass('millstream_commits') IS NULL"),
        "t"
    );
    sink.block_on(committer.preflight(false)).unwrap();
    sink.block_on(committer.preflight(true)).unwrap();
}
