//! The nodes of one task, and how elements pass through them.
//!
//! Only the first node may have several inputs; nodes stand in an order in which each comes after its input. A
//! batch is pushed depth first: a node's output has passed through everything behind it before the
//! node gets its next batch. A control element visits the nodes in order, so what a node emits at
//! a watermark reaches its children before the watermark does.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_connect::SinkWriter;
use millstream_operators::{Context, InputIndex, Operator};
use millstream_types::snapshot::Counters;
use millstream_types::{
    Barrier, Batch, Bug, CheckpointId, Committable, Element, EventTime, Failure, OperatorSnapshot,
    OperatorUid,
};

use crate::inbox::Closed;
use crate::output::Output;
use crate::plan::{PlannedNode, Port, Step};

/// Why a task stops before its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The attempt is over or a neighbour has stopped; it is not this task's failure.
    Cancelled,
    /// This task has failed.
    Failed(Failure),
}

impl From<Closed> for Stop {
    fn from(_: Closed) -> Self {
        Self::Cancelled
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// The nodes of one task behind its root, and the channels it writes into.
pub struct Chain {
    nodes: Vec<Node>,
    root: Vec<usize>,
    dead_letters: Vec<usize>,
    context: Context,
}

struct Node {
    uid: OperatorUid,
    work: Work,
    children: Vec<usize>,
    restored: Counters,
    counters: Counters,
}

enum Work {
    Operator(Box<dyn Operator>),
    Sink(Sink),
    Output(Output),
}

struct Sink {
    writer: Box<dyn SinkWriter>,
    /// Prepared, and not yet known to be committed; oldest first.
    pending: Vec<Committable>,
}

impl Chain {
    /// Puts the nodes and output channels of a task together.
    pub fn new(nodes: Vec<PlannedNode>, outputs: Vec<(Port, Output)>) -> Self {
        let mut chain = Self {
            nodes: Vec::with_capacity(nodes.len() + outputs.len()),
            root: Vec::new(),
            dead_letters: Vec::new(),
            context: Context::default(),
        };
        for node in nodes {
            let work = match node.step {
                Step::Operator(operator) => Work::Operator(operator),
                Step::Sink(writer) => Work::Sink(Sink {
                    writer,
                    pending: Vec::new(),
                }),
            };
            chain.attach(node.uid, node.input, work);
        }
        for (input, output) in outputs {
            chain.attach(OperatorUid::from(""), input, Work::Output(output));
        }
        chain
    }

    fn attach(&mut self, uid: OperatorUid, input: Port, work: Work) {
        let index = self.nodes.len();
        let siblings = match input {
            Port::Root => &mut self.root,
            Port::DeadLetters => &mut self.dead_letters,
            Port::Node(parent) => &mut self.nodes[parent].children,
        };
        siblings.push(index);
        self.nodes.push(Node {
            uid,
            work,
            children: Vec::new(),
            restored: Counters::default(),
            counters: Counters::default(),
        });
    }

    /// Goes on counting from a snapshot.
    pub fn restore(&mut self, operators: &BTreeMap<OperatorUid, OperatorSnapshot>) {
        for node in &mut self.nodes {
            if let Some(snapshot) = operators.get(&node.uid) {
                node.restored = snapshot.counters;
            }
        }
    }

    /// Records of the root, for an input of what reads it: the first, unless the root is a gate.
    ///
    /// # Errors
    /// A node failed, or a channel is closed.
    pub fn push(&mut self, input: InputIndex, batch: &Batch) -> Result<(), Stop> {
        for position in 0..self.root.len() {
            self.push_to(self.root[position], input, batch)?;
        }
        Ok(())
    }

    /// Records that the root could not decode.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_dead_letters(&mut self, batch: &Batch) -> Result<(), Stop> {
        for position in 0..self.dead_letters.len() {
            self.push_to(self.dead_letters[position], InputIndex(0), batch)?;
        }
        Ok(())
    }

    fn push_to(&mut self, index: usize, input: InputIndex, batch: &Batch) -> Result<(), Stop> {
        let node = &mut self.nodes[index];
        let rows = u64::try_from(batch.rows()).unwrap_or(u64::MAX);
        node.counters.records_in += rows;
        match &mut node.work {
            Work::Operator(operator) => {
                operator.on_batch(input, batch, &mut self.context)?;
                self.push_emitted(index)
            }
            Work::Sink(sink) => {
                node.counters.records_out += sink.writer.write(batch)?;
                Ok(())
            }
            Work::Output(output) => output.batch(batch),
        }
    }

    fn push_emitted(&mut self, index: usize) -> Result<(), Stop> {
        for batch in self.context.take() {
            let rows = u64::try_from(batch.rows()).unwrap_or(u64::MAX);
            self.nodes[index].counters.records_out += rows;
            for position in 0..self.nodes[index].children.len() {
                self.push_to(self.nodes[index].children[position], InputIndex(0), &batch)?;
            }
        }
        Ok(())
    }

    /// No record older than `watermark` follows.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn watermark(&mut self, watermark: EventTime) -> Result<(), Stop> {
        self.control(&Element::Watermark(watermark), |operator, context| {
            operator.on_watermark(watermark, context)
        })
    }

