//! What is in memory and what is not, as one run: in the order of hashes, a file at a time.

use std::collections::VecDeque;
use std::ops::Range;

use arrow_array::RecordBatch;
use arrow_schema::ArrowError;
use bytes::Bytes;

use super::{FrozenTable, Place};
use crate::breakage::Breakage;
use crate::cold::keys::{Codec, Encoded, columns};
use crate::cold::scan::Chunk;
use crate::coverage::Coverage;
use crate::run::{self, Header};
use crate::{Result, bug};

/// A table whose files are written one by one.
#[derive(Debug)]
pub(super) struct Merged {
    table: FrozenTable,
    /// Rows in memory, and behind those of `batches` the ones that only hide others.
    hot: VecDeque<Place>,
    /// The keys of both, by batch.
    keys: Vec<Encoded>,
    /// What was read of the rest, and how far it was taken.
    chunk: Option<(Chunk, usize)>,
    /// Its key groups that have no file yet.
    rest: Range<u32>,
    has_files: bool,
    is_over: bool,
}

/// A file that is being put together.
struct Part {
    /// Those in memory first, then those that were read.
    batches: Vec<RecordBatch>,
    order: Vec<(usize, usize)>,
    /// The group of the last row.
    group: u32,
}

impl Merged {
    pub(super) fn new(table: FrozenTable) -> Result<Self> {
        let failed = |error: ArrowError| bug(&table.state, error);
        let fields: Vec<_> = table
            .schema
            .fields()
            .iter()
            .take(table.shape.key)
            .cloned()
            .collect();
        let codec = Codec::new(&fields).map_err(failed)?;
        let batches = || table.batches.iter().chain(&table.masks);
        let keys = batches().map(|rows| codec.encode_keys(columns(rows, 0..table.shape.key)));
        let keys = keys
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(failed)?;
        Ok(Self {
            hot: table.order_of(batches())?.into(),
            keys,
            chunk: None,
            rest: table.coverage.range.clone(),
            has_files: false,
            is_over: false,
            table,
        })
    }

    /// The next file, of about so many bytes in memory.
    pub(super) fn next(
        &mut self,
        header: impl Fn(Coverage) -> Header,
        file_bytes: usize,
    ) -> Result<Option<(Header, Bytes)>> {
        if self.is_over {
            return Ok(None);
        }
        let mut part = Part {
            batches: self.table.batches.clone(),
            order: Vec::new(),
            group: self.rest.start,
        };
        let mut bytes = 0;
        let end = loop {
            let Some((hash, row_bytes)) = self.head()? else {
                self.is_over = true;
                break self.rest.end;
            };
            let group = self.table.shape.group(hash);
            if bytes >= file_bytes && group != part.group {
                break part.group + 1;
            }
            part.group = group;
            bytes += row_bytes;
            self.take(hash, &mut part)?;
        };
        // All of everything, and there is nothing: the state is empty without a file.
        let is_empty = part.order.is_empty() && !self.has_files;
        if is_empty && self.table.coverage.is_complete() {
            return Ok(None);
        }
        let range = self.rest.start..end;
        self.rest.start = end;
        self.has_files = true;
        let mut header = header(self.table.coverage.within(&range));
        header.rows = part.order.len() as u64;
        let content = run::encode(&header, &part.batches, &part.order, &self.table.schema)?;
        Ok(Some((header, content)))
    }

    /// The lowest hash that is left, and about the bytes of its row.
    fn head(&mut self) -> Result<Option<(u64, usize)>> {
        let is_read = self
            .chunk
            .as_ref()
            .is_some_and(|(chunk, at)| *at < chunk.hashes.len());
        if let (false, Some(cold)) = (is_read, &self.table.cold) {
            self.chunk = cold.next()?.map(|chunk| (chunk, 0));
            if self.chunk.is_none() {
                self.table.cold = None;
            }
        }
        let bytes = |rows: &RecordBatch| rows.get_array_memory_size() / rows.num_rows().max(1);
        let cold = self.chunk.as_ref().and_then(|(chunk, at)| {
            let hash = chunk.hashes.get(*at)?;
            Some((*hash, bytes(&chunk.rows)))
        });
        let hot = self.hot.front().map(|place| {
            let rows = self.table.batches.get(place.batch as usize);
            (place.hash, rows.map_or(0, bytes))
        });
        Ok(match (hot, cold) {
            (Some(hot), Some(cold)) if cold.0 < hot.0 => Some(cold),
            (hot, cold) => hot.or(cold),
        })
    }

    /// Takes everything with a hash, which is the lowest.
    fn take(&mut self, hash: u64, part: &mut Part) -> Result<()> {
        let mut known: Vec<&[u8]> = Vec::new();
        while let Some(place) = self.hot.pop_front_if(|place| place.hash == hash) {
            let (batch, row) = (place.batch as usize, place.row as usize);
            known.push(self.keys[batch].get(row));
            if batch < self.table.batches.len() {
                part.order.push((batch, row));
            }
        }
        while let Some((chunk, at)) = &mut self.chunk {
            if chunk.hashes.get(*at) != Some(&hash) {
                break;
            }
            // A row whose key is in memory is of the past.
            let is_known = known.contains(&chunk.keys[*at].as_ref());
            if !is_known || Breakage::ColdIsNotHidden.is_seeded() {
                let is_last = part.batches.last().is_some_and(|rows| {
                    part.batches.len() > self.table.batches.len() && is_same(rows, &chunk.rows)
                });
                if !is_last {
                    part.batches.push(chunk.rows.clone());
                }
                part.order.push((part.batches.len() - 1, *at));
            }
            *at += 1;
            if *at == chunk.hashes.len() {
                self.chunk = match &self.table.cold {
                    Some(cold) => cold.next()?.map(|chunk| (chunk, 0)),
                    None => None,
                };
            }
        }
        Ok(())
    }
}

/// Whether two batches are one.
fn is_same(one: &RecordBatch, other: &RecordBatch) -> bool {
    let [one, other] = [one, other].map(|rows| rows.columns().first().map(std::sync::Arc::as_ptr));
    matches!((one, other), (Some(one), Some(other)) if std::ptr::addr_eq(one, other))
}
