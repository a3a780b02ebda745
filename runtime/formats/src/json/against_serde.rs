//! The decoder against `serde_json` as a naive model: same verdict, same values.

use std::collections::BTreeMap;
use std::fmt;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use arrow_array::{Array, RecordBatch};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millstream_types::schema::{Column, ColumnType, arrow_schema};
use proptest::prelude::*;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::JsonDecoder;
use crate::calendar::{MAX_MICROS, MIN_MICROS, parse_date, parse_timestamp};
use crate::number::POWERS;

#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Null,
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    Decimal(i128),
}

const NAMES: [(&str, ColumnType, bool); 9] = [
    ("flag", ColumnType::Boolean, true),
    ("small", ColumnType::Int32, true),
    ("id", ColumnType::Int64, false),
    ("ratio", ColumnType::Float64, true),
    ("na\"me ü", ColumnType::String, true),
    ("blob", ColumnType::Bytes, true),
    ("price", ColumnType::Decimal(12, 2), true),
    ("ts", ColumnType::Timestamp, true),
    ("day", ColumnType::Date, true),
];

fn columns() -> Vec<Column> {
    let column = |(name, column_type, nullable)| Column::new(name, column_type, nullable);
    NAMES.into_iter().map(column).collect()
}

// The model.

/// How often each key of an object appears.
struct Counted(BTreeMap<String, usize>);

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Count;
        impl<'de> Visitor<'de> for Count {
            type Value = BTreeMap<String, usize>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut counts = BTreeMap::new();
                while let Some((key, IgnoredAny)) = map.next_entry::<String, _>()? {
                    *counts.entry(key).or_default() += 1;
                }
                Ok(counts)
            }
        }
        deserializer.deserialize_map(Count).map(Self)
    }
}

/// The last value of each wanted key; all others are ignored.
struct Last<'a> {
    counts: BTreeMap<String, usize>,
    wanted: &'a [Column],
}

impl<'de> Visitor<'de> for Last<'_> {
    type Value = BTreeMap<String, Value>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            let left = self.counts.get_mut(&key).unwrap();
            *left -= 1;
            if *left == 0 && self.wanted.iter().any(|column| column.name == key) {
                values.insert(key, map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(values)
    }
}

fn model(record: &[u8], wanted: &[Column]) -> Option<Vec<Cell>> {
    let text = std::str::from_utf8(record).ok()?;
    let Counted(counts) = serde_json::from_str(text).ok()?;
    let last = Last { counts, wanted };
    let values = serde_json::Deserializer::from_str(text)
        .deserialize_map(last)
        .ok()?;
    let cell = |column: &Column| match values.get(&column.name) {
        None | Some(Value::Null) => column.nullable.then_some(Cell::Null),
        Some(value) => model_cell(column.column_type, value),
    };
    wanted.iter().map(cell).collect()
}

fn model_cell(column_type: ColumnType, value: &Value) -> Option<Cell> {
    Some(match (column_type, value) {
        (ColumnType::Boolean, Value::Bool(value)) => Cell::Boolean(*value),
        (ColumnType::Int32, _) => Cell::Integer(i32::try_from(integer(value)?).ok()?.into()),
        (ColumnType::Int64, _) => Cell::Integer(integer(value)?),
        (ColumnType::Float64, Value::Number(number)) => Cell::Float(number.as_f64()?),
        (ColumnType::String, Value::String(text)) => Cell::Text(text.clone()),
        (ColumnType::Bytes, Value::String(text)) => Cell::Bytes(STANDARD.decode(text).ok()?),
        (ColumnType::Decimal(12, 2), Value::Number(number)) => decimal(&number.to_string())?,
        (ColumnType::Decimal(12, 2), Value::String(text)) => {
            let Value::Number(_) = serde_json::from_str(text).ok()? else {
                return None;
            };
            (text.trim() == text).then(|| decimal(text))??
        }
        (ColumnType::Timestamp, Value::String(text)) => {
            Cell::Integer(parse_timestamp(text.as_bytes())?)
        }
        (ColumnType::Timestamp, _) => {
            let micros = integer(value)?.checked_mul(1_000)?;
            (MIN_MICROS..=MAX_MICROS)
                .contains(&micros)
                .then_some(Cell::Integer(micros))?
        }
        (ColumnType::Date, Value::String(text)) => {
            Cell::Integer(parse_date(text.as_bytes())?.into())
        }
        _ => return None,
    })
}

