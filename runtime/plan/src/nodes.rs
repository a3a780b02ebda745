//! From bound transforms to nodes and edges.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow_schema::{ArrowError, Field, Schema, SchemaRef};
use datafusion_common::tree_node::{Transformed, TreeNode as _};
use datafusion_common::{ScalarValue, internal_datafusion_err};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{Column, Literal};
use millstream_spec::valid::Input;
use millstream_spec::{ValidJob, ValidTransform};
use millstream_types::aggregate::{AggregateCall, AggregateStage, Aggregation, state_type};
use millstream_types::change::{CHANGE_COLUMN, Change, Changelog, with_changes};
use millstream_types::schema::{arrow_schema, dead_letter_schema};
use millstream_types::{ErrorCode, OperatorUid};

use crate::changes::{self, Changelogs, Stream};
use crate::error::Fault;
use crate::graph::{
    Computed, Edge, Node, NodeIndex, NodeKind, Output, Partitioning, SqlSelect, SqlTransform,
};
use crate::partition;
use crate::semantics::types::Type;
use crate::sql::{BoundAggregate, BoundExpression, BoundSelect, BoundTransform};

/// What the nodes are made of.
pub(crate) struct Parts<'a> {
    pub(crate) job: &'a ValidJob,
    pub(crate) bound: &'a BTreeMap<String, BoundTransform>,
    /// Columns that are used, by the node that emits them.
    pub(crate) needed: &'a BTreeMap<String, BTreeSet<String>>,
    pub(crate) streams: &'a BTreeMap<String, Stream>,
    pub(crate) changelogs: &'a Changelogs,
}

/// All nodes, each after those that it reads from, and the edges between them.
pub(crate) fn nodes(parts: &Parts<'_>) -> Result<(Vec<Node>, Vec<Edge>), Fault> {
    let mut builder = Builder {
        parts,
        nodes: Vec::new(),
        edges: Vec::new(),
    };
    for source in &parts.job.sources {
        let all = arrow_schema(&source.schema);
        builder.nodes.push(Node {
            uid: OperatorUid(source.name.clone()),
            parallelism: source.parallelism,
            schema: projected(&all, parts.needed.get(&source.name)),
            key: None,
            changelog: Changelog::Append,
            kind: NodeKind::Source(Arc::clone(source)),
        });
    }
    for transform in &parts.job.transforms {
        let Some(bound) = parts.bound.get(&transform.name) else {
            return Err(internal(&transform.name, "it is not bound"));
        };
        match &bound.aggregate {
            Some(aggregate) => builder.aggregate(transform, bound, aggregate)?,
            None => builder.transform(transform, bound)?,
        }
    }
    for sink in &parts.job.sinks {
        let inputs = builder.inputs(&sink.inputs)?;
        let schemas: Vec<SchemaRef> = inputs.iter().map(|it| Arc::clone(&it.schema)).collect();
        let node = Node {
            uid: OperatorUid(sink.name.clone()),
            parallelism: sink.parallelism,
            schema: partition::same_columns(&sink.inputs, &schemas)?,
            key: None,
            changelog: taken(&inputs),
            kind: NodeKind::Sink(Arc::clone(sink)),
        };
        builder.add(node, &sink.partition_by, &inputs)?;
    }
    Ok((builder.nodes, builder.edges))
}

/// An output that a node reads.
struct Read {
    output: Output,
    /// With the column of changes, if it updates.
    schema: SchemaRef,
    changelog: Changelog,
    parallelism: Option<u32>,
    /// Its key's columns, if it updates and has them.
    key: Option<Vec<usize>>,
}

/// The graph so far.
struct Builder<'a> {
    parts: &'a Parts<'a>,
    nodes: Vec<Node>,
    edges: Vec<Edge>,
}

