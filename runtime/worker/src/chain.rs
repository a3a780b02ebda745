//! The nodes of one task, and how elements pass through them.
//!
//! Only the first node may have several inputs; nodes stand in an order in which each comes after its input. A
//! batch is pushed depth first: a node's output has passed through everything behind it before the
//! node gets its next batch. A control element visits the nodes in order, so what a node emits at
//! a watermark reaches its children before the watermark does.

use std::collections::BTreeMap;
use std::task::Waker;
use std::time::Duration;

use millstream_connect::SinkWriter;
use millstream_operators::{Context, InputIndex, Operator};
use millstream_state::{Content, Frozen, Keeper, Memory, Written};
use millstream_types::load::StateLoad;
use millstream_types::snapshot::Counters;
use millstream_types::{
    Barrier, Batch, Bug, CheckpointId, Committable, Element, ErrorCode, ErrorKind, EventTime,
    Failure, OperatorSnapshot, OperatorUid, StateSnapshot,
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

/// The bytes of files, by their paths.
pub type Contents = BTreeMap<String, Content>;

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
    Keyed(Keyed),
    Sink(Sink),
    Output(Output),
}

/// An operator that keeps state.
struct Keyed {
    operator: Box<dyn Operator>,
    keeper: Keeper,
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
                Step::Keyed(operator, keeper) => Work::Keyed(Keyed { operator, keeper }),
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

    /// What its operators' state takes counts as a part of this memory.
    pub fn set_memory(&mut self, memory: &Memory) {
        for node in &mut self.nodes {
            if let Work::Keyed(keyed) = &mut node.work {
                for table in keyed.operator.tables() {
                    table.set_memory(memory);
                }
            }
        }
    }

    /// Goes on from a snapshot. `contents` has the bytes of all files that it names, by their paths.
    ///
    /// # Errors
    /// A file is missing or broken, or the state is not that of the operator.
    pub fn restore(
        &mut self,
        operators: &BTreeMap<OperatorUid, OperatorSnapshot>,
        contents: &Contents,
    ) -> Result<(), Failure> {
        for node in &mut self.nodes {
            let Some(snapshot) = operators.get(&node.uid) else {
                continue;
            };
            // Those in flight come in from now on.
            node.restored = Counters {
                in_flight: 0,
                ..snapshot.counters
            };
            let (Work::Keyed(keyed), Some(state)) = (&mut node.work, &snapshot.state) else {
                continue;
            };
            let runs = state.runs.iter().map(|run| {
                let bytes = contents.get(&run.file.path).cloned();
                bytes.ok_or_else(|| not_fetched(&node.uid, &run.file.path))
            });
            let runs = runs.collect::<Result<Vec<_>, _>>()?;
            keyed.restore(state, runs)?;
        }
        Ok(())
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
            Work::Keyed(keyed) => {
                keyed.operator.on_batch(input, batch, &mut self.context)?;
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
            if let Some(operator) = node.work.operator() {
                operator.flush(&mut self.context)?;
                handle(operator, &mut self.context)?;
                self.push_emitted(index)?;
            } else if let Work::Output(output) = &mut node.work {
                output.control(element)?;
            }
        }
        Ok(())
    }

