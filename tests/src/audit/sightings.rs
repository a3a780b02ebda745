//! What a reader saw, and where, so that two readers can be compared.

use std::collections::BTreeMap;

use crate::kafka::topics::Record;

/// Checksums of records by partition and offset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sightings {
    records: BTreeMap<(i32, i64), u32>,
}

impl Sightings {
    /// Notes a record.
    pub fn add(&mut self, record: &Record) {
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&record.key), &record.value);
        self.records
            .insert((record.partition, record.offset), checksum);
    }

    /// How many records were seen.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// How many of these a later reader does not see in the same place with the same content.
    pub fn retracted(&self, later: &Self) -> u64 {
        let gone = self
            .records
            .iter()
            .filter(|(place, checksum)| later.records.get(place) != Some(checksum))
            .count();
        u64::try_from(gone).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sightings(records: &[(i64, &str)]) -> Sightings {
        let mut sightings = Sightings::default();
        for (offset, value) in records {
            sightings.add(&Record {
                partition: 0,
                offset: *offset,
                key: b"key".to_vec(),
                value: value.as_bytes().to_vec(),
            });
        }
        sightings
    }

    #[test]
    fn more_records_retract_nothing() {
        let later = sightings(&[(0, "a"), (1, "b"), (3, "c")]);
        assert_eq!(sightings(&[(0, "a"), (1, "b")]).retracted(&later), 0);
    }

    #[test]
    fn a_record_that_vanished_changed_or_moved_is_retracted() {
        let seen = sightings(&[(0, "a"), (1, "b")]);
        assert_eq!(seen.retracted(&sightings(&[(0, "a")])), 1);
        assert_eq!(seen.retracted(&sightings(&[(0, "a"), (1, "B")])), 1);
        assert_eq!(seen.retracted(&sightings(&[(0, "a"), (2, "b")])), 1);
    }
}
