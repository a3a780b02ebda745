//! Every type of a column, as the server has it afterwards.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array,
    Int64Array, StringArray, TimestampMicrosecondArray,
};
use millstream_connect::CommitOutcome;
use millstream_tests::wait::wait_until;
use millstream_types::{Batch, CheckpointId, ErrorCode};
use serde_json::json;

use crate::fixture::{Sink, batch, options, shared};

/// A row with a value of each type, and one of nulls.
fn of_every_type() -> Batch {
    let text = |value: &str| -> ArrayRef { Arc::new(StringArray::from(vec![Some(value), None])) };
    let instant = |micros| -> ArrayRef {
        let array = TimestampMicrosecondArray::from(vec![Some(micros), None]);
        Arc::new(array.with_timezone(millstream_types::schema::UTC))
    };
    let decimal = |value: i128, precision, scale| -> ArrayRef {
        let array = Decimal128Array::from(vec![Some(value), None]);
        Arc::new(array.with_precision_and_scale(precision, scale).unwrap())
    };
    batch(vec![
        ("Flag", Arc::new(BooleanArray::from(vec![Some(true), None]))),
        ("small", Arc::new(Int32Array::from(vec![Some(-7), None]))),
        (
            "wide",
            Arc::new(Int32Array::from(vec![Some(i32::MIN), None])),
        ),
        (
            "whole",
            Arc::new(Int64Array::from(vec![Some(1 << 40), None])),
        ),
        ("half", Arc::new(Float64Array::from(vec![Some(-0.5), None]))),
        ("word", text("ä \"quoted\"\t\n\\N")),
        ("short", text("0123456789")),
        ("doc", text(r#"{"a": [1, null]}"#)),
        ("plain", text("[1,  2]")),
        ("id", text("00112233-4455-6677-8899-aabbccddeeff")),
        ("feeling", text("bad")),
        ("mail", text("a@example.org")),
        (
            "raw",
            Arc::new(BinaryArray::from(vec![Some(&b"\0\xff"[..]), None])),
        ),
        ("price", decimal(-123_456, 12, 2)),
        ("huge", decimal(10_i128.pow(38) - 1, 38, 10)),
        ("at", instant(1_767_225_600_123_456)),
        ("naive", instant(-1)),
        ("day", Arc::new(Date32Array::from(vec![Some(-1), None]))),
    ])
}

#[test]
fn every_type_arrives_as_it_was() {
    let server = shared();
    server.query(
        "CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE DOMAIN email AS text;
         CREATE TABLE types (\"Flag\" boolean, small integer, wide bigint, whole bigint, half float8, word text,
            short varchar(10), doc jsonb, plain json, id uuid, feeling mood, mail email, raw bytea,
            price numeric(12,2), huge numeric, at timestamptz, naive timestamp, day date,
            made timestamptz NOT NULL DEFAULT now(), double bigint GENERATED ALWAYS AS (whole * 2) STORED)",
    );
    let rows = of_every_type();
    for (mode, attempt) in [("TwoPhaseCommit", 1), ("Buffered", 2)] {
        server.query("TRUNCATE types");
        let options = options(&server.address(), "types", mode, &json!({}));
        let sink = Sink::new(options, &rows.schema());
        sink.preflight().unwrap();
        let mut writer = sink.writer(attempt);
        assert_eq!(writer.write(&rows).unwrap(), 2);
        assert!(writer.bytes() > 100);
        let prepared = writer.prepare(CheckpointId(1)).unwrap();
        assert_eq!(server.query("SELECT count(*) FROM types"), "0");
        let outcomes = sink.block_on(sink.committer().commit(&prepared));
        assert_eq!(outcomes, [CommitOutcome::Committed]);
        let shown = server.query(
            "SET timezone = 'UTC'; SET bytea_output = hex;
             SELECT \"Flag\", small, wide, whole, half, word = E'\\u00e4 \"quoted\"\\t\\n\\\\N', short, doc,
                plain, id, feeling, mail, raw, price, huge, at, naive, day, made IS NOT NULL, double
             FROM types WHERE small IS NOT NULL;
             SELECT count(*) FROM types WHERE num_nonnulls(\"Flag\", small, wide, whole, half, word, short, doc,
                plain, id, feeling, mail, raw, price, huge, at, naive, day) = 0",
        );
        let expected = "t|-7|-2147483648|1099511627776|-0.5|t|0123456789|{\"a\": [1, null]}|[1,  2]|\
            00112233-4455-6677-8899-aabbccddeeff|bad|a@example.org|\\x00ff|-1234.56|\
            9999999999999999999999999999.9999999999|2026-01-01 00:00:00.123456+00|\
            1969-12-31 23:59:59.999999|1969-12-31|t|2199023255552\n1";
        assert_eq!(shown, expected, "{mode}");
    }
}

#[test]
fn more_rows_than_are_sent_at_once_arrive_whole() {
    let server = shared();
    server.query("CREATE TABLE many (id bigint, text text)");
    for (mode, attempt) in [("TwoPhaseCommit", 3), ("Buffered", 4)] {
        server.query("TRUNCATE many");
        let texts = |first: i64| -> ArrayRef {
            let rows = first..first + 4_096;
            Arc::new(StringArray::from_iter_values(
                rows.map(|id| format!("{id:0200}")),
            ))
        };
        let rows = |first: i64| {
            let ids: ArrayRef = Arc::new((first..first + 4_096).collect::<Int64Array>());
            batch(vec![("id", ids), ("text", texts(first))])
        };
        let options = options(&server.address(), "many", mode, &json!({}));
        let sink = Sink::new(options, &rows(0).schema());
        sink.preflight().unwrap();
        let mut writer = sink.writer(attempt);
        for first in [0, 4_096, 8_192] {
            writer.write(&rows(first)).unwrap();
        }
        let prepared = writer.prepare(CheckpointId(1)).unwrap();
        assert_eq!(prepared[0].records, 12_288);
        let outcomes = sink.block_on(sink.committer().commit(&prepared));
        assert_eq!(outcomes, [CommitOutcome::Committed]);
        let shown = "SELECT count(*), count(DISTINCT id), bool_and(text::bigint = id) FROM many";
        assert_eq!(server.query(shown), "12288|12288|t", "{mode}");
    }
}

#[test]
fn nothing_is_written_behind_a_transaction_that_was_cut_off() {
    let server = shared();
    server.query("CREATE TABLE cut (id bigint)");
    let rows = || {
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        batch(vec![("id", ids)])
    };
    for (mode, attempt) in [("TwoPhaseCommit", 70), ("Buffered", 71)] {
        let options = options(&server.address(), "cut", mode, &json!({}));
        let sink = Sink::new(options, &rows().schema());
        sink.preflight().unwrap();
        let mut writer = sink.writer(attempt);
        writer.write(&rows()).unwrap();
        let ended = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE application_name LIKE 'ms%-{attempt}-0'"
        );
        assert_eq!(server.query(&ended), "1");
        wait_until("the connection is gone", Duration::from_secs(10), || {
            server.query(&ended) == "0"
        });
        let failure = writer.prepare(CheckpointId(1)).unwrap_err();
        assert_eq!(failure.code, ErrorCode::PostgresUnreachable, "{failure}");
        let left = "SELECT (SELECT count(*) FROM cut) + (SELECT count(*) FROM pg_prepared_xacts \
            WHERE gid LIKE '%-7_-0-%')";
        assert_eq!(server.query(left), "0", "{mode}");
    }
}
