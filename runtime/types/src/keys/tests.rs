use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array,
    Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use proptest::prelude::*;

use super::*;
use crate::schema::UTC;

/// One value of a column, and the hash as the page says, one value at a time.
#[derive(Debug, Clone)]
enum Value {
    Null,
    Boolean(bool),
    Int32(i32),
    Int64(i64),
    Float(f64),
    Decimal(i128, i8),
    String(String),
    Bytes(Vec<u8>),
    Timestamp(i64),
    Date(i32),
}

impl Value {
    fn array(&self) -> ArrayRef {
        match self {
            Self::Null => Arc::new(Int64Array::from(vec![None])),
            Self::Boolean(value) => Arc::new(BooleanArray::from(vec![*value])),
            Self::Int32(value) => Arc::new(Int32Array::from(vec![*value])),
            Self::Int64(value) => Arc::new(Int64Array::from(vec![*value])),
            Self::Float(value) => Arc::new(Float64Array::from(vec![*value])),
            Self::Decimal(value, scale) => {
                let array = Decimal128Array::from(vec![*value]);
                Arc::new(array.with_precision_and_scale(38, *scale).unwrap())
            }
            Self::String(value) => Arc::new(StringArray::from(vec![value.as_str()])),
            Self::Bytes(value) => Arc::new(BinaryArray::from(vec![value.as_slice()])),
            Self::Timestamp(value) => {
                Arc::new(TimestampMicrosecondArray::from(vec![*value]).with_timezone(UTC))
            }
            Self::Date(value) => Arc::new(Date32Array::from(vec![*value])),
        }
    }

    /// Tag and word, in the words of the page.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the page speaks of words of 64 bits"
    )]
    fn tag_and_word(&self) -> (u64, u64) {
        match self {
            Self::Null => (1, 0),
            Self::Boolean(value) => (2, u64::from(*value)),
            Self::Int32(value) => (3, i64::from(*value) as u64),
            Self::Int64(value) => (3, *value as u64),
            Self::Float(value) if value.is_nan() => (4, 0x7ff8_0000_0000_0000),
            Self::Float(value) if *value == 0.0 => (4, 0),
            Self::Float(value) => (4, value.to_bits()),
            Self::Decimal(value, scale) => {
                let (mut value, mut scale) = (*value, *scale);
                while scale > 0 && value % 10 == 0 {
                    (value, scale) = (value / 10, scale - 1);
                }
                if scale == 0 && i128::from(value as i64) == value {
                    return (3, value as u64);
                }
                let high = ((value >> 64) as u64)
                    .wrapping_add(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(scale as u64));
                (5, (value as u64).wrapping_add(mix(high)))
            }
            Self::String(value) => (6, digest(value.as_bytes())),
            Self::Bytes(value) => (7, digest(value)),
            Self::Timestamp(value) => (8, *value as u64),
            Self::Date(value) => (9, i64::from(*value) as u64),
        }
    }
}

fn mix(mut x: u64) -> u64 {
    x ^= x >> 30;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 27;
    x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the page speaks of words of 64 bits"
)]
fn digest(bytes: &[u8]) -> u64 {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(16), 0);
    let mut d = 0xa076_1d64_78bd_642f_u64;
    for chunk in padded.chunks(16) {
        let low = u64::from_le_bytes(chunk[..8].try_into().unwrap());
        let high = u64::from_le_bytes(chunk[8..].try_into().unwrap());
        let product = u128::from(d ^ low) * u128::from(0xe703_7ed1_a0b4_28db ^ high);
        d = (product as u64) ^ ((product >> 64) as u64);
    }
    d.wrapping_add(bytes.len() as u64)
}

fn hash_by_the_page(key: &[Value]) -> u64 {
    key.iter().fold(0, |h: u64, value| {
        let (tag, word) = value.tag_and_word();
        let tag = tag.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let h = h.wrapping_add(tag).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mix(h.wrapping_add(word))
    })
}

fn hashes(columns: Vec<ArrayRef>) -> Vec<u64> {
    let key: Vec<usize> = (0..columns.len()).collect();
    let named = columns.into_iter().enumerate();
    let named = named.map(|(number, column)| (number.to_string(), column, true));
    let records = RecordBatch::try_from_iter_with_nullable(named).unwrap();
    let mut hashes = vec![7];
    hash(&records, &key, &mut hashes).unwrap();
    assert_eq!(hashes.len(), records.num_rows());
    hashes
}

