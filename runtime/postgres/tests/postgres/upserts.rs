//! Rows that replace those of their key.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, StringArray, UInt8Array};
use millstream_types::change::{CHANGE_COLUMN, Change, with_changes};
use millstream_types::{Batch, CheckpointId, ErrorCode};
use serde_json::{Value, json};

use crate::fixture::{Sink, batch, options, shared};

type Row = (i64, i64, &'static str);

/// Rows of key, version and text.
fn rows(rows: &[Row]) -> Batch {
    batch(vec![
        (
            "id",
            Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>()),
        ),
        (
            "version",
            Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>()),
        ),
        (
            "text",
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.2))),
        ),
    ])
}

/// The same with what each row does.
fn changes(changes: &[(Change, Row)]) -> Batch {
    let (what, of): (Vec<Change>, Vec<Row>) = changes.iter().copied().unzip();
    let records = rows(&of).into_records();
    let what: ArrayRef = Arc::new(UInt8Array::from_iter_values(
        what.into_iter().map(|change| change as u8),
    ));
    let schema = with_changes(records.schema_ref());
    assert_eq!(schema.fields().last().unwrap().name(), CHANGE_COLUMN);
    let columns = records.columns().iter().cloned().chain([what]).collect();
    arrow_array::RecordBatch::try_new(schema, columns)
        .unwrap()
        .into()
}

/// Writes batches into a new table; what it holds then.
fn written(table: &str, more: &Value, batches: &[Batch]) -> String {
    let server = shared();
    server.query(&format!(
        "CREATE TABLE {table} (id bigint PRIMARY KEY, version bigint, text text, note text DEFAULT 'made')"
    ));
    let options = options(&server.address(), table, "Upsert", more);
    let sink = Sink::new(options, &batches[0].schema());
    sink.preflight().unwrap();
    let mut writer = sink.writer(1);
    for batch in batches {
        writer.write(batch).unwrap();
    }
    assert_eq!(writer.prepare(CheckpointId(1)).unwrap(), []);
    server.query(&format!(
        "SELECT id, version, text, note FROM {table} ORDER BY id"
    ))
}

#[test]
fn without_a_version_the_row_that_comes_last_stays() {
    let batches = [
        rows(&[(1, 5, "a"), (2, 5, "b"), (1, 3, "c")]),
        rows(&[(2, 1, "d"), (3, 1, "e")]),
    ];
    let shown = written("last", &json!({"keyFields": ["id"]}), &batches);
    assert_eq!(shown, "1|3|c|made\n2|1|d|made\n3|1|e|made");
}

#[test]
fn an_older_version_is_left_out_and_an_equal_one_is_written() {
    let more = json!({"keyFields": ["id"], "versionField": "version"});
    let batches = [
        rows(&[
            (1, 5, "a"),
            (1, 3, "older in its batch"),
            (2, 5, "b"),
            (2, 5, "equal in its batch"),
        ]),
        rows(&[(1, 4, "older"), (2, 5, "equal"), (3, 1, "new")]),
        rows(&[(1, 6, "newer")]),
    ];
    let shown = written("versioned", &more, &batches);
    assert_eq!(shown, "1|6|newer|made\n2|5|equal|made\n3|1|new|made");
}

#[test]
fn rows_that_are_gone_leave_the_table_unless_a_newer_one_is_there() {
    use Change::{Delete, Insert, UpdateAfter, UpdateBefore};
    let more = json!({"keyFields": ["id"], "versionField": "version"});
    let batches = [
        changes(&[
            (Insert, (1, 1, "a")),
            (Insert, (2, 1, "b")),
            (Insert, (3, 9, "c")),
        ]),
        changes(&[
            (UpdateBefore, (1, 1, "a")),
            (UpdateAfter, (1, 2, "a2")),
            (Delete, (2, 1, "b")),
            (Delete, (3, 8, "older than what is there")),
        ]),
        changes(&[
            (Insert, (4, 1, "d")),
            (Delete, (4, 1, "d")),
            (Delete, (5, 1, "never there")),
        ]),
    ];
    let shown = written("deleted", &more, &batches);
    assert_eq!(shown, "1|2|a2|made\n3|9|c|made");
    let batches = [
        changes(&[(Insert, (1, 1, "a")), (Insert, (2, 1, "b"))]),
        changes(&[
            (Delete, (1, 0, "")),
            (Delete, (2, 0, "")),
            (Insert, (2, 0, "again")),
        ]),
    ];
    let shown = written("deleted_last", &json!({"keyFields": ["id"]}), &batches);
    assert_eq!(shown, "2|0|again|made");
}

#[test]
fn a_row_without_a_key_is_refused() {
    let server = shared();
    server.query("CREATE TABLE keyless (id bigint UNIQUE, text text)");
    let more = json!({"keyFields": ["id"]});
    let options = options(&server.address(), "keyless", "Upsert", &more);
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    let rows = batch(vec![("id", ids), ("text", texts)]);
    let sink = Sink::new(options, &rows.schema());
    sink.preflight().unwrap();
    let failure = sink.writer(1).write(&rows).unwrap_err();
    assert_eq!(failure.code, ErrorCode::PostgresRow);
    assert!(failure.message.contains("`id`"), "{failure}");
}

#[test]
fn rows_are_written_again_after_the_server_has_ended_the_connection() {
    let server = shared();
    server.query("CREATE TABLE again (id bigint PRIMARY KEY, version bigint, text text)");
    let more = json!({"keyFields": ["id"]});
    let options = options(&server.address(), "again", "Upsert", &more);
    let sink = Sink::new(options, &rows(&[]).schema());
    sink.preflight().unwrap();
    let mut writer = sink.writer(77);
    writer.write(&rows(&[(1, 1, "a")])).unwrap();
    let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
        WHERE application_name LIKE 'ms%-77-0'";
    assert_ne!(server.query(ended), "0");
    writer.write(&rows(&[(1, 2, "b"), (2, 2, "c")])).unwrap();
    let shown = server.query("SELECT id, text FROM again ORDER BY id");
    assert_eq!(shown, "1|b\n2|c");
}
