//! Records in flight of the checkpoint that a task goes on from: which of them are its own.
//!
//! A file of them was written by one subtask. At another parallelism several subtasks read it, and each
//! takes what is its own: of an edge by key, the rows of its key groups; of an edge that deals batches out
//! in turn, all that was for a subtask whose number leaves the own one as the remainder by the
//! parallelism. So every row is taken by exactly one subtask.

use millstream_exchange::{InFlight, Partitioner, in_flight};
use millstream_state::Content;
use millstream_types::ids::TaskId;
use millstream_types::{Batch, Bug, ErrorCode, ErrorKind, Failure, FileRef, OperatorUid};

use crate::chain::Contents;
use crate::plan::{JobTasks, Partitioning, TaskEdge};

/// The records of these files that are for a task, in the order in which it is to read them.
///
/// # Errors
/// A file is missing or broken, or its records did not come over an edge that the task has.
pub(crate) fn own(
    job: &dyn JobTasks,
    task: TaskId,
    head: &OperatorUid,
    files: &[FileRef],
    contents: &Contents,
) -> Result<Vec<InFlight>, Failure> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let edges = job.edges();
    let share = Share {
        edges: edges.iter().filter(|edge| edge.to == task.vertex).collect(),
        subtask: usize::try_from(task.subtask.0).unwrap_or(usize::MAX),
        parallelism: usize::try_from(job.parallelism(task.vertex)).unwrap_or(usize::MAX),
    };
    let mut own = Vec::new();
    for file in files {
        let broken = |reason: &dyn std::fmt::Display| {
            Failure::new(
                ErrorCode::CorruptObject,
                ErrorKind::CorruptData,
                format!(
                    "the records in flight to `{head}` in {} cannot be restored: {reason}",
                    file.path
                ),
            )
        };
        let content = contents.get(&file.path);
        let content = content.ok_or_else(|| broken(&"it was not read before the task began"))?;
        let decoded = match content {
            Content::Memory(bytes) => in_flight::decode(bytes),
            Content::Local(local) => {
                let bytes = std::fs::read(local.path()).map_err(|error| broken(&error))?;
                in_flight::decode(&bytes)
            }
        };
        for record in decoded.map_err(|error| broken(&error))? {
            share
                .take(record, &mut own)
                .map_err(|reason| broken(&reason))?;
        }
    }
    if Bug::InFlightLost.is_seeded() {
        own.pop();
    }
    Ok(own)
}

/// What of all records is one subtask's.
struct Share<'a> {
    edges: Vec<&'a TaskEdge>,
    subtask: usize,
    parallelism: usize,
}

impl Share<'_> {
    fn take(&self, record: InFlight, own: &mut Vec<InFlight>) -> Result<(), String> {
        let InFlight { channel, batch } = record;
        let mut edges = self.edges.iter();
        let edge = edges.find(|edge| u32::try_from(edge.input.0) == Ok(channel.edge));
        let edge = edge.ok_or_else(|| format!("the job has no input {}", channel.edge))?;
        let batches = match &edge.partitioning {
            Partitioning::Hash {
                columns,
                max_parallelism,
            } if !Bug::InFlightRestoredTwice.is_seeded() => {
                self.of_own_groups(&batch, columns, *max_parallelism)?
            }
            Partitioning::Hash { .. } => vec![batch],
            Partitioning::Rebalance => {
                let to = usize::try_from(channel.to).unwrap_or(usize::MAX);
                let is_own = to % self.parallelism.max(1) == self.subtask;
                is_own.then_some(batch).into_iter().collect()
            }
            Partitioning::Forward => {
                return Err(format!(
                    "records of input {} do not leave their subtask",
                    channel.edge
                ));
            }
        };
        own.extend(batches.into_iter().map(|batch| InFlight { channel, batch }));
        Ok(())
    }

    fn of_own_groups(
        &self,
        batch: &Batch,
        columns: &[usize],
        max_parallelism: u32,
    ) -> Result<Vec<Batch>, String> {
        let mut partitioner =
            Partitioner::hash(columns.to_vec(), max_parallelism, self.parallelism);
        let mut dealt = Vec::new();
        let all = partitioner.push(batch, &mut dealt);
        all.and_then(|()| partitioner.flush(&mut dealt))
            .map_err(|failure| failure.message)?;
        let own = dealt.into_iter();
        Ok(own
            .filter(|(destination, _)| *destination == self.subtask)
            .map(|(_, batch)| batch)
            .collect())
    }
}

#[cfg(test)]
mod tests;
