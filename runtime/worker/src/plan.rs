//! What a task is made of. The binary builds these from the job graph; see [`TaskFactory`].

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millstream_connect::{Result, SinkWriter, SourceReader};
use millstream_operators::{InputIndex, Operator};
use millstream_state::{Keeper, StateFiles};
use millstream_types::ids::TaskId;
use millstream_types::protocol::Deploy;
use millstream_types::{Clock, EdgeId, OperatorUid, VertexId};

/// Turns a deployment into runnable tasks.
pub trait TaskFactory: Send + Sync {
    /// Plans the job of a deployment. Called once per attempt, off the task threads.
    ///
    /// # Errors
    /// The job does not plan, or its fingerprint is not the coordinator's.
    fn job(&self, deploy: &Deploy) -> Result<Box<dyn JobTasks>>;
}

/// One planned job in one attempt: makes its tasks.
pub trait JobTasks: Send + Sync {
    /// The edges between vertices.
    fn edges(&self) -> Vec<TaskEdge>;

    /// How many subtasks run a vertex.
    fn parallelism(&self, vertex: VertexId) -> u32;

    /// Builds one task with its readers and writers. Called on a thread of the task's own, so it
    /// may take its time.
    ///
    /// # Errors
    /// A connector cannot start.
    fn task(&self, task: TaskId, clock: &Arc<dyn Clock>) -> Result<TaskPlan>;

    /// Most bytes of memory that all state in this worker may take, if the job says so.
    fn state_memory(&self) -> Option<u64>;

    /// Where this worker keeps state that does not fit into memory, if the job says so.
    fn state_directory(&self) -> Option<PathBuf>;

    /// Where a task's state is written and read.
    fn state_files(&self, task: TaskId) -> Arc<dyn StateFiles>;
}

/// An edge between two vertices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskEdge {
    /// Its number in the job graph.
    pub id: EdgeId,
    /// The vertex that writes.
    pub from: VertexId,
    /// The vertex that reads.
    pub to: VertexId,
    /// Which input of the first node of the vertex that reads.
    pub input: InputIndex,
    /// Which subtask gets a record.
    pub partitioning: Partitioning,
}

/// Which subtask of the vertex behind an edge gets a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Partitioning {
    /// The one with the same number.
    Forward,
    /// The one that the values in some columns belong to.
    Hash {
        /// Positions of the columns in the batch that is sent.
        columns: Vec<usize>,
        /// Into how many key groups they are divided.
        max_parallelism: u32,
    },
    /// Any: batches are dealt out in turn.
    Rebalance,
}

/// One task: a root, and a tree of nodes that it feeds.
pub struct TaskPlan {
    /// Where elements come from.
    pub root: Root,
    /// The nodes, each after the one that it reads from.
    pub nodes: Vec<PlannedNode>,
    /// Edges into other vertices.
    pub outputs: Vec<PlannedOutput>,
}

/// Where a task's elements come from.
pub enum Root {
    /// A source of its own.
    Source(SourceRoot),
    /// Tasks of other vertices, by each [`TaskEdge`] that leads here.
    Edges,
}

/// A source at the root of a task.
pub struct SourceRoot {
    /// Its node.
    pub uid: OperatorUid,
    /// Reads its splits.
    pub reader: Box<dyn SourceReader>,
    /// How its event time advances, if it has one.
    pub watermark: Option<WatermarkPlan>,
}

/// How a source's watermark follows from its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatermarkPlan {
    /// Index of the event-time column (microseconds) in the source's batches.
    pub column: usize,
    /// How much older than the newest record a record may be without being late.
    pub max_out_of_orderness: Duration,
    /// Time without records after which a split no longer holds back the watermark.
    pub idle_timeout: Option<Duration>,
}

/// One node behind the root.
pub struct PlannedNode {
    /// Its name in the job file.
    pub uid: OperatorUid,
    /// The output that it reads.
    pub input: Port,
    /// What it does.
    pub step: Step,
}

/// An edge into another vertex.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedOutput {
    /// The output that is sent.
    pub input: Port,
    /// Which of the job's edges it is sent over.
    pub edge: EdgeId,
}

/// An output within a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// Records of the root.
    Root,
    /// Records that the root, a source, could not decode.
    DeadLetters,
    /// Records of a node, by its position in [`TaskPlan::nodes`].
    Node(usize),
}

/// What a node does.
pub enum Step {
    /// Batches in, batches out.
    Operator(Box<dyn Operator>),
    /// The same, with state by key. The keeper is that of the operator's tables.
    Keyed(Box<dyn Operator>, Keeper),
    /// Writes batches to the outside.
    Sink(Box<dyn SinkWriter>),
}
