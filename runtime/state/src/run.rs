//! A run: an Arrow IPC file.
//!
//! Its columns are those of the key, [`DELETED`], those of the values and, for a table with a time to
//! live, [`CHANGED_AT`]. Rows are sorted by the hash of their key, and thereby by key group. What it
//! holds stands in the metadata of its schema.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::str::FromStr;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::{Buffer, MutableBuffer};
use arrow_ipc::convert::fb_to_schema;
use arrow_ipc::reader::{FileDecoder, read_footer_length};
use arrow_ipc::writer::{FileWriter, IpcWriteOptions};
use arrow_ipc::{Block, CompressionType, MetadataVersion, root_as_footer};
use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow_select::interleave::interleave_record_batch;
use bytes::Bytes;
use millstream_types::keys::{self, key_group};
use millstream_types::{ErrorCode, ErrorKind, Failure, FileRef};

use crate::coverage::{Coverage, Sequence};
use crate::local::unusable;
use crate::{Content, LocalFile, Result, bug};

/// Column that says that a key is gone. What its values are then means nothing.
pub(crate) const DELETED: &str = "$deleted";
/// Column with the time of the last change, in milliseconds since 1970.
pub(crate) const CHANGED_AT: &str = "$changed_at";
/// Most rows of a record batch, and about how many bytes: a column of texts holds at most 2 GiB.
const BATCH_ROWS: usize = 65_536;
const BATCH_BYTES: usize = 256 << 20;
const FORMAT: &str = "1";
/// Of a file that is not in memory, what is read at once to check it.
const PIECE: usize = 1 << 20;

/// Which columns of a run are the key, and how they are hashed.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// How many columns the key has, from the first.
    pub(crate) key: usize,
    /// How many of them, from the last, only tell entries of a key apart.
    pub(crate) entry: usize,
    pub(crate) max_parallelism: u32,
}

impl Shape {
    /// The hashes of a run's rows.
    pub(crate) fn hashes(
        self,
        rows: &RecordBatch,
    ) -> std::result::Result<Vec<u64>, keys::KeyError> {
        let mut hashes = Vec::new();
        let grouping: Vec<usize> = (0..self.key - self.entry).collect();
        keys::hash(rows, &grouping, &mut hashes)?;
        let entry = &rows.columns()[self.key - self.entry..self.key];
        if !entry.is_empty() {
            keys::entries(&mut hashes, entry, self.max_parallelism)?;
        }
        Ok(hashes)
    }

    pub(crate) const fn group(self, hash: u64) -> u32 {
        key_group(hash, self.max_parallelism)
    }
}

/// How many rows a batch has, of rows that have so many bytes together.
pub(crate) fn batch_rows(bytes: usize, rows: usize) -> usize {
    let row = bytes / rows.max(1);
    (BATCH_BYTES / row.max(1)).clamp(1, BATCH_ROWS)
}

/// The columns of a run.
pub(crate) fn schema(key: &[FieldRef], values: Vec<FieldRef>, has_ttl: bool) -> SchemaRef {
    let mut fields = key.to_vec();
    fields.push(Arc::new(Field::new(DELETED, DataType::Boolean, false)));
    fields.extend(values);
    if has_ttl {
        fields.push(Arc::new(Field::new(CHANGED_AT, DataType::UInt64, false)));
    }
    Arc::new(Schema::new(fields))
}

/// What the metadata of a run says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) operator: String,
    pub(crate) state: String,
    pub(crate) sequence: Sequence,
    pub(crate) coverage: Coverage,
    pub(crate) max_parallelism: u32,
    /// As [`Shape::entry`].
    pub(crate) entry: usize,
    pub(crate) rows: u64,
}