    /// The root has no records for now.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn idle(&mut self) -> Result<(), Stop> {
        self.control(&Element::Idle, |_, _| Ok(()))
    }

    /// The root has ended: operators emit what they hold.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn end(&mut self) -> Result<(), Stop> {
        self.control(&Element::End, |operator, context| operator.on_end(context))
    }

    fn control(
        &mut self,
        element: &Element,
        handle: impl Fn(&mut dyn Operator, &mut Context) -> Result<(), Failure>,
    ) -> Result<(), Stop> {
        for index in 0..self.nodes.len() {
            let node = &mut self.nodes[index];
            match &mut node.work {
                Work::Operator(operator) => {
                    handle(operator.as_mut(), &mut self.context)?;
                    self.push_emitted(index)?;
                }
                Work::Output(output) => output.control(element)?,
                Work::Sink(_) => {}
            }
        }
        Ok(())
    }

    /// Sends a barrier into every output channel.
    ///
    /// # Errors
    /// A channel is closed.
    pub fn forward(&mut self, barrier: Barrier) -> Result<(), Stop> {
        for output in self.outputs() {
            output.control(&Element::Barrier(barrier))?;
        }
        Ok(())
    }

    /// How long it has waited for room, in channels and in what sinks write to.
    pub fn waited(&self) -> Duration {
        let of = |node: &Node| match &node.work {
            Work::Operator(_) => Duration::ZERO,
            Work::Sink(sink) => sink.writer.waited(),
            Work::Output(output) => output.waited(),
        };
        self.nodes.iter().map(of).sum()
    }

    /// Whether outputs may hold records back.
    pub fn holds(&self) -> bool {
        let outputs = self.nodes.iter().filter_map(|node| match &node.work {
            Work::Output(output) => Some(output),
            Work::Operator(_) | Work::Sink(_) => None,
        });
        outputs.into_iter().any(Output::holds)
    }

    /// There are no records for now: sends those that outputs hold back.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn flush(&mut self) -> Result<(), Stop> {
        for output in self.outputs() {
            output.flush()?;
        }
        Ok(())
    }

    fn outputs(&mut self) -> impl Iterator<Item = &mut Output> {
        self.nodes
            .iter_mut()
            .filter_map(|node| match &mut node.work {
                Work::Output(output) => Some(output),
                Work::Operator(_) | Work::Sink(_) => None,
            })
    }

    /// Prepares every sink: what was written before the barrier is durable when this returns.
    ///
    /// # Errors
    /// A sink cannot promise it.
    pub fn prepare(&mut self, checkpoint: CheckpointId) -> Result<(), Stop> {
        for node in &mut self.nodes {
            if let Work::Sink(sink) = &mut node.work {
                sink.pending.extend(sink.writer.prepare(checkpoint)?);
            }
        }
        Ok(())
    }

    /// A checkpoint is committed, and with it everything that it listed: what was prepared at its
    /// barrier or before.
    pub fn committed(&mut self, checkpoint: CheckpointId) {
        for node in &mut self.nodes {
            if let Work::Sink(sink) = &mut node.work {
                let (done, pending) =
                    std::mem::take(&mut sink.pending)
                        .into_iter()
                        .partition(|committable| {
                            committable.checkpoint <= checkpoint
                                || Bug::CompletedForgetsLaterTransaction.is_seeded()
                        });
                sink.pending = pending;
                sink.writer.committed(&done);
            }
        }
    }

    /// Whether so many bytes are in none of the channels that are written and read.
    #[cfg(feature = "simulation")]
    pub(crate) fn has_room(&self, bound: usize) -> bool {
        self.nodes.iter().all(|node| match &node.work {
            Work::Output(output) => output.has_room(bound),
            Work::Operator(_) | Work::Sink(_) => true,
        })
    }

    /// Totals and prepared transactions of every node.
    pub fn snapshot(&self) -> BTreeMap<OperatorUid, OperatorSnapshot> {
        self.nodes.iter().filter_map(Node::snapshot).collect()
    }
}

impl Node {
    fn snapshot(&self) -> Option<(OperatorUid, OperatorSnapshot)> {
        let mut counters = self.restored;
        counters.add(self.counters);
        let committables = match &self.work {
            Work::Output(_) => return None,
            Work::Operator(_) => Vec::new(),
            Work::Sink(sink) => {
                counters.bytes += sink.writer.bytes();
                if Bug::EarlierTransactionNotListed.is_seeded() {
                    sink.pending.last().cloned().into_iter().collect()
                } else {
                    sink.pending.clone()
                }
            }
        };
        let snapshot = OperatorSnapshot {
            committables,
            counters,
            ..OperatorSnapshot::default()
        };
        Some((self.uid.clone(), snapshot))
    }
}

#[cfg(test)]
mod tests;
