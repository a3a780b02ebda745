//! Reads what a snapshot holds without the tables that wrote it: for people and their tools.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_row::{RowConverter, SortField};
use arrow_schema::{ArrowError, FieldRef, Schema, SchemaRef};
use arrow_select::filter::filter_record_batch;
use arrow_select::interleave::interleave_record_batch;
use bytes::Bytes;
use millstream_types::{FileRef, Run, keys};

use crate::key::normalised;
use crate::restore::{Read, needed, read};
use crate::run::{self, CHANGED_AT, DELETED, Opened, Shape, corrupt};
use crate::{Content, Result, bug};

/// What runs of a state are about, as one of them says.
#[derive(Debug, Clone)]
pub struct StateKey {
    schema: SchemaRef,
    shape: Shape,
}

impl StateKey {
    /// Reads it from a run.
    ///
    /// # Errors
    /// The content is not that of the file.
    pub fn of(file: &FileRef, content: &Bytes) -> Result<Self> {
        Self::of_opened(file, &run::open(file, &content.clone().into())?)
    }

    fn of_opened(file: &FileRef, opened: &Opened) -> Result<Self> {
        let deleted = opened.schema.index_of(DELETED);
        let key = deleted.map_err(|error| corrupt(file, error))?;
        let (entry, max_parallelism) = (opened.header.entry, opened.header.max_parallelism);
        if entry > key || max_parallelism == 0 {
            return Err(corrupt(file, "its header contradicts its columns"));
        }
        let shape = Shape {
            key,
            entry,
            max_parallelism,
        };
        Ok(Self {
            schema: Arc::clone(&opened.schema),
            shape,
        })
    }

    /// The columns that say which group a key belongs to: those by which the operator groups. A state
    /// may have more key columns, for what one key has several of.
    pub fn grouping(&self) -> &[FieldRef] {
        let columns = self.shape.key - self.shape.entry;
        self.schema.fields().get(..columns).unwrap_or_default()
    }

    /// The key group of one key, given by its [grouping](Self::grouping) columns.
    ///
    /// # Errors
    /// They are others.
    pub fn group_of(&self, key: &[ArrayRef]) -> Result<u32> {
        let fields: Vec<FieldRef> = self.grouping().to_vec();
        let failed = |error: &dyn std::fmt::Display| bug("key", error);
        let rows = batch(fields, key.to_vec(), 1).map_err(|error| failed(&error))?;
        let columns: Vec<usize> = (0..key.len()).collect();
        let mut hashes = Vec::new();
        keys::hash(&rows, &columns, &mut hashes).map_err(|error| failed(&error))?;
        let hash = hashes.first().copied().unwrap_or_default();
        Ok(self.shape.group(hash))
    }
}

/// What a state holds, without what is deleted or replaced: rows in order of their key groups, and of
/// their keys within one. So parts of a state that follow each other are in order, whatever the
/// parallelism was.
#[derive(Debug, Clone)]
pub struct Contents {
    /// Columns of the key, columns of the values and, for a state with a time to live, the time of the
    /// last change (`$changed_at`, milliseconds since 1970): keys that have expired since may be there.
    pub rows: RecordBatch,
    /// How many columns are the key, from the first.
    pub key: usize,
    /// How many of those say the key group.
    grouping: usize,
}

impl Contents {
    /// What belongs to one key, given by its [grouping](StateKey::grouping) columns.
    ///
    /// # Errors
    /// They are others.
    pub fn only(&self, key: &[ArrayRef]) -> Result<Self> {
        let failed = |error: ArrowError| bug("key", error);
        let columns = self.rows.columns().get(..self.grouping).unwrap_or_default();
        let converter = converter(columns).map_err(failed)?;
        let wanted = encoded(&converter, key, 1).map_err(failed)?;
        let all = encoded(&converter, columns, self.rows.num_rows()).map_err(failed)?;
        let mask = all.iter().map(|key| Some(key) == wanted.first());
        let rows = filter_record_batch(&self.rows, &mask.map(Some).collect());
        Ok(Self {
            rows: rows.map_err(failed)?,
            ..self.clone()
        })
    }
}

