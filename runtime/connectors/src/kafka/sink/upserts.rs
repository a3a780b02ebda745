//! What is written of a stream that updates: for every key the newest row, or a tombstone if there is
//! none any more.
//!
//! A batch may change a key several times. Only its last change is written: readers see the batch as
//! a whole, or not at all. Where that is a row taken back by an update, the row that replaces it was
//! dropped on its way, as by `HAVING`, so nothing is left of the key.

use std::collections::HashSet;

use arrow_array::RecordBatch;
use millstream_connect::Result;
use millstream_spec::connector::{KafkaPartitioner, KafkaSink};
use millstream_types::change::{self, Change};
use millstream_types::{ErrorCode, ErrorKind, Failure};

use super::keys::Keys;

/// The last change of every key of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Upserts {
    written: Vec<Written>,
    with_value: Vec<u64>,
}

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Written {
    row: usize,
    /// Which of the values it has; a tombstone has none.
    value: Option<usize>,
}

impl Upserts {
    /// The last change of every key, in the order of these changes.
    ///
    /// # Errors
    /// A row has no key.
    pub(super) fn of(sink: &str, batch: &RecordBatch, keys: &Keys<'_>) -> Result<Self> {
        let changes = change::changes(batch).ok_or_else(|| malformed(sink))?;
        let mut seen: HashSet<&[u8]> = HashSet::with_capacity(batch.num_rows());
        let mut written = Vec::with_capacity(batch.num_rows());
        for (row, change) in changes.values().iter().enumerate().rev() {
            let key = keys.get(row).ok_or_else(|| without_key(sink))?;
            if seen.insert(key) {
                let change = Change::of(*change).ok_or_else(|| malformed(sink))?;
                written.push((row, change.adds()));
            }
        }
        written.reverse();
        let mut upserts = Self::default();
        for (row, has_value) in written {
            let value = has_value.then_some(upserts.with_value.len());
            if has_value {
                upserts
                    .with_value
                    .push(u64::try_from(row).unwrap_or(u64::MAX));
            }
            upserts.written.push(Written { row, value });
        }
        Ok(upserts)
    }

    /// How many records there are.
    pub(super) const fn len(&self) -> usize {
        self.written.len()
    }

    /// The rows whose values are written.
    pub(super) fn with_value(&self) -> &[u64] {
        &self.with_value
    }

    /// The row of a record.
    pub(super) fn row(&self, index: usize) -> usize {
        self.written[index].row
    }

    /// Which of the values a record has, counted among those that are written; `None` for a tombstone.
    pub(super) fn value(&self, index: usize) -> Option<usize> {
        self.written[index].value
    }
}

/// Checks that the records of one key go to one partition, in their order.
///
/// # Errors
/// They have no key, or the partition is chosen at random.
pub(super) fn refuse_without_key(sink: &str, options: &KafkaSink) -> Result<()> {
    let reason = if !options.has_key() {
        "it has no key: give `key` or `keyFields`"
    } else if options.partitioner == KafkaPartitioner::Random {
        "`partitioner: Random` puts the records of one key into several partitions"
    } else {
        return Ok(());
    };
    Err(Failure::new(
        ErrorCode::PlanMismatch,
        ErrorKind::Internal,
        format!(
            "sink `{sink}` is given a stream that updates, but {reason}; the plan should have refused this job"
        ),
    ))
}

#[cold]
fn without_key(sink: &str) -> Failure {
    let message = format!(
        "sink `{sink}`: a row that updates has a null as its key, and a topic of updates needs a key in \
         every record: drop such rows or replace the null (COALESCE) in SQL, or use `keyFields`, in which \
         a null is a value"
    );
    Failure::new(ErrorCode::ExpressionFailed, ErrorKind::InvalidJob, message)
}

