//! Shares the batches of one task out to the tasks behind it.
//!
//! By hash: the rows of a batch are sorted by their destination with a counting sort and appended to
//! one batch under construction per destination, so that receivers get batches of hundreds of rows
//! however many of them there are. In turn: whole batches, as they are.

mod columns;
mod sort;

use std::fmt::Display;

use arrow_schema::SchemaRef;
use millstream_types::batch::{MAX_BATCH_BYTES, MAX_BATCH_ROWS};
use millstream_types::{Batch, ErrorCode, ErrorKind, Failure, keys};

use columns::Builder;
use sort::Sorted;

/// How many times too large a batch may be before rebalancing splits it.
const LARGE: usize = 2;

/// Shares batches out to destinations, which are numbered from 0.
#[derive(Debug)]
pub struct Partitioner {
    destinations: usize,
    scheme: Scheme,
}

#[derive(Debug)]
enum Scheme {
    Hash(Box<ByHash>),
    InTurn { next: usize },
}

#[derive(Debug)]
struct ByHash {
    columns: Vec<usize>,
    hashes: Vec<u64>,
    sorted: Sorted,
    schema: Option<SchemaRef>,
    /// By destination.
    builders: Vec<Builder>,
}

impl Partitioner {
    /// All rows with one key, the values of `columns`, go to one destination: the subtask that owns
    /// the key's group.
    ///
    /// It holds at most [`MAX_BATCH_BYTES`] for each destination, and what one batch adds to that.
    pub fn hash(columns: Vec<usize>, max_parallelism: u32, destinations: usize) -> Self {
        let by_hash = ByHash {
            columns,
            hashes: Vec::new(),
            sorted: Sorted::new(max_parallelism, destinations),
            schema: None,
            builders: Vec::new(),
        };
        Self {
            destinations,
            scheme: Scheme::Hash(Box::new(by_hash)),
        }
    }

    /// Batches go to the destinations in turn, beginning with `first`. Holds nothing.
    pub const fn rebalance(destinations: usize, first: usize) -> Self {
        Self {
            destinations,
            scheme: Scheme::InTurn { next: first },
        }
    }

    /// Takes a batch, and puts what is full now into `out`, each with its destination.
    ///
    /// # Errors
    /// The batch has other columns than the partitioner was planned for.
    pub fn push(&mut self, batch: &Batch, out: &mut Vec<(usize, Batch)>) -> Result<(), Failure> {
        if batch.rows() == 0 {
            return Ok(());
        }
        if self.destinations <= 1 {
            out.push((0, batch.clone()));
            return Ok(());
        }
        match &mut self.scheme {
            Scheme::Hash(by_hash) => by_hash.push(batch, self.destinations, out),
            Scheme::InTurn { next } => {
                for part in parts(batch) {
                    let destination = *next % self.destinations;
                    *next = (destination + 1) % self.destinations;
                    out.push((destination, part));
                }
                Ok(())
            }
        }
    }

    /// Puts everything that is held into `out`. To be called when the task has no further input for
    /// now, and before every control element.
    ///
    /// # Errors
    /// The columns do not make a batch: a bug.
    pub fn flush(&mut self, out: &mut Vec<(usize, Batch)>) -> Result<(), Failure> {
        match &mut self.scheme {
            Scheme::Hash(by_hash) => by_hash.flush(out),
            Scheme::InTurn { .. } => Ok(()),
        }
    }
}

/// The batch, or slices of it if it is much too large.
fn parts(batch: &Batch) -> Vec<Batch> {
    let rows = batch.rows();
    let excess = (rows / MAX_BATCH_ROWS).max(batch.bytes() / MAX_BATCH_BYTES);
    if excess < LARGE || rows == 1 {
        return vec![batch.clone()];
    }
    let step = rows.div_ceil(excess);
    let starts = (0..rows).step_by(step);
    starts
        .map(|start| Batch::new(batch.records().slice(start, step.min(rows - start))))
        .collect()
}

impl ByHash {
    fn push(
        &mut self,
        batch: &Batch,
        destinations: usize,
        out: &mut Vec<(usize, Batch)>,
    ) -> Result<(), Failure> {
        keys::hash(batch.records(), &self.columns, &mut self.hashes).map_err(misplanned)?;
        self.take_schema(batch, destinations, out)?;
        self.sorted.sort(&self.hashes);
        let bytes_of_row = batch.bytes().div_ceil(batch.rows()).max(1);
        for destination in 0..destinations {
            let Some(builder) = self.builders.get_mut(destination) else {
                continue;
            };
            let mut rows = self.sorted.rows(destination);
            if rows.len() == batch.rows() && builder.is_empty() && rows.len() >= MAX_BATCH_ROWS / 2
            {
                // All of a batch that is large enough: nothing to copy.
                out.push((destination, batch.clone()));
                continue;
            }
            while !rows.is_empty() {
                let (now, later) = rows.split_at(builder.room(bytes_of_row).min(rows.len()));
                builder.append(batch.records(), now).map_err(misplanned)?;
                rows = later;
                if builder.is_full() {
                    out.push((destination, finish(builder, self.schema.as_ref())?));
                }
            }
        }
        Ok(())
    }

    /// A batch of another schema than those before begins new batches everywhere.
    fn take_schema(
        &mut self,
        batch: &Batch,
        destinations: usize,
        out: &mut Vec<(usize, Batch)>,
    ) -> Result<(), Failure> {
        let schema = batch.records().schema_ref();
        if self.schema.as_ref() != Some(schema) {
            self.flush(out)?;
            self.builders = (0..destinations).map(|_| Builder::new(schema)).collect();
            self.schema = Some(SchemaRef::clone(schema));
        }
        Ok(())
    }

    fn flush(&mut self, out: &mut Vec<(usize, Batch)>) -> Result<(), Failure> {
        for (destination, builder) in self.builders.iter_mut().enumerate() {
            if !builder.is_empty() {
                out.push((destination, finish(builder, self.schema.as_ref())?));
            }
        }
        Ok(())
    }
}

fn finish(builder: &mut Builder, schema: Option<&SchemaRef>) -> Result<Batch, Failure> {
    let schema = schema
        .cloned()
        .ok_or_else(|| misplanned("there is no schema"))?;
    let records = builder.finish(schema);
    let records = records.map_err(misplanned)?;
    Ok(Batch::new(records))
}

fn misplanned(what: impl Display) -> Failure {
    Failure::new(
        ErrorCode::PlanMismatch,
        ErrorKind::Internal,
        format!("records cannot be partitioned: {what}"),
    )
}

#[cfg(test)]
mod tests;
