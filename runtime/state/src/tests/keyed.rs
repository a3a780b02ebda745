//! A table alone.

use arrow_array::ArrayRef;
use std::sync::Arc;

use arrow_array::{Int64Array, StringArray};
use arrow_schema::Field;
use millstream_types::ErrorCode;

use super::job::{GROUPS, Kind, Numbers};
use crate::{Keyed, Memory, Table, TableOptions};

#[test]
fn a_key_that_comes_several_times_has_one_slot_and_null_is_a_key() {
    for kind in [Kind::Number, Kind::Text, Kind::Several] {
        let mut table = kind.table(0..GROUPS, false);
        let columns = kind.columns(&[5, 0, 5, 0, 7]);
        let mut slots = Vec::new();
        let hashes = kind.hashes(&columns);
        table.resolve(&columns, &hashes, &mut slots).unwrap();
        assert_eq!(slots, [0, 1, 0, 1, 2], "{kind:?}");
        assert_eq!(table.made(), [0, 1, 2], "{kind:?}");
        table.resolve(&columns, &hashes, &mut slots).unwrap();
        assert_eq!(slots, [0, 1, 0, 1, 2], "{kind:?}");
        assert!(table.made().is_empty(), "{kind:?}");
        let kept = table.keys(&[2, 1]).unwrap();
        let expected = kind.columns(&[7, 0]);
        let normal: Vec<ArrayRef> = expected.iter().map(crate::key::normalised).collect();
        assert_eq!(kept, normal, "{kind:?}");
    }
}

#[test]
fn slots_of_keys_that_no_run_holds_are_used_again() {
    let kind = Kind::Text;
    let mut table = kind.table(0..GROUPS, false);
    let mut slots = Vec::new();
    for round in 1..200 {
        let columns = kind.columns(&[round, round + 1_000]);
        let hashes = kind.hashes(&columns);
        table.resolve(&columns, &hashes, &mut slots).unwrap();
        for slot in &slots {
            table.remove(*slot);
            table.remove(*slot);
        }
        assert!(table.is_empty());
        assert!(slots.iter().all(|slot| *slot < 2), "{slots:?}");
    }
    assert_eq!(table.stats().dirty, 0);
    assert_eq!(table.stats().deletions, 0);
}

#[test]
fn a_table_that_is_cleared_is_as_new() {
    for kind in [Kind::Number, Kind::Text, Kind::Several] {
        let mut table = kind.table(0..GROUPS, false);
        for keys in [(0..200).collect::<Vec<_>>(), vec![7, 0, 3], vec![9]] {
            let columns = kind.columns(&keys);
            let hashes = kind.hashes(&columns);
            let mut slots = Vec::new();
            table.resolve(&columns, &hashes, &mut slots).unwrap();
            assert_eq!(table.made(), slots, "{kind:?}");
            assert!((0..).zip(&slots).all(|(at, slot)| at == *slot), "{kind:?}");
            assert!(
                slots
                    .iter()
                    .all(|slot| table.values().0[*slot as usize] == 0)
            );
            for slot in &slots {
                table.values_mut().0[*slot as usize] = 5;
            }
            table.clear();
            assert_eq!(table.slots().count(), 0);
            assert_eq!(
                (table.len(), table.stats().dirty, table.stats().deletions),
                (0, 0, 0)
            );
        }
    }
}

#[test]
fn texts_of_keys_that_are_gone_take_no_memory_for_ever() {
    let kind = Kind::Text;
    let mut table = kind.table(0..GROUPS, false);
    let mut slots = Vec::new();
    let long = "x".repeat(10_000);
    for round in 0..1_000 {
        let column: ArrayRef = Arc::new(StringArray::from(vec![format!("{round} {long}")]));
        let hashes = kind.hashes(std::slice::from_ref(&column));
        table.resolve(&[column], &hashes, &mut slots).unwrap();
        table.remove(slots[0]);
    }
    assert!(table.bytes() < 5 << 20, "{} bytes", table.bytes());
}

#[test]
fn all_rows_of_a_table_without_key_columns_have_one_slot() {
    let options = TableOptions {
        name: "total".to_owned(),
        key: Vec::new(),
        key_groups: 0..GROUPS,
        max_parallelism: GROUPS,
        ttl: None,
    };
    let mut table = Keyed::new(options, Numbers::default());
    let mut slots = Vec::new();
    table.resolve(&[], &[0, 0, 0], &mut slots).unwrap();
    assert_eq!(slots, [0, 0, 0]);
    assert_eq!(table.made(), [0]);
    assert_eq!(table.copy(1, 0..0).unwrap().rows[0].num_rows(), 1);
}

