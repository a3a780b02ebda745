//! What the rows of a batch become: keys, values, and what is written beside them.

use std::sync::Arc;

use arrow_array::{RecordBatch, UInt64Array};
use arrow_schema::{ArrowError, Schema};
use arrow_select::take::take_record_batch;
use millstream_connect::{Result, WriterContext};
use millstream_formats::{EncodedRows, Encoder};
use millstream_spec::ValidSink;
use millstream_spec::connector::KafkaSink;
use millstream_types::change::CHANGE_COLUMN;

use super::beside::{Beside, BesideColumns};
use super::keys::{Key, Keys};
use super::upserts::{Upserts, refuse_without_key};
use crate::encoding;
use crate::kafka::failure;
use crate::kafka::ffi::{FullRecord, Record};

/// Makes records of rows.
#[derive(Debug)]
pub(super) struct Rows {
    sink: String,
    encoder: Encoder,
    /// The columns of the value; `None` if they are all in it.
    value: Option<Vec<usize>>,
    key: Option<Key>,
    beside: Option<BesideColumns>,
    updates: bool,
}

/// The records of one batch, in the order in which they are written.
pub(super) struct Records<'a> {
    values: &'a EncodedRows,
    keys: Option<Keys<'a>>,
    beside: Option<Vec<Beside>>,
    /// Which rows are written, if not each of them with its value.
    upserts: Option<Upserts>,
}

impl Rows {
    /// # Errors
    /// The sink has no column for its key, or for what is written beside a value; or its format
    /// cannot hold one.
    pub(super) fn new(spec: &ValidSink, options: &KafkaSink, cx: &WriterContext) -> Result<Self> {
        let sink = &spec.name;
        let updates = cx.changelog.updates();
        if updates {
            refuse_without_key(sink, options)?;
        }
        let value = value_columns(spec, &cx.schema);
        let of_value = match &value {
            None => Arc::clone(&cx.schema),
            Some(columns) => Arc::new(cx.schema.project(columns).map_err(|error| failed(&error))?),
        };
        Ok(Self {
            sink: sink.clone(),
            encoder: encoding::encoder(spec, &of_value)?.with_nulls(),
            value,
            key: Key::new(sink, &spec.format, options, &cx.schema)?,
            beside: BesideColumns::new(sink, &spec.metadata, &cx.schema)?,
            updates,
        })
    }

    /// The records of a batch.
    ///
    /// # Errors
    /// A value cannot be written, or a row of a stream that updates has no key.
    pub(super) fn of(&mut self, batch: &RecordBatch) -> Result<Records<'_>> {
        let unfit = |error| encoding::failed(&self.sink, &error);
        let keys = self.key.as_mut().map(|key| key.of(batch));
        let keys = keys.transpose().map_err(unfit)?;
        let beside = self.beside.as_ref().map(|columns| columns.of(batch));
        let beside = beside.transpose()?;
        let upserts = match &keys {
            Some(keys) if self.updates => Some(Upserts::of(&self.sink, batch, keys)?),
            _ => None,
        };
        let value = match &self.value {
            None => batch.clone(),
            Some(columns) => batch.project(columns).map_err(|error| failed(&error))?,
        };
        let value = match &upserts {
            Some(upserts) if upserts.with_value().len() < value.num_rows() => {
                let rows = UInt64Array::from_iter_values(upserts.with_value().iter().copied());
                take_record_batch(&value, &rows).map_err(|error| failed(&error))?
            }
            _ => value,
        };
        Ok(Records {
            values: self.encoder.encode(&value).map_err(unfit)?,
            keys,
            beside,
            upserts,
        })
    }
}

impl Records<'_> {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        let upserts = self.upserts.as_ref();
        upserts.map_or(self.values.len(), Upserts::len)
    }

    /// Bytes of all values.
    pub(super) fn bytes(&self) -> usize {
        self.values.bytes().len()
    }

    /// Bytes of the largest record, with its headers.
    pub(super) fn largest(&self) -> usize {
        let headers = self.beside.iter().flatten().map(Beside::bytes).max();
        let records = self.iter().map(Record::bytes).max();
        records.unwrap_or(0) + headers.unwrap_or(0)
    }

    /// Whether something is written beside the values.
    pub(super) const fn has_beside(&self) -> bool {
        self.beside.is_some()
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        (0..self.len()).map(|index| self.record(index))
    }

    /// All of them with what is written beside each.
    pub(super) fn iter_full(&self) -> impl Iterator<Item = FullRecord<'_>> {
        (0..self.len()).map(|index| {
            let beside = self
                .beside
                .as_deref()
                .and_then(|all| all.get(self.row(index)));
            FullRecord {
                record: self.record(index),
                headers: beside.map_or(&[], |beside| beside.headers.as_slice()),
                timestamp_ms: beside.and_then(|beside| beside.timestamp_ms),
            }
        })
    }

    /// Which row of the batch a record is.
    fn row(&self, index: usize) -> usize {
        let upserts = self.upserts.as_ref();
        upserts.map_or(index, |upserts| upserts.row(index))
    }

    fn record(&self, index: usize) -> Record<'_> {
        let upserts = self.upserts.as_ref();
        let value = upserts.map_or(Some(index), |upserts| upserts.value(index));
        let keys = self.keys.as_ref();
        Record {
            key: keys.and_then(|keys| keys.get(self.row(index))),
            value: value
                .filter(|value| !self.values.is_absent(*value))
                .map(|value| self.values.row(value)),
        }
    }
}

/// The columns of the records' values; `None` if they are all of them.
fn value_columns(spec: &ValidSink, schema: &Schema) -> Option<Vec<usize>> {
    let columns = schema.fields().iter().enumerate();
    let of_value: Vec<usize> = columns
        .filter(|(_, field)| field.name() != CHANGE_COLUMN && spec.is_in_value(field.name()))
        .map(|(index, _)| index)
        .collect();
    (of_value.len() < schema.fields().len()).then_some(of_value)
}

fn failed(error: &ArrowError) -> millstream_types::Failure {
    failure::broker(error.to_string())
}
