//! One planned job in one attempt, as a worker runs it.

use std::path::PathBuf;
use std::sync::Arc;

use millstream_connect::{ReaderContext, WriterContext};
use millstream_operators::aggregate::{self, StateParameters};
use millstream_operators::sql::{SqlOperator, SqlUnion};
use millstream_operators::{InputIndex, Operator};
use millstream_plan::{
    JobGraph, Node, NodeIndex, NodeKind, Output, SqlSelect, SqlTransform, Vertex,
};
use millstream_spec::ValidSource;
use millstream_state::{Keeper, StateFiles};
use millstream_types::aggregate::Aggregation;
use millstream_types::ids::TaskId;
use millstream_types::protocol::Deploy;
use millstream_types::{
    Attempt, Clock, ErrorCode, ErrorKind, Failure, JobId, Lineage, VertexId, keys,
};
use millstream_worker::{
    JobTasks, Partitioning, PlannedNode, PlannedOutput, Port, Root, SourceRoot, Step, TaskEdge,
    TaskPlan, WatermarkPlan,
};

use super::Connectors;
use super::state::{StateStorage, TaskFiles};
use crate::job::LoadedJob;

pub(super) struct Tasks {
    job: JobId,
    graph: JobGraph,
    connectors: Connectors,
    attempt: Attempt,
    lineage: Option<Lineage>,
    parallelism: u32,
    storage: Arc<StateStorage>,
    state_memory: Option<u64>,
    state_directory: Option<PathBuf>,
}

impl Tasks {
    pub(super) fn new(
        loaded: LoadedJob,
        connectors: Connectors,
        storage: Arc<StateStorage>,
        deploy: &Deploy,
    ) -> Self {
        Self {
            storage,
            state_directory: loaded.job.state_backend.directory.clone(),
            state_memory: loaded.job.state_backend.memory.map(|memory| memory.0),
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
    fn edges(&self) -> Vec<TaskEdge> {
        let edges = self.graph.between_vertices();
        edges
            .map(|(id, edge, from, to)| TaskEdge {
                id,
                from: from.id,
                to: to.id,
                input: InputIndex(edge.input),
                partitioning: match &edge.partitioning {
                    millstream_plan::Partitioning::Forward => Partitioning::Forward,
                    millstream_plan::Partitioning::Rebalance => Partitioning::Rebalance,
                    millstream_plan::Partitioning::Hash(columns) => Partitioning::Hash {
                        columns: columns.clone(),
                        max_parallelism: self.graph.max_parallelism,
                    },
                },
            })
            .collect()
    }

    fn parallelism(&self, vertex: VertexId) -> u32 {
        let vertex = self.vertex(vertex).ok();
        let own = vertex.and_then(|vertex| vertex.parallelism);
        own.unwrap_or(self.parallelism)
    }

    fn task(&self, task: TaskId, clock: &Arc<dyn Clock>) -> Result<TaskPlan, Failure> {
        let vertex = self.vertex(task.vertex)?;
        let first = vertex.nodes.first().ok_or_else(|| malformed(task.vertex))?;
        let first_node = self.node(*first)?;
        let (root, skip) = match &first_node.kind {
            NodeKind::Source(spec) => (self.source(first_node, spec, task)?, 1),
            NodeKind::Sql(_) | NodeKind::Aggregate(_) | NodeKind::Sink(_) => (Root::Edges, 0),
        };
        let nodes = vertex.nodes.iter().skip(skip);
        let outputs = self.graph.between_vertices();
        let outputs = outputs.filter(|(_, _, from, _)| from.id == vertex.id);
        Ok(TaskPlan {
            root,
            nodes: nodes
                .map(|index| self.planned(vertex, skip, *index, task, clock))
                .collect::<Result<_, _>>()?,
            outputs: outputs
                .map(|(id, edge, ..)| {
                    let input = port(vertex, skip, edge.from);
                    Ok(PlannedOutput {
                        input: input.ok_or_else(|| malformed(vertex.id))?,
                        edge: id,
                    })
                })
                .collect::<Result<_, Failure>>()?,
        })
    }

    fn state_memory(&self) -> Option<u64> {
        self.state_memory
    }

    fn state_directory(&self) -> Option<PathBuf> {
        self.state_directory.clone()
    }

    fn state_files(&self, task: TaskId) -> Arc<dyn StateFiles> {
        let storage = Arc::clone(&self.storage);
        Arc::new(TaskFiles::new(
            storage,
            &self.job,
            self.attempt,
            task.subtask,
        ))
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
                parallelism: self.parallelism(task.vertex),
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
        clock: &Arc<dyn Clock>,
    ) -> Result<PlannedNode, Failure> {
        let node = self.node(index)?;
        let step = match &node.kind {
            NodeKind::Source(_) => return Err(malformed(vertex.id)),
            NodeKind::Sql(sql) => Step::Operator(sql_operator(node, sql)?),
            NodeKind::Aggregate(it) => self.aggregate(index, node, it, task, clock)?,
            NodeKind::Sink(_) => Step::Sink(self.writer(node, task)?),
        };
        Ok(PlannedNode {
            uid: node.uid.clone(),
            input: self.port_of(vertex, skip, index)?,
            step,
        })
    }

    fn aggregate(
        &self,
        index: NodeIndex,
        node: &Node,
        aggregation: &Aggregation,
        task: TaskId,
        clock: &Arc<dyn Clock>,
    ) -> Result<Step, Failure> {
        let mut inputs = self.graph.inputs(index);
        let input = inputs.next().ok_or_else(|| malformed(task.vertex))?;
        let input = self.node(input.from.node())?;
        let max_parallelism = self.graph.max_parallelism;
        let parallelism = self.parallelism(task.vertex);
        let key_groups = keys::range(task.subtask.0, parallelism, max_parallelism);
        let operator = aggregate::operator(
            node.uid.clone(),
            aggregation,
            &input.schema,
            Arc::clone(&node.schema),
            StateParameters {
                key_groups: key_groups.clone(),
                max_parallelism,
                clock: Arc::clone(clock),
            },
        )?;
        if node.state().is_none() {
            return Ok(Step::Operator(operator));
        }
        let keeper = Keeper::new(node.uid.clone(), key_groups, max_parallelism);
        Ok(Step::Keyed(operator, keeper))
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
                parallelism: self.parallelism(task.vertex),
                schema: Arc::clone(&node.schema),
                changelog: node.changelog,
            })
    }

