//! Columns of what Kafka keeps beside a record's value.

use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, Int32Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, Schema, SchemaRef};
use millstream_spec::{Metadata, ValidSource};
use millstream_types::schema::{ColumnType, UTC};

use super::Place;

/// The first millisecond of the year 0000 and the last one of 9999, since 1970.
const YEARS_0_TO_9999: std::ops::RangeInclusive<i64> = -62_167_219_200_000..=253_402_300_799_999;

/// What Kafka keeps beside a record's value, but for its place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Beside<'a> {
    /// The key; `None` for a record without one.
    pub key: Option<&'a [u8]>,
    /// The headers as the text of a JSON object. Not looked at unless they are
    /// [wanted](Wanted::headers).
    pub headers: &'a str,
    /// The timestamp, milliseconds since 1970; `None` for a record without one.
    pub timestamp_ms: Option<i64>,
}

/// What of it anybody reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Key, headers or timestamp.
    pub anything: bool,
    /// The headers.
    pub headers: bool,
}

/// What of it cannot be a value of its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    #[error(
        "its key is not UTF-8, and the metadata column of it is of type string; `type: bytes` takes \
         any key"
    )]
    Key,
    #[error("its timestamp, {0} ms since 1970, is outside the years 0000 to 9999")]
    Timestamp(i64),
}

/// Builds those columns.
#[derive(Debug)]
pub(super) struct MetadataColumns {
    /// The columns of the whole batch.
    schema: SchemaRef,
    /// Each with its number in the batch, ascending.
    columns: Vec<(usize, Values)>,
    bytes: usize,
}

#[derive(Debug)]
enum Values {
    Key(StringBuilder),
    KeyBytes(BinaryBuilder),
    Headers(StringBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    Partition(Int32Builder),
    Offset(Int64Builder),
    Topic(StringBuilder),
}

impl MetadataColumns {
    /// Those of these columns that are not of the record's value, and the others; `None` if all
    /// are.
    pub(super) fn new(spec: &ValidSource, schema: &SchemaRef) -> Option<(Self, SchemaRef)> {
        let mut columns = Vec::new();
        let mut others = Vec::new();
        for (index, field) in schema.fields().iter().enumerate() {
            let metadata = spec.metadata.iter().find(|one| one.name == *field.name());
            match metadata {
                Some(one) => {
                    columns.push((index, Values::new(one.from, one.column().column_type)));
                }
                None => others.push(Arc::clone(field)),
            }
        }
        (!columns.is_empty()).then(|| {
            let metadata = Self {
                schema: Arc::clone(schema),
                columns,
                bytes: 0,
            };
            (metadata, Arc::new(Schema::new(others)))
        })
    }

    pub(super) fn wanted(&self) -> Wanted {
        let has = |is: fn(&Values) -> bool| self.columns.iter().any(|(_, values)| is(values));
        Wanted {
            anything: has(|values| {
                !matches!(
                    values,
                    Values::Partition(_) | Values::Offset(_) | Values::Topic(_)
                )
            }),
            headers: has(|values| matches!(values, Values::Headers(_))),
        }
    }

    /// Bytes of keys and headers since the last [`finish`](Self::finish).
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether all of it can be values.
    pub(super) fn check(&self, beside: Beside<'_>) -> Result<(), Unfit> {
        for (_, values) in &self.columns {
            match (values, beside.key, beside.timestamp_ms) {
                (Values::Key(_), Some(key), _) if std::str::from_utf8(key).is_err() => {
                    return Err(Unfit::Key);
                }
                (Values::Timestamp(_), _, Some(time)) if !YEARS_0_TO_9999.contains(&time) => {
                    return Err(Unfit::Timestamp(time));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Appends one value to each column, of what has been checked.
    pub(super) fn push(&mut self, place: Place<'_>, beside: Beside<'_>) {
        for (_, values) in &mut self.columns {
            match values {
                Values::Key(column) => {
                    column.append_option(beside.key.and_then(|key| std::str::from_utf8(key).ok()));
                    self.bytes += beside.key.map_or(0, <[u8]>::len);
                }
                Values::KeyBytes(column) => {
                    column.append_option(beside.key);
                    self.bytes += beside.key.map_or(0, <[u8]>::len);
                }
                Values::Headers(column) => {
                    column.append_value(beside.headers);
                    self.bytes += beside.headers.len();
                }
                Values::Timestamp(column) => {
                    let micros = beside
                        .timestamp_ms
                        .and_then(|millis| millis.checked_mul(1_000));
                    column.append_option(micros);
                }
                Values::Partition(column) => column.append_value(place.partition),
                Values::Offset(column) => column.append_value(place.offset),
                Values::Topic(column) => column.append_value(place.topic),
            }
        }
    }

    /// Adds the columns to those of the value.
    pub(super) fn finish(&mut self, value: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        self.bytes = 0;
        let mut values = value.columns().iter();
        let mut ours = self.columns.iter_mut().peekable();
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        for index in 0..self.schema.fields().len() {
            let mine = ours.next_if(|(at, _)| *at == index);
            match mine {
                Some((_, column)) => arrays.push(column.finish()),
                None => arrays.extend(values.next().cloned()),
            }
        }
        RecordBatch::try_new(Arc::clone(&self.schema), arrays)
    }
}

impl Values {
    fn new(from: Metadata, column_type: ColumnType) -> Self {
        match (from, column_type) {
            (Metadata::Key, ColumnType::Bytes) => Self::KeyBytes(BinaryBuilder::new()),
            (Metadata::Key, _) => Self::Key(StringBuilder::new()),
            (Metadata::Headers, _) => Self::Headers(StringBuilder::new()),
            (Metadata::Timestamp, _) => {
                Self::Timestamp(TimestampMicrosecondBuilder::new().with_timezone(UTC))
            }
            (Metadata::Partition, _) => Self::Partition(Int32Builder::new()),
            (Metadata::Offset, _) => Self::Offset(Int64Builder::new()),
            (Metadata::Topic, _) => Self::Topic(StringBuilder::new()),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Key(column) | Self::Headers(column) | Self::Topic(column) => {
                Arc::new(column.finish())
            }
            Self::KeyBytes(column) => Arc::new(column.finish()),
            Self::Timestamp(column) => Arc::new(column.finish()),
            Self::Partition(column) => Arc::new(column.finish()),
            Self::Offset(column) => Arc::new(column.finish()),
        }
    }
}