impl Header {
    fn metadata(&self) -> [(&'static str, String); 10] {
        let range = |range: &Range<u32>| format!("{}..{}", range.start, range.end);
        [
            ("millstream.format", FORMAT.to_owned()),
            ("millstream.operator", self.operator.clone()),
            ("millstream.state", self.state.clone()),
            ("millstream.sequence", self.sequence.to_string()),
            ("millstream.since", self.coverage.since.to_string()),
            ("millstream.keyGroups", range(&self.coverage.range)),
            ("millstream.complete", range(&self.coverage.complete)),
            (
                "millstream.maxParallelism",
                self.max_parallelism.to_string(),
            ),
            ("millstream.entryColumns", self.entry.to_string()),
            ("millstream.rows", self.rows.to_string()),
        ]
    }

    fn read(metadata: &BTreeMap<&str, &str>) -> Option<Self> {
        let text = |name: &str| metadata.get(name).copied();
        let range = |name: &str| {
            let (start, end) = text(name)?.split_once("..")?;
            Some(number(start)?..number(end)?)
        };
        if text("millstream.format") != Some(FORMAT) {
            return None;
        }
        Some(Self {
            operator: text("millstream.operator")?.to_owned(),
            state: text("millstream.state")?.to_owned(),
            sequence: number(text("millstream.sequence")?)?,
            coverage: Coverage {
                range: range("millstream.keyGroups")?,
                complete: range("millstream.complete")?,
                since: number(text("millstream.since")?)?,
            },
            max_parallelism: number(text("millstream.maxParallelism")?)?,
            entry: number(text("millstream.entryColumns")?)?,
            rows: number(text("millstream.rows")?)?,
        })
    }
}

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

/// Writes rows of these batches, in this order, as a file.
pub(crate) fn encode(
    header: &Header,
    batches: &[RecordBatch],
    order: &[(usize, usize)],
    schema: &Schema,
) -> Result<Bytes> {
    let failed = |error: arrow_schema::ArrowError| bug(&header.state, error);
    let metadata = header.metadata().into_iter();
    let metadata = metadata.map(|(name, value)| (name.to_owned(), value));
    let schema = Arc::new(schema.clone().with_metadata(metadata.collect()));
    let options = IpcWriteOptions::default()
        .try_with_compression(Some(CompressionType::LZ4_FRAME))
        .map_err(failed)?;
    let file = Vec::new();
    let mut writer = FileWriter::try_new_with_options(file, &schema, options).map_err(failed)?;
    let bytes = batches.iter().map(RecordBatch::get_array_memory_size).sum();
    let rows = batches.iter().map(RecordBatch::num_rows).sum();
    let batches: Vec<&RecordBatch> = batches.iter().collect();
    for order in order.chunks(batch_rows(bytes, rows)) {
        let rows = interleave_record_batch(&batches, order).map_err(failed)?;
        let columns = rows.columns().to_vec();
        let rows = RecordBatch::try_new(Arc::clone(&schema), columns).map_err(failed)?;
        writer.write(&rows).map_err(failed)?;
    }
    writer.finish().map_err(failed)?;
    writer.into_inner().map(Bytes::from).map_err(failed)
}

/// A run that was read. Its rows are decoded when they are looked at, a batch at a time.
pub(crate) struct Opened {
    pub(crate) header: Header,
    pub(crate) schema: SchemaRef,
    version: MetadataVersion,
    content: Source,
    /// Where its batches are, by offset and length.
    blocks: Vec<(Block, usize, usize)>,
}

impl Opened {
    /// How many batches it may have.
    pub(crate) const fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// The rows of one of them.
    pub(crate) fn batch(&self, at: usize, file: &FileRef) -> Result<Option<RecordBatch>> {
        let Some((block, offset, bytes)) = self.blocks.get(at) else {
            return Ok(None);
        };
        let decoder = FileDecoder::new(Arc::clone(&self.schema), self.version);
        let content = self.content.read(*offset, *bytes)?;
        let rows = decoder.read_record_batch(block, &content);
        rows.map_err(|error| corrupt(file, error))
    }

    /// Its rows.
    pub(crate) fn batches<'a>(
        &'a self,
        file: &'a FileRef,
    ) -> impl Iterator<Item = Result<RecordBatch>> + 'a {
        let decoder = FileDecoder::new(Arc::clone(&self.schema), self.version);
        let blocks = self.blocks.iter();
        blocks.filter_map(move |(block, offset, bytes)| {
            let read = self.content.read(*offset, *bytes).and_then(|content| {
                let rows = decoder.read_record_batch(block, &content);
                rows.map_err(|error| corrupt(file, error))
            });
            read.transpose()
        })
    }
}

/// Where the bytes of a run are.
enum Source {
    Memory(Buffer),
    /// Read when they are needed.
    Local(File, LocalFile),
}

impl Source {
    fn new(content: &Content) -> Result<Self> {
        Ok(match content {
            Content::Memory(bytes) => Self::Memory(Buffer::from(bytes.clone())),
            Content::Local(local) => {
                let file = File::open(local.path());
                let file = file.map_err(|error| unusable(local.path(), &error))?;
                Self::Local(file, local.clone())
            }
        })
    }

