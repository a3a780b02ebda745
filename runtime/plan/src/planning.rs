//! Planning a job: bind every transform, keep the columns that are used, chain the nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_schema::{ArrowError, Schema, SchemaRef};
use datafusion_common::internal_datafusion_err;
use datafusion_common::tree_node::{Transformed, TreeNode as _};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use millstream_spec::ValidJob;
use millstream_spec::valid::Input;
use millstream_types::schema::{arrow_schema, dead_letter_schema};
use millstream_types::{ErrorCode, OperatorUid};

use crate::error::{Fault, PlanError};
use crate::functions::Functions;
use crate::graph::{
    Computed, Edge, JobGraph, Node, NodeIndex, NodeKind, Output, Partitioning, SqlSelect,
    SqlTransform,
};
use crate::sql::{BoundExpression, BoundSelect, BoundTransform, bind_transform};
use crate::{chaining, fingerprint, partition, sink};

/// Stack for planning. Expressions are walked recursively, with several frames of several KiB per
/// level in a debug build; the deepest that [`nesting`](crate::sql::nesting) lets through needs a
/// quarter of this.
const STACK_BYTES: usize = 32 * 1_024 * 1_024;

/// Plans a job.
///
/// # Errors
/// Every fault of every transform and sink; what reads from a faulty transform is left out.
pub fn plan(job: &ValidJob) -> Result<JobGraph, PlanError> {
    std::thread::scope(|scope| {
        let planner = std::thread::Builder::new()
            .name("plan".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || plan_here(job))
            .map_err(|error| PlanError::from(internal("job", &error.to_string())))?;
        // A panic, which would be a bug, fails the job and not the process.
        planner.join().unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            let message = format!("the planner panicked: {}", text.unwrap_or_default());
            Err(PlanError::from(internal("job", &message)))
        })
    })
}

fn plan_here(job: &ValidJob) -> Result<JobGraph, PlanError> {
    let mut faults = Vec::new();
    let (mut bound, outputs) = bind_all(job, &mut faults);
    faults.extend(sink_faults(job, &outputs));
    PlanError::of(faults)?;
    let needed = needed_columns(job, &mut bound, &outputs);
    let (nodes, edges) = nodes(job, &bound, &needed).map_err(PlanError::from)?;
    let vertices = chaining::chain(&nodes, &edges, job.operator_chaining);
    let mut graph = JobGraph {
        nodes,
        edges,
        vertices,
        max_parallelism: job.max_parallelism,
        fingerprint: String::new(),
    };
    graph.fingerprint = fingerprint::fingerprint(job, &graph);
    Ok(graph)
}

/// All columns of each node's main output, by the node's name.
type Outputs = BTreeMap<String, SchemaRef>;

/// Bound transforms by name.
type Bound = BTreeMap<String, BoundTransform>;

fn bind_all(job: &ValidJob, faults: &mut Vec<Fault>) -> (Bound, Outputs) {
    let functions = Functions::new();
    let mut bound = Bound::new();
    let mut outputs: Outputs = job
        .sources
        .iter()
        .map(|source| (source.name.clone(), arrow_schema(&source.schema)))
        .collect();
    for transform in &job.transforms {
        let inputs = transform.inputs.iter();
        let inputs: Option<Vec<_>> = inputs.map(|input| output_of(input, &outputs)).collect();
        let Some(inputs) = inputs else {
            continue;
        };
        faults.extend(partition::faults(
            |key| format!("transform `{}`, {key}", transform.name),
            &transform.partition_by,
            &transform.inputs,
            &inputs,
        ));
        match bind_transform(&functions, transform, &inputs) {
            Ok(transformed) => {
                outputs.insert(transform.name.clone(), transformed.schema());
                bound.insert(transform.name.clone(), transformed);
            }
            Err(found) => faults.extend(found),
        }
    }
    (bound, outputs)
}

/// The columns of an output; `None` if it belongs to a faulty transform.
fn output_of(input: &Input, outputs: &Outputs) -> Option<SchemaRef> {
    match input {
        Input::Main(name) => outputs.get(name).cloned(),
        Input::DeadLetters(_) => Some(dead_letter_schema()),
    }
}

