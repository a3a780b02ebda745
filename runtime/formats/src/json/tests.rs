//! What a user meets: which records are refused, where and why; what encoded rows look like.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, TimestampMicrosecondType};
use arrow_array::{
    Array, ArrayRef, Date32Array, Float64Array, Int8Array, RecordBatch, StringViewArray,
    TimestampMicrosecondArray, TimestampNanosecondArray, UInt64Array,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use millstream_types::schema::{Column, ColumnType, arrow_schema};

use super::{JsonDecoder, JsonEncoder};
use crate::{DecodeReason, EncodeError};

fn schema(columns: &[(&str, &str, bool)]) -> SchemaRef {
    let columns = columns.iter().map(|(name, column_type, nullable)| {
        Column::new(*name, column_type.parse().unwrap(), *nullable)
    });
    arrow_schema(&columns.collect::<Vec<_>>())
}

fn orders() -> SchemaRef {
    schema(&[
        ("order_id", "string", false),
        ("quantity", "int64", true),
        ("price", "decimal(12,2)", true),
        ("ts", "timestamp", true),
    ])
}

const ORDER: &str = r#"{"order_id":"o-1","quantity":3,"price":19.99,"ts":"2026-11-24T18:40:00Z"}"#;

#[test]
fn records_of_one_shape_miss_the_cache_once() {
    let mut decoder = JsonDecoder::new(&orders()).unwrap();
    for quantity in -500..500 {
        let record = format!(
            r#"{{"order_id":"o-{quantity}","other":[{{}}],"quantity":{quantity},"price":1e1}}"#
        );
        decoder.decode(record.as_bytes()).unwrap();
    }
    assert_eq!(decoder.rows(), 1000);
    assert_eq!(decoder.shape_misses(), 1);
    let batch = decoder.finish().unwrap();
    assert_eq!(decoder.rows(), 0);
    assert_eq!(batch.column(0).as_string::<i32>().value(999), "o-499");
    assert_eq!(
        batch.column(2).as_primitive::<Decimal128Type>().value(0),
        1000
    );
    assert_eq!(batch.column(3).null_count(), 1000);
}

#[test]
fn as_many_shapes_as_are_remembered_are_told_apart() {
    let mut decoder = JsonDecoder::new(&orders()).unwrap();
    for round in 0..100 {
        for record in [
            r#"{"order_id":"a","quantity":1}"#,
            r#"{"quantity":1,"order_id":"b"}"#,
            r#"{"order_id":"c"}"#,
            r#"{ "order_id":"d"}"#,
        ] {
            decoder.decode(record.as_bytes()).unwrap();
        }
        assert_eq!(decoder.shape_misses(), 4, "in round {round}");
    }
    let batch = decoder.finish().unwrap();
    let ids = batch.column(0).as_string::<i32>();
    let last: Vec<_> = (396..400).map(|row| ids.value(row)).collect();
    assert_eq!(last, ["a", "b", "c", "d"]);
    assert_eq!(batch.column(1).null_count(), 200);
}

#[test]
fn the_last_of_a_repeated_key_counts() {
    let mut decoder = JsonDecoder::new(&orders()).unwrap();
    for _ in 0..2 {
        let record = br#"{"order_id":"a","quantity":"x","order_id":"b","quantity":2}"#;
        decoder.decode(record).unwrap();
    }
    let batch = decoder.finish().unwrap();
    assert_eq!(batch.column(0).as_string::<i32>().value(1), "b");
    assert_eq!(decoder.shape_misses(), 2, "such a record is no shape");
}

/// Records that do not fit [`orders`], and what is said about them.
const REFUSED: &[(&str, &str)] = &[
    ("", "the record is empty (byte 0)"),
    (" \n", "the record is empty (byte 0)"),
    ("[1]", "the record is not a JSON object (byte 0)"),
    ("not json", "the record is not a JSON object (byte 0)"),
    (
        r#"{"order_id":"o-1"} x"#,
        "something follows the end of the object (byte 19)",
    ),
    (
        r#"{"order_id":"o-1""#,
        "the record ends where `,` or `}` is expected (byte 17)",
    ),
    (
        r#"{"order_id":"o-"#,
        "the record ends where the end of a string is expected (byte 15, field `order_id`)",
    ),
    (
        r#"{"order_id" "o-1"}"#,
        "expected `:` (byte 12, field `order_id`)",
    ),
    (
        r#"{"order_id":"o-1",}"#,
        "expected a key in quotes (byte 18)",
    ),
    (
        r#"{"quantity":1}"#,
        "missing, and the column may not be null (byte 14, field `order_id`)",
    ),
    (
        r#"{"order_id":null}"#,
        "null, and the column may not be null (byte 12, field `order_id`)",
    ),
    (
        r#"{"order_id":7}"#,
        "a number where the column wants a string (byte 12, field `order_id`)",
    ),
    (
        r#"{"order_id":"\ud800"}"#,
        "lone surrogate in a `\\u` escape (byte 13, field `order_id`)",
    ),
    (
        r#"{"order_id":"a\qb"}"#,
        "invalid escape in a string (byte 14, field `order_id`)",
    ),
    (
        "{\"order_id\":\"a\tb\"}",
        "a control character in a string must be escaped (byte 14, field `order_id`)",
    ),
    (
        r#"{"order_id":"a","quantity":1.5}"#,
        "a number with a fraction or exponent where the column wants an integer (byte 27, field `quantity`)",
    ),
    (
        r#"{"order_id":"a","quantity":9223372036854775808}"#,
        "the value is out of the range of int64 (byte 27, field `quantity`)",
    ),
    (
        r#"{"order_id":"a","quantity":01}"#,
        "expected no digit behind a leading zero (byte 28, field `quantity`)",
    ),
    (
        r#"{"order_id":"a","price":1.999}"#,
        "more than 2 fraction digits (byte 24, field `price`)",
    ),
    (
        r#"{"order_id":"a","price":99999999999}"#,
        "the value is out of the range of the decimal (byte 24, field `price`)",
    ),
    (
        r#"{"order_id":"a","price":"1,99"}"#,
        "the text is not a decimal number (byte 24, field `price`)",
    ),
    (
        r#"{"order_id":"a","ts":"yesterday"}"#,
        "the text is not an RFC 3339 timestamp with a time zone; `timestampFormat` of the format or the column says how else it is written (byte 21, field `ts`)",
    ),
    (
        r#"{"order_id":"a","ts":true}"#,
        "a boolean where the column wants an RFC 3339 string or epoch milliseconds (byte 21, field `ts`)",
    ),
    (
        r#"{"order_id":"a","unknown":tru}"#,
        "expected `true` (byte 29, field `unknown`)",
    ),
    (
        r#"{"order_id":"a","unknown":[1,{"x":2]]}"#,
        "expected `,` or `}` (byte 35, field `unknown`)",
    ),
];

#[test]
fn a_refused_record_leaves_no_trace_and_says_where_it_is_wrong() {
    let mut decoder = JsonDecoder::new(&orders()).unwrap();
    decoder.decode(ORDER.as_bytes()).unwrap();
    for (record, message) in REFUSED {
        let error = decoder.decode(record.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), *message, "{record}");
    }
    decoder.decode(ORDER.as_bytes()).unwrap();
    let batch = decoder.finish().unwrap();
    assert_eq!(batch.num_rows(), 2);
    assert_eq!(batch.slice(0, 1), batch.slice(1, 1));
}

