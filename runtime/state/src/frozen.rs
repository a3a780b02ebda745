//! A snapshot on its way: frozen, encoded, written.

mod merged;

use std::collections::VecDeque;
use std::ops::Range;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use millstream_types::{CheckpointId, OperatorUid, Run};

use crate::cold::Scan;
use crate::coverage::{Coverage, Held, Needed, Sequence};
use crate::run::{self, Header, Shape};
use crate::{Result, StateFiles, bug};
use merged::Merged;

/// Into so many files a run is divided that holds everything, if none is smaller than [`LEAST_FILE`].
const WHOLE_FILES: usize = 8;
/// A file that is not worth dividing, in bytes of memory.
const LEAST_FILE: usize = 1 << 20;
/// Files of a subtask that are written at the same time.
const CONCURRENT_FILES: usize = 4;

/// What a barrier has frozen of an operator's state.
#[derive(Debug)]
pub struct Frozen {
    pub(crate) checkpoint: CheckpointId,
    pub(crate) operator: OperatorUid,
    pub(crate) sequence: Sequence,
    /// About how large a file is.
    pub(crate) file_bytes: usize,
    pub(crate) tables: Vec<FrozenTable>,
}

/// What a barrier has frozen of a table.
#[derive(Debug)]
pub(crate) struct FrozenTable {
    pub(crate) state: String,
    pub(crate) coverage: Coverage,
    pub(crate) shape: Shape,
    pub(crate) schema: SchemaRef,
    pub(crate) batches: Vec<RecordBatch>,
    /// Rows that are not written, and hide those that are not in memory.
    pub(crate) masks: Vec<RecordBatch>,
    /// What is not in memory.
    pub(crate) cold: Option<Scan>,
}

/// A snapshot that is encoded a piece at a time: its files need not be in memory together.
#[derive(Debug)]
pub struct Pieces {
    checkpoint: CheckpointId,
    operator: OperatorUid,
    sequence: Sequence,
    file_bytes: usize,
    /// By number.
    tables: VecDeque<(usize, FrozenTable)>,
    /// Of the table whose files come one by one.
    merged: Option<Merged>,
    /// Number and state of that table, and how many files it has.
    at: (usize, String, usize),
    max: (u32, usize),
}

/// Files that are ready to be written.
#[derive(Debug)]
pub struct Encoded {
    checkpoint: CheckpointId,
    operator: OperatorUid,
    sequence: Sequence,
    files: Vec<EncodedFile>,
}

#[derive(Debug)]
struct EncodedFile {
    name: String,
    header: Header,
    content: Bytes,
}

/// Files that were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub(crate) sequence: Sequence,
    pub(crate) runs: Vec<Held>,
}

/// A row of a frozen table.
#[derive(Debug, Clone, Copy)]
struct Place {
    hash: u64,
    batch: u32,
    row: u32,
}

impl Frozen {
    /// Its files, to be encoded and written one after the other.
    pub fn pieces(self) -> Pieces {
        Pieces {
            checkpoint: self.checkpoint,
            operator: self.operator,
            sequence: self.sequence,
            file_bytes: self.file_bytes,
            tables: self.tables.into_iter().enumerate().collect(),
            merged: None,
            at: (0, String::new(), 0),
            max: (0, 0),
        }
    }

    /// All its files at once, for state that is not large.
    ///
    /// # Errors
    /// As [`Pieces::encode`].
    pub fn encode(self) -> Result<Encoded> {
        let mut pieces = self.pieces();
        let mut all = pieces.nothing();
        while let Some(encoded) = pieces.encode()? {
            all.files.extend(encoded.files);
        }
        Ok(all)
    }

    /// Rows that were copied.
    pub fn rows(&self) -> usize {
        let batches = self.tables.iter().flat_map(|table| &table.batches);
        batches.map(RecordBatch::num_rows).sum()
    }
}

impl Pieces {
    /// Sorts and writes the next files, in memory: those of a table, or one of a table that is not all in
    /// memory. None at the end. It is the work of a snapshot.
    ///
    /// # Errors
    /// The columns make no file: a bug. What is not in memory cannot be read.
    pub fn encode(&mut self) -> Result<Option<Encoded>> {
        loop {
            if let Some(mut merged) = self.merged.take() {
                let header = self.header();
                if let Some(file) = merged.next(header, self.file_bytes)? {
                    self.merged = Some(merged);
                    return Ok(Some(self.encoded(vec![file])));
                }
            }
            let Some((number, table)) = self.tables.pop_front() else {
                return Ok(None);
            };
            self.at = (number, table.state.clone(), 0);
            self.max = (table.shape.max_parallelism, table.shape.entry);
            if table.cold.is_some() {
                self.merged = Some(Merged::new(table)?);
                continue;
            }
            let files = table.encode(self.header(), self.file_bytes)?;
            return Ok(Some(self.encoded(files)));
        }
    }

    /// What is written of a snapshot without anything.
    pub fn nothing_written(&self) -> Written {
        Written {
            sequence: self.sequence,
            runs: Vec::new(),
        }
    }

    fn header(&self) -> impl Fn(Coverage) -> Header + use<> {
        let (operator, state) = (self.operator.as_str().to_owned(), self.at.1.clone());
        let (sequence, (max_parallelism, entry)) = (self.sequence, self.max);
        move |coverage| Header {
            operator: operator.clone(),
            state: state.clone(),
            sequence,
            coverage,
            max_parallelism,
            entry,
            rows: 0,
        }
    }