#[cold]
fn malformed(sink: &str) -> Failure {
    Failure::new(
        ErrorCode::PlanMismatch,
        ErrorKind::Internal,
        format!("sink `{sink}` is given rows that do not say what they change"),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int32Array, StringArray, UInt8Array};
    use millstream_types::change::CHANGE_COLUMN;
    use proptest::prelude::*;

    use super::*;

    type Row = (Option<i32>, Change);

    fn batch(rows: &[Row]) -> (RecordBatch, ArrayRef) {
        let text = |(key, _): &Row| key.map(|key| key.to_string());
        let keys: ArrayRef = Arc::new(rows.iter().map(text).collect::<StringArray>());
        let numbers: Int32Array = rows.iter().map(|(key, _)| *key).collect();
        let changes: UInt8Array = rows.iter().map(|(_, change)| Some(*change as u8)).collect();
        let columns: [(&str, ArrayRef, bool); 2] = [
            ("key", Arc::new(numbers), true),
            (CHANGE_COLUMN, Arc::new(changes), false),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        (batch, keys)
    }

    /// Row and whether it has a value, of all that is written.
    fn written(rows: &[Row]) -> Vec<(usize, bool)> {
        let (batch, keys) = batch(rows);
        let upserts = Upserts::of("out", &batch, &Keys::Text(keys)).unwrap();
        let all = (0..upserts.len()).map(|index| (upserts.row(index), upserts.value(index)));
        for (row, value) in all.clone() {
            if let Some(value) = value {
                assert_eq!(upserts.with_value()[value], row as u64);
            }
        }
        all.map(|(row, value)| (row, value.is_some())).collect()
    }

    #[test]
    fn the_last_change_of_a_key_is_written() {
        use Change::{Delete, Insert, UpdateAfter, UpdateBefore};
        let (one, other) = (Some(1), Some(2));
        for (rows, expected) in [
            (vec![], vec![]),
            (vec![(one, Insert)], vec![(0, true)]),
            (vec![(one, Delete)], vec![(0, false)]),
            // An update is its new row.
            (
                vec![(one, UpdateBefore), (one, UpdateAfter)],
                vec![(1, true)],
            ),
            // The new row was dropped by a filter behind the aggregate; or the old one.
            (vec![(one, UpdateBefore)], vec![(0, false)]),
            (vec![(one, UpdateAfter)], vec![(0, true)]),
            (
                vec![
                    (one, Insert),
                    (other, UpdateBefore),
                    (one, Delete),
                    (other, UpdateAfter),
                ],
                vec![(2, false), (3, true)],
            ),
            (vec![(one, Delete), (one, Insert)], vec![(1, true)]),
            (
                vec![(other, Insert), (one, Insert), (other, UpdateBefore)],
                vec![(1, true), (2, false)],
            ),
        ] {
            assert_eq!(written(&rows), expected, "{rows:?}");
        }
    }

    #[test]
    fn a_row_without_a_key_is_refused() {
        let (batch, keys) = batch(&[(Some(1), Change::Insert), (None, Change::Insert)]);
        let failure = Upserts::of("out", &batch, &Keys::Text(keys)).unwrap_err();
        assert_eq!(failure.kind, ErrorKind::InvalidJob);
        assert!(failure.message.contains("keyFields"), "{failure}");
    }

    #[test]
    fn a_topic_of_updates_has_a_key_that_decides_the_partition() {
        for (options, part) in [
            ("", Some("`keyFields`")),
            (r#","key":"id","partitioner":"Random""#, Some("Random")),
            (r#","key":"id""#, None),
            (r#","keyFields":["id"]"#, None),
        ] {
            let options = format!(r#"{{"bootstrapServers":"kafka","topic":"t"{options}}}"#);
            let options: KafkaSink = serde_json::from_str(&options).unwrap();
            let refused = refuse_without_key("out", &options).err();
            let message = refused.map(|failure| failure.message);
            match part {
                None => assert_eq!(message, None),
                Some(part) => assert!(message.unwrap().contains(part)),
            }
        }
    }

    fn change() -> impl Strategy<Value = Change> {
        (0_u8..4).prop_map(|value| Change::of(value).unwrap())
    }

    proptest! {
        #[test]
        fn a_reader_of_the_records_has_what_a_reader_of_all_changes_has(
            rows in proptest::collection::vec(((0..5).prop_map(Some), change()), 0..40),
        ) {
            let mut expected = BTreeMap::new();
            for (row, (key, change)) in rows.iter().enumerate() {
                if change.adds() {
                    expected.insert(*key, row);
                } else {
                    expected.remove(key);
                }
            }
            let mut found = BTreeMap::new();
            let written = written(&rows);
            prop_assert!(written.is_sorted());
            for (row, has_value) in written {
                let (key, _) = rows[row];
                if has_value {
                    prop_assert_eq!(found.insert(key, row), None, "one record of a key");
                }
            }
            prop_assert_eq!(found, expected);
        }
    }
}