/// Reads what runs hold of some key groups: those that the snapshots of an operator name for one state.
/// `None` without any run.
///
/// # Errors
/// A file is not what was written.
pub fn read_state(groups: &Range<u32>, runs: Vec<(Run, Content)>) -> Result<Option<StateReader>> {
    let mut reads = Vec::with_capacity(runs.len());
    let mut of: Option<StateKey> = None;
    for (run, content) in runs {
        let opened = run::open(&run.file, &content)?;
        let key = StateKey::of_opened(&run.file, &opened)?;
        let first = of.get_or_insert_with(|| key.clone());
        if first.schema.fields() != key.schema.fields() {
            return Err(corrupt(
                &run.file,
                "other runs of the state have other columns",
            ));
        }
        reads.push(read(run, opened, groups)?);
    }
    let cursors = needed(reads).into_iter().rev().map(Cursor::new);
    Ok(of.map(|of| StateReader::new(of, groups, cursors.collect())))
}

/// Rows of one part of the contents, unless a key group has more.
const PART_ROWS: usize = 8_192;

/// Merges the runs of a state, a key group after the other: of each run it holds one batch.
pub struct StateReader {
    of: StateKey,
    /// Those that were not read yet.
    groups: Range<u32>,
    /// The newest first.
    cursors: Vec<Cursor>,
    /// Rows of batches that were read to their end, and that the part at hand may still refer to.
    past_rows: usize,
    most_rows: usize,
}

/// Of each key of a group, by its bytes, the batch and the row that hold it; none if it is deleted.
type Found = BTreeMap<Vec<u8>, Option<(usize, usize)>>;

impl StateReader {
    const fn new(of: StateKey, groups: &Range<u32>, cursors: Vec<Cursor>) -> Self {
        Self {
            of,
            groups: groups.start..groups.end,
            cursors,
            past_rows: 0,
            most_rows: 0,
        }
    }

    /// What the next key groups hold; none at the end. There is at least one part, which may be empty.
    ///
    /// # Errors
    /// A file is not what was written.
    pub fn next_part(&mut self) -> Result<Option<Contents>> {
        if self.groups.is_empty() {
            return Ok(None);
        }
        let (mut batches, mut places) = (Vec::new(), Vec::new());
        let mut taken = 0;
        self.past_rows = 0;
        while !self.groups.is_empty() && taken < PART_ROWS {
            let known = batches.len();
            let mut found = Found::new();
            for number in 0..self.cursors.len() {
                self.take(number, &mut batches, &mut found)?;
            }
            taken += batches
                .iter()
                .skip(known)
                .map(RecordBatch::num_rows)
                .sum::<usize>();
            places.extend(found.into_values().flatten());
            self.groups.start += 1;
        }
        let batches: Vec<&RecordBatch> = batches.iter().collect();
        contents(&self.of, &batches, &places).map(Some)
    }

    /// The most rows of runs that were in memory at once so far.
    pub const fn most_rows(&self) -> usize {
        self.most_rows
    }

    /// Takes what a run holds of the next group. What newer ones say is in `found`.
    fn take(
        &mut self,
        number: usize,
        batches: &mut Vec<RecordBatch>,
        found: &mut Found,
    ) -> Result<()> {
        let group = self.groups.start;
        loop {
            let cursor = &mut self.cursors[number];
            if !cursor.read.held.needed.contains(group) {
                // Its rows of this group do not count.
                if cursor.read.held.needed.hull().end <= group {
                    cursor.loaded = None;
                }
                return Ok(());
            }
            let was_loaded = cursor.loaded.is_some();
            let Some(loaded) = cursor.load(self.of.shape)? else {
                return Ok(());
            };
            if !was_loaded {
                let current = self.cursors.iter().filter_map(|it| it.loaded.as_ref());
                let current: usize = current.map(|loaded| loaded.rows.num_rows()).sum();
                self.most_rows = self.most_rows.max(current + self.past_rows);
                continue;
            }
            let rest = loaded.groups.get(loaded.at..).unwrap_or_default();
            let before = rest.partition_point(|of_row| *of_row < group);
            let until = rest.partition_point(|of_row| *of_row <= group);
            let (from, to) = (loaded.at + before, loaded.at + until);
            let rows = loaded.groups.len();
            let is_over = to == rows;
            loaded.at = to;
            if from < to {
                cursor.collect(&self.of, from..to, batches, found)?;
            }
            if !is_over {
                return Ok(());
            }
            // The group may go on in the next batch.
            self.cursors[number].loaded = None;
            self.past_rows += rows;
        }
    }
}

/// A run, read from its beginning to its end.
struct Cursor {
    read: Read,
    next_block: usize,
    loaded: Option<Loaded>,
}

