//! What becomes of records, decodable or not.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::TimestampMicrosecondType;
use millstream_spec::connector::GeneratorSource;
use millstream_spec::dataflow::{JsonFormat, RawFormat};
use millstream_spec::valid::SourceConnector;
use millstream_types::schema::{Column, ColumnType, arrow_schema};

use super::*;

fn columns(name: &str, column_type: ColumnType) -> Vec<Column> {
    vec![Column::new(name, column_type, false)]
}

fn decoder(on_error: OnError) -> RecordDecoder {
    let schema = columns("id", ColumnType::Int64);
    let spec = ValidSource {
        parallelism: None,
        name: "orders".to_owned(),
        connector: SourceConnector::Generator(GeneratorSource::default()),
        format: Format::Json(JsonFormat::default()),
        schema: schema.clone(),
        metadata: Vec::new(),
        watermark: None,
        on_error,
    };
    RecordDecoder::new(&spec, &arrow_schema(&schema)).unwrap()
}

const fn place(split: usize, offset: i64) -> Place<'static> {
    Place {
        split,
        topic: "orders",
        partition: 3,
        offset,
    }
}

#[test]
fn rows_are_told_apart_by_the_split_they_came_from() {
    let mut decoder = decoder(OnError::Skip);
    for (offset, (split, payload)) in [
        (0, "{\"id\":1}"),
        (0, "{\"id\":2}"),
        (2, "{}"),
        (2, "{\"id\":3}"),
        (0, "{\"id\":4}"),
    ]
    .into_iter()
    .enumerate()
    {
        let offset = i64::try_from(offset).unwrap();
        decoder
            .push(
                Some(payload.as_bytes()),
                place(split, offset),
                Beside::default(),
            )
            .unwrap();
    }
    let output = decoder.take().unwrap().unwrap();
    let runs = [(0, 2), (2, 1), (0, 1)].map(|(split, rows)| SplitRun { split, rows });
    assert_eq!(output.runs, runs);
    assert_eq!(output.batch.unwrap().rows(), 4);
    assert_eq!(output.dead_letters, None);
    assert_eq!(decoder.take().unwrap(), None);
    assert_eq!(decoder.shape_misses(), 2);
}

#[test]
fn a_record_without_a_value_is_corrupt() {
    let failure = decoder(OnError::Fail)
        .push(None, place(0, 7), Beside::default())
        .unwrap_err();
    assert_eq!(
        (failure.code, failure.kind),
        (ErrorCode::CorruptRecord, ErrorKind::CorruptData)
    );
    for part in [
        "source `orders`",
        "orders/3 offset 7",
        "the record has no value (a tombstone)",
    ] {
        assert!(failure.message.contains(part), "{failure}");
    }
    let mut decoder = decoder(OnError::DeadLetter);
    decoder.push(None, place(0, 7), Beside::default()).unwrap();
    let output = decoder.take().unwrap().unwrap();
    assert_eq!(output.batch, None);
    assert_eq!(output.dead_letters.unwrap().rows(), 1);
    assert_eq!(decoder.counters().dead_letters, 1);
}

#[test]
fn a_message_repeats_only_the_beginning_of_a_payload_and_nothing_unprintable() {
    let payload = [b"\x00\xff\n\"".as_slice(), &[b'x'; 200]].concat();
    let failure = decoder(OnError::Fail)
        .push(Some(&payload), place(0, 0), Beside::default())
        .unwrap_err();
    let start = r#"it begins with "\x00\xff\n\"xxx"#;
    assert!(failure.message.contains(start), "{failure}");
    let shown = failure.message.matches('x').count();
    assert!((96..110).contains(&shown), "{failure}");
    assert!(failure.message.contains("x\"…;"), "{failure}");
}

#[test]
fn a_batch_is_full_by_rows_or_bytes_of_whatever_was_pushed() {
    let mut small = decoder(OnError::DeadLetter);
    let mut pushed = 0;
    while !small.is_full() {
        let payload: &[u8] = if pushed % 2 == 0 { b"{\"id\":1}" } else { b"x" };
        small
            .push(Some(payload), place(0, 0), Beside::default())
            .unwrap();
        pushed += 1;
    }
    assert_eq!(pushed, MAX_BATCH_ROWS);
    let mut large = decoder(OnError::DeadLetter);
    large
        .push(
            Some(&vec![b'x'; MAX_BATCH_BYTES]),
            place(0, 0),
            Beside::default(),
        )
        .unwrap();
    assert!(large.is_full());
    large.take().unwrap();
    assert!(!large.is_full());
}

#[test]
fn raw_records_are_text() {
    let schema = columns("value", ColumnType::String);
    let spec = ValidSource {
        parallelism: None,
        name: "logs".to_owned(),
        connector: SourceConnector::Generator(GeneratorSource::default()),
        format: Format::Raw(RawFormat {}),
        schema: schema.clone(),
        metadata: Vec::new(),
        watermark: None,
        on_error: OnError::Skip,
    };
    let mut decoder = RecordDecoder::new(&spec, &arrow_schema(&schema)).unwrap();
    decoder
        .push(Some(b"one"), place(0, 0), Beside::default())
        .unwrap();
    decoder
        .push(Some(b"\xff"), place(0, 1), Beside::default())
        .unwrap();
    assert_eq!(decoder.take().unwrap().unwrap().batch.unwrap().rows(), 1);
    let counters = decoder.counters();
    assert_eq!(
        (counters.records_in, counters.records_out, counters.skipped),
        (2, 1, 1)
    );
    let two = Arc::new(arrow_schema::Schema::new(vec![arrow_schema::Field::new(
        "a",
        arrow_schema::DataType::Int64,
        true,
    )]));
    let failure = RecordDecoder::new(&spec, &two).unwrap_err();
    assert_eq!(failure.code, ErrorCode::InvalidJob);
}

#[test]
fn json_is_read_as_the_format_and_its_columns_say() {
    let source = r#"{
        "name": "orders",
        "files": {"path": "orders"},
        "format": {"json": {"timestampFormat": "sql", "timeZone": "+02:00"}},
        "schema": [
            {"name": "payload", "type": "string", "json": true},
            {"name": "made", "type": "timestamp"},
            {"name": "sent", "type": "timestamp", "timestampFormat": "epochSeconds"}
        ]
    }"#;
    let source: millstream_spec::Source = serde_json::from_str(source).unwrap();
    let spec = ValidSource {
        name: source.name,
        connector: SourceConnector::Files(source.files.unwrap()),
        format: source.format.unwrap(),
        schema: source.schema,
        metadata: Vec::new(),
        watermark: None,
        on_error: OnError::Fail,
        parallelism: None,
    };
    let mut decoder = RecordDecoder::new(&spec, &arrow_schema(&spec.schema)).unwrap();
    let record = br#"{"payload":{"a":[1]},"made":"1970-01-01 02:00:01","sent":2}"#;
    let beside = Beside::default();
    decoder.push(Some(record), place(0, 0), beside).unwrap();
    let rows = decoder.take().unwrap().unwrap().batch.unwrap();
    let rows = rows.records();
    let payload = rows.column(0).as_string::<i32>();
    assert_eq!(payload.value(0), r#"{"a":[1]}"#);
    for (column, micros) in [(1, 1_000_000), (2, 2_000_000)] {
        let column = rows
            .column(column)
            .as_primitive::<TimestampMicrosecondType>();
        assert_eq!(column.value(0), micros);
    }
}