#[test]
fn narrow_numbers_dates_and_times_are_keys() {
    let columns: [ArrayRef; 4] = [
        Arc::new(arrow_array::Int32Array::from(vec![Some(-7), None, Some(3)])),
        Arc::new(arrow_array::Date32Array::from(vec![
            Some(-7),
            None,
            Some(3),
        ])),
        Arc::new(
            arrow_array::TimestampMicrosecondArray::from(vec![Some(-7), None, Some(3)])
                .with_timezone("+00:00"),
        ),
        Arc::new(arrow_array::BooleanArray::from(vec![
            Some(true),
            None,
            Some(false),
        ])),
    ];
    for column in columns {
        let field = Arc::new(Field::new("key", column.data_type().clone(), true));
        let options = TableOptions {
            name: "keys".to_owned(),
            key: vec![field],
            key_groups: 0..GROUPS,
            max_parallelism: GROUPS,
            ttl: None,
        };
        let mut table = Keyed::new(options, ());
        let rows = arrow_array::RecordBatch::try_from_iter([("key", Arc::clone(&column))]).unwrap();
        let (mut hashes, mut slots) = (Vec::new(), Vec::new());
        millstream_types::keys::hash(&rows, &[0], &mut hashes).unwrap();
        table
            .resolve(&[Arc::clone(&column)], &hashes, &mut slots)
            .unwrap();
        assert_eq!(table.keys(&slots).unwrap(), [column]);
    }
}

#[test]
fn keys_of_other_columns_are_refused() {
    let mut table = Kind::Text.table(0..GROUPS, false);
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![1]))];
    let failure = table.resolve(&columns, &[1], &mut Vec::new()).unwrap_err();
    assert!(failure.message.contains("`numbers`"), "{failure}");
    assert!(failure.message.contains("Int64"), "{failure}");
    let whole = Kind::Number.columns(&[1, 2]);
    let mut numbers = Kind::Number.table(0..GROUPS, false);
    numbers.resolve(&whole, &[1], &mut Vec::new()).unwrap_err();
}

#[test]
fn tables_that_need_more_than_their_memory_fail_and_say_how_much() {
    let memory = Memory::limited(1 << 20);
    let fill = |table: &mut Keyed<Numbers>, keys: std::ops::Range<i64>| {
        let columns = Kind::Number.columns(&keys.collect::<Vec<_>>());
        let hashes = Kind::Number.hashes(&columns);
        table.resolve(&columns, &hashes, &mut Vec::new())
    };
    let mut one = Kind::Number.table(0..GROUPS, false);
    fill(&mut one, 0..10).unwrap();
    one.set_memory(&memory);
    let mut other = Kind::Number.table(0..GROUPS, false);
    other.set_memory(&memory);
    fill(&mut one, 0..5_000).unwrap();
    fill(&mut other, 0..5_000).unwrap();
    assert_eq!(memory.used(), one.stats().bytes + other.stats().bytes);
    let failure = fill(&mut other, 0..20_000).unwrap_err();
    assert_eq!(failure.code, ErrorCode::StateTooLarge);
    for word in ["and may have 1.0 MiB", "`numbers` has 20000 keys"] {
        assert!(failure.message.contains(word), "{failure}");
    }
    drop(other);
    assert_eq!(memory.used(), one.stats().bytes);
    fill(&mut one, 0..5_000).unwrap();
    drop(one);
    assert_eq!(memory.used(), 0);
}

#[test]
fn large_batches_of_keys_in_any_order_find_their_slots() {
    for kind in [Kind::Number, Kind::Text, Kind::Several, Kind::Entries] {
        let mut table = kind.table(0..GROUPS, false);
        let keys: Vec<i64> = (0..5_000).collect();
        let mut resolve = |keys: &[i64]| {
            let columns = kind.columns(keys);
            let hashes = kind.hashes(&columns);
            let mut slots = Vec::new();
            table.resolve(&columns, &hashes, &mut slots).unwrap();
            (slots, table.made().len())
        };
        let (slots, made) = resolve(&keys);
        assert_eq!(made, keys.len(), "{kind:?}");
        // Every third key, each twice, from the back, with new ones between them.
        let others: Vec<i64> = (0..5_000)
            .rev()
            .flat_map(|key| [key / 3 * 3, 5_000 + key / 2])
            .collect();
        let (found, made) = resolve(&others);
        assert_eq!(made, 2_500, "{kind:?}");
        for pair in others.iter().zip(&found).collect::<Vec<_>>().chunks(2) {
            let (key, slot) = pair[0];
            assert_eq!(slots[usize::try_from(*key).unwrap()], *slot, "{kind:?}");
            assert!(*pair[1].1 >= 5_000, "{kind:?}");
        }
    }
}