impl Builder<'_> {
    /// The outputs that a node reads.
    fn inputs(&self, inputs: &[Input]) -> Result<Vec<Read>, Fault> {
        inputs.iter().map(|input| self.input(input)).collect()
    }

    fn input(&self, input: &Input) -> Result<Read, Fault> {
        let (Input::Main(name) | Input::DeadLetters(name)) = input;
        let mut nodes = self.nodes.iter();
        let Some(index) = nodes.position(|node| node.uid.as_str() == name) else {
            return Err(internal(name, "it is read before it is there"));
        };
        let read = self.main(NodeIndex(index))?;
        Ok(match input {
            Input::Main(_) => read,
            Input::DeadLetters(_) => Read {
                output: Output::DeadLetters(NodeIndex(index)),
                schema: dead_letter_schema(),
                changelog: Changelog::Append,
                key: None,
                ..read
            },
        })
    }

    /// The records of a node.
    fn main(&self, index: NodeIndex) -> Result<Read, Fault> {
        let Some(node) = self.nodes.get(index.0) else {
            return Err(internal("job", "a node is not there"));
        };
        Ok(Read {
            output: Output::Main(index),
            schema: Arc::clone(&node.schema),
            changelog: node.changelog,
            parallelism: node.parallelism,
            key: node.key.clone(),
        })
    }

    /// Adds a transform that is one node.
    fn transform(
        &mut self,
        transform: &ValidTransform,
        bound: &BoundTransform,
    ) -> Result<(), Fault> {
        let inputs = self.inputs(&transform.inputs)?;
        let schemas: Vec<SchemaRef> = inputs.iter().map(|it| Arc::clone(&it.schema)).collect();
        let changelog = self.changelog(&transform.name);
        let sql = lower_transform(bound, &schemas, changelog.updates())
            .map_err(|error| internal(&transform.name, &error.to_string()))?;
        let schema = bound.schema();
        let node = Node {
            uid: OperatorUid(transform.name.clone()),
            parallelism: transform.parallelism,
            kind: NodeKind::Sql(sql),
            key: self.key(&transform.name, &schema),
            schema: changing(schema, changelog),
            changelog,
        };
        self.add(node, &transform.partition_by, &inputs)?;
        Ok(())
    }

    /// Adds the nodes of a transform that aggregates: what is computed of records, a first aggregation
    /// where they are, the one that keeps state, and what is made of its results.
    fn aggregate(
        &mut self,
        transform: &ValidTransform,
        bound: &BoundTransform,
        aggregate: &BoundAggregate,
    ) -> Result<(), Fault> {
        let name = &transform.name;
        let failed = |error: datafusion_common::DataFusionError| internal(name, &error.to_string());
        let read = self.inputs(&transform.inputs)?;
        let Some(from) = read.first() else {
            return Err(internal(name, "it reads nothing"));
        };
        let input = from.changelog;
        let before = if transform.partition_by.is_empty() {
            from.parallelism
        } else {
            transform.parallelism
        };
        let fields = aggregate.columns.iter().map(|column| column.field.clone());
        let schema: SchemaRef = Schema::new(fields.collect::<Vec<_>>()).into();
        let columns = aggregate.columns.iter().map(|it| it.expression.clone());
        let select = BoundSelect {
            input: 0,
            filter: aggregate.filter.clone(),
            columns: columns.collect(),
        };
        let sql = lower_select(&select, &from.schema, input.updates()).map_err(failed)?;
        let node = Node {
            uid: OperatorUid(format!("{name}/input")),
            parallelism: before,
            kind: NodeKind::Sql(SqlTransform { selects: vec![sql] }),
            schema: changing(schema, input),
            key: None,
            changelog: input,
        };
        let mut last = self.add(node, &transform.partition_by, &read)?;
        let parts = partial_columns(aggregate).filter(|_| !input.updates());
        if let Some(partial) = &parts {
            let node = partial_node(name, before, aggregate, partial);
            let read = [self.main(last)?];
            last = self.add(node, &[], &read)?;
        }
        let output = self.changelog(name);
        let node = Node {
            uid: OperatorUid(format!("{name}/aggregate")),
            parallelism: changes::parallelism(transform, bound),
            kind: NodeKind::Aggregate(Aggregation {
                output,
                ..final_aggregation(aggregate, parts.as_deref(), input, self.ttl(transform))
            }),
            schema: changing(results(aggregate), output),
            key: output.updates().then(|| (0..aggregate.keys).collect()),
            changelog: output,
        };
        let read = [self.main(last)?];
        let partitioning = match aggregate.keys {
            0 => None,
            keys => Some(Partitioning::Hash((0..keys).collect())),
        };
        let last = self.add_by(node, partitioning.as_ref(), &[], &read)?;
        self.results(transform, bound, last)
    }

    /// Adds what is made of an aggregation's results.
    fn results(
        &mut self,
        transform: &ValidTransform,
        bound: &BoundTransform,
        last: NodeIndex,
    ) -> Result<(), Fault> {
        let name = &transform.name;
        let read = self.main(last)?;
        let changelog = read.changelog;
        let select = bound.selects.first();
        let select = select.ok_or_else(|| internal(name, "it has no SELECT"))?;
        let sql = lower_select(select, &read.schema, changelog.updates());
        let sql = sql.map_err(|error| internal(name, &error.to_string()))?;
        let schema = bound.schema();
        let node = Node {
            uid: OperatorUid(name.clone()),
            parallelism: read.parallelism,
            kind: NodeKind::Sql(SqlTransform { selects: vec![sql] }),
            key: self.key(name, &schema),
            schema: changing(schema, changelog),
            changelog,
        };
        self.add(node, &[], &[read])?;
        Ok(())
    }

    fn changelog(&self, name: &str) -> Changelog {
        self.parts.changelogs.get(name).copied().unwrap_or_default()
    }

    fn ttl(&self, transform: &ValidTransform) -> Option<Duration> {
        let ttl = transform.state_ttl.or(self.parts.job.state_backend.ttl);
        ttl.map(|ttl| ttl.0)
    }

    /// The positions of a stream's key among the columns that are left of it.
    fn key(&self, name: &str, schema: &SchemaRef) -> Option<Vec<usize>> {
        let updates = self.parts.streams.get(name)?.updates.as_ref()?;
        let positions = updates.key.as_ref()?.iter();
        positions
            .map(|column| schema.index_of(column).ok())
            .collect()
    }

    /// Adds a node and the edges that lead to it.
    fn add(
        &mut self,
        node: Node,
        partition_by: &[String],
        inputs: &[Read],
    ) -> Result<NodeIndex, Fault> {
        self.add_by(node, None, partition_by, inputs)
    }

    /// As [`add`](Self::add), with the partitioning of all edges, if it is given.
    fn add_by(
        &mut self,
        node: Node,
        partitioning: Option<&Partitioning>,
        partition_by: &[String],
        inputs: &[Read],
    ) -> Result<NodeIndex, Fault> {
        let to = NodeIndex(self.nodes.len());
        for (input, from) in inputs.iter().enumerate() {
            let partitioning = if let Some(partitioning) = partitioning {
                partitioning.clone()
            } else if !partition_by.is_empty() {
                let columns = partition_by.iter();
                let columns = columns.map(|column| from.schema.index_of(column));
                let missing = |error: ArrowError| internal(node.uid.as_str(), &error.to_string());
                Partitioning::Hash(columns.collect::<Result<_, _>>().map_err(missing)?)
            } else if from.parallelism == node.parallelism {
                Partitioning::Forward
            } else {
                // Rows of one key must not overtake each other.
                match &from.key {
                    Some(key) => Partitioning::Hash(key.clone()),
                    None => Partitioning::Rebalance,
                }
            };
            self.edges.push(Edge {
                from: from.output,
                to,
                input,
                partitioning,
                changelog: from.changelog,
            });
        }
        self.nodes.push(node);
        Ok(to)
    }
}

