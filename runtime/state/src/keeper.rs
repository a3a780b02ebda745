//! Which runs a snapshot names.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use millstream_types::{
    Bug, CheckpointId, CheckpointKind, Failure, OperatorUid, Run, StateDeclaration, StateSnapshot,
};

use crate::breakage::Breakage;
use crate::coverage::{Coverage, EVERYTHING, Held, Sequence, floor};
use crate::frozen::{Frozen, FrozenTable, Written};
use crate::policy::{self, Limits, Situation};
use crate::{Content, Result, Table, bug, restore};

/// Keeps account of the runs of one operator in one subtask.
///
/// A snapshot names runs of the newest one before it and runs that were written since by the same
/// attempt, and nothing that an earlier snapshot has let go.
#[derive(Debug)]
pub struct Keeper {
    operator: OperatorUid,
    key_groups: Range<u32>,
    max_parallelism: u32,
    limits: Limits,
    /// The number of what changes now.
    sequence: Sequence,
    /// Up to this number all changes are in runs that were written.
    settled: Sequence,
    /// By state, from the oldest to the newest.
    runs: BTreeMap<String, Vec<Held>>,
    /// What was frozen and is not settled.
    pending: VecDeque<Pending>,
}

/// A snapshot that is being written.
#[derive(Debug)]
struct Pending {
    sequence: Sequence,
    coverages: Vec<(String, Coverage)>,
}