/// Sinks that cannot write the columns that they are given.
fn sink_faults(job: &ValidJob, outputs: &Outputs) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (index, one) in job.sinks.iter().enumerate() {
        let at = |key: &str| format!("spec.dataflow.sinks[{index}].{key}");
        let inputs = one.inputs.iter();
        let inputs: Option<Vec<_>> = inputs.map(|input| output_of(input, outputs)).collect();
        let Some(inputs) = inputs else {
            continue;
        };
        faults.extend(partition::faults(
            at,
            &one.partition_by,
            &one.inputs,
            &inputs,
        ));
        match partition::same_columns(&one.inputs, &inputs) {
            Ok(schema) => faults.extend(sink::faults(index, one, &schema)),
            Err(fault) => faults.push(Fault {
                subject: at("inputs"),
                ..fault
            }),
        }
    }
    faults
}

/// Finds which columns of each source anybody uses, from the sinks upwards, and drops unused
/// output columns of transforms.
fn needed_columns(
    job: &ValidJob,
    bound: &mut Bound,
    outputs: &Outputs,
) -> BTreeMap<String, BTreeSet<String>> {
    let mut needed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut need = |input: &Input, columns: BTreeSet<String>| {
        if let Input::Main(name) = input {
            needed.entry(name.clone()).or_default().extend(columns);
        }
    };
    for input in job.sinks.iter().flat_map(|sink| &sink.inputs) {
        let all = output_of(input, outputs).map(|schema| {
            schema
                .fields()
                .iter()
                .map(|field| field.name().clone())
                .collect()
        });
        need(input, all.unwrap_or_default());
    }
    for source in &job.sources {
        let time = source
            .watermark
            .iter()
            .map(|watermark| watermark.column.clone());
        need(&Input::Main(source.name.clone()), time.collect());
    }
    for transform in job.transforms.iter().rev() {
        let Some(bound) = bound.get_mut(&transform.name) else {
            continue;
        };
        bound.keep(needed.entry(transform.name.clone()).or_default());
        for (number, input) in transform.inputs.iter().enumerate() {
            if let Input::Main(name) = input {
                let columns = needed.entry(name.clone()).or_default();
                columns.extend(bound.reads(number));
                columns.extend(transform.partition_by.iter().cloned());
            }
        }
    }
    needed
}

fn nodes(
    job: &ValidJob,
    bound: &Bound,
    needed: &BTreeMap<String, BTreeSet<String>>,
) -> Result<(Vec<Node>, Vec<Edge>), Fault> {
    let mut builder = Builder::default();
    for source in &job.sources {
        let all = arrow_schema(&source.schema);
        builder.nodes.push(Node {
            uid: OperatorUid(source.name.clone()),
            parallelism: source.parallelism,
            schema: projected(&all, needed.get(&source.name)),
            kind: NodeKind::Source(Arc::clone(source)),
        });
    }
    for transform in &job.transforms {
        let (inputs, schemas) = builder.inputs(&transform.inputs)?;
        let Some(bound) = bound.get(&transform.name) else {
            return Err(internal(&transform.name, "it is not bound"));
        };
        let sql = lower_transform(bound, &schemas)
            .map_err(|error| internal(&transform.name, &error.to_string()))?;
        let node = Node {
            uid: OperatorUid(transform.name.clone()),
            parallelism: transform.parallelism,
            kind: NodeKind::Sql(sql),
            schema: bound.schema(),
        };
        builder.add(node, &transform.partition_by, &inputs, &schemas)?;
    }
    for sink in &job.sinks {
        let (inputs, schemas) = builder.inputs(&sink.inputs)?;
        let node = Node {
            uid: OperatorUid(sink.name.clone()),
            parallelism: sink.parallelism,
            schema: partition::same_columns(&sink.inputs, &schemas)?,
            kind: NodeKind::Sink(Arc::clone(sink)),
        };
        builder.add(node, &sink.partition_by, &inputs, &schemas)?;
    }
    Ok((builder.nodes, builder.edges))
}

/// The graph so far.
#[derive(Default)]
struct Builder {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
}

impl Builder {
    /// The outputs that a node reads, and their columns.
    fn inputs(&self, inputs: &[Input]) -> Result<(Vec<Output>, Vec<SchemaRef>), Fault> {
        let found = inputs.iter().map(|input| input_of(&self.nodes, input));
        let found = found.collect::<Result<Vec<_>, _>>()?;
        Ok(found.into_iter().unzip())
    }

