//! What stands in the bodies of frames.
//!
//! - Schema: JSON, a list of `{"name", "type", "nullable"}`; the type as Arrow writes it. It is sent in
//!   front of a channel's first batch, and again if it changes: a receiver needs no plan to read.
//! - Batch: length of the metadata (four bytes, then four zeros), the metadata of an Arrow IPC record
//!   batch, zeros up to a multiple of 64, its buffers. Read into an aligned buffer, columns lie in
//!   it as they are.
//! - Watermark: microseconds, eight bytes. Credit: bytes, eight bytes.
//! - Barrier: checkpoint, eight bytes; when it was triggered, eight bytes; what is left of its aligned
//!   timeout in milliseconds, eight bytes, all ones without one; kind, one byte.

use std::sync::Arc;

use arrow_buffer::Buffer;
use arrow_ipc::reader::RecordBatchDecoder;
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_ipc::{MetadataVersion, root_as_message};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use millstream_types::{Barrier, Batch, CheckpointId, CheckpointKind, EventTime, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Body, FrameError, Kind};

pub(super) const BARRIER_BYTES: usize = 25;

/// Stands for no aligned timeout.
const NEVER: u64 = u64::MAX;

/// Arrow reads columns without a copy from buffers that begin at a multiple of this.
const ALIGNMENT: usize = 64;

/// Length of the metadata, and as many zeros: metadata is read from multiples of eight.
const PREFIX: usize = 8;

/// Rows that a batch can have at most, whatever it says.
const ROWS_MAX: usize = i32::MAX as usize;

const EVERY_KIND: [CheckpointKind; 4] = [
    CheckpointKind::Checkpoint,
    CheckpointKind::Savepoint,
    CheckpointKind::StopWithSavepoint { drain: false },
    CheckpointKind::StopWithSavepoint { drain: true },
];

#[derive(Debug, Serialize, Deserialize)]
struct Column {
    name: String,
    #[serde(rename = "type")]
    data_type: String,
    nullable: bool,
}

/// Whether the values of a column lie in buffers of its own, whose lengths are all there is to check.
fn is_flat(data_type: &DataType) -> bool {
    data_type.is_primitive()
        || matches!(
            data_type,
            DataType::Null
                | DataType::Boolean
                | DataType::Utf8
                | DataType::LargeUtf8
                | DataType::Binary
                | DataType::LargeBinary
        )
}

pub(crate) fn encode_schema(schema: &Schema) -> Result<Body, FrameError> {
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        if !is_flat(field.data_type()) {
            let (name, data_type) = (field.name(), field.data_type());
            let what = format!("column `{name}` of type {data_type} cannot be sent to a worker");
            return Err(unreadable(Kind::Schema, &what));
        }
        columns.push(Column {
            name: field.name().clone(),
            data_type: field.data_type().to_string(),
            nullable: field.is_nullable(),
        });
    }
    let text = serde_json::to_vec(&columns);
    let text = text.map_err(|error| unreadable(Kind::Schema, &error))?;
    Ok(Body::new(text, Vec::new()))
}