    /// Where a node of this vertex gets its records from: the first one from the task's root, and
    /// any other from one before it. `skip` is 1 if the first node is a source, which is the root
    /// itself.
    fn port_of(&self, vertex: &Vertex, skip: usize, node: NodeIndex) -> Result<Port, Failure> {
        if skip == 0 && vertex.nodes.first() == Some(&node) {
            return Ok(Port::Root);
        }
        let mut inputs = self.graph.inputs(node);
        let port = match (inputs.next(), inputs.next()) {
            (Some(edge), None) => port(vertex, skip, edge.from),
            _ => None,
        };
        port.ok_or_else(|| malformed(vertex.id))
    }
}

fn sql_operator(node: &Node, sql: &SqlTransform) -> Result<Box<dyn Operator>, Failure> {
    let operator = |select: &SqlSelect| {
        SqlOperator::new(
            node.uid.clone(),
            expressions(&select.filter),
            expressions(&select.projection),
            Arc::clone(&node.schema),
        )
    };
    if let [only] = sql.selects.as_slice() {
        return Ok(Box::new(operator(only)?));
    }
    let selects = sql.selects.iter();
    let selects = selects.map(|select| Ok((InputIndex(select.input), operator(select)?)));
    Ok(Box::new(SqlUnion::new(
        selects.collect::<Result<_, Failure>>()?,
    )))
}

/// An output of this vertex; `None` if it belongs to another one.
fn port(vertex: &Vertex, skip: usize, output: Output) -> Option<Port> {
    let position = vertex
        .nodes
        .iter()
        .position(|node| *node == output.node())?;
    Some(match (position.checked_sub(skip), output) {
        (None, Output::Main(_)) => Port::Root,
        (None, Output::DeadLetters(_)) => Port::DeadLetters,
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
    fn keys_are_divided_into_as_many_groups_as_the_job_file_says() {
        let text = "
apiVersion: millstream.dev/v1alpha1
kind: StreamJob
metadata: {name: keyed}
spec:
  parallelism: 2
  maxParallelism: 8
  checkpoint: {storage: 'file:///tmp/keyed'}
  dataflow:
    sources: [{name: orders, generator: {}}]
    sinks: [{name: out, input: orders, partitionBy: [customer_id], parallelism: 3, blackhole: {}}]
";
        let loaded = LoadedJob::parse(text.to_owned(), "keyed.yaml").unwrap();
        let connectors = Connectors::of(&loaded, 2).unwrap();
        let deploy = Deploy {
            attempt: Attempt(1),
            lineage: None,
            job: String::new(),
            fingerprint: String::new(),
            parallelism: 2,
            bounded: std::collections::BTreeSet::new(),
            peers: Vec::new(),
            tasks: Vec::new(),
        };
        let storage = Arc::new(StateStorage::of(&loaded.job));
        let tasks = Tasks::new(loaded, connectors, storage, &deploy);
        let partitioning: Vec<_> = tasks
            .edges()
            .into_iter()
            .map(|it| it.partitioning)
            .collect();
        let hash = Partitioning::Hash {
            columns: vec![1],
            max_parallelism: 8,
        };
        assert_eq!(partitioning, [hash]);
        let subtasks = [VertexId(0), VertexId(1)].map(|vertex| tasks.parallelism(vertex));
        assert_eq!(subtasks, [2, 3]);
    }
}
