//! Fills tables from the runs of a snapshot.

use std::ops::Range;

use arrow_array::{BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;
use millstream_types::{ErrorCode, ErrorKind, Failure, Run, StateSnapshot};

use crate::breakage::Breakage;
use crate::coverage::{Coverage, Held, Needed, Sequence, floor};
use crate::run::{self, Opened, corrupt};
use crate::{Content, Result, Table};

/// A run and what it holds.
pub(crate) struct Read {
    pub(crate) held: Held,
    pub(crate) opened: Opened,
}

/// Fills a table, and returns its runs from the oldest to the newest.
pub(crate) fn fill(
    table: &mut dyn Table,
    groups: &Range<u32>,
    runs: Vec<(Run, Content)>,
) -> Result<Vec<Held>> {
    let mut reads = Vec::with_capacity(runs.len());
    for (run, content) in runs {
        let opened = run::open(&run.file, &content)?;
        check(table, &run, &opened)?;
        reads.push(read(run, opened, groups)?);
    }
    let mut reads = needed(reads);
    reads.retain(|read| !read.held.needed.is_empty());
    let now = table.now().0;
    let rows = reads.iter().map(|read| read.held.needed_rows()).sum();
    let bytes = reads.iter().map(|read| read.held.run.file.bytes).sum();
    if let Some(tier) = table.tier_for(rows, bytes)? {
        let held: Vec<Held> = reads.iter().map(|read| read.held.clone()).collect();
        let settled = held.last().map_or(0, |held| held.sequence);
        tier.fill(&reads, now, floor(&held, settled))?;
        return Ok(held);
    }
    // The newest first: what an older one says of a key that is there does not count.
    if Breakage::OlderWins.is_seeded() {
        reads.reverse();
    }
    let mut runs = Vec::with_capacity(reads.len());
    for read in reads.into_iter().rev() {
        load(table, &read)?;
        runs.push(read.held);
    }
    runs.reverse();
    Ok(runs)
}

/// Runs from the oldest to the newest, with the key groups for which each is needed.
pub(crate) fn needed(mut reads: Vec<Read>) -> Vec<Read> {
    reads.sort_by_key(|read| (read.held.sequence, read.held.coverage.range.start));
    let coverages: Vec<(Sequence, Coverage)> = reads
        .iter()
        .map(|read| (read.held.sequence, read.held.coverage.clone()))
        .collect();
    for read in &mut reads {
        let sequence = read.held.sequence;
        let newer = coverages.iter().filter(|(other, _)| *other > sequence);
        for (_, coverage) in newer {
            read.held.needed.replace(coverage);
        }
    }
    reads
}

/// What a run holds of the groups that the subtask has.
pub(crate) fn read(run: Run, opened: Opened, groups: &Range<u32>) -> Result<Read> {
    let sequence = opened.header.sequence;
    if run.sequence != u64::from(sequence) {
        let reason = format!("its sequence is {sequence}, not {}", run.sequence);
        return Err(corrupt(&run.file, reason));
    }
    // Of groups that the snapshot does not name it for, what it holds is over: it replaces nothing there.
    // Numbers begin anew in a subtask whose state has become empty, so older runs may have higher ones.
    let named = run.range.first..run.range.end;
    let coverage = opened.header.coverage.within(groups).within(&named);
    let needed = Needed::new(&coverage);
    let all = opened.header.coverage.range.len() as u64;
    let rows = opened.header.rows * coverage.range.len() as u64 / all.max(1);
    let held = Held {
        run,
        sequence,
        coverage,
        needed,
        rows,
    };
    Ok(Read { held, opened })
}

fn check(table: &dyn Table, run: &Run, opened: &Opened) -> Result<()> {
    let (header, shape) = (&opened.header, table.shape());
    if header.max_parallelism != shape.max_parallelism {
        let message = format!(
            "state `{}` was written with maxParallelism {}, and the job has {}: set it back",
            run.state, header.max_parallelism, shape.max_parallelism
        );
        return Err(incompatible(message));
    }
    let types = |schema: &arrow_schema::Schema| {
        let fields = schema.fields().iter();
        let fields = fields.filter(|field| field.name() != run::CHANGED_AT);
        let fields = fields.map(|field| format!("{} {}", field.name(), field.data_type()));
        fields.collect::<Vec<_>>().join(", ")
    };
    let (written, wanted) = (types(&opened.schema), types(&table.schema()));
    if written != wanted {
        let message = format!(
            "state `{}` in {} has the columns ({written}), and the operator keeps ({wanted}): give \
             the changed node another uid to start it without state, or change it back",
            run.state, run.file.path
        );
        return Err(incompatible(message));
    }
    Ok(())
}

fn load(table: &mut dyn Table, read: &Read) -> Result<()> {
    let held = &read.held;
    let is_whole = held.needed == Needed::new(&read.opened.header.coverage);
    let is_whole = is_whole || Breakage::ForeignGroupsAreTaken.is_seeded();
    let shape = table.shape();
    for rows in read.opened.batches(&held.run.file) {
        let rows = rows?;
        let failed = |error: &dyn std::fmt::Display| corrupt(&held.run.file, error);
        let hashes = shape.hashes(&rows).map_err(|error| failed(&error))?;
        if is_whole {
            table.load(&rows, &hashes, held.sequence)?;
            continue;
        }
        let is_wanted = |hash: &u64| held.needed.contains(shape.group(*hash));
        let (rows, hashes) = selected(&rows, &hashes, is_wanted).map_err(|error| failed(&error))?;
        table.load(&rows, &hashes, held.sequence)?;
    }
    Ok(())
}

fn selected(
    rows: &RecordBatch,
    hashes: &[u64],
    is_wanted: impl Fn(&u64) -> bool,
) -> std::result::Result<(RecordBatch, Vec<u64>), arrow_schema::ArrowError> {
    let mask: Vec<bool> = hashes.iter().map(is_wanted).collect();
    let kept = hashes.iter().zip(&mask).filter(|(_, wanted)| **wanted);
    let hashes = kept.map(|(hash, _)| *hash).collect();
    let rows = filter_record_batch(rows, &BooleanArray::from(mask))?;
    Ok((rows, hashes))
}

/// Checks that the states of a snapshot are those of the tables.
pub(crate) fn check_declarations(
    tables: &[&mut dyn Table],
    snapshot: &StateSnapshot,
    operator: &str,
) -> Result<()> {
    for run in &snapshot.runs {
        if !tables.iter().any(|table| table.name() == run.state) {
            return Err(incompatible(format!(
                "operator `{operator}` has no state `{}`, which the checkpoint holds: give the \
                 changed node another uid to start it without state, or change it back",
                run.state
            )));
        }
    }
    for declaration in &snapshot.declarations {
        let table = tables.iter().find(|table| table.name() == declaration.name);
        let wanted = table.map(|table| table.declaration());
        if let Some(wanted) = wanted.filter(|wanted| wanted != declaration) {
            return Err(incompatible(format!(
                "operator `{operator}`, state `{}`: the checkpoint holds `{}`, and the job keeps \
                 `{}`: give the changed node another uid to start it without state, or change it back",
                declaration.name, declaration.data_type, wanted.data_type
            )));
        }
    }
    Ok(())
}

fn incompatible(message: String) -> Failure {
    Failure::new(ErrorCode::IncompatibleState, ErrorKind::InvalidJob, message)
}