/// Which changes a sink is given.
fn taken(inputs: &[Read]) -> Changelog {
    let mut all = inputs.iter().map(|input| input.changelog);
    let first = all.next().unwrap_or_default();
    if all.all(|other| other == first) {
        first
    } else {
        Changelog::Retract
    }
}

/// The columns with that of changes behind them, if there are changes.
fn changing(schema: SchemaRef, changelog: Changelog) -> SchemaRef {
    if changelog.updates() {
        with_changes(&schema)
    } else {
        schema
    }
}

fn results(aggregate: &BoundAggregate) -> SchemaRef {
    let calls = aggregate.calls.iter().map(|call| call.field.clone());
    let fields: Vec<Field> = aggregate.key().cloned().chain(calls).collect();
    Schema::new(fields).into()
}

/// The columns of each call's parts; nothing if one cannot be computed in parts.
fn partial_columns(aggregate: &BoundAggregate) -> Option<Vec<Vec<Field>>> {
    let calls = aggregate.calls.iter().map(|call| {
        if call.call.distinct {
            return None;
        }
        let fields = call.call.function.partial_fields(call.argument.as_ref())?;
        let alone = fields.len() == 1;
        let fields = fields.into_iter().map(|field| {
            // One that is alone has the name of its call.
            let name = if alone {
                call.call.text.clone()
            } else {
                format!("{}: {}", call.call.text, field.name())
            };
            field.with_name(name)
        });
        Some(fields.collect())
    });
    calls.collect()
}