    /// Sends a barrier into every output channel, behind all that nodes hold back.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn forward(&mut self, barrier: Barrier) -> Result<(), Stop> {
        self.flush()?;
        for output in self.outputs() {
            output.control(&Element::Barrier(barrier))?;
        }
        Ok(())
    }

    /// How long it has waited for room in what sinks write to.
    pub fn waited(&self) -> Duration {
        let of = |node: &Node| match &node.work {
            Work::Sink(sink) => sink.writer.waited(),
            Work::Operator(_) | Work::Keyed(_) | Work::Output(_) => Duration::ZERO,
        };
        self.nodes.iter().map(of).sum()
    }

    /// Whether there is room in every channel that is written. If not, `waker` is told when there may be.
    pub fn has_room(&self, waker: &Waker) -> bool {
        self.nodes.iter().all(|node| match &node.work {
            Work::Output(output) => output.has_room(waker),
            Work::Operator(_) | Work::Keyed(_) | Work::Sink(_) => true,
        })
    }

    /// Whether nodes hold anything back.
    pub fn holds(&self) -> bool {
        self.nodes.iter().any(|node| match &node.work {
            Work::Operator(operator) => operator.holds(),
            Work::Keyed(keyed) => keyed.operator.holds(),
            Work::Output(output) => output.holds(),
            Work::Sink(_) => false,
        })
    }

    /// There are no records for now: sends what nodes hold back.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn flush(&mut self) -> Result<(), Stop> {
        for index in 0..self.nodes.len() {
            let node = &mut self.nodes[index];
            if let Some(operator) = node.work.operator() {
                operator.flush(&mut self.context)?;
                self.push_emitted(index)?;
            } else if let Work::Output(output) = &mut node.work {
                output.flush()?;
            }
        }
        Ok(())
    }

    fn outputs(&mut self) -> impl Iterator<Item = &mut Output> {
        self.nodes
            .iter_mut()
            .filter_map(|node| match &mut node.work {
                Work::Output(output) => Some(output),
                Work::Operator(_) | Work::Keyed(_) | Work::Sink(_) => None,
            })
    }

    /// At a barrier: what operators must write of their state for it.
    ///
    /// # Errors
    /// A table is broken: a bug.
    pub fn freeze(&mut self, barrier: Barrier) -> Result<Vec<(OperatorUid, Frozen)>, Failure> {
        let mut frozen = Vec::new();
        for node in &mut self.nodes {
            if let Work::Keyed(keyed) = &mut node.work {
                let mut tables = keyed.operator.tables();
                let of_node = keyed
                    .keeper
                    .freeze(&mut tables, barrier.checkpoint, barrier.kind)?;
                frozen.push((node.uid.clone(), of_node));
            }
        }
        Ok(frozen)
    }

    /// What operators have frozen is written, or cannot be: the state of each for the checkpoint.
    ///
    /// # Errors
    /// Why it cannot be written. Every operator has heard of its own.
    pub fn settle(
        &mut self,
        written: Vec<(OperatorUid, Result<Written, Failure>)>,
    ) -> Result<Vec<(OperatorUid, StateSnapshot)>, Failure> {
        let mut states = Ok(Vec::new());
        for (uid, written) in written {
            let mut nodes = self.nodes.iter_mut();
            let Some(Work::Keyed(keyed)) = nodes
                .find(|node| node.uid == uid)
                .map(|node| &mut node.work)
            else {
                states = Err(not_kept(&uid));
                continue;
            };
            let mut tables = keyed.operator.tables();
            let settled = keyed.keeper.settle(&mut tables, written);
            states = match (states, settled) {
                (Ok(mut states), Ok(state)) => {
                    states.push((uid, state));
                    Ok(states)
                }
                (Err(failure), _) | (_, Err(failure)) => Err(failure),
            };
        }
        states
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

    /// How much state its operators have; `None` if none of them keeps any.
    pub fn state_load(&mut self) -> Option<StateLoad> {
        let mut sum = None;
        for node in &mut self.nodes {
            if let Work::Keyed(keyed) = &mut node.work {
                sum.get_or_insert_with(StateLoad::default).add(keyed.load());
            }
        }
        sum
    }

    /// Totals and prepared transactions of every node.
    pub fn snapshot(&self) -> BTreeMap<OperatorUid, OperatorSnapshot> {
        self.nodes.iter().filter_map(Node::snapshot).collect()
    }
}

impl Work {
    fn operator(&mut self) -> Option<&mut dyn Operator> {
        match self {
            Self::Operator(operator) => Some(operator.as_mut()),
            Self::Keyed(keyed) => Some(keyed.operator.as_mut()),
            Self::Sink(_) | Self::Output(_) => None,
        }
    }
}

impl Keyed {
    fn load(&mut self) -> StateLoad {
        let runs = self.keeper.stats();
        let mut load = StateLoad {
            runs: runs.runs,
            run_bytes: runs.bytes,
            ..StateLoad::default()
        };
        for table in self.operator.tables() {
            let stats = table.stats();
            load.keys += stats.keys;
            load.dirty_keys += stats.dirty;
            load.bytes += stats.bytes;
            load.cold_keys += stats.cold_keys;
            load.cold_bytes += stats.cold_bytes;
            load.hot_reads += stats.hot_reads;
            load.cold_reads += stats.cold_reads;
            load.evictions += stats.evictions;
        }
        load
    }

    fn restore(&mut self, state: &StateSnapshot, runs: Vec<Content>) -> Result<(), Failure> {
        let mut tables = self.operator.tables();
        self.keeper.restore(&mut tables, state, runs)
    }
}

fn not_fetched(uid: &OperatorUid, path: &str) -> Failure {
    Failure::new(
        ErrorCode::CorruptObject,
        ErrorKind::Internal,
        format!("the state of `{uid}` names {path}, which was not read before its task began"),
    )
}

fn not_kept(uid: &OperatorUid) -> Failure {
    Failure::new(
        ErrorCode::PlanMismatch,
        ErrorKind::Internal,
        format!("state of `{uid}` was written, and no operator of this task keeps it"),
    )
}

impl Node {
    fn snapshot(&self) -> Option<(OperatorUid, OperatorSnapshot)> {
        let mut counters = self.restored;
        counters.add(self.counters);
        let committables = match &self.work {
            Work::Output(_) => return None,
            Work::Operator(_) | Work::Keyed(_) => Vec::new(),
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