    /// Adds a node and the edges that lead to it.
    fn add(
        &mut self,
        node: Node,
        partition_by: &[String],
        inputs: &[Output],
        schemas: &[SchemaRef],
    ) -> Result<(), Fault> {
        let to = NodeIndex(self.nodes.len());
        for (input, (from, schema)) in inputs.iter().zip(schemas).enumerate() {
            let before = self.nodes.get(from.node().0).map(|from| from.parallelism);
            let partitioning = if !partition_by.is_empty() {
                let columns = partition_by.iter().map(|column| schema.index_of(column));
                let columns = columns.collect::<Result<_, _>>();
                let missing = |error: ArrowError| internal(node.uid.as_str(), &error.to_string());
                Partitioning::Hash(columns.map_err(missing)?)
            } else if before == Some(node.parallelism) {
                Partitioning::Forward
            } else {
                Partitioning::Rebalance
            };
            self.edges.push(Edge {
                from: *from,
                to,
                input,
                partitioning,
            });
        }
        self.nodes.push(node);
        Ok(())
    }
}

/// The needed columns in their declared order; the first one if none is needed, as a batch needs
/// a column.
fn projected(all: &SchemaRef, needed: Option<&BTreeSet<String>>) -> SchemaRef {
    let fields: Vec<_> = all
        .fields()
        .iter()
        .filter(|field| needed.is_some_and(|needed| needed.contains(field.name())))
        .cloned()
        .collect();
    let fields = if fields.is_empty() {
        all.fields().iter().take(1).cloned().collect()
    } else {
        fields
    };
    Arc::new(Schema::new(fields))
}

fn input_of(nodes: &[Node], input: &Input) -> Result<(Output, SchemaRef), Fault> {
    let (Input::Main(name) | Input::DeadLetters(name)) = input;
    let found = nodes
        .iter()
        .enumerate()
        .find(|(_, node)| node.uid.as_str() == name);
    match (found, input) {
        (Some((index, node)), Input::Main(_)) => {
            Ok((Output::Main(NodeIndex(index)), Arc::clone(&node.schema)))
        }
        (Some((index, _)), Input::DeadLetters(_)) => {
            Ok((Output::DeadLetters(NodeIndex(index)), dead_letter_schema()))
        }
        (None, _) => Err(internal(name, "it is read before it is there")),
    }
}

/// A break of what binding has promised.
fn internal(name: &str, message: &str) -> Fault {
    Fault {
        code: ErrorCode::SqlDoesNotBind,
        subject: format!("`{name}`"),
        place: None,
        message: message.to_owned(),
        help: None,
    }
}

/// The expressions of a transform over the columns that its inputs have now.
fn lower_transform(
    bound: &BoundTransform,
    inputs: &[SchemaRef],
) -> datafusion_common::Result<SqlTransform> {
    let lower = |select: &BoundSelect| {
        let no_input = || internal_datafusion_err!("it has no input {}", select.input);
        let schema = inputs.get(select.input).ok_or_else(no_input)?;
        let all = |expressions: &[BoundExpression]| {
            let expressions = expressions.iter();
            let computed = expressions.map(|it| computed(it, schema));
            computed.collect::<datafusion_common::Result<Vec<_>>>()
        };
        Ok(SqlSelect {
            input: select.input,
            filter: all(&select.filter)?,
            projection: all(&select.columns)?,
        })
    };
    let selects = bound.selects.iter().map(lower);
    Ok(SqlTransform {
        selects: selects.collect::<datafusion_common::Result<_>>()?,
    })
}

fn computed(bound: &BoundExpression, input: &SchemaRef) -> datafusion_common::Result<Computed> {
    let over_input = Arc::clone(&bound.expr).transform_up(|node| {
        let Some(column) = node.downcast_ref::<Column>() else {
            return Ok(Transformed::no(node));
        };
        let index = input.index_of(column.name())?;
        let column = Column::new(column.name(), index);
        Ok(Transformed::yes(Arc::new(column) as Arc<dyn PhysicalExpr>))
    })?;
    Ok(Computed {
        expression: over_input.data,
        text: bound.text.clone(),
    })
}
