//! One planned job in one attempt, as a worker runs it.

use std::sync::Arc;

use millstream_connect::{ReaderContext, WriterContext};
use millstream_operators::sql::SqlOperator;
use millstream_plan::{JobGraph, Node, NodeIndex, NodeInput, NodeKind, Vertex};
use millstream_spec::ValidSource;
use millstream_types::ids::TaskId;
use millstream_types::protocol::Deploy;
use millstream_types::{Attempt, ErrorCode, ErrorKind, Failure, JobId, Lineage, VertexId};
use millstream_worker::{
    EdgeIndex, ForwardEdge, JobTasks, PlannedNode, PlannedOutput, Port, Root, SourceRoot, Step,
    TaskPlan, WatermarkPlan,
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
            NodeKind::Sql(_) | NodeKind::Sink(_) => (Root::Edges, 0),
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
                expressions(&sql.filter),
                expressions(&sql.projection),
                Arc::clone(&node.schema),
            )?)),
            NodeKind::Sink(_) => Step::Sink(self.writer(node, task)?),
        };
        Ok(PlannedNode {
            uid: node.uid.clone(),
            input: port_or_root(vertex, skip, index, input).ok_or_else(|| malformed(vertex.id))?,
            step,
        })
    }

    fn writer(
        &self,
        node: &Node,
        task: TaskId,
    ) -> Result<Box<dyn millstream_connect::SinkWriter>, Failure> {
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
        // As in `edges`.
        let readers = readers.filter(|reader| reader.input.is_some());
        (0..)
            .map(EdgeIndex)
            .zip(readers)
            .filter(|(_, reader)| reader.input == Some(vertex.id))
            .map(|(edge, reader)| {
                let first = reader.nodes.first().ok_or_else(|| malformed(reader.id))?;
                let input = self.node(*first)?.input;
                let input = input.and_then(|input| port(vertex, skip, input));
                Ok(PlannedOutput {
                    input: input.ok_or_else(|| malformed(reader.id))?,
                    edge,
                })
            })
            .collect()
    }
}

/// Where a node of this vertex gets its records from: another node, or the task's root. Only the
/// first node of a vertex that is fed by another reads what another vertex sends.
fn port_or_root(vertex: &Vertex, skip: usize, node: NodeIndex, input: NodeInput) -> Option<Port> {
    let is_fed = vertex.input.is_some() && vertex.nodes.first() == Some(&node);
    port(vertex, skip, input).or_else(|| is_fed.then_some(Port::Root))
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

fn expressions(
    computed: &[millstream_plan::Computed],
) -> Vec<millstream_operators::sql::Expression> {
    let expression = |computed: &millstream_plan::Computed| millstream_operators::sql::Expression {
        compute: Arc::clone(&computed.expression),
        text: computed.text.clone(),
    };
    computed.iter().map(expression).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A job whose source has this event time.
    fn planned(watermark: &str) -> WatermarkPlan {
        let text = format!(
            "
apiVersion: millstream.dev/v1alpha1
kind: StreamJob
metadata: {{name: timed}}
spec:
  checkpoint: {{storage: 'file:///tmp/timed'}}
  dataflow:
    sources: [{{name: orders, generator: {{}}, watermark: {watermark}}}]
    sinks: [{{name: out, input: orders, blackhole: {{}}}}]
"
        );
        let job = millstream_spec::read(&text, "timed.yaml").unwrap();
        let graph = millstream_plan::plan(&job).unwrap();
        super::watermark(&graph.nodes[0], &job.sources[0])
            .unwrap()
            .unwrap()
    }

    #[test]
    fn event_time_is_planned_as_the_job_file_says() {
        let plan = planned("{column: ts, maxOutOfOrderness: 7s, idleTimeout: 9s}");
        assert_eq!(plan.max_out_of_orderness, Duration::from_secs(7));
        assert_eq!(plan.idle_timeout, Some(Duration::from_secs(9)));
        let plan = planned("{column: ts}");
        assert_eq!(plan.max_out_of_orderness, Duration::ZERO);
        assert_eq!(plan.idle_timeout, None);
    }

    #[test]
    fn only_the_first_node_of_a_fed_vertex_reads_what_another_vertex_sends() {
        let elsewhere = NodeInput::Main(NodeIndex(0));
        let vertex = |input| Vertex {
            id: VertexId(1),
            nodes: vec![NodeIndex(1), NodeIndex(2)],
            input,
        };
        let fed = vertex(Some(VertexId(0)));
        let (first, second) = (NodeIndex(1), NodeIndex(2));
        assert_eq!(port_or_root(&fed, 0, first, elsewhere), Some(Port::Root));
        assert_eq!(port_or_root(&fed, 0, second, elsewhere), None);
        let beside = NodeInput::Main(first);
        assert_eq!(port_or_root(&fed, 0, second, beside), Some(Port::Node(0)));
        let unfed = vertex(None);
        assert_eq!(port_or_root(&unfed, 1, second, elsewhere), None);
        assert_eq!(port_or_root(&unfed, 1, second, beside), Some(Port::Root));
    }
}