/// One batch of a run.
struct Loaded {
    rows: RecordBatch,
    /// Of each row.
    groups: Vec<u32>,
    /// Rows before this were taken.
    at: usize,
}

impl Cursor {
    const fn new(read: Read) -> Self {
        Self {
            read,
            next_block: 0,
            loaded: None,
        }
    }

    /// The batch that is read at the moment, or the next one; none at the end.
    fn load(&mut self, shape: Shape) -> Result<Option<&mut Loaded>> {
        let file = &self.read.held.run.file;
        while self.loaded.is_none() && self.next_block < self.read.opened.blocks() {
            let rows = self.read.opened.batch(self.next_block, file)?;
            self.next_block += 1;
            let Some(rows) = rows else { continue };
            let hashes = shape.hashes(&rows).map_err(|error| corrupt(file, error))?;
            let groups: Vec<u32> = hashes.into_iter().map(|hash| shape.group(hash)).collect();
            if !groups.is_sorted() {
                return Err(corrupt(file, "its rows are not in order"));
            }
            self.loaded = Some(Loaded {
                rows,
                groups,
                at: 0,
            });
        }
        Ok(self.loaded.as_mut())
    }

    /// Adds rows of the batch whose keys no newer run has.
    fn collect(
        &self,
        of: &StateKey,
        rows: Range<usize>,
        batches: &mut Vec<RecordBatch>,
        found: &mut Found,
    ) -> Result<()> {
        let file = &self.read.held.run.file;
        let Some(loaded) = &self.loaded else {
            return Ok(());
        };
        let taken = loaded.rows.slice(rows.start, rows.len());
        let columns = taken.columns().get(..of.shape.key).unwrap_or_default();
        let converter = converter(columns).map_err(|error| corrupt(file, error))?;
        let keys = encoded(&converter, columns, taken.num_rows());
        let keys = keys.map_err(|error| corrupt(file, error))?;
        let deleted = taken.column_by_name(DELETED);
        let deleted = deleted.and_then(|column| column.as_boolean_opt());
        let deleted = deleted.ok_or_else(|| corrupt(file, "it does not say what is deleted"))?;
        for (row, key) in keys.into_iter().enumerate() {
            let place = (!deleted.value(row)).then_some((batches.len(), row));
            found.entry(key).or_insert(place);
        }
        batches.push(taken);
        Ok(())
    }
}

fn contents(
    of: &StateKey,
    batches: &[&RecordBatch],
    places: &[(usize, usize)],
) -> Result<Contents> {
    let failed = |error: ArrowError| bug("contents", error);
    let rows = if places.is_empty() {
        RecordBatch::new_empty(Arc::clone(&of.schema))
    } else {
        interleave_record_batch(batches, places).map_err(failed)?
    };
    let kept = rows.schema();
    let kept = kept.fields().iter().zip(rows.columns());
    let kept = kept.filter(|(field, _)| field.name() != DELETED);
    let (fields, columns) = kept
        .map(|(field, column)| (Arc::clone(field), Arc::clone(column)))
        .unzip();
    Ok(Contents {
        rows: batch(fields, columns, rows.num_rows()).map_err(failed)?,
        key: of.shape.key,
        grouping: of.grouping().len(),
    })
}

/// A batch, also one without columns.
fn batch(
    fields: Vec<FieldRef>,
    columns: Vec<ArrayRef>,
    rows: usize,
) -> std::result::Result<RecordBatch, ArrowError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
}

fn converter(columns: &[ArrayRef]) -> std::result::Result<RowConverter, ArrowError> {
    let fields = columns.iter();
    let fields = fields.map(|column| SortField::new(column.data_type().clone()));
    RowConverter::new(fields.collect())
}

/// Keys as bytes that are in the order of the keys.
fn encoded(
    converter: &RowConverter,
    columns: &[ArrayRef],
    rows: usize,
) -> std::result::Result<Vec<Vec<u8>>, ArrowError> {
    if columns.is_empty() {
        return Ok(vec![Vec::new(); rows]);
    }
    let columns: Vec<ArrayRef> = columns.iter().map(normalised).collect();
    let encoded = converter.convert_columns(&columns)?;
    Ok(encoded.iter().map(|row| row.as_ref().to_vec()).collect())
}

/// Whether a column of [`Contents`] is the time of the last change.
pub fn is_time_of_change(name: &str) -> bool {
    name == CHANGED_AT
}