/// How much is kept in files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeeperStats {
    /// Runs that the next snapshot names.
    pub runs: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Keeper {
    /// Of an operator without state so far.
    pub fn new(operator: OperatorUid, key_groups: Range<u32>, max_parallelism: u32) -> Self {
        Self {
            operator,
            key_groups,
            max_parallelism,
            limits: Limits::default(),
            sequence: 1,
            settled: 0,
            runs: BTreeMap::new(),
            pending: VecDeque::new(),
        }
    }

    #[cfg(test)]
    pub(crate) const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Fills empty tables from a snapshot, which may have runs of several subtasks. `contents` are those
    /// of its runs, in their order.
    ///
    /// # Errors
    /// The state is of other types, or a file is not what was written.
    pub fn restore<C: Into<Content>>(
        &mut self,
        tables: &mut [&mut dyn Table],
        snapshot: &StateSnapshot,
        contents: Vec<C>,
    ) -> Result<()> {
        restore::check_declarations(tables, snapshot, self.operator.as_str())?;
        if snapshot.runs.len() != contents.len() {
            let (runs, files) = (snapshot.runs.len(), contents.len());
            let reason = format!("{files} files for {runs} runs");
            return Err(bug(self.operator.as_str(), reason));
        }
        let mut by_state: BTreeMap<&str, Vec<(Run, Content)>> = BTreeMap::new();
        for (run, content) in snapshot.runs.iter().zip(contents) {
            let runs = by_state.entry(run.state.as_str()).or_default();
            runs.push((run.clone(), content.into()));
        }
        for table in tables.iter_mut() {
            let runs = by_state.remove(table.name()).unwrap_or_default();
            let held = restore::fill(*table, &self.key_groups, runs)?;
            let newest = held.last().map_or(0, |held| held.sequence);
            self.settled = self.settled.max(newest);
            if !Bug::RestoredRunsNotNamed.is_seeded() {
                self.runs.insert(table.name().to_owned(), held);
            }
        }
        let all = snapshot.runs.iter().map(|run| run.sequence);
        let newest = all.max().unwrap_or_default();
        let newest = Sequence::try_from(newest).map_err(|error| bug("", error))?;
        self.settled = self.settled.max(newest);
        self.begin(tables, self.settled + 1);
        Ok(())
    }

    /// Copies what the snapshot of a checkpoint has to write. It is quick: the rest of the work is done
    /// by [`Frozen::encode`] and [`upload`](crate::Encoded::upload), elsewhere, while the tables go on.
    ///
    /// A savepoint writes only what has changed: there is time to merge at the next checkpoint.
    ///
    /// # Errors
    /// The values do not make arrays: a bug.
    pub fn freeze(
        &mut self,
        tables: &mut [&mut dyn Table],
        checkpoint: CheckpointId,
        kind: CheckpointKind,
    ) -> Result<Frozen> {
        let mut frozen = Vec::new();
        let mut coverages = Vec::new();
        for table in tables.iter_mut() {
            let state = table.name().to_owned();
            let Some(coverage) = self.plan(*table, kind) else {
                continue;
            };
            let complete = if coverage.since == EVERYTHING {
                self.key_groups.clone()
            } else {
                coverage.complete.clone()
            };
            let copied = table.copy(coverage.since, complete)?;
            coverages.push((state.clone(), coverage.clone()));
            frozen.push(FrozenTable {
                state,
                coverage,
                shape: table.shape(),
                schema: table.schema(),
                batches: copied.rows,
                masks: copied.masks,
                cold: copied.cold,
            });
        }
        let sequence = self.sequence;
        self.pending.push_back(Pending {
            sequence,
            coverages,
        });
        self.begin(tables, sequence + 1);
        Ok(Frozen {
            checkpoint,
            operator: self.operator.clone(),
            sequence,
            file_bytes: self.limits.file_bytes,
            tables: frozen,
        })
    }

    /// What became of the oldest snapshot that was frozen and not settled: the state as it is to be
    /// acknowledged. After a failure the next snapshot covers what this one did; one that is given up
    /// is settled with a failure, too.
    ///
    /// # Errors
    /// That of writing it.
    pub fn settle(
        &mut self,
        tables: &mut [&mut dyn Table],
        written: std::result::Result<Written, Failure>,
    ) -> Result<StateSnapshot> {
        let pending = self.pending.pop_front();
        if let (true, Some(pending)) = (Breakage::FailedIsSettled.is_seeded(), &pending) {
            self.settled = pending.sequence;
        }
        let written = written?;
        let pending = pending.filter(|pending| pending.sequence == written.sequence);
        let Some(pending) = pending else {
            let reason = format!("snapshot {} is settled out of turn", written.sequence);
            return Err(bug(self.operator.as_str(), reason));
        };
        for (state, coverage) in pending.coverages {
            let runs = self.runs.entry(state.clone()).or_default();
            for held in &mut *runs {
                held.needed.replace(&coverage);
            }
            if !Breakage::ReplacedIsNamed.is_seeded() {
                runs.retain(|held| !held.needed.is_empty());
            }
            let new = written.runs.iter().filter(|held| held.run.state == state);
            runs.extend(new.cloned());
            let table = tables.iter_mut().find(|table| table.name() == state);
            if let Some(table) = table {
                let complete = if coverage.since == EVERYTHING {
                    coverage.range
                } else {
                    coverage.complete
                };
                let complete = if Breakage::DeletionsForgottenEarly.is_seeded() {
                    self.key_groups.clone()
                } else {
                    complete
                };
                table.forget_deletions(written.sequence, complete)?;
                table.forget_changes(floor(runs, written.sequence))?;
            }
        }
        self.settled = written.sequence;
        Ok(self.snapshot(tables))
    }

    /// How much is kept in files.
    pub fn stats(&self) -> KeeperStats {
        let runs = || self.runs.values().flatten();
        KeeperStats {
            runs: runs().count() as u64,
            bytes: runs().map(|held| held.run.file.bytes).sum(),
        }
    }

    /// Into how many groups all keys are divided.
    pub const fn max_parallelism(&self) -> u32 {
        self.max_parallelism
    }

    fn plan(&self, table: &dyn Table, kind: CheckpointKind) -> Option<Coverage> {
        let runs = self.runs.get(table.name()).map_or(&[][..], Vec::as_slice);
        let situation = Situation {
            limits: self.limits,
            groups: self.key_groups.clone(),
            keys: table.stats().keys,
            settled: self.settled,
            runs,
            changed_since: &|since| table.changed_since(since),
        };
        let coverage = policy::plan(&situation)?;
        if matches!(kind, CheckpointKind::Checkpoint) || runs.is_empty() {
            return Some(coverage);
        }
        Some(Coverage {
            range: self.key_groups.clone(),
            complete: 0..0,
            since: self.settled + 1,
        })
    }

    fn begin(&mut self, tables: &mut [&mut dyn Table], sequence: Sequence) {
        self.sequence = sequence;
        for table in tables {
            table.begin(sequence);
        }
    }

    fn snapshot(&self, tables: &[&mut dyn Table]) -> StateSnapshot {
        let declarations = tables.iter().map(|table| table.declaration());
        let runs = self.runs.values().flatten().map(Held::named);
        StateSnapshot {
            declarations: declarations.collect::<Vec<StateDeclaration>>(),
            key_groups: self.key_groups.clone().into(),
            runs: runs.collect(),
            ..StateSnapshot::default()
        }
    }
}