fn integer(value: &Value) -> Option<i64> {
    // serde_json reads `-0` as a float.
    let negative_zero = value
        .as_f64()
        .is_some_and(|value| value == 0.0 && value.is_sign_negative());
    if negative_zero {
        Some(0)
    } else {
        value.as_i64()
    }
}

/// Hundredths, by moving the point of the text; exact for up to 15 digits.
fn decimal(text: &str) -> Option<Cell> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i64 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let shift = exponent - i64::try_from(fraction.len()).unwrap() + 2;
    let mut value: i128 = digits.parse().ok()?;
    for _ in 0..shift.max(0) {
        value = value.checked_mul(10)?;
    }
    for _ in shift.min(0)..0 {
        if value % 10 != 0 {
            return None;
        }
        value /= 10;
    }
    (value.abs() < POWERS[12]).then_some(Cell::Decimal(value))
}

// What the decoder made.

fn cells(batch: &RecordBatch, wanted: &[Column], row: usize) -> Vec<Cell> {
    let cell = |(column, array): (&Column, &arrow_array::ArrayRef)| {
        if array.is_null(row) {
            return Cell::Null;
        }
        match column.column_type {
            ColumnType::Boolean => Cell::Boolean(array.as_boolean().value(row)),
            ColumnType::Int32 => Cell::Integer(array.as_primitive::<Int32Type>().value(row).into()),
            ColumnType::Int64 => Cell::Integer(array.as_primitive::<Int64Type>().value(row)),
            ColumnType::Float64 => Cell::Float(array.as_primitive::<Float64Type>().value(row)),
            ColumnType::String => Cell::Text(array.as_string::<i32>().value(row).to_owned()),
            ColumnType::Bytes => Cell::Bytes(array.as_binary::<i32>().value(row).to_vec()),
            ColumnType::Decimal(..) => {
                Cell::Decimal(array.as_primitive::<Decimal128Type>().value(row))
            }
            ColumnType::Timestamp => {
                Cell::Integer(array.as_primitive::<TimestampMicrosecondType>().value(row))
            }
            ColumnType::Date => Cell::Integer(array.as_primitive::<Date32Type>().value(row).into()),
        }
    };
    wanted.iter().zip(batch.columns()).map(cell).collect()
}

fn same(ours: &Cell, model: &Cell) -> bool {
    match (ours, model) {
        // serde_json's floats may be off by one unit in the last place.
        (Cell::Float(ours), Cell::Float(model)) => {
            (ours - model).abs() <= model.abs() * 2.0 * f64::EPSILON
        }
        _ => ours == model,
    }
}

fn check(records: &[Vec<u8>], wanted: &[Column]) {
    let mut decoder = JsonDecoder::new(&arrow_schema(wanted)).unwrap();
    let mut expected = Vec::new();
    for record in records {
        let model = model(record, wanted);
        let ours = decoder.decode(record);
        let text = String::from_utf8_lossy(record);
        assert_eq!(ours.is_ok(), model.is_some(), "{text}: {ours:?}, {model:?}");
        if let Err(error) = &ours {
            assert!(error.offset <= record.len(), "{text}: {error}");
        }
        expected.extend(model.map(|cells| (text.into_owned(), cells)));
    }
    assert_eq!(decoder.rows(), expected.len());
    let batch = decoder.finish().unwrap();
    assert_eq!(batch.num_rows(), expected.len());
    for (row, (text, model)) in expected.iter().enumerate() {
        let ours = cells(&batch, wanted, row);
        let equal = ours
            .iter()
            .zip(model)
            .all(|(ours, model)| same(ours, model));
        assert!(equal, "{text}: {ours:?}, {model:?}");
    }
}

// Records.

fn whitespace() -> impl Strategy<Value = String> {
    prop_oneof![6 => Just(String::new()), 1 => "[ \t\r\n]{1,3}"]
}

fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        6 => "[ -!#-\\[\\]-~]{0,12}",
        1 => "[äß€𝄞]{1,3}",
        1 => prop::sample::select(vec![
            r"\n", r"\\", r#"\""#, r"\/", r"\b", r"\f", r"\r", r"\t", r"\u00e9", r"\u20AC",
            r"\ud834\udd1e", r"\u0000",
        ]).prop_map(str::to_owned),
        1 => prop::sample::select(vec![
            r"\ud834", r"\udd1e", r"\ud834\u0041", r"\x", r"\u12", "\u{1}", "\u{7f}",
        ]).prop_map(str::to_owned),
    ];
    prop::collection::vec(part, 0..3).prop_map(|parts| format!("\"{}\"", parts.concat()))
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        "-?(0|[1-9][0-9]{0,8})",
        "-?(0|[1-9][0-9]{0,8})\\.[0-9]{1,4}",
        "-?[1-9]\\.?[0-9]{1,3}[eE][+-]?[0-3]",
        prop::sample::select(vec![
            "9223372036854775807",
            "-9223372036854775808",
            "9223372036854775808",
            "2147483647",
            "2147483648",
            "-2147483649",
            "1e999",
            "-0.5",
            "01",
            "-",
            "1.",
            ".5",
            "253402300799999",
            "253402300800000",
            "-62167219200001",
            "NaN",
            "+1",
        ])
        .prop_map(str::to_owned),
    ]
}

fn any_value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        text(),
        number(),
        prop::sample::select(vec!["true", "false", "null", "nul", "True"]).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let entry = (text(), whitespace(), inner.clone());
        let entry = entry.prop_map(|(key, space, value)| format!("{key}:{space}{value}"));
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(|values| format!("[{}]", values.join(","))),
            prop::collection::vec(entry, 0..4).prop_map(|pairs| format!("{{{}}}", pairs.join(","))),
        ]
    })
}

/// A value that mostly fits a column.
fn value_for(column_type: ColumnType) -> BoxedStrategy<String> {
    let fitting = match column_type {
        ColumnType::Boolean => prop::bool::ANY.prop_map(|value| value.to_string()).boxed(),
        ColumnType::Int32 => any::<i32>().prop_map(|value| value.to_string()).boxed(),
        ColumnType::Int64 => any::<i64>().prop_map(|value| value.to_string()).boxed(),
        ColumnType::Float64 => number().boxed(),
        ColumnType::String => text().boxed(),
        ColumnType::Bytes => prop::collection::vec(any::<u8>(), 0..12)
            .prop_map(|bytes| format!("\"{}\"", STANDARD.encode(bytes).replace('/', "\\/")))
            .boxed(),
        ColumnType::Decimal(..) => prop_oneof![
            "-?(0|[1-9][0-9]{0,9})(\\.[0-9]{1,3})?",
            "\"-?(0|[1-9][0-9]{0,9})(\\.[0-9]{1,3})?\"",
            "\"[1-9]e[0-3]\"",
        ]
        .boxed(),
        ColumnType::Timestamp => prop_oneof![
            (0_i64..4_102_444_800_000).prop_map(|millis| millis.to_string()),
            "\"20[0-9]{2}-[01][0-9]-[0-3][0-9][Tt ][012][0-9]:[0-5][0-9]:[0-6][0-9](\\.[0-9]{1,9})?(Z|\\+0[0-9]:30)\"",
        ]
        .boxed(),
        ColumnType::Date => "\"20[0-9]{2}-[01][0-9]-[0-3][0-9]\"".boxed(),
    };
    prop_oneof![12 => fitting, 1 => Just("null".to_owned()), 1 => any_value()].boxed()
}

/// A key as records spell it: mostly plain, sometimes with an escape.
fn key(name: &str, escaped: bool) -> String {
    let plain = serde_json::to_string(name).unwrap();
    if !escaped {
        return plain;
    }
    let mut characters = name.chars();
    let first = characters.next().unwrap();
    let rest = serde_json::to_string(characters.as_str()).unwrap();
    format!("\"\\u{:04x}{}", u32::from(first), &rest[1..])
}