pub(crate) fn decode_schema(body: &[u8]) -> Result<SchemaRef, FrameError> {
    let columns: Vec<Column> =
        serde_json::from_slice(body).map_err(|error| unreadable(Kind::Schema, &error))?;
    let mut fields = Vec::with_capacity(columns.len());
    for Column {
        name,
        data_type,
        nullable,
    } in columns
    {
        let data_type: DataType = data_type
            .parse()
            .map_err(|error| unreadable(Kind::Schema, &error))?;
        if !is_flat(&data_type) {
            let what = format!("column `{name}` has the type {data_type}");
            return Err(unreadable(Kind::Schema, &what));
        }
        fields.push(Field::new(name, data_type, nullable));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// Encodes the batches of one channel.
pub(crate) struct BatchEncoder {
    generator: IpcDataGenerator,
    options: IpcWriteOptions,
    dictionaries: DictionaryTracker,
    context: IpcWriteContext,
}

impl Default for BatchEncoder {
    fn default() -> Self {
        Self {
            generator: IpcDataGenerator::default(),
            options: IpcWriteOptions::default(),
            dictionaries: DictionaryTracker::new(true),
            context: IpcWriteContext::default(),
        }
    }
}

impl BatchEncoder {
    pub(crate) fn encode(&mut self, batch: &Batch) -> Result<Body, FrameError> {
        let (dictionaries, options) = (&mut self.dictionaries, &self.options);
        let encoded =
            (self.generator).encode(batch.records(), dictionaries, options, &mut self.context);
        let (_, encoded) = encoded.map_err(|error| unreadable(Kind::Batch, &error))?;
        let metadata = encoded.ipc_message;
        let length = u32::try_from(metadata.len());
        let length = length.map_err(|error| unreadable(Kind::Batch, &error))?;
        let mut head = Vec::with_capacity(PREFIX + metadata.len() + ALIGNMENT);
        head.extend_from_slice(&length.to_le_bytes());
        head.resize(PREFIX, 0);
        head.extend_from_slice(&metadata);
        head.resize(head.len().next_multiple_of(ALIGNMENT), 0);
        Ok(Body::new(head, encoded.arrow_data))
    }
}

#[expect(
    clippy::disallowed_types,
    reason = "Arrow's decoder wants dictionaries in one; there are none"
)]
pub(crate) fn decode_batch(body: &Buffer, schema: &SchemaRef) -> Result<Batch, FrameError> {
    let wrong = |what: &str| unreadable(Kind::Batch, &what);
    let length = body.first_chunk::<4>().copied().map(u32::from_le_bytes);
    let end = length.map(|length| PREFIX + length as usize);
    let end = end.ok_or_else(|| wrong("it has no metadata"))?;
    let start = end.next_multiple_of(ALIGNMENT);
    let metadata = body.get(PREFIX..end).filter(|_| start <= body.len());
    let metadata = metadata.ok_or_else(|| wrong("its metadata is longer than it is"))?;
    let data = body.slice(start);
    let message = root_as_message(metadata).map_err(|error| unreadable(Kind::Batch, &error))?;
    let batch = message.header_as_record_batch();
    let batch = batch.ok_or_else(|| wrong("its metadata is not that of a batch"))?;
    check(&batch, schema, data.len()).map_err(wrong)?;
    let records = RecordBatchDecoder::try_new(
        &data,
        batch,
        Arc::clone(schema),
        &std::collections::HashMap::new(),
        &MetadataVersion::V5,
    )
    .and_then(RecordBatchDecoder::read_record_batch);
    records
        .map(Batch::new)
        .map_err(|error| unreadable(Kind::Batch, &error))
}

/// Whether the metadata speaks of the columns of the schema, and each column lies within the data and
/// has room for its rows. The decoder checks what lies there, and panics where this does not hold.
fn check(
    batch: &arrow_ipc::RecordBatch<'_>,
    schema: &Schema,
    bytes: usize,
) -> Result<(), &'static str> {
    if batch.compression().is_some() || batch.variadicBufferCounts().is_some() {
        return Err("it is compressed, or has views");
    }
    let rows = usize::try_from(batch.length()).ok();
    let rows = rows.filter(|rows| *rows <= ROWS_MAX);
    let rows = rows.ok_or("it has an impossible number of rows")?;
    let mut nodes = batch.nodes().ok_or("it names no columns")?.iter();
    let mut buffers = batch.buffers().ok_or("it names no buffers")?.iter();
    for field in schema.fields() {
        let node = nodes.next().ok_or("a column is missing")?;
        let nulls = usize::try_from(node.null_count()).ok();
        let nulls = nulls.filter(|nulls| node.length() == batch.length() && *nulls <= rows);
        let nulls = nulls.ok_or("a column has another number of rows")?;
        for (needed, unit) in needed(field.data_type(), rows, nulls > 0) {
            let buffer = buffers.next().ok_or("a buffer is missing")?;
            let at = usize::try_from(buffer.offset()).ok();
            let length = usize::try_from(buffer.length()).ok();
            let within = at.zip(length).is_some_and(|(at, length)| {
                length >= needed && at.checked_add(length).is_some_and(|end| end <= bytes)
            });
            if !within {
                return Err("a column lies outside of it");
            }
            if length.is_none_or(|length| length % unit != 0) {
                return Err("a column ends within a value");
            }
        }
    }
    if nodes.next().is_some() || buffers.next().is_some() {
        return Err("it has more columns than its schema");
    }
    Ok(())
}

