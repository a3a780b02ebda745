//! The keyed job: records counted and summed by key, and keys counted by their counts; and what a reader
//! of both must see.
//!
//! A key is one of the four parts of a split, so that its records keep their order: every row must be the
//! count and sum of a key's first records. How many keys have a count goes up and down, and its row is
//! deleted when no key has that count any more.

use std::collections::BTreeMap;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use millstream_types::change::{Change, changes};

use crate::broker::Record;
use crate::source::Topic;

/// The sink of counts and sums.
pub(crate) const COUNTS: &str = "counts-out";
/// The sink of how many keys have a count.
pub(crate) const SPREAD: &str = "spread-out";
/// Parts of a split.
const PARTS: i64 = 4;
/// More than any sum.
const SUMS: i64 = 100_000;
/// Stands for a deletion.
const DELETED: i64 = -1;

/// The transforms behind the records `even`.
pub(crate) const AGGREGATES: &str = "\
    {name: counts, input: even, sql: 'SELECT split * 4 + seq % 4 AS split, count(*) AS n, sum(seq) AS total \
    FROM even GROUP BY split * 4 + seq % 4'}, \
    {name: spread, input: counts, sql: 'SELECT n AS split, count(*) AS n, count(*) AS total FROM counts \
    GROUP BY n'}";

/// Which transform a sink writes.
pub(crate) fn of_sink(sink: &str) -> &'static str {
    if sink == COUNTS { "counts" } else { "spread" }
}

/// The records of a batch of changes: the last change of every key.
pub(crate) fn upserts(batch: &RecordBatch) -> Vec<Record> {
    let column = |name: &str| {
        let column = batch.column_by_name(name);
        column.map(|column| column.as_primitive::<Int64Type>().values().to_vec())
    };
    let keys = column("split").unwrap_or_default();
    let counts = column("n").unwrap_or_default();
    let sums = column("total").unwrap_or_default();
    let changes = changes(batch).map(|changes| changes.values().to_vec());
    let changes = changes.unwrap_or_default();
    let mut last: BTreeMap<i64, usize> = BTreeMap::new();
    for (row, key) in keys.iter().enumerate() {
        last.insert(*key, row);
    }
    let mut rows: Vec<usize> = last.into_values().collect();
    rows.sort_unstable();
    let record = |row: usize| {
        let adds = Change::of(changes[row]).is_some_and(Change::adds);
        Record {
            split: keys[row],
            sequence: if adds {
                counts[row] * SUMS + sums[row]
            } else {
                DELETED
            },
        }
    };
    rows.into_iter().map(record).collect()
}

/// Count and sum of the first records of a key.
fn counted(key: i64, count: i64) -> i64 {
    let first = key % PARTS;
    count * SUMS + count * first + PARTS * count * (count - 1) / 2
}

/// How many records of a split are of its part.
fn size(records: i64, part: i64) -> i64 {
    (records - part + PARTS - 1) / PARTS
}

/// The newest row of every key of a topic, as its last reader has them.
pub(crate) fn newest<'a>(records: impl Iterator<Item = &'a Record>) -> BTreeMap<i64, i64> {
    let mut newest = BTreeMap::new();
    for Record { split, sequence } in records {
        if *sequence == DELETED {
            newest.remove(split);
        } else {
            newest.insert(*split, *sequence);
        }
    }
    newest
}

/// What must be there in the end.
pub(crate) fn expected(sink: &str, topics: &BTreeMap<String, Topic>) -> BTreeMap<i64, i64> {
    let splits = topics.values().flat_map(|topic| &topic.splits);
    let keys = splits.flat_map(|split| {
        let of = |part| (split.number * PARTS + part, size(split.records, part));
        (0..PARTS).map(of)
    });
    let keys = keys.filter(|(_, count)| *count > 0);
    if sink == COUNTS {
        return keys
            .map(|(key, count)| (key, counted(key, count)))
            .collect();
    }
    let mut spread: BTreeMap<i64, i64> = BTreeMap::new();
    for (_, count) in keys {
        *spread.entry(count).or_default() += SUMS + 1;
    }
    spread
}

/// What is wrong with the records of a partition, as far as they have come.
pub(crate) fn fault(sink: &str, records: &[Record]) -> Option<String> {
    let mut before: BTreeMap<i64, i64> = BTreeMap::new();
    for Record {
        split: key,
        sequence,
    } in records
    {
        let (count, known) = (sequence / SUMS, before.get(key).copied());
        if sink == COUNTS {
            if known.is_some_and(|known| known >= count) || *sequence == DELETED {
                return Some(format!(
                    "key {key} goes from {known:?} records to {sequence}"
                ));
            }
            if *sequence != counted(*key, count) {
                return Some(format!(
                    "key {key} has {sequence}, and {} with {count} records",
                    counted(*key, count)
                ));
            }
        } else if *sequence == DELETED && known.is_none_or(|known| known == 0) {
            return Some(format!("the count {key} is deleted, and is not there"));
        } else if *sequence != DELETED && (count < 1 || sequence % SUMS != count) {
            return Some(format!("the count {key} is said to have {sequence}"));
        }
        before.insert(*key, count.max(0));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_records_of_a_key_are_counted_and_summed_up() {
        // Split 2 has the records 0 to 9; its part 1 those of 1, 5 and 9.
        assert_eq!(size(10, 1), 3);
        assert_eq!(size(10, 2), 2);
        assert_eq!(size(1, 3), 0);
        assert_eq!(counted(9, 3), 3 * SUMS + 15);
        assert_eq!(counted(9, 1), SUMS + 1);
    }

    #[test]
    fn a_key_that_goes_back_or_is_of_other_records_is_a_fault() {
        let records = |all: &[(i64, i64)]| -> Vec<Record> {
            let record = |(split, sequence): &(i64, i64)| Record {
                split: *split,
                sequence: *sequence,
            };
            all.iter().map(record).collect()
        };
        let good = [(9, counted(9, 1)), (8, counted(8, 2)), (9, counted(9, 3))];
        assert_eq!(fault(COUNTS, &records(&good)), None);
        for more in [
            (9, counted(9, 3)),
            (9, counted(9, 2)),
            (9, counted(8, 4)),
            (9, DELETED),
        ] {
            let all = [&good[..], &[more]].concat();
            assert!(fault(COUNTS, &records(&all)).is_some(), "{more:?}");
        }
        assert_eq!(
            fault(
                SPREAD,
                &records(&[(3, SUMS + 1), (3, DELETED), (3, 2 * SUMS + 2)])
            ),
            None
        );
        assert!(fault(SPREAD, &records(&[(3, DELETED)])).is_some());
        assert!(fault(SPREAD, &records(&[(3, SUMS + 2)])).is_some());
    }
}