    fn nothing(&self) -> Encoded {
        Encoded {
            checkpoint: self.checkpoint,
            operator: self.operator.clone(),
            sequence: self.sequence,
            files: Vec::new(),
        }
    }

    fn encoded(&mut self, parts: Vec<(Header, Bytes)>) -> Encoded {
        let mut encoded = self.nothing();
        for (header, content) in parts {
            let (number, _, part) = &mut self.at;
            encoded.files.push(EncodedFile {
                name: format!("{}-{number}-{part}.arrow", self.sequence),
                header,
                content,
            });
            *part += 1;
        }
        encoded
    }
}

impl Written {
    /// Adds what another piece of the same snapshot has written.
    pub fn add(&mut self, piece: Self) {
        self.runs.extend(piece.runs);
    }
}

impl FrozenTable {
    fn encode(
        &self,
        header: impl Fn(Coverage) -> Header,
        file_bytes: usize,
    ) -> Result<Vec<(Header, Bytes)>> {
        let order = self.order_of(self.batches.iter())?;
        // All of everything, and there is nothing: the state is empty without a file.
        if order.is_empty() && self.coverage.is_complete() {
            return Ok(Vec::new());
        }
        let bytes = self.batches.iter().map(RecordBatch::get_array_memory_size);
        let bytes = bytes.sum::<usize>();
        let file_bytes = if self.coverage.is_complete() {
            // So that there is less of it with each part of the state that later runs renew.
            file_bytes.min((bytes / WHOLE_FILES).max(LEAST_FILE))
        } else {
            file_bytes
        };
        let rows = file_bytes / (bytes / order.len().max(1)).max(1);
        let mut files = Vec::new();
        for (range, order) in self.parts(&order, rows.max(1)) {
            let mut header = header(self.coverage.within(&range));
            header.rows = order.len() as u64;
            let places = order.iter();
            let places = places.map(|place| (place.batch as usize, place.row as usize));
            let places: Vec<_> = places.collect();
            let content = run::encode(&header, &self.batches, &places, &self.schema)?;
            files.push((header, content));
        }
        Ok(files)
    }

    /// All rows in the order of their hashes.
    fn order_of<'a>(
        &self,
        batches: impl Iterator<Item = &'a RecordBatch> + Clone,
    ) -> Result<Vec<Place>> {
        let mut places = Vec::with_capacity(batches.clone().map(RecordBatch::num_rows).sum());
        for (batch, rows) in (0..).zip(batches) {
            let hashes = self.shape.hashes(rows);
            let hashes = hashes.map_err(|error| bug(&self.state, error))?;
            let placed = (0..).zip(hashes);
            places.extend(placed.map(|(row, hash)| Place { hash, batch, row }));
        }
        places.sort_unstable_by_key(|place| (place.hash, place.batch, place.row));
        let outside = |place: &&Place| !self.coverage.range.contains(&self.shape.group(place.hash));
        match places
            .first()
            .into_iter()
            .chain(places.last())
            .find(outside)
        {
            None => Ok(places),
            Some(place) => {
                let group = self.shape.group(place.hash);
                let reason = format!("a key of group {group} is in {:?}", self.coverage.range);
                Err(bug(&self.state, reason))
            }
        }
    }

    /// Divides rows into files at borders of key groups. Together they have all groups.
    fn parts<'a>(&self, order: &'a [Place], rows: usize) -> Vec<(Range<u32>, &'a [Place])> {
        let mut parts = Vec::new();
        let (mut start, mut rest) = (self.coverage.range.start, order);
        while rest.len() > rows {
            let end = self.shape.group(rest[rows - 1].hash) + 1;
            let count = rest.partition_point(|place| self.shape.group(place.hash) < end);
            let (part, behind) = rest.split_at(count);
            if behind.is_empty() {
                break;
            }
            parts.push((start..end, part));
            (start, rest) = (end, behind);
        }
        parts.push((start..self.coverage.range.end, rest));
        parts
    }
}

impl Encoded {
    /// Writes the files.
    ///
    /// # Errors
    /// One cannot be written: what was written is not named and not written again.
    ///
    /// # Cancel safety
    /// As after an error.
    pub async fn upload(self, files: &dyn StateFiles) -> Result<Written> {
        let (checkpoint, operator) = (self.checkpoint, &self.operator);
        let puts = self.files.into_iter().map(|file| async move {
            let put = files.put(checkpoint, operator, &file.name, file.content);
            let sequence = file.header.sequence;
            let run = Run {
                state: file.header.state,
                file: put.await?,
                range: file.header.coverage.range.clone().into(),
                sequence: sequence.into(),
            };
            Ok(Held {
                run,
                sequence,
                needed: Needed::new(&file.header.coverage),
                coverage: file.header.coverage,
                rows: file.header.rows,
            })
        });
        let runs = stream::iter(puts).buffered(CONCURRENT_FILES);
        Ok(Written {
            sequence: self.sequence,
            runs: runs.try_collect().await?,
        })
    }

    /// Puts the name of a subtask in front of the names of its files, as a store does.
    #[cfg(test)]
    pub(crate) fn rename(&mut self, subtask: &str) {
        for file in &mut self.files {
            file.name = format!("{subtask}-{}", file.name);
        }
    }

    /// Bytes of the files.
    pub fn bytes(&self) -> usize {
        self.files.iter().map(|file| file.content.len()).sum()
    }
}
