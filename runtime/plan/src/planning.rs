//! Planning a job: bind every transform, keep the columns that are used, chain the nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_schema::{Schema, SchemaRef};
use datafusion_common::tree_node::{Transformed, TreeNode as _};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use millstream_spec::ValidJob;
use millstream_spec::valid::Input;
use millstream_types::schema::{arrow_schema, dead_letter_schema};
use millstream_types::{ErrorCode, OperatorUid};

use crate::error::{Fault, PlanError};
use crate::functions::Functions;
use crate::graph::{Computed, JobGraph, Node, NodeIndex, NodeInput, NodeKind, SqlTransform};
use crate::sql::{BoundTransform, bind_transform};
use crate::{chaining, fingerprint, sink};

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
    let nodes = nodes(job, &bound, &needed).map_err(PlanError::from)?;
    let vertices = chaining::chain(&nodes, job.operator_chaining);
    let fingerprint = fingerprint::fingerprint(job, &nodes, &vertices);
    Ok(JobGraph {
        nodes,
        vertices,
        fingerprint,
    })
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
        let Some(input) = output_of(&transform.input, &outputs) else {
            continue;
        };
        match bind_transform(&functions, transform, &input) {
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
    let sinks = job.sinks.iter().enumerate();
    let faults = sinks.filter_map(|(index, one)| {
        let schema = output_of(&one.input, outputs)?;
        Some(sink::faults(index, one, &schema))
    });
    faults.flatten().collect()
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
    for sink in &job.sinks {
        let all = output_of(&sink.input, outputs).map(|schema| {
            schema
                .fields()
                .iter()
                .map(|field| field.name().clone())
                .collect()
        });
        need(&sink.input, all.unwrap_or_default());
    }
    for source in &job.sources {
        let time = source
            .watermark
            .iter()
            .map(|watermark| watermark.column.clone());
        need(&Input::Main(source.name.clone()), time.collect());
    }
    for transform in job.transforms.iter().rev() {
        if let Some(bound) = bound.get_mut(&transform.name) {
            bound.keep(needed.entry(transform.name.clone()).or_default());
            let reads = bound.reads();
            if let Input::Main(name) = &transform.input {
                needed.entry(name.clone()).or_default().extend(reads);
            }
        }
    }
    needed
}

fn nodes(
    job: &ValidJob,
    bound: &Bound,
    needed: &BTreeMap<String, BTreeSet<String>>,
) -> Result<Vec<Node>, Fault> {
    let mut nodes: Vec<Node> = Vec::new();
    for source in &job.sources {
        let all = arrow_schema(&source.schema);
        nodes.push(Node {
            uid: OperatorUid(source.name.clone()),
            input: None,
            schema: projected(&all, needed.get(&source.name)),
            kind: NodeKind::Source(Arc::clone(source)),
        });
    }
    for transform in &job.transforms {
        let (input, schema) = input_of(&nodes, &transform.input)?;
        let Some(bound) = bound.get(&transform.name) else {
            return Err(internal(&transform.name, "it is not bound"));
        };
        let sql = lower_transform(bound, &schema)
            .map_err(|error| internal(&transform.name, &error.to_string()))?;
        nodes.push(Node {
            uid: OperatorUid(transform.name.clone()),
            input: Some(input),
            kind: NodeKind::Sql(sql),
            schema: bound.schema(),
        });
    }
    for sink in &job.sinks {
        let (input, schema) = input_of(&nodes, &sink.input)?;
        nodes.push(Node {
            uid: OperatorUid(sink.name.clone()),
            input: Some(input),
            kind: NodeKind::Sink(Arc::clone(sink)),
            schema,
        });
    }
    Ok(nodes)
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

fn input_of(nodes: &[Node], input: &Input) -> Result<(NodeInput, SchemaRef), Fault> {
    let (Input::Main(name) | Input::DeadLetters(name)) = input;
    let found = nodes
        .iter()
        .enumerate()
        .find(|(_, node)| node.uid.as_str() == name);
    match (found, input) {
        (Some((index, node)), Input::Main(_)) => {
            Ok((NodeInput::Main(NodeIndex(index)), Arc::clone(&node.schema)))
        }
        (Some((index, _)), Input::DeadLetters(_)) => Ok((
            NodeInput::DeadLetters(NodeIndex(index)),
            dead_letter_schema(),
        )),
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

/// The expressions of a transform over the columns that its input has now.
fn lower_transform(
    bound: &BoundTransform,
    input: &SchemaRef,
) -> datafusion_common::Result<SqlTransform> {
    let filter = bound
        .filter
        .iter()
        .map(|condition| (&condition.expr, &condition.text));
    let columns = bound
        .columns
        .iter()
        .map(|column| (&column.expr, &column.text));
    Ok(SqlTransform {
        filter: filter
            .map(|it| computed(it, input))
            .collect::<Result<_, _>>()?,
        projection: columns
            .map(|it| computed(it, input))
            .collect::<Result<_, _>>()?,
    })
}

fn computed(
    (expression, text): (&Arc<dyn PhysicalExpr>, &String),
    input: &SchemaRef,
) -> datafusion_common::Result<Computed> {
    let over_input = Arc::clone(expression).transform_up(|node| {
        let Some(column) = node.downcast_ref::<Column>() else {
            return Ok(Transformed::no(node));
        };
        let index = input.index_of(column.name())?;
        let column = Column::new(column.name(), index);
        Ok(Transformed::yes(Arc::new(column) as Arc<dyn PhysicalExpr>))
    })?;
    Ok(Computed {
        expression: over_input.data,
        text: text.clone(),
    })
}
