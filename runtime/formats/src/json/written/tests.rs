//! Texts that are JSON, and timestamps as other systems write them: read, and written back.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_schema::{Schema, SchemaRef};
use millstream_types::Zone;
use millstream_types::schema::{Column, ColumnType, UTC, arrow_schema};
use proptest::prelude::*;
use serde_json::Value;

use crate::calendar::{MAX_MICROS, MIN_MICROS};
use crate::{JsonDecoder, JsonEncoder, JsonOptions, Timestamps, Written};

fn schema(name: &str, column_type: ColumnType, nullable: bool) -> SchemaRef {
    arrow_schema(&[Column::new(name, column_type, nullable)])
}

fn json_column(name: &str) -> JsonOptions {
    JsonOptions {
        timestamps: None,
        columns: [(name.to_owned(), Written::Json)].into(),
    }
}

fn timestamps(timestamps: Timestamps) -> JsonOptions {
    JsonOptions {
        timestamps: Some(timestamps),
        ..JsonOptions::default()
    }
}

fn sql(zone: &str) -> Timestamps {
    Timestamps::Sql(zone.parse().unwrap())
}

/// The text of a column `x` in each record, once by the careful decoder and once by the shape of
/// the record before.
fn texts(values: &[&str]) -> Vec<Option<String>> {
    let schema = schema("x", ColumnType::String, true);
    let mut decoder = JsonDecoder::with_options(&schema, &json_column("x")).unwrap();
    for value in values {
        decoder
            .decode(format!(r#"{{"x":{value}}}"#).as_bytes())
            .unwrap();
    }
    let batch = decoder.finish().unwrap();
    let column = batch.column(0).as_string::<i32>();
    let text = |text: Option<&str>| text.map(str::to_owned);
    column.iter().map(text).collect()
}

#[expect(clippy::unwrap_in_result, reason = "what cannot fail here")]
fn encoded(options: &JsonOptions, column: ArrayRef) -> Result<Vec<String>, String> {
    let batch = RecordBatch::try_from_iter([("x", column)]).unwrap();
    let mut encoder = JsonEncoder::with_options(&batch.schema(), options).unwrap();
    let rows = encoder.encode(&batch).map_err(|error| error.to_string())?;
    let text = |row: &[u8]| String::from_utf8(row.to_vec()).unwrap();
    Ok(rows.iter().map(text).collect())
}

fn written(text: &str) -> Result<String, String> {
    let column = Arc::new(StringArray::from(vec![text]));
    encoded(&json_column("x"), column).map(|rows| rows.concat())
}

/// What a timestamp is read as: microseconds since 1970, or why not.
#[expect(clippy::unwrap_in_result, reason = "what cannot fail here")]
fn read(format: Timestamps, value: &str) -> Result<i64, String> {
    let schema = schema("x", ColumnType::Timestamp, true);
    let mut decoder = JsonDecoder::with_options(&schema, &timestamps(format)).unwrap();
    // The second one is read by the shape of the first.
    for _ in 0..2 {
        let record = format!(r#"{{"x":{value}}}"#);
        decoder
            .decode(record.as_bytes())
            .map_err(|error| error.to_string())?;
    }
    let batch = decoder.finish().unwrap();
    let column = batch.column(0).as_primitive::<TimestampMicrosecondType>();
    assert_eq!(column.value(0), column.value(1), "{value}");
    Ok(column.value(0))
}

fn write(format: Timestamps, micros: i64) -> Result<String, String> {
    let column = Arc::new(TimestampMicrosecondArray::from(vec![micros]).with_timezone(UTC));
    let rows = encoded(&timestamps(format), column)?;
    Ok(rows[0]
        .strip_prefix(r#"{"x":"#)
        .and_then(|row| row.strip_suffix('}'))
        .unwrap()
        .to_owned())
}

// Texts that are JSON.

#[test]
fn any_json_value_of_a_json_column_is_its_text() {
    let values = [
        r#"{"a":{"b":[1,2,{}]}, "c" : "d\"}"}"#,
        "[]",
        "1.50",
        "1e400",
        "true",
        r#""text""#,
        r#""""#,
        r#"{"a":1,"a":2}"#,
        "{\n  \"ü\": \"\\ud834\"\n}",
    ];
    let expected = values.map(|value| Some(value.to_owned()));
    assert_eq!(texts(&values), expected);
    assert_eq!(texts(&["null", "0"]), [None, Some("0".to_owned())]);
}

#[test]
fn a_json_column_must_be_well_formed_and_there_if_it_may_not_be_null() {
    let schema = schema("x", ColumnType::String, false);
    let mut decoder = JsonDecoder::with_options(&schema, &json_column("x")).unwrap();
    for (record, message) in [
        (r#"{"x":{"a":}}"#, "expected a value (byte 10, field `x`)"),
        (
            r#"{"x":null}"#,
            "null, and the column may not be null (byte 5, field `x`)",
        ),
        (
            r"{}",
            "missing, and the column may not be null (byte 2, field `x`)",
        ),
    ] {
        let error = decoder.decode(record.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), message, "{record}");
    }
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(64), "]".repeat(64));
    let error = decoder.decode(deep.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("64 levels"), "{error}");
    decoder.decode(br#"{"x":[]}"#).unwrap();
    assert_eq!(decoder.finish().unwrap().num_rows(), 1);
}

#[test]
fn a_text_that_is_json_is_written_as_it_and_without_whitespace() {
    for (text, value) in [
        ("{}", "{}"),
        (
            " { \"a\" : [ 1 , 2.50,\n\t\"b \\\" c\" ] , \"ü\":null}\r\n",
            "{\"a\":[1,2.50,\"b \\\" c\"],\"ü\":null}",
        ),
        ("\"text\"", "\"text\""),
        ("null", "null"),
        ("-0.10e+2", "-0.10e+2"),
    ] {
        assert_eq!(written(text), Ok(format!(r#"{{"x":{value}}}"#)), "{text}");
    }
    let nulls = Arc::new(StringArray::from(vec![None::<&str>]));
    let rows = encoded(&json_column("x"), nulls).unwrap();
    assert_eq!(rows, [r#"{"x":null}"#]);
}

#[test]
fn a_text_that_is_not_one_json_value_fails_by_name() {
    let deep = format!("{}{}", "[".repeat(64), "]".repeat(64));
    for text in [
        "", " ", "a", "{", "[1,]", "1 2", "{} ,", "'a'", "NaN", "\"a\nb\"", &deep,
    ] {
        let error = written(text).unwrap_err();
        assert!(
            error.starts_with("row 0 of column `x`: the text is not JSON"),
            "{text}: {error}"
        );
    }
}

#[test]
fn only_the_named_column_is_json() {
    let columns: [(&str, ArrayRef); 2] = [
        ("x", Arc::new(StringArray::from(vec!["[1]"]))),
        ("y", Arc::new(StringArray::from(vec!["[1]"]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut encoder = JsonEncoder::with_options(&batch.schema(), &json_column("x")).unwrap();
    let rows = encoder.encode(&batch).unwrap();
    assert_eq!(rows.row(0), br#"{"x":[1],"y":"[1]"}"#);
}

// Timestamps.

const SECOND: i64 = 1_000_000;

#[test]
fn timestamps_are_read_in_the_form_that_is_named() {
    let noon = 1_795_545_600_125_000; // 2026-11-24T18:40:00.125Z
    for (format, value, micros) in [
        (Timestamps::Rfc3339, "\"2026-11-24T18:40:00.125Z\"", noon),
        (
            Timestamps::Rfc3339,
            "\"2026-11-24T20:40:00.125+02:00\"",
            noon,
        ),
        (sql("UTC"), "\"2026-11-24 18:40:00.125\"", noon),
        (sql("UTC"), "\"2026-11-24T18:40:00.125000999\"", noon),
        (sql("Europe/Berlin"), "\"2026-11-24 19:40:00.125\"", noon),
        (sql("-05:30"), "\"2026-11-24 13:10:00.125\"", noon),
        // A zone that is written counts.
        (sql("Europe/Berlin"), "\"2026-11-24 18:40:00.125Z\"", noon),
        (sql("Europe/Berlin"), "\"2026-11-24 18:40:00.125+00\"", noon),
        (
            sql("Europe/Berlin"),
            "\"2026-11-24 20:40:00.125+0200\"",
            noon,
        ),
        (
            sql("Europe/Berlin"),
            "\"2026-11-24 16:40:00.125-02:00\"",
            noon,
        ),
        (sql("UTC"), "\"1970-01-01T00:01\"", 60 * SECOND),
        (sql("UTC"), "\"1969-12-31 23:59:59.999999\"", -1),
        (
            sql("UTC"),
            "\"2016-12-31 23:59:60\"",
            1_483_228_800 * SECOND,
        ),
        (sql("UTC"), r#""2026-11-24\u002018:40:00.125""#, noon),
        (sql("UTC"), "\"0000-01-01 00:00:00\"", MIN_MICROS),
        (sql("UTC"), "\"9999-12-31 23:59:59.999999\"", MAX_MICROS),
        // Summer time begins: 02:30 was not, and counts on from before.
        (
            sql("Europe/Berlin"),
            "\"2024-03-31 02:30:00\"",
            1_711_848_600 * SECOND,
        ),
        // It ends: 02:30 was twice, and is taken for the second time.
        (
            sql("Europe/Berlin"),
            "\"2024-10-27 02:30:00\"",
            1_729_992_600 * SECOND,
        ),
        (Timestamps::EpochMillis, "1795545600125", noon),
        (Timestamps::EpochMillis, "-1", -1_000),
        (Timestamps::EpochMillis, "0", 0),
        (Timestamps::EpochSeconds, "1795545600.125", noon),
        (Timestamps::EpochSeconds, "1795545600", noon - 125_000),
        (Timestamps::EpochSeconds, "1.795545600125E9", noon),
        (Timestamps::EpochSeconds, "-1", -SECOND),
        (Timestamps::EpochSeconds, "-0.5", -SECOND / 2),
        (Timestamps::EpochSeconds, "0.0000019", 1),
        (Timestamps::EpochSeconds, "-0.0000001", -1),
        (Timestamps::EpochSeconds, "-1.0000001", -SECOND - 1),
        (Timestamps::EpochSeconds, "-1.000001000", -SECOND - 1),
        (Timestamps::EpochSeconds, "1e-400", 0),
        (Timestamps::EpochSeconds, "-0.0", 0),
        (Timestamps::EpochSeconds, "253402300799.9999999", MAX_MICROS),
        (Timestamps::EpochSeconds, "-62167219200", MIN_MICROS),
    ] {
        assert_eq!(read(format, value), Ok(micros), "{format:?} {value}");
    }
}

#[test]
fn other_forms_and_times_outside_the_calendar_are_refused_by_name() {
    const RANGE: &str = "the value is out of the range of timestamp (years 0000 to 9999)";
    const SQL: &str = "the text is not a timestamp `YYYY-MM-DD hh:mm:ss`";
    for (format, value, message) in [
        (
            Timestamps::Rfc3339,
            "1795545600125",
            "a number where the column wants an RFC 3339 string",
        ),
        (
            Timestamps::Rfc3339,
            "\"2026-11-24 18:40:00\"",
            "the text is not an RFC 3339 timestamp with a time zone; `timestampFormat` of the format \
             or the column says how else it is written",
        ),
        (
            sql("UTC"),
            "1795545600125",
            "a number where the column wants a string `YYYY-MM-DD hh:mm:ss`",
        ),
        (sql("UTC"), "\"2026-11-24\"", SQL),
        (sql("UTC"), "\"2026-11-24 24:00:00\"", SQL),
        (sql("UTC"), "\"2026-02-29 00:00:00\"", SQL),
        (sql("UTC"), "\"2026-11-24 18:40:00 UTC\"", SQL),
        (sql("UTC"), "\"2026-11-24 18:40:00,5\"", SQL),
        (sql("UTC"), "\"\"", SQL),
        (sql("+01:00"), "\"0000-01-01 00:30:00\"", RANGE),
        (sql("-01:00"), "\"9999-12-31 23:30:00\"", RANGE),
        (sql("America/New_York"), "\"9999-12-31 23:30:00\"", RANGE),
        (
            Timestamps::EpochMillis,
            "\"1795545600125\"",
            "a string where the column wants a number of milliseconds since 1970",
        ),
        (
            Timestamps::EpochMillis,
            "1.5",
            "a number with a fraction or exponent where the column wants an integer",
        ),
        (Timestamps::EpochMillis, "253402300800000", RANGE),
        (Timestamps::EpochMillis, "99999999999999999999", RANGE),
        (
            Timestamps::EpochSeconds,
            "\"1795545600\"",
            "a string where the column wants a number of seconds since 1970",
        ),
        (
            Timestamps::EpochSeconds,
            "[1]",
            "an array where the column wants a number of seconds since 1970",
        ),
        // Milliseconds that are taken for seconds.
        (Timestamps::EpochSeconds, "1795545600125", RANGE),
        (Timestamps::EpochSeconds, "-62167219200.0000001", RANGE),
        (Timestamps::EpochSeconds, "1e400", RANGE),
        (Timestamps::EpochSeconds, "-1e38", RANGE),
    ] {
        let expected = format!("{message} (byte 5, field `x`)");
        assert_eq!(read(format, value), Err(expected), "{format:?} {value}");
    }
}

#[test]
fn timestamps_are_written_in_the_form_that_is_named() {
    let noon = 1_795_545_600_125_999;
    for (format, micros, value) in [
        (Timestamps::Rfc3339, noon, "\"2026-11-24T18:40:00.125999Z\""),
        (sql("UTC"), noon, "\"2026-11-24 18:40:00.125999\""),
        (sql("Europe/Berlin"), 0, "\"1970-01-01 01:00:00\""),
        (sql("-05:30"), 0, "\"1969-12-31 18:30:00\""),
        (sql("UTC"), MIN_MICROS, "\"0000-01-01 00:00:00\""),
        (sql("UTC"), MAX_MICROS, "\"9999-12-31 23:59:59.999999\""),
        (Timestamps::EpochMillis, noon, "1795545600125"),
        (Timestamps::EpochMillis, -1, "-1"),
        (Timestamps::EpochSeconds, noon, "1795545600"),
        (Timestamps::EpochSeconds, -1, "-1"),
        (Timestamps::EpochSeconds, MIN_MICROS, "-62167219200"),
    ] {
        assert_eq!(
            write(format, micros),
            Ok(value.to_owned()),
            "{format:?} {micros}"
        );
    }
    for (format, micros) in [
        (Timestamps::EpochMillis, MAX_MICROS + 1),
        (Timestamps::EpochSeconds, MIN_MICROS - 1),
        (Timestamps::EpochSeconds, i64::MIN),
        (sql("UTC"), i64::MAX),
        (sql("+01:00"), MAX_MICROS),
        (sql("Europe/Berlin"), MAX_MICROS),
        (sql("-01:00"), MIN_MICROS),
    ] {
        let error = "row 0 of column `x`: the year is not one of 0000 to 9999".to_owned();
        assert_eq!(write(format, micros), Err(error), "{format:?} {micros}");
    }
}

#[test]
fn a_column_of_its_own_form_is_read_beside_the_others() {
    let schema = arrow_schema(&[
        Column::new("made", ColumnType::Timestamp, true),
        Column::new("sent", ColumnType::Timestamp, true),
        Column::new("day", ColumnType::Date, true),
    ]);
    let options = JsonOptions {
        timestamps: Some(Timestamps::EpochSeconds),
        columns: [("made".to_owned(), Written::Timestamp(sql("+01:00")))].into(),
    };
    let mut decoder = JsonDecoder::with_options(&schema, &options).unwrap();
    for record in [
        r#"{"made":"1970-01-01 01:00:01","sent":2,"day":"1970-01-01"}"#,
        r#"{"made":null,"sent":null,"day":null}"#,
    ] {
        decoder.decode(record.as_bytes()).unwrap();
    }
    let batch = decoder.finish().unwrap();
    let micros = |index: usize| {
        let column: &dyn Array = batch.column(index);
        column
            .as_primitive::<TimestampMicrosecondType>()
            .iter()
            .collect::<Vec<_>>()
    };
    assert_eq!(micros(0), [Some(SECOND), None]);
    assert_eq!(micros(1), [Some(2 * SECOND), None]);
    assert_eq!(*batch.schema(), *schema, "the type does not change");
}

#[test]
fn what_clocks_show_is_written_without_a_zone() {
    for options in [JsonOptions::default(), timestamps(Timestamps::EpochMillis)] {
        let column = Arc::new(TimestampMicrosecondArray::from(vec![SECOND]));
        let rows = encoded(&options, column).unwrap();
        assert_eq!(rows, [r#"{"x":"1970-01-01T00:00:01"}"#]);
    }
}

fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        "[ -!#-\\[\\]-~äß€]{0,8}".prop_map(|text| Value::from(text).to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        prop::sample::select(vec!["true", "false", "null", "1.50", r#""\ud834\udd1e\n""#])
            .prop_map(str::to_owned),
    ];
    let space = "[ \t\r\n]{0,2}";
    leaf.prop_recursive(3, 24, 4, move |inner| {
        let item = (space, inner, space).prop_map(|(a, value, b)| format!("{a}{value}{b}"));
        let entry = ("[a-c\"\\\\]{1,3}", item.clone());
        let entry = entry.prop_map(|(key, value)| format!("{}:{value}", Value::from(key)));
        prop_oneof![
            prop::collection::vec(item, 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec(entry, 0..4).prop_map(|items| format!("{{{}}}", items.join(","))),
        ]
    })
}

proptest! {
    #[test]
    fn json_texts_are_read_as_they_are_and_written_as_the_same_value(value in any_json()) {
        let text = texts(&[&value]).remove(0);
        prop_assert_eq!(text.as_deref(), (value != "null").then_some(value.as_str()));
        let row = written(&value).unwrap();
        prop_assert!(!row.contains(['\n', '\r', '\t']), "{row}");
        let row: Value = serde_json::from_str(&row).unwrap();
        let value: Value = serde_json::from_str(&value).unwrap();
        prop_assert_eq!(&row["x"], &value);
    }

    #[test]
    fn timestamps_are_read_back_as_they_are_written(micros in MIN_MICROS..=MAX_MICROS) {
        for (format, unit) in [
            (Timestamps::Rfc3339, 1),
            (sql("UTC"), 1),
            (Timestamps::EpochMillis, 1_000),
            (Timestamps::EpochSeconds, SECOND),
        ] {
            let value = write(format, micros).unwrap();
            prop_assert_eq!(read(format, &value), Ok(micros.div_euclid(unit) * unit), "{}", value);
        }
    }

    #[test]
    fn times_of_a_zone_are_read_back_but_for_the_hour_that_is_there_twice(
        micros in MIN_MICROS + 86_400 * SECOND..MAX_MICROS - 86_400 * SECOND,
        zone in prop::sample::select(vec![
            "Europe/Berlin", "America/St_Johns", "Pacific/Apia", "Asia/Kathmandu", "-23:59",
        ]),
    ) {
        let value = write(sql(zone), micros).unwrap();
        let back = read(sql(zone), &value).unwrap();
        if back != micros {
            let zone: Zone = zone.parse().unwrap();
            prop_assert!(back > micros, "{value}: {back}");
            prop_assert_eq!(zone.clock_at(back), zone.clock_at(micros), "{}", value);
        }
    }

    #[test]
    fn seconds_are_exact_to_the_microsecond(micros in MIN_MICROS..=MAX_MICROS, more in 0..1_000_u32) {
        let sign = if micros < 0 { "-" } else { "" };
        let (whole, part) = (micros.unsigned_abs() / 1_000_000, micros.unsigned_abs() % 1_000_000);
        let value = format!("{sign}{whole}.{part:06}{more:03}");
        let expected = if micros < 0 && more > 0 { micros - 1 } else { micros };
        prop_assert_eq!(read(Timestamps::EpochSeconds, &value), Ok(expected), "{}", value);
    }
}

#[test]
fn options_for_columns_of_other_types_change_nothing() {
    let schema: SchemaRef = Arc::new(Schema::empty());
    let options = json_column("x");
    assert!(JsonDecoder::with_options(&schema, &options).is_ok());
    let column = Arc::new(TimestampMicrosecondArray::from(vec![0]).with_timezone(UTC));
    let rows = encoded(&options, column).unwrap();
    assert_eq!(rows, [r#"{"x":"1970-01-01T00:00:00Z"}"#]);
}