    fn len(&self) -> Result<usize> {
        match self {
            Self::Memory(bytes) => Ok(bytes.len()),
            Self::Local(file, local) => {
                let metadata = file.metadata();
                let metadata = metadata.map_err(|error| unusable(local.path(), &error))?;
                Ok(usize::try_from(metadata.len()).unwrap_or(usize::MAX))
            }
        }
    }

    fn read(&self, offset: usize, bytes: usize) -> Result<Buffer> {
        match self {
            Self::Memory(content) => Ok(content.slice_with_length(offset, bytes)),
            Self::Local(file, local) => {
                let mut content = MutableBuffer::from_len_zeroed(bytes);
                let read = file.read_exact_at(content.as_slice_mut(), offset as u64);
                read.map_err(|error| unusable(local.path(), &error))?;
                Ok(content.into())
            }
        }
    }

    fn crc32c(&self) -> Result<u32> {
        let length = self.len()?;
        let mut sum = 0;
        for offset in (0..length).step_by(PIECE) {
            let piece = self.read(offset, PIECE.min(length - offset))?;
            sum = crc32c::crc32c_append(sum, &piece);
        }
        Ok(sum)
    }
}

/// Reads a file and checks that it is what was written.
pub(crate) fn open(file: &FileRef, content: &Content) -> Result<Opened> {
    let content = Source::new(content)?;
    let length = u64::try_from(content.len()?).unwrap_or(u64::MAX);
    if length != file.bytes {
        let reason = format!("it has {length} bytes, {} were written", file.bytes);
        return Err(corrupt(file, reason));
    }
    let crc32c = content.crc32c()?;
    if crc32c != file.crc32c {
        let reason = format!(
            "its CRC-32C is {crc32c:08x}, {:08x} was written",
            file.crc32c
        );
        return Err(corrupt(file, reason));
    }
    parse(file, content)
}

/// Of bytes that are what was written: Arrow's decoder panics on some that are not.
fn parse(file: &FileRef, content: Source) -> Result<Opened> {
    let failed = |error: &dyn Display| corrupt(file, error.to_string());
    let length = content.len()?;
    let trailer = length.checked_sub(10);
    let trailer = trailer.ok_or_else(|| failed(&"it is too short"))?;
    let ending = content.read(trailer, 10)?;
    let ending = ending.as_slice().try_into();
    let ending = ending.map_err(|error: std::array::TryFromSliceError| failed(&error))?;
    let footer = read_footer_length(ending).map_err(|error| failed(&error))?;
    let begin = trailer.checked_sub(footer);
    let begin = begin.ok_or_else(|| failed(&"its footer is longer than itself"))?;
    let footer_bytes = content.read(begin, footer)?;
    let footer = root_as_footer(&footer_bytes).map_err(|error| failed(&error))?;
    let schema = footer.schema().ok_or_else(|| failed(&"it has no schema"))?;
    let schema = Arc::new(fb_to_schema(schema));
    let mut blocks = Vec::new();
    for block in footer.recordBatches().iter().flatten() {
        let place = usize::try_from(block.offset())
            .ok()
            .zip(usize::try_from(i64::from(block.metaDataLength()) + block.bodyLength()).ok());
        let place = place.filter(|(offset, bytes)| offset + bytes <= length);
        let (offset, bytes) = place.ok_or_else(|| failed(&"a block lies outside"))?;
        blocks.push((*block, offset, bytes));
    }
    let metadata = schema.metadata().iter();
    let metadata = metadata.map(|(name, value)| (name.as_str(), value.as_str()));
    let header = Header::read(&metadata.collect());
    Ok(Opened {
        header: header.ok_or_else(|| failed(&"it is no run of this format"))?,
        schema,
        version: footer.version(),
        blocks,
        content,
    })
}

pub(crate) fn corrupt(file: &FileRef, reason: impl Display) -> Failure {
    let message = format!(
        "{}: {reason}; restore from a savepoint or an older checkpoint",
        file.path
    );
    Failure::new(ErrorCode::CorruptObject, ErrorKind::CorruptData, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_of_large_rows_have_few() {
        assert_eq!(batch_rows(0, 0), 65_536);
        assert_eq!(batch_rows(40_000_000, 1_000_000), 65_536);
        assert_eq!(batch_rows(100 << 20, 100), 256);
        assert_eq!(batch_rows(usize::MAX, 1), 1);
    }
}