#[test]
fn bytes_that_are_not_utf8_are_refused_with_their_field() {
    let mut decoder = JsonDecoder::new(&orders()).unwrap();
    let error = decoder.decode(b"{\"order_id\":\"a\xffb\"}").unwrap_err();
    assert_eq!(error.reason, DecodeReason::NotUtf8);
    assert_eq!(
        (error.offset, error.field.as_deref()),
        (14, Some("order_id"))
    );
    let error = decoder.decode(b"\xfe").unwrap_err();
    assert_eq!((error.offset, error.field), (0, None));
}

#[test]
fn objects_and_arrays_may_lie_64_deep() {
    let mut decoder = JsonDecoder::new(&schema(&[])).unwrap();
    let nested = |depth| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    decoder.decode(nested(63).as_bytes()).unwrap();
    let error = decoder.decode(nested(64).as_bytes()).unwrap_err();
    assert_eq!(error.reason, DecodeReason::TooDeep);
    assert_eq!((error.offset, error.field.as_deref()), (68, Some("a")));
    let error = decoder
        .decode("[".repeat(1_000_000).as_bytes())
        .unwrap_err();
    assert_eq!(error.reason, DecodeReason::NotAnObject);
    let endless = format!("{{\"a\":{}", "[{\"b\":".repeat(1_000_000));
    let error = decoder.decode(endless.as_bytes()).unwrap_err();
    assert_eq!(error.reason, DecodeReason::TooDeep);
}

