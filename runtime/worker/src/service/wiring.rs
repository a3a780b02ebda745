//! The channels between the tasks of one attempt, within this worker and to others.

use std::collections::{BTreeMap, BTreeSet};

use millstream_exchange::{
    AttemptPlan, ChannelId, Incoming, LinkFailure, Links, Outgoing, RemoteSender,
};
use millstream_types::ids::TaskId;
use millstream_types::protocol::Deploy;
use millstream_types::{EdgeId, ErrorCode, ErrorKind, Failure, SubtaskIndex, VertexId, WorkerId};

use super::Options;
use crate::inbox::{ChannelSender, Inbox, InboxHandle, inbox};
use crate::load::InputChannel;
use crate::output::{Channel, Output};
use crate::plan::{JobTasks, Partitioning, TaskEdge};
use crate::threads::Threads;

/// The ends that a task has of the channels that lead to it and from it.
pub(super) struct Ends {
    pub(super) inbox: Inbox,
    /// The channels of the inbox.
    pub(super) inputs: Vec<InputChannel>,
    pub(super) handle: InboxHandle,
    pub(super) outputs: Vec<(EdgeId, Output)>,
}

/// All tasks of an attempt, joined.
pub(super) struct Wiring {
    pub(super) ends: BTreeMap<TaskId, Ends>,
    /// None if no channel leaves this worker.
    pub(super) connections: Option<Connections>,
}

/// The connections with other workers in one attempt.
pub(super) struct Connections {
    links: Links,
    /// The task here at the end of each channel.
    tasks: BTreeMap<ChannelId, TaskId>,
    /// Any task here.
    first: TaskId,
}

impl Connections {
    /// Waits until every worker that tasks here have a channel with is connected.
    pub(super) async fn connected(&mut self) -> Result<(), Failure> {
        let connected = self.links.connected().await;
        connected.map_err(|failure| failure.failure)
    }

    /// The next connection that is lost, with a task that used it.
    pub(super) async fn failed(&mut self) -> (TaskId, Failure) {
        let LinkFailure {
            channels, failure, ..
        } = self.links.failed().await;
        let task = channels.first().and_then(|channel| self.tasks.get(channel));
        (task.copied().unwrap_or(self.first), failure)
    }
}

/// A channel: its edge, the task that writes and the one that reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    edge: EdgeId,
    writer: TaskId,
    reader: TaskId,
}

impl Name {
    const fn id(self) -> ChannelId {
        ChannelId {
            edge: self.edge.0,
            from: self.writer.subtask.0,
            to: self.reader.subtask.0,
        }
    }
}

/// What is known of an attempt while its channels are made.
struct Plan<'a> {
    threads: &'a Threads,
    job: &'a dyn JobTasks,
    edges: Vec<TaskEdge>,
    here: BTreeSet<TaskId>,
    elsewhere: BTreeMap<TaskId, &'a WorkerId>,
}

impl Wiring {
    /// Makes the inbox of every task, gives the senders to the tasks before it, and begins to connect
    /// with the workers of those that run elsewhere.
    ///
    /// # Errors
    /// A task at the other end of a channel runs nowhere, or elsewhere and this worker has no exchange.
    pub(super) fn new(
        options: &Options,
        job: &dyn JobTasks,
        deploy: &Deploy,
    ) -> Result<Self, Failure> {
        let here = deploy.tasks.iter().map(|deployment| deployment.task);
        let others = deploy.peers.iter();
        let others = others.flat_map(|peer| peer.tasks.iter().map(|task| (*task, &peer.worker)));
        let plan = Plan {
            threads: &options.threads,
            job,
            edges: job.edges(),
            here: here.collect(),
            elsewhere: others.collect(),
        };
        let mut ends = BTreeMap::new();
        let mut senders = BTreeMap::new();
        for reader in &plan.here {
            let (end, own) = plan.inbox(*reader);
            ends.insert(*reader, end);
            senders.extend(own);
        }
        let incoming = plan.incoming(&mut senders)?;
        let outgoing = plan.outgoing()?;
        let mut connections = connect(options, deploy, incoming, outgoing)?;
        let mut remote = match &mut connections {
            Some(connections) => std::mem::take(&mut connections.links.senders),
            None => BTreeMap::new(),
        };
        for (writer, end) in &mut ends {
            end.outputs = plan.outputs(*writer, &mut senders, &mut remote)?;
        }
        Ok(Self { ends, connections })
    }
}

