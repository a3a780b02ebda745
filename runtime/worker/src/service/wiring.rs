//! The channels between the tasks of one attempt.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_types::ids::TaskId;
use millstream_types::protocol::TaskDeployment;
use millstream_types::{Clock, EdgeId, ErrorCode, ErrorKind, Failure, SubtaskIndex, VertexId};

use crate::inbox::{ChannelSender, Inbox, InboxHandle, inbox};
use crate::load::InputChannel;
use crate::output::Output;
use crate::plan::{JobTasks, Partitioning, TaskEdge};

/// The ends that a task has of the channels that lead to it and from it.
pub(super) struct Ends {
    pub(super) inbox: Inbox,
    /// The channels of the inbox.
    pub(super) inputs: Vec<InputChannel>,
    pub(super) handle: InboxHandle,
    pub(super) outputs: Vec<(EdgeId, Output)>,
}

/// Names one channel: its edge, the task that writes and the one that reads.
type ChannelName = (EdgeId, TaskId, TaskId);

/// Makes the inbox of every task, each of whose channels holds records of up to `bound` bytes, and
/// gives the senders to the tasks before it.
///
/// # Errors
/// A task at the other end of a channel is not here.
pub(super) fn join(
    job: &dyn JobTasks,
    deployments: &[TaskDeployment],
    bound: usize,
    clock: &Arc<dyn Clock>,
) -> Result<BTreeMap<TaskId, Ends>, Failure> {
    let edges = job.edges();
    let mut senders: BTreeMap<ChannelName, ChannelSender> = BTreeMap::new();
    let mut ends = BTreeMap::new();
    for TaskDeployment { task: reader, .. } in deployments {
        let mut inputs = Vec::new();
        let mut names = Vec::new();
        for edge in edges.iter().filter(|edge| edge.to == reader.vertex) {
            for writer in others(edge, edge.from, reader.subtask, job) {
                inputs.push(InputChannel {
                    from: writer,
                    input: edge.input,
                });
                names.push((edge.id, writer, *reader));
            }
        }
        let (inbox, own, handle) = inbox(names.len(), bound);
        senders.extend(names.into_iter().zip(own));
        let end = Ends {
            inbox,
            inputs,
            handle,
            outputs: Vec::new(),
        };
        ends.insert(*reader, end);
    }
    for (writer, end) in &mut ends {
        for edge in edges.iter().filter(|edge| edge.from == writer.vertex) {
            let readers = others(edge, edge.to, writer.subtask, job);
            let channels = readers.into_iter().map(|reader| {
                let name = (edge.id, *writer, reader);
                senders
                    .remove(&name)
                    .ok_or_else(|| elsewhere(*writer, reader))
            });
            let channels = channels.collect::<Result<Vec<_>, _>>()?;
            let from = usize::try_from(writer.subtask.0).unwrap_or_default();
            let output = Output::new(&edge.partitioning, channels, from, Arc::clone(clock));
            end.outputs.push((edge.id, output));
        }
    }
    match senders.keys().next() {
        Some((_, writer, reader)) => Err(elsewhere(*writer, *reader)),
        None => Ok(ends),
    }
}

/// The tasks of `vertex`, at one end of an edge, that have a channel to subtask `own` at the other.
fn others(edge: &TaskEdge, vertex: VertexId, own: SubtaskIndex, job: &dyn JobTasks) -> Vec<TaskId> {
    let task = |subtask| TaskId { vertex, subtask };
    match edge.partitioning {
        Partitioning::Forward => vec![task(own)],
        Partitioning::Hash { .. } | Partitioning::Rebalance => (0..job.parallelism(vertex))
            .map(|subtask| task(SubtaskIndex(subtask)))
            .collect(),
    }
}

fn elsewhere(writer: TaskId, reader: TaskId) -> Failure {
    Failure::new(
        ErrorCode::PlanMismatch,
        ErrorKind::Internal,
        format!(
            "task {writer} sends records to task {reader}, and only one of them is in this worker"
        ),
    )
}