/// Of each buffer of a flat column the length, at least, and that of one value in it.
fn needed(data_type: &DataType, rows: usize, has_nulls: bool) -> Vec<(usize, usize)> {
    let bits = rows.div_ceil(8);
    let nulls = (if has_nulls { bits } else { 0 }, 1);
    // Of no rows there may be no offset.
    let offsets = |width: usize| (if rows == 0 { 0 } else { (rows + 1) * width }, width);
    match data_type {
        DataType::Null => Vec::new(),
        DataType::Boolean => vec![nulls, (bits, 1)],
        DataType::Utf8 | DataType::Binary => vec![nulls, offsets(size_of::<i32>()), (0, 1)],
        DataType::LargeUtf8 | DataType::LargeBinary => {
            vec![nulls, offsets(size_of::<i64>()), (0, 1)]
        }
        other => {
            let width = other.primitive_width().unwrap_or(1);
            vec![nulls, (rows * width, width)]
        }
    }
}

pub(crate) fn encode_number(number: u64) -> Body {
    Body::new(number.to_le_bytes().to_vec(), Vec::new())
}

pub(crate) fn decode_number(kind: Kind, body: &[u8]) -> Result<u64, FrameError> {
    let bytes: [u8; 8] = exactly(kind, body)?;
    Ok(u64::from_le_bytes(bytes))
}

pub(crate) fn encode_watermark(time: EventTime) -> Body {
    encode_number(time.0.cast_unsigned())
}

pub(crate) fn decode_watermark(body: &[u8]) -> Result<EventTime, FrameError> {
    decode_number(Kind::Watermark, body).map(|number| EventTime(number.cast_signed()))
}

pub(crate) fn encode_barrier(barrier: Barrier) -> Body {
    let kind: u8 = match barrier.kind {
        CheckpointKind::Checkpoint => 0,
        CheckpointKind::Savepoint => 1,
        CheckpointKind::StopWithSavepoint { drain: false } => 2,
        CheckpointKind::StopWithSavepoint { drain: true } => 3,
    };
    let mut bytes = Vec::with_capacity(BARRIER_BYTES);
    bytes.extend_from_slice(&barrier.checkpoint.0.to_le_bytes());
    bytes.extend_from_slice(&barrier.triggered_at.0.to_le_bytes());
    let timeout = barrier.aligned_timeout_ms.unwrap_or(NEVER);
    bytes.extend_from_slice(&timeout.to_le_bytes());
    bytes.push(kind);
    Body::new(bytes, Vec::new())
}

pub(crate) fn decode_barrier(body: &[u8]) -> Result<Barrier, FrameError> {
    let bytes: [u8; BARRIER_BYTES] = exactly(Kind::Barrier, body)?;
    let number = |at: usize| {
        let field = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>());
        field.copied().map_or(0, u64::from_le_bytes)
    };
    let kind = EVERY_KIND.get(usize::from(bytes[BARRIER_BYTES - 1]));
    let unknown = || unreadable(Kind::Barrier, &"there is no such kind of checkpoint");
    Ok(Barrier {
        checkpoint: CheckpointId(number(0)),
        kind: *kind.ok_or_else(unknown)?,
        triggered_at: Timestamp(number(8)),
        aligned_timeout_ms: Some(number(16)).filter(|timeout| *timeout != NEVER),
    })
}

fn exactly<const N: usize>(kind: Kind, body: &[u8]) -> Result<[u8; N], FrameError> {
    let length = body.len() as u64;
    body.try_into()
        .map_err(|_| FrameError::Length { kind, length })
}

fn unreadable(kind: Kind, reason: &dyn ToString) -> FrameError {
    FrameError::Body {
        kind,
        reason: reason.to_string(),
    }
}