impl Plan<'_> {
    /// The channels that lead to a task.
    fn inputs(&self, reader: TaskId) -> impl Iterator<Item = (InputChannel, Name)> {
        let edges = self
            .edges
            .iter()
            .filter(move |edge| edge.to == reader.vertex);
        edges.flat_map(move |edge| {
            let writers = self.others(edge, edge.from, reader.subtask);
            writers.into_iter().map(move |writer| {
                let (from, edge_id) = (writer, edge.id);
                let input = InputChannel {
                    from,
                    input: edge.input,
                };
                let name = Name {
                    edge: edge_id,
                    writer,
                    reader,
                };
                (input, name)
            })
        })
    }

    /// Bytes that each channel to a task has room for: the same at both its ends.
    fn window(&self, reader: TaskId) -> usize {
        self.threads.channel_bytes(self.inputs(reader).count())
    }

    fn inbox(&self, reader: TaskId) -> (Ends, Vec<(Name, ChannelSender)>) {
        let (inputs, names): (Vec<_>, Vec<_>) = self.inputs(reader).unzip();
        let (inbox, senders, handle) = inbox(names.len(), self.window(reader));
        let ends = Ends {
            inbox,
            inputs,
            handle,
            outputs: Vec::new(),
        };
        (ends, names.into_iter().zip(senders).collect())
    }

    /// Takes the senders out that belong to tasks of other workers.
    fn incoming(
        &self,
        senders: &mut BTreeMap<Name, ChannelSender>,
    ) -> Result<Vec<(TaskId, Incoming)>, Failure> {
        let mut incoming = Vec::new();
        let remote = senders.extract_if(.., |name, _| !self.here.contains(&name.writer));
        for (name, sender) in remote {
            let channel = Incoming {
                channel: name.id(),
                from: self.host(name.writer)?.clone(),
                window: self.window(name.reader),
                deliver: Box::new(sender),
            };
            incoming.push((name.reader, channel));
        }
        Ok(incoming)
    }

    fn outgoing(&self) -> Result<Vec<(TaskId, Outgoing)>, Failure> {
        let mut outgoing = Vec::new();
        for writer in &self.here {
            for edge in self.edges.iter().filter(|edge| edge.from == writer.vertex) {
                for reader in self.others(edge, edge.to, writer.subtask) {
                    if self.here.contains(&reader) {
                        continue;
                    }
                    let name = Name {
                        edge: edge.id,
                        writer: *writer,
                        reader,
                    };
                    let channel = Outgoing {
                        channel: name.id(),
                        to: self.host(reader)?.clone(),
                        window: self.window(reader),
                    };
                    outgoing.push((*writer, channel));
                }
            }
        }
        Ok(outgoing)
    }

    fn outputs(
        &self,
        writer: TaskId,
        local: &mut BTreeMap<Name, ChannelSender>,
        remote: &mut BTreeMap<ChannelId, RemoteSender>,
    ) -> Result<Vec<(EdgeId, Output)>, Failure> {
        let mut outputs = Vec::new();
        for edge in self.edges.iter().filter(|edge| edge.from == writer.vertex) {
            let mut channels = Vec::new();
            for reader in self.others(edge, edge.to, writer.subtask) {
                let name = Name {
                    edge: edge.id,
                    writer,
                    reader,
                };
                let channel = local.remove(&name).map(Channel::Local);
                let channel = channel.or_else(|| remote.remove(&name.id()).map(Channel::Remote));
                channels.push(channel.ok_or_else(|| nowhere(reader))?);
            }
            let from = usize::try_from(writer.subtask.0).unwrap_or_default();
            outputs.push((edge.id, Output::new(&edge.partitioning, channels, from)));
        }
        Ok(outputs)
    }

    /// The tasks of `vertex`, at one end of an edge, that have a channel to subtask `own` at the other.
    fn others(&self, edge: &TaskEdge, vertex: VertexId, own: SubtaskIndex) -> Vec<TaskId> {
        let task = |subtask| TaskId { vertex, subtask };
        match edge.partitioning {
            Partitioning::Forward => vec![task(own)],
            Partitioning::Hash { .. } | Partitioning::Rebalance => {
                (0..self.job.parallelism(vertex))
                    .map(|subtask| task(SubtaskIndex(subtask)))
                    .collect()
            }
        }
    }

    fn host(&self, task: TaskId) -> Result<&WorkerId, Failure> {
        let host = self.elsewhere.get(&task).copied();
        host.ok_or_else(|| nowhere(task))
    }
}

/// Begins to connect with the workers that tasks here have a channel with.
fn connect(
    options: &Options,
    deploy: &Deploy,
    incoming: Vec<(TaskId, Incoming)>,
    outgoing: Vec<(TaskId, Outgoing)>,
) -> Result<Option<Connections>, Failure> {
    let to = outgoing
        .iter()
        .map(|(task, channel)| (channel.channel, *task));
    let from = incoming
        .iter()
        .map(|(task, channel)| (channel.channel, *task));
    let tasks: BTreeMap<ChannelId, TaskId> = to.chain(from).collect();
    let Some(first) = tasks.values().next().copied() else {
        return Ok(None);
    };
    let Some(exchange) = &options.exchange else {
        return Err(misplaced(format!(
            "task {first} has channels with other workers, and worker `{}` has no exchange",
            options.worker
        )));
    };
    let peers = deploy.peers.iter();
    let peers = peers.filter_map(|peer| Some((peer.worker.clone(), peer.exchange.clone()?)));
    let lineage = deploy.lineage.as_ref();
    let links = exchange.attempt(AttemptPlan {
        // Chains of older builds have no name of their own.
        job: lineage.map_or_else(|| deploy.fingerprint.clone(), |lineage| lineage.0.clone()),
        attempt: deploy.attempt,
        worker: options.worker.clone(),
        peers: peers.collect(),
        outgoing: outgoing.into_iter().map(|(_, channel)| channel).collect(),
        incoming: incoming.into_iter().map(|(_, channel)| channel).collect(),
    });
    Ok(Some(Connections {
        links,
        tasks,
        first,
    }))
}

fn nowhere(task: TaskId) -> Failure {
    misplaced(format!(
        "task {task} has a channel with a task of this worker, and no worker runs it"
    ))
}

fn misplaced(message: String) -> Failure {
    Failure::new(ErrorCode::PlanMismatch, ErrorKind::Internal, message)
}

#[cfg(test)]
mod tests;