/// One field: its text up to the value, and how to make values for it.
type Field = (String, BoxedStrategy<String>);

/// The order and whitespace of the fields of some records.
fn layout() -> impl Strategy<Value = Vec<Field>> {
    let known = (
        prop::sample::select(NAMES.to_vec()),
        prop::bool::weighted(0.05),
    )
        .prop_map(|((name, column_type, _), escaped)| (key(name, escaped), value_for(column_type)));
    let extra = text().prop_map(|key| (key, any_value().boxed()));
    let all = Just(
        NAMES
            .iter()
            .map(|(name, column_type, _)| (key(name, false), value_for(*column_type)))
            .collect::<Vec<_>>(),
    );
    let fields = prop_oneof![
        2 => all.clone(),
        2 => all.prop_shuffle(),
        1 => prop::collection::vec(known.boxed(), 0..12),
    ];
    let extras = prop::collection::vec((extra, any::<prop::sample::Index>()), 0..3);
    let spaces = prop::collection::vec(whitespace(), 3 * 16);
    (fields, extras, spaces).prop_map(|(mut fields, extras, spaces)| {
        for ((key, value), at) in extras {
            fields.insert(at.index(fields.len() + 1), (key, value));
        }
        let spaced = fields.into_iter().zip(spaces.chunks(3));
        spaced
            .map(|((key, value), space)| {
                let (before, middle, after) = (&space[0], &space[1], &space[2]);
                (format!("{before}{key}{middle}:{after}"), value)
            })
            .collect()
    })
}

/// Some records of one layout.
fn similar_records() -> impl Strategy<Value = Vec<Vec<u8>>> {
    layout().prop_flat_map(|fields| {
        let (keys, values): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
        let record = (values, whitespace()).prop_map(move |(values, tail)| {
            let fields = keys
                .iter()
                .zip(values)
                .map(|(key, value)| format!("{key}{value}"));
            format!("{{{}}}{tail}", fields.collect::<Vec<_>>().join(",")).into_bytes()
        });
        prop::collection::vec(
            (record, damage()).prop_map(|(record, damage)| damage.apply(record)),
            1..6,
        )
    })
}

/// Something that may go wrong with a record; mostly nothing.
#[derive(Debug, Clone)]
enum Damage {
    None,
    Truncate(prop::sample::Index),
    Flip(prop::sample::Index, u32),
    Insert(prop::sample::Index, u8),
}

fn damage() -> impl Strategy<Value = Damage> {
    let place = any::<prop::sample::Index>;
    let byte = prop::sample::select(b"\"{}[],:\\ x\x01\xff".to_vec());
    prop_oneof![
        12 => Just(Damage::None),
        1 => place().prop_map(Damage::Truncate),
        1 => (place(), 0_u32..8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        1 => (place(), byte).prop_map(|(at, byte)| Damage::Insert(at, byte)),
    ]
}

impl Damage {
    fn apply(self, mut record: Vec<u8>) -> Vec<u8> {
        let length = record.len();
        match self {
            Self::None => {}
            Self::Truncate(at) => record.truncate(at.index(length)),
            Self::Flip(at, bit) => record[at.index(length)] ^= 1 << bit,
            Self::Insert(at, byte) => record.insert(at.index(length), byte),
        }
        record
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn records_have_the_verdict_and_values_of_serde_json(
        groups in prop::collection::vec(similar_records(), 1..4),
        projection in prop::collection::vec(any::<bool>(), NAMES.len()),
    ) {
        let wanted = columns().into_iter().zip(projection).filter(|(_, wanted)| *wanted);
        let wanted: Vec<Column> = wanted.map(|(column, _)| column).collect();
        check(&groups.concat(), &wanted);
        check(&groups.concat(), &columns());
    }

    #[test]
    fn fields_that_nobody_wants_are_well_formed_or_the_record_is_refused(
        soup in "[\\[\\]{}\",:0-9.eE+\\-truefalsnu\\\\ \u{1}]{0,24}",
        known in any_value(),
    ) {
        for value in [soup, known] {
            check(&[format!("{{\"k\":{value}}}").into_bytes()], &[]);
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(
        records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..4),
    ) {
        check(&records, &columns());
    }
}
