//! Records that could not be decoded, in columns.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::builder::{BinaryBuilder, Int32Builder, Int64Builder, StringBuilder};
use arrow_schema::ArrowError;
use millstream_connect::source::dead_letter_schema;
use millstream_types::Batch;

use super::Place;

/// Builds batches of [`dead_letter_schema`].
#[derive(Debug, Default)]
pub(super) struct DeadLetters {
    payloads: BinaryBuilder,
    topics: StringBuilder,
    partitions: Int32Builder,
    offsets: Int64Builder,
    reasons: StringBuilder,
    rows: usize,
    bytes: usize,
}

impl DeadLetters {
    pub(super) fn push(&mut self, payload: Option<&[u8]>, place: Place<'_>, reason: &str) {
        self.payloads.append_option(payload);
        self.topics.append_value(place.topic);
        self.partitions.append_value(place.partition);
        self.offsets.append_value(place.offset);
        self.reasons.append_value(reason);
        self.rows += 1;
        self.bytes += payload.map_or(0, <[u8]>::len);
    }

    pub(super) const fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of the payloads.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn finish(&mut self) -> Result<Option<Batch>, ArrowError> {
        if self.rows == 0 {
            return Ok(None);
        }
        (self.rows, self.bytes) = (0, 0);
        RecordBatch::try_new(
            dead_letter_schema(),
            vec![
                Arc::new(self.payloads.finish()),
                Arc::new(self.topics.finish()),
                Arc::new(self.partitions.finish()),
                Arc::new(self.offsets.finish()),
                Arc::new(self.reasons.finish()),
            ],
        )
        .map(|records| Some(Batch::new(records)))
    }
}