#[test]
fn a_projection_to_nothing_counts_rows() {
    let mut decoder = JsonDecoder::new(&schema(&[])).unwrap();
    decoder.decode(ORDER.as_bytes()).unwrap();
    decoder.decode(ORDER.as_bytes()).unwrap();
    assert_eq!(decoder.bytes(), 2 * ORDER.len());
    assert_eq!(decoder.finish().unwrap().num_rows(), 2);
}

#[test]
fn a_decoder_for_a_type_that_columns_do_not_have_is_refused() {
    let field = Field::new("list", DataType::Duration(TimeUnit::Second), true);
    let error = JsonDecoder::new(&Arc::new(Schema::new(vec![field]))).unwrap_err();
    assert!(error.to_string().contains("`list`"), "{error}");
}

// Encoding.

fn encoded(columns: Vec<(&str, ArrayRef)>) -> Vec<String> {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut encoder = JsonEncoder::new(&batch.schema()).unwrap();
    let rows = encoder.encode(&batch).unwrap();
    let text = |row: &[u8]| String::from_utf8(row.to_vec()).unwrap();
    rows.iter().map(text).collect()
}

fn encode_error(column: &str, array: ArrayRef) -> EncodeError {
    let batch = RecordBatch::try_from_iter([(column, array)]).unwrap();
    let mut encoder = JsonEncoder::new(&batch.schema()).unwrap();
    encoder.encode(&batch).unwrap_err()
}

#[test]
fn what_was_decoded_is_encoded_as_it_was() {
    let schema = schema(&[
        ("flag", "boolean", true),
        ("small", "int32", true),
        ("order_id", "string", true),
        ("ratio", "float64", true),
        ("price", "decimal(12,2)", true),
        ("ts", "timestamp", true),
        ("day", "date", true),
        ("blob", "bytes", true),
    ]);
    let records = [
        r#"{"flag":true,"small":-7,"order_id":"ü \"\\\n\u0001","ratio":0.1,"price":-0.05,"ts":"2026-11-24T18:40:00.000001Z","day":"2026-11-24","blob":"AP8="}"#,
        r#"{"flag":false,"small":0,"order_id":"","ratio":1e+300,"price":1234567890.12,"ts":"1969-12-31T23:59:59Z","day":"0000-01-01","blob":""}"#,
        r#"{"flag":null,"small":null,"order_id":null,"ratio":null,"price":null,"ts":null,"day":null,"blob":null}"#,
    ];
    let mut decoder = JsonDecoder::new(&schema).unwrap();
    for record in records {
        decoder.decode(record.as_bytes()).unwrap();
    }
    let batch = decoder.finish().unwrap();
    let mut encoder = JsonEncoder::new(&schema).unwrap();
    for _ in 0..2 {
        let rows = encoder.encode(&batch).unwrap();
        let texts: Vec<_> = rows
            .iter()
            .map(|row| std::str::from_utf8(row).unwrap())
            .collect();
        assert_eq!(texts, records);
        assert_eq!(rows.row(2), records[2].as_bytes());
    }
}