fn hash_of(key: &[Value]) -> u64 {
    hashes(key.iter().map(Value::array).collect())[0]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Boolean),
        any::<i32>().prop_map(Value::Int32),
        any::<i64>().prop_map(Value::Int64),
        any::<f64>().prop_map(Value::Float),
        prop::sample::select(vec![0.0, -0.0, f64::NAN, -f64::NAN, f64::INFINITY])
            .prop_map(Value::Float),
        decimal(),
        any::<String>().prop_map(Value::String),
        prop::collection::vec(any::<u8>(), 0..70).prop_map(Value::Bytes),
        any::<i64>().prop_map(Value::Timestamp),
        any::<i32>().prop_map(Value::Date),
    ]
}

fn decimal() -> impl Strategy<Value = Value> {
    let unscaled = prop_oneof![
        any::<i128>().prop_map(|value| value % 10_i128.pow(38)),
        (-1_000_i128..1_000)
            .prop_flat_map(|value| (0..20_u32).prop_map(move |zeros| value * 10_i128.pow(zeros))),
        (i128::from(i64::MAX) - 5)..(i128::from(i64::MAX) + 5),
    ];
    (unscaled, 0_i8..=38).prop_map(|(unscaled, scale)| Value::Decimal(unscaled, scale))
}

proptest! {
    #[test]
    fn a_hash_is_what_the_page_says(key in prop::collection::vec(value(), 1..4)) {
        prop_assert_eq!(hash_of(&key), hash_by_the_page(&key));
    }

    #[test]
    fn equal_decimals_of_any_scale_and_equal_integers_hash_equal(
        value in any::<i64>(), scale in 0_i8..=18,
    ) {
        let scaled = i128::from(value) * 10_i128.pow(u32::try_from(scale).unwrap());
        let hash = hash_of(&[Value::Int64(value)]);
        prop_assert_eq!(hash_of(&[Value::Decimal(scaled, scale)]), hash);
        if let Ok(value) = i32::try_from(value) {
            prop_assert_eq!(hash_of(&[Value::Int32(value)]), hash);
        }
        let fraction = i128::from(value) * 10 + 3;
        let longer = Value::Decimal(fraction * 1_000, scale + 3);
        prop_assert_eq!(hash_of(&[longer]), hash_of(&[Value::Decimal(fraction, scale)]));
    }

    #[test]
    fn rows_of_a_batch_hash_as_they_do_alone(
        rows in prop::collection::vec((any::<Option<i64>>(), any::<Option<String>>(), any::<Option<bool>>()), 0..40),
        cut in any::<prop::sample::Index>(),
    ) {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|row| row.1.as_deref()).collect::<StringArray>()),
            Arc::new(rows.iter().map(|row| row.2).collect::<BooleanArray>()),
        ];
        let from = cut.index(rows.len() + 1);
        let slices = columns.iter().map(|column| column.slice(from, rows.len() - from)).collect();
        let expected: Vec<u64> = rows.iter().map(|(number, text, truth)| hash_by_the_page(&[
            number.map_or(Value::Null, Value::Int64),
            text.clone().map_or(Value::Null, Value::String),
            truth.map_or(Value::Null, Value::Boolean),
        ])).collect();
        prop_assert_eq!(hashes(slices), &expected[from..]);
        prop_assert_eq!(hashes(columns), expected);
    }

    #[test]
    fn ranges_share_out_all_groups(parallelism in 1_u32..=300, more in 0_u32..2_000) {
        let groups = parallelism + more;
        let mut next = 0;
        for i in 0..parallelism {
            let range = range(i, parallelism, groups);
            prop_assert_eq!(range.start, next);
            prop_assert!(!range.is_empty());
            for group in range.clone() {
                prop_assert_eq!(subtask(group, parallelism, groups), i);
            }
            next = range.end;
        }
        prop_assert_eq!(next, groups);
    }

    #[test]
    fn a_hash_has_one_of_the_groups(hash in any::<u64>(), groups in 1..=LARGEST_MAX_PARALLELISM) {
        prop_assert!(key_group(hash, groups) < groups);
    }
}

