//! One planned job in one attempt, as a worker runs it.

use std::sync::Arc;

use millstream_operators::sql::SqlOperator;
use millstream_operators::{ReaderContext, WriterContext};
use millstream_plan::{JobGraph, Node, NodeIndex, NodeInput, NodeKind, Vertex};
use millstream_spec::ValidSource;
use millstream_types::ids::TaskId;
use millstream_types::protocol::Deploy;
use millstream_types::{Attempt, ErrorCode, ErrorKind, Failure, JobId, Lineage, VertexId};
use millstream_worker::{
    ForwardEdge, JobTasks, PlannedNode, PlannedOutput, Port, Root, SourceRoot, Step, TaskPlan,
    WatermarkPlan,
};

use super::Connectors;
use crate::job::LoadedJob;

pub(super) struct Tasks {
    job: JobId,
    graph: JobGraph,
    connectors: Connectors,
    attempt: Attempt,
    lineage: Option<Lineage>,
    parallelism: u32,
}

impl Tasks {
    pub(super) fn new(loaded: LoadedJob, connectors: Connectors, deploy: &Deploy) -> Self {
        Self {
            job: loaded.job.id,
            graph: loaded.graph,
            connectors,
            attempt: deploy.attempt,
            lineage: deploy.lineage.clone(),
            parallelism: deploy.parallelism,
        }
    }
}

impl JobTasks for Tasks {
    fn edges(&self) -> Vec<ForwardEdge> {
        let vertices = self.graph.vertices.iter();
        vertices
            .filter_map(|vertex| {
                Some(ForwardEdge {
                    from: vertex.input?,
                    to: vertex.id,
                })
            })
            .collect()
    }

    fn task(&self, task: TaskId) -> Result<TaskPlan, Failure> {
        let vertex = self.vertex(task.vertex)?;
        let first = vertex.nodes.first().ok_or_else(|| malformed(task.vertex))?;
        let first_node = self.node(*first)?;
        let (root, skip) = match &first_node.kind {
            NodeKind::Source(spec) => (self.source(first_node, spec, task)?, 1),
            NodeKind::Sql(_) | NodeKind::Sink(_) => (Root::Queue, 0),
        };
        let nodes = vertex.nodes.iter().skip(skip);
        Ok(TaskPlan {
            root,
            nodes: nodes
                .map(|index| self.planned(vertex, skip, *index, task))
                .collect::<Result<_, _>>()?,
            outputs: self.outputs(vertex, skip)?,
        })
    }
}

impl Tasks {
    fn vertex(&self, id: VertexId) -> Result<&Vertex, Failure> {
        let mut vertices = self.graph.vertices.iter();
        vertices
            .find(|vertex| vertex.id == id)
            .ok_or_else(|| malformed(id))
    }

    fn node(&self, index: NodeIndex) -> Result<&Node, Failure> {
        self.graph.nodes.get(index.0).ok_or_else(|| {
            let message = format!("the job graph has no node {}", index.0);
            Failure::new(ErrorCode::PlanMismatch, ErrorKind::Internal, message)
        })
    }

    fn source(&self, node: &Node, spec: &ValidSource, task: TaskId) -> Result<Root, Failure> {
        let connector = self.connectors.sources.get(&node.uid);
        let reader = connector
            .ok_or_else(|| malformed(task.vertex))?
            .reader(ReaderContext {
                job: self.job.clone(),
                uid: node.uid.clone(),
                subtask: task.subtask,
                parallelism: self.parallelism,
                schema: Arc::clone(&node.schema),
            })?;
        Ok(Root::Source(SourceRoot {
            uid: node.uid.clone(),
            reader,
            watermark: watermark(node, spec)?,
        }))
    }

    fn planned(
        &self,
        vertex: &Vertex,
        skip: usize,
        index: NodeIndex,
        task: TaskId,
    ) -> Result<PlannedNode, Failure> {
        let node = self.node(index)?;
        let input = node.input.ok_or_else(|| malformed(vertex.id))?;
        let step = match &node.kind {
            NodeKind::Source(_) => return Err(malformed(vertex.id)),
            NodeKind::Sql(sql) => Step::Operator(Box::new(SqlOperator::new(
                node.uid.clone(),
                sql.filter.clone(),
                sql.projection.clone(),
                Arc::clone(&node.schema),
            )?)),
            NodeKind::Sink(_) => Step::Sink(self.writer(node, task)?),
        };
        Ok(PlannedNode {
            uid: node.uid.clone(),
            input: port(vertex, skip, input).unwrap_or(Port::Root),
            step,
        })
    }

    fn writer(
        &self,
        node: &Node,
        task: TaskId,
    ) -> Result<Box<dyn millstream_operators::SinkWriter>, Failure> {
        let connector = self.connectors.sinks.get(&node.uid);
        connector
            .ok_or_else(|| malformed(task.vertex))?
            .writer(WriterContext {
                job: self.job.clone(),
                uid: node.uid.clone(),
                attempt: self.attempt,
                lineage: self.lineage.clone(),
                subtask: task.subtask,
                parallelism: self.parallelism,
                schema: Arc::clone(&node.schema),
            })
    }

    fn outputs(&self, vertex: &Vertex, skip: usize) -> Result<Vec<PlannedOutput>, Failure> {
        let readers = self.graph.vertices.iter();
        readers
            .filter(|reader| reader.input == Some(vertex.id))
            .map(|reader| {
                let first = reader.nodes.first().ok_or_else(|| malformed(reader.id))?;
                let input = self.node(*first)?.input;
                let input = input.and_then(|input| port(vertex, skip, input));
                Ok(PlannedOutput {
                    input: input.ok_or_else(|| malformed(reader.id))?,
                    to: reader.id,
                })
            })
            .collect()
    }
}

/// The output of this vertex that `input` names; `None` if it belongs to another vertex. `skip` is
/// 1 if the vertex begins with a source, which is the task's root and not one of its nodes.
fn port(vertex: &Vertex, skip: usize, input: NodeInput) -> Option<Port> {
    let position = vertex.nodes.iter().position(|node| *node == input.node())?;
    Some(match (position.checked_sub(skip), input) {
        (None, NodeInput::Main(_)) => Port::Root,
        (None, NodeInput::DeadLetters(_)) => Port::DeadLetters,
        (Some(node), _) => Port::Node(node),
    })
}

fn watermark(node: &Node, spec: &ValidSource) -> Result<Option<WatermarkPlan>, Failure> {
    let Some(watermark) = &spec.watermark else {
        return Ok(None);
    };
    let column = node.schema.index_of(&watermark.column).map_err(|_| {
        let (uid, column) = (&node.uid, &watermark.column);
        let message = format!("source `{uid}` does not decode its event-time column `{column}`");
        Failure::new(ErrorCode::PlanMismatch, ErrorKind::Internal, message)
    })?;
    Ok(Some(WatermarkPlan {
        column,
        max_out_of_orderness: watermark.max_out_of_orderness.0,
        idle_timeout: watermark.idle_timeout.map(|timeout| timeout.0),
    }))
}

fn malformed(vertex: VertexId) -> Failure {
    Failure::new(
        ErrorCode::PlanMismatch,
        ErrorKind::Internal,
        format!("vertex {vertex} of the job graph is malformed"),
    )
}