fn partial_node(
    name: &str,
    parallelism: Option<u32>,
    aggregate: &BoundAggregate,
    partial: &[Vec<Field>],
) -> Node {
    let fields = aggregate
        .key()
        .cloned()
        .chain(partial.iter().flatten().cloned());
    let calls = aggregate.calls.iter().map(|call| call.call.clone());
    Node {
        uid: OperatorUid(format!("{name}/partial")),
        parallelism,
        kind: NodeKind::Aggregate(Aggregation {
            stage: AggregateStage::Partial,
            keys: (0..aggregate.keys).collect(),
            calls: calls.collect(),
            input: Changelog::Append,
            output: Changelog::Append,
            ttl: None,
            state: String::new(),
        }),
        schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
        key: None,
        changelog: Changelog::Append,
    }
}

/// A column with its type.
pub(crate) fn typed(field: &Field) -> String {
    format!("{} {}", field.name(), Type::name_of(field.data_type()))
}

/// The aggregation that keeps state; its output is left to the caller.
fn final_aggregation(
    aggregate: &BoundAggregate,
    partial: Option<&[Vec<Field>]>,
    input: Changelog,
    ttl: Option<Duration>,
) -> Aggregation {
    let keys: Vec<String> = aggregate.key().map(typed).collect();
    let kept = aggregate.calls.iter().map(|call| {
        let result = typed(&call.field);
        // Values that are kept one by one are of the argument's type.
        match &call.argument {
            Some(argument) if call.call.distinct => {
                format!("{result} of {}", Type::name_of(argument))
            }
            _ => result,
        }
    });
    let kept: Vec<String> = kept.collect();
    let (stage, calls) = if let Some(partial) = partial {
        (AggregateStage::Final, final_calls(aggregate, partial))
    } else {
        let calls = aggregate.calls.iter().map(|call| call.call.clone());
        (AggregateStage::Whole, calls.collect())
    };
    Aggregation {
        stage,
        keys: (0..aggregate.keys).collect(),
        calls,
        input,
        output: Changelog::Append,
        ttl,
        state: state_type(&keys, &kept, input),
    }
}

fn final_calls(aggregate: &BoundAggregate, partial: &[Vec<Field>]) -> Vec<AggregateCall> {
    let mut next = aggregate.keys;
    let calls = aggregate.calls.iter().zip(partial);
    let calls = calls.map(|(call, fields)| {
        let first = next;
        next += fields.len();
        AggregateCall {
            argument: Some(first),
            filter: None,
            ..call.call.clone()
        }
    });
    calls.collect()
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

/// A break of what binding has promised.
pub(crate) fn internal(name: &str, message: &str) -> Fault {
    Fault {
        code: ErrorCode::SqlDoesNotBind,
        subject: format!("`{name}`"),
        place: None,
        message: message.to_owned(),
        help: None,
    }
}

/// The expressions of a transform over the columns that its inputs have now; with that of changes
/// behind them, if it `updates`.
fn lower_transform(
    bound: &BoundTransform,
    inputs: &[SchemaRef],
    updates: bool,
) -> datafusion_common::Result<SqlTransform> {
    let selects = bound.selects.iter().map(|select| {
        let no_input = || internal_datafusion_err!("it has no input {}", select.input);
        let schema = inputs.get(select.input).ok_or_else(no_input)?;
        lower_select(select, schema, updates)
    });
    Ok(SqlTransform {
        selects: selects.collect::<datafusion_common::Result<_>>()?,
    })
}

fn lower_select(
    select: &BoundSelect,
    input: &SchemaRef,
    updates: bool,
) -> datafusion_common::Result<SqlSelect> {
    let all = |expressions: &[BoundExpression]| {
        let expressions = expressions.iter();
        let computed = expressions.map(|it| computed(it, input));
        computed.collect::<datafusion_common::Result<Vec<_>>>()
    };
    let mut projection = all(&select.columns)?;
    projection.extend(updates.then(|| change(input)));
    Ok(SqlSelect {
        input: select.input,
        filter: all(&select.filter)?,
        projection,
    })
}

/// The column of changes: the input's, or an insertion where it only appends.
fn change(input: &SchemaRef) -> Computed {
    let expression: Arc<dyn PhysicalExpr> = match input.index_of(CHANGE_COLUMN) {
        Ok(index) => Arc::new(Column::new(CHANGE_COLUMN, index)),
        Err(_) => Arc::new(Literal::new(ScalarValue::UInt8(Some(Change::Insert as u8)))),
    };
    Computed {
        expression,
        text: CHANGE_COLUMN.to_owned(),
    }
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