/// Values that are different in SQL, and that a careless hash takes for each other.
#[test]
fn the_parts_of_a_key_are_told_apart() {
    let text = |text: &str| Value::String(text.to_owned());
    let keys: Vec<Vec<Value>> = vec![
        vec![Value::Null],
        vec![Value::Null, Value::Null],
        vec![Value::Int64(0)],
        vec![Value::Boolean(false)],
        vec![Value::Float(0.0)],
        vec![Value::Timestamp(0)],
        vec![Value::Date(0)],
        vec![text("")],
        vec![text("\0")],
        vec![Value::Bytes(Vec::new())],
        vec![Value::Decimal(1, 1)],
        vec![Value::Decimal(1, 2)],
        vec![text("ab"), text("c")],
        vec![text("a"), text("bc")],
        vec![text("a"), text("b")],
        vec![text("b"), text("a")],
        vec![Value::Int64(1), Value::Int64(2)],
        vec![Value::Int64(2), Value::Int64(1)],
    ];
    let mut seen = std::collections::BTreeMap::new();
    for key in keys {
        if let Some(other) = seen.insert(hash_of(&key), key.clone()) {
            panic!("{key:?} and {other:?} have one hash");
        }
    }
}

/// Expected counts differ from the mean by its root; the largest of 1,024 by about four of them.
#[test]
fn keys_as_people_have_them_are_spread_over_the_groups() {
    const KEYS: i64 = 200_000;
    let strings = |text: &dyn Fn(i64) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values((0..KEYS).map(text)))
    };
    let integers = |number: &dyn Fn(i64) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values((0..KEYS).map(number)))
    };
    let decimals = Decimal128Array::from_iter_values((0..KEYS).map(i128::from));
    let kinds: Vec<(&str, ArrayRef)> = vec![
        ("counted", integers(&|i| i)),
        ("even", integers(&|i| i << 20)),
        ("high bits", integers(&|i| i << 46)),
        ("negative", integers(&|i| -i)),
        (
            "floats",
            Arc::new(Float64Array::from_iter_values((0..200_000).map(f64::from))),
        ),
        (
            "cents",
            Arc::new(decimals.with_precision_and_scale(12, 2).unwrap()),
        ),
        ("days", Arc::new(Date32Array::from_iter_values(0..200_000))),
        (
            "seconds",
            Arc::new(TimestampMicrosecondArray::from_iter_values(
                (0..KEYS).map(|i| i * 1_000_000),
            )),
        ),
        ("names", strings(&|i| format!("customer-{i}"))),
        ("digits", strings(&|i| format!("{i:020}"))),
        (
            "long",
            strings(&|i| format!("{}-{i}-{}", "x".repeat(40), "y".repeat(40))),
        ),
    ];
    for (kind, column) in kinds {
        let mut counts = vec![0_u32; DEFAULT_MAX_PARALLELISM as usize];
        for hash in hashes(vec![column]) {
            counts[key_group(hash, DEFAULT_MAX_PARALLELISM) as usize] += 1;
        }
        let mean = KEYS as f64 / f64::from(DEFAULT_MAX_PARALLELISM);
        let chi: f64 = counts
            .iter()
            .map(|count| (f64::from(*count) - mean).powi(2) / mean)
            .sum();
        // 1,023 degrees of freedom: mean 1,023, deviation 45; six of them.
        assert!(chi < 1_295.0, "{kind}: {chi}");
        let most = counts.iter().max().unwrap();
        assert!(
            f64::from(*most) < mean + 6.0 * mean.sqrt(),
            "{kind}: {most} of {mean}"
        );
    }
}

/// The table of vectors in the page: key, hash, group of 1,024.
#[test]
fn the_vectors_of_the_page_hold() {
    let page = include_str!("../../../../docs/keys.md");
    let (_, table) = page
        .split_once("| key | hash | group |")
        .expect("the table");
    let keys = vectors();
    let rows: Vec<&str> = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .collect();
    let expected: Vec<String> = keys
        .iter()
        .map(|(text, key)| {
            let hash = hash_of(key);
            let group = key_group(hash, DEFAULT_MAX_PARALLELISM);
            format!("| {text} | `{hash:016x}` | {group} |")
        })
        .collect();
    assert_eq!(
        rows,
        expected,
        "the table must be:\n{}",
        expected.join("\n")
    );
}

