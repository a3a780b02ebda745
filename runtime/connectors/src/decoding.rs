//! From payloads to what a source's poll returns: decoded rows, dead letters, counts.
//!
//! Every source that reads bytes pushes them through a [`RecordDecoder`], so that `onError` means
//! the same everywhere.

mod dead_letters;
mod json_options;
mod metadata;

use arrow_schema::{ArrowError, SchemaRef};
use millstream_connect::{Result, SourceOutput, SplitRun};
use millstream_formats::{DecodeError, Decoder, JsonDecoder, RawDecoder};
use millstream_spec::valid::SourceConnector;
use millstream_spec::{Format, OnError, ValidSource};
use millstream_types::batch::{MAX_BATCH_BYTES, MAX_BATCH_ROWS};
use millstream_types::snapshot::Counters;
use millstream_types::{Batch, ErrorCode, ErrorKind, Failure};

use dead_letters::DeadLetters;
pub use metadata::{Beside, Wanted};
use metadata::{MetadataColumns, Unfit};

/// Most bytes of a payload that a message repeats.
const EXCERPT_BYTES: usize = 100;

/// Where a record came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// Index of its split in the reader's snapshot.
    pub split: usize,
    /// Its topic, or the path of its file.
    pub topic: &'a str,
    /// Its partition; 0 in a file.
    pub partition: i32,
    /// Its offset in the partition, or the byte in the file at which it begins.
    pub offset: i64,
}

/// Decodes payloads and deals with those that cannot be decoded, as the source's `onError` says.
#[derive(Debug)]
pub struct RecordDecoder {
    source: String,
    /// Whether records are lines of files.
    reads_files: bool,
    decoder: Decoder,
    metadata: Option<MetadataColumns>,
    on_error: OnError,
    runs: Vec<SplitRun>,
    dead_letters: DeadLetters,
    counters: Counters,
}

impl RecordDecoder {
    /// A decoder of the source's format into these columns, a projection of the declared ones and
    /// those of its metadata.
    ///
    /// # Errors
    /// The format cannot hold a column.
    pub fn new(spec: &ValidSource, schema: &SchemaRef) -> Result<Self> {
        let (metadata, of_value) = match MetadataColumns::new(spec, schema) {
            None => (None, SchemaRef::clone(schema)),
            Some((metadata, of_value)) => (Some(metadata), of_value),
        };
        let decoder = match &spec.format {
            Format::Json(json) => {
                let options = json_options::of_source(json, &spec.schema);
                JsonDecoder::with_options(&of_value, &options).map(Decoder::from)
            }
            Format::Raw(_) => RawDecoder::new(&of_value).map(Decoder::from),
        };
        let decoder = decoder.map_err(|error| {
            let message = format!("source `{}`: {error}", spec.name);
            Failure::new(ErrorCode::InvalidJob, ErrorKind::InvalidJob, message)
        })?;
        Ok(Self {
            source: spec.name.clone(),
            reads_files: matches!(spec.connector, SourceConnector::Files(_)),
            decoder,
            metadata,
            on_error: spec.on_error,
            runs: Vec::new(),
            dead_letters: DeadLetters::default(),
            counters: Counters::default(),
        })
    }

    /// What anybody reads of what Kafka keeps beside a record.
    pub fn wanted(&self) -> Wanted {
        let metadata = self.metadata.as_ref();
        metadata.map_or_else(Wanted::default, MetadataColumns::wanted)
    }

    /// Decodes one record. `None` is a record without a value (a Kafka tombstone): raw reads it as
    /// null, and no other format can decode it.
    ///
    /// # Errors
    /// The record cannot be decoded and the source says `onError: Fail`.
    pub fn push(
        &mut self,
        payload: Option<&[u8]>,
        place: Place<'_>,
        beside: Beside<'_>,
    ) -> Result<()> {
        let bytes = payload.map_or(0, <[u8]>::len);
        self.counters.records_in += 1;
        self.counters.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
        let reason = match self.decode(payload, place, beside) {
            Ok(()) => {
                self.counters.records_out += 1;
                self.note_row(place.split);
                return Ok(());
            }
            Err(reason) => reason,
        };
        match self.on_error {
            OnError::Fail => Err(self.corrupt(payload, place, &reason)),
            OnError::Skip => {
                self.counters.skipped += 1;
                Ok(())
            }
            OnError::DeadLetter => {
                self.counters.dead_letters += 1;
                self.dead_letters.push(payload, place, &reason.to_string());
                Ok(())
            }
        }
    }