#[test]
fn types_that_only_sql_makes_are_encoded_too() {
    let rows = encoded(vec![
        ("tiny", Arc::new(Int8Array::from(vec![i8::MIN])) as ArrayRef),
        ("huge", Arc::new(UInt64Array::from(vec![u64::MAX]))),
        (
            "view",
            Arc::new(StringViewArray::from(vec!["longer than twelve bytes"])),
        ),
        (
            "nanos",
            Arc::new(TimestampNanosecondArray::from(vec![1_999]).with_timezone("+00:00")),
        ),
    ]);
    let expected = r#"{"tiny":-128,"huge":18446744073709551615,"view":"longer than twelve bytes","nanos":"1970-01-01T00:00:00.000001Z"}"#;
    assert_eq!(rows, [expected]);
}

#[test]
fn numbers_that_json_lacks_become_null() {
    let values = vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0];
    let rows = encoded(vec![(
        "x",
        Arc::new(Float64Array::from(values)) as ArrayRef,
    )]);
    assert_eq!(
        rows,
        [
            r#"{"x":null}"#,
            r#"{"x":null}"#,
            r#"{"x":null}"#,
            r#"{"x":-0.0}"#
        ]
    );
}

#[test]
fn instants_outside_the_calendar_are_errors_and_never_garbage() {
    let instants = TimestampMicrosecondArray::from(vec![0, i64::MAX]);
    let text = encode_error("ts", Arc::new(instants)).to_string();
    assert_eq!(
        text,
        "row 1 of column `ts`: the year is not one of 0000 to 9999"
    );
    let days = Date32Array::from(vec![i32::MIN]);
    let error = encode_error("day", Arc::new(days));
    assert!(
        matches!(error, EncodeError::Value { row: 0, .. }),
        "{error}"
    );
}

#[test]
fn a_batch_of_other_columns_is_refused() {
    let mut encoder = JsonEncoder::new(&orders()).unwrap();
    let other = RecordBatch::new_empty(schema(&[("order_id", "int64", true)]));
    let error = encoder.encode(&other).unwrap_err();
    assert!(matches!(error, EncodeError::OtherSchema(_)), "{error}");
}

#[test]
fn a_batch_without_columns_becomes_empty_objects() {
    let mut decoder = JsonDecoder::new(&schema(&[])).unwrap();
    decoder.decode(b"{}").unwrap();
    let batch = decoder.finish().unwrap();
    let mut encoder = JsonEncoder::new(&batch.schema()).unwrap();
    assert_eq!(encoder.encode(&batch).unwrap().row(0), b"{}");
}

#[test]
fn nested_columns_cannot_be_encoded() {
    let item = Arc::new(Field::new("item", DataType::Int64, true));
    let field = Field::new("items", DataType::List(item), true);
    let error = JsonEncoder::new(&Arc::new(Schema::new(vec![field]))).unwrap_err();
    assert!(error.to_string().contains("`items`"), "{error}");
}

#[test]
fn timestamps_in_milliseconds_and_in_text_are_the_same() {
    let mut decoder = JsonDecoder::new(&orders()).unwrap();
    for ts in [
        "1795545600125",
        "\"2026-11-24T18:40:00.125Z\"",
        "\"2026-11-24T20:40:00.125+02:00\"",
    ] {
        let record = format!(r#"{{"order_id":"a","ts":{ts}}}"#);
        decoder.decode(record.as_bytes()).unwrap();
    }
    let batch = decoder.finish().unwrap();
    let column = batch.column(3).as_primitive::<TimestampMicrosecondType>();
    assert_eq!(column.values(), &[1_795_545_600_125_000; 3]);
    assert_eq!(ColumnType::Timestamp.arrow(), *column.data_type());
}