fn vectors() -> Vec<(&'static str, Vec<Value>)> {
    let text = |text: &str| Value::String(text.to_owned());
    vec![
        ("null of any type", vec![Value::Null]),
        ("boolean `false`", vec![Value::Boolean(false)]),
        ("boolean `true`", vec![Value::Boolean(true)]),
        ("int32 or int64 `0`", vec![Value::Int32(0)]),
        ("int32 or int64 `1`", vec![Value::Int64(1)]),
        ("int32 or int64 `-1`", vec![Value::Int32(-1)]),
        ("int64 `9223372036854775807`", vec![Value::Int64(i64::MAX)]),
        ("float64 `0.0` or `-0.0`", vec![Value::Float(-0.0)]),
        ("float64 `1.5`", vec![Value::Float(1.5)]),
        ("float64 NaN", vec![Value::Float(-f64::NAN)]),
        ("decimal `1.00`, as int64 `1`", vec![Value::Decimal(100, 2)]),
        ("decimal `12.5` or `12.50`", vec![Value::Decimal(1_250, 2)]),
        ("decimal `-0.01`", vec![Value::Decimal(-1, 2)]),
        (
            "decimal `9223372036854775808`",
            vec![Value::Decimal(1 << 63, 0)],
        ),
        (
            "decimal `12345678901234567890.12345`",
            vec![Value::Decimal(1_234_567_890_123_456_789_012_345, 5)],
        ),
        ("string of no characters", vec![text("")]),
        ("string `a`", vec![text("a")]),
        ("string `customer-42`", vec![text("customer-42")]),
        ("string `0123456789abcdef`", vec![text("0123456789abcdef")]),
        (
            "string `0123456789abcdefg`",
            vec![text("0123456789abcdefg")],
        ),
        ("string `žluťoučký kůň`", vec![text("žluťoučký kůň")]),
        (
            "bytes `61` (as string `a`)",
            vec![Value::Bytes(b"a".to_vec())],
        ),
        (
            "timestamp `2026-01-01T00:00:00Z`",
            vec![Value::Timestamp(1_767_225_600_000_000)],
        ),
        ("date `2026-01-01`", vec![Value::Date(20_454)]),
        (
            "string `a`, then int64 `1`",
            vec![text("a"), Value::Int64(1)],
        ),
        (
            "int64 `1`, then string `a`",
            vec![Value::Int64(1), text("a")],
        ),
        ("null, then null", vec![Value::Null, Value::Null]),
    ]
}

#[test]
fn a_column_that_is_missing_or_cannot_be_hashed_is_an_error() {
    let lists: ArrayRef = Arc::new(arrow_array::UInt8Array::from(vec![1]));
    let records = RecordBatch::try_from_iter([("small", lists)]).unwrap();
    let error = hash(&records, &[0], &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("`small`"), "{error}");
    let error = hash(&records, &[3], &mut Vec::new()).unwrap_err();
    let expected = KeyError::NoSuchColumn {
        column: 3,
        columns: 1,
    };
    assert_eq!(error, expected);
}

#[test]
fn an_entry_is_in_the_group_of_its_key() {
    let values: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1_000));
    for groups in [
        1,
        7,
        1_000,
        DEFAULT_MAX_PARALLELISM,
        LARGEST_MAX_PARALLELISM,
    ] {
        // The last hash of a group and the first of the next: their upper halves are the same.
        let border = (7_u128 << 64).div_ceil(u128::from(groups.max(8)));
        let border = u64::try_from(border).unwrap();
        for key in [0, u64::MAX, border - 1, border, 0x6ae4_947e_cd40_6822] {
            let mut hashes = vec![key; 1_000];
            entries(&mut hashes, &[Arc::clone(&values)], groups).unwrap();
            let group = key_group(key, groups);
            assert!(hashes.iter().all(|hash| key_group(*hash, groups) == group));
            if key != border - 1 && key != border {
                hashes.sort_unstable();
                hashes.dedup();
                assert!(hashes.len() > 990, "{} of {groups} groups", hashes.len());
            }
        }
    }
}