    /// Appends one row, or nothing.
    fn decode(
        &mut self,
        payload: Option<&[u8]>,
        place: Place<'_>,
        beside: Beside<'_>,
    ) -> std::result::Result<(), Reason> {
        if let Some(metadata) = &self.metadata {
            metadata.check(beside)?;
        }
        match payload {
            Some(payload) => self.decoder.decode(payload)?,
            None if self.decoder.decode_absent() => {}
            None => return Err(Reason::NoValue),
        }
        if let Some(metadata) = &mut self.metadata {
            metadata.push(place, beside);
        }
        Ok(())
    }

    fn note_row(&mut self, split: usize) {
        match self.runs.last_mut() {
            Some(run) if run.split == split => run.rows += 1,
            _ => self.runs.push(SplitRun { split, rows: 1 }),
        }
    }

    #[cold]
    fn corrupt(&self, payload: Option<&[u8]>, place: Place<'_>, reason: &Reason) -> Failure {
        let Place {
            topic,
            partition,
            offset,
            ..
        } = place;
        let at = if self.reads_files {
            format!("byte {offset} of {topic}")
        } else {
            format!("{topic}/{partition} offset {offset}")
        };
        let begins = payload.map_or_else(String::new, |payload| {
            format!("; it begins with {}", excerpt(payload))
        });
        let message = format!(
            "source `{}`: the record at {at} cannot be decoded: {reason}{begins}; correct the \
             producer or the source's schema, or set `onError` to Skip or DeadLetter",
            self.source,
        );
        Failure::new(ErrorCode::CorruptRecord, ErrorKind::CorruptData, message)
    }

    /// Whether enough was pushed for one batch: [`take`](Self::take) it before pushing more.
    pub fn is_full(&self) -> bool {
        let rows = self.decoder.rows() + self.dead_letters.rows();
        let metadata = self.metadata.as_ref().map_or(0, MetadataColumns::bytes);
        let bytes = self.decoder.bytes() + self.dead_letters.bytes() + metadata;
        rows >= MAX_BATCH_ROWS || bytes >= MAX_BATCH_BYTES
    }

    /// Takes what was pushed since the last call; `None` if nothing came of it.
    ///
    /// # Errors
    /// Arrow refuses the columns: a bug of the decoder.
    pub fn take(&mut self) -> Result<Option<SourceOutput>> {
        let batch = match self.decoder.rows() {
            0 => None,
            _ => Some(self.finish().map_err(|error| internal(&error))?),
        };
        let dead_letters = self
            .dead_letters
            .finish()
            .map_err(|error| internal(&error))?;
        if batch.is_none() && dead_letters.is_none() {
            return Ok(None);
        }
        Ok(Some(SourceOutput {
            batch,
            runs: std::mem::take(&mut self.runs),
            dead_letters,
        }))
    }

    fn finish(&mut self) -> std::result::Result<Batch, ArrowError> {
        let value = self.decoder.finish()?;
        let records = match &mut self.metadata {
            None => value,
            Some(metadata) => metadata.finish(&value)?,
        };
        Ok(Batch::new(records))
    }

    /// Totals since the decoder was made.
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// Records that took the slow way through the JSON decoder, since it was made.
    pub const fn shape_misses(&self) -> u64 {
        self.decoder.shape_misses()
    }
}

/// Why a record did not become a row.
#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error(transparent)]
    Undecodable(#[from] DecodeError),
    #[error(transparent)]
    Unfit(#[from] Unfit),
    #[error("the record has no value (a tombstone), which only format raw reads, as null")]
    NoValue,
}

/// The beginning of a payload in quotes, with escapes for what is not printable.
fn excerpt(payload: &[u8]) -> String {
    let shown = payload.get(..EXCERPT_BYTES).unwrap_or(payload);
    let cut = if shown.len() < payload.len() {
        "…"
    } else {
        ""
    };
    format!("\"{}\"{cut}", shown.escape_ascii())
}

#[cold]
fn internal(error: &ArrowError) -> Failure {
    let message = format!("decoded columns do not fit their schema: {error}");
    Failure::new(ErrorCode::CorruptRecord, ErrorKind::Internal, message)
}

#[cfg(test)]
mod tests;
