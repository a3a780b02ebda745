//! Which streams update: what their rows are told apart by, and which changes they carry.
//!
//! A running aggregate updates the rows that it has emitted. Filters and projections keep what their
//! input is; where streams that update meet others, the result updates too. Every reader of a stream
//! that updates either takes the changes as they are or is refused.

use std::collections::BTreeMap;

use arrow_schema::SchemaRef;
use datafusion_physical_expr::expressions::Column;
use millstream_spec::valid::Input;
use millstream_spec::{StateBackendSpec, ValidJob, ValidTransform};
use millstream_types::ErrorCode;
use millstream_types::aggregate::{AggregateCall, AggregateFunction};
use millstream_types::change::Changelog;

use crate::error::Fault;
use crate::sql::input::plain;
use crate::sql::{BoundAggregate, BoundSelect, BoundTransform};

/// The records of a node, as others may read them.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    /// All columns, without that of changes.
    pub(crate) schema: SchemaRef,
    /// How many subtasks emit it, if not as many as the job has.
    pub(crate) parallelism: Option<u32>,
    /// How it updates; none if it only appends.
    pub(crate) updates: Option<Updates>,
}

/// How a stream updates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Updates {
    /// The transform that makes the updates.
    pub(crate) by: String,
    /// The columns that tell its rows apart; none if it does not have them.
    pub(crate) key: Option<Vec<String>>,
}

impl Stream {
    /// One that only appends.
    pub(crate) const fn of(schema: SchemaRef, parallelism: Option<u32>) -> Self {
        Self {
            schema,
            parallelism,
            updates: None,
        }
    }

    /// What a transform emits.
    pub(crate) fn transformed(
        transform: &ValidTransform,
        bound: &BoundTransform,
        inputs: &[Self],
    ) -> Self {
        Self {
            schema: bound.schema(),
            parallelism: parallelism(transform, bound),
            updates: updates(&transform.name, bound, inputs),
        }
    }
}

/// How many subtasks run what a transform ends with. One group is one task's.
pub(crate) fn parallelism(transform: &ValidTransform, bound: &BoundTransform) -> Option<u32> {
    match &bound.aggregate {
        Some(aggregate) if aggregate.keys == 0 => Some(1),
        _ => transform.parallelism,
    }
}

fn updates(name: &str, bound: &BoundTransform, inputs: &[Stream]) -> Option<Updates> {
    if let Some(aggregate) = &bound.aggregate {
        let input = inputs.get(aggregate.input);
        let updating = input.is_some_and(|input| input.updates.is_some());
        // A key that has come once stays, and so does what its first record had.
        if aggregate.calls.iter().all(|call| stays(&call.call)) && !updating {
            return None;
        }
        let key: Vec<&str> = aggregate.key().map(|field| field.name().as_str()).collect();
        return Some(Updates {
            by: name.to_owned(),
            key: bound
                .selects
                .first()
                .and_then(|select| kept(&key, select, bound)),
        });
    }
    let of = |select: &BoundSelect| inputs.get(select.input)?.updates.as_ref();
    if let [only] = bound.selects.as_slice() {
        let updates = of(only)?;
        let key = updates.key.iter().flatten().map(String::as_str);
        let key: Option<Vec<&str>> = updates.key.is_some().then(|| key.collect());
        return Some(Updates {
            by: updates.by.clone(),
            key: key.and_then(|key| kept(&key, only, bound)),
        });
    }
    let updates = bound.selects.iter().find_map(of)?;
    Some(Updates {
        by: updates.by.clone(),
        key: None,
    })
}

/// Whether the result of a call over rows that stay is the same for ever.
fn stays(call: &AggregateCall) -> bool {
    call.function == AggregateFunction::FirstValue && call.filter.is_none()
}

/// The columns of a SELECT that hold the key of its input as it is; none unless all of it is there.
fn kept(key: &[&str], select: &BoundSelect, bound: &BoundTransform) -> Option<Vec<String>> {
    let holds = |column: &str| {
        let mut columns = bound.fields.iter().zip(&select.columns);
        let found = columns.find(|(_, expression)| {
            let plain = expression.expr.downcast_ref::<Column>();
            plain.is_some_and(|plain| plain.name() == column)
        });
        found.map(|(field, _)| field.name().clone())
    };
    key.iter().map(|column| holds(column)).collect()
}

/// The changes of every stream, by the name of its node.
pub(crate) type Changelogs = BTreeMap<String, Changelog>;

/// Decides which changes each stream carries: rows before an update only where somebody needs them.
pub(crate) fn changelogs(
    job: &ValidJob,
    bound: &BTreeMap<String, BoundTransform>,
    streams: &BTreeMap<String, Stream>,
) -> Changelogs {
    let updating = |name: &str| streams.get(name).and_then(|stream| stream.updates.as_ref());
    // Sinks that take updates have been checked to take them by the stream's key.
    let mut takes_upserts: BTreeMap<&str, bool> = streams
        .iter()
        .map(|(name, stream)| {
            let key = stream.updates.as_ref().map(|updates| updates.key.is_some());
            (name.as_str(), key == Some(true))
        })
        .collect();
    for transform in job.transforms.iter().rev() {
        let passes = takes_upserts.get(transform.name.as_str()).copied();
        let passes =
            passes.unwrap_or_default() && bound.get(&transform.name).is_some_and(passes_upserts);
        if passes {
            continue;
        }
        for input in &transform.inputs {
            if let Input::Main(name) = input {
                takes_upserts.insert(name, false);
            }
        }
    }
    let mut changelogs = Changelogs::new();
    for transform in &job.transforms {
        let name = transform.name.as_str();
        if updating(name).is_none() {
            continue;
        }
        let bound = bound.get(name);
        let filters = bound.is_some_and(|bound| {
            let mut selects = bound.selects.iter();
            selects.any(|select| !select.filter.is_empty())
        });
        let makes = bound.is_some_and(|bound| bound.aggregate.is_some());
        let upserts = takes_upserts.get(name).copied().unwrap_or_default();
        let changelog = if !makes {
            inherited(transform, &changelogs)
        } else if upserts && !filters {
            Changelog::Upsert
        } else {
            Changelog::Retract
        };
        changelogs.insert(name.to_owned(), changelog);
    }
    changelogs
}

/// Whether a transform can do without the rows before an update: it drops none and groups none.
fn passes_upserts(bound: &BoundTransform) -> bool {
    match bound.selects.as_slice() {
        [only] => bound.aggregate.is_none() && only.filter.is_empty(),
        _ => false,
    }
}

/// What a transform that keeps changes as they are passes on.
fn inherited(transform: &ValidTransform, changelogs: &Changelogs) -> Changelog {
    match transform.inputs.as_slice() {
        [Input::Main(name)] => changelogs.get(name).copied().unwrap_or_default(),
        _ => Changelog::Retract,
    }
}

/// How many subtasks run what reads an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readers {
    /// As many as emit it.
    Same,
    /// So many, if not as many as the job has.
    Own(Option<u32>),
}

/// Faults of a node that reads streams that update: their rows must keep their order.
pub(crate) fn order_faults(
    at: impl Fn(&str) -> String,
    partition_by: &[String],
    readers: Readers,
    inputs: &[Input],
    streams: &[Stream],
) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (input, stream) in inputs.iter().zip(streams) {
        let Some(updates) = &stream.updates else {
            continue;
        };
        let (name, by) = (plain(input), &updates.by);
        let updated = if name == *by {
            format!("`{by}` updates its rows")
        } else {
            format!("`{name}` has rows that `{by}` updates")
        };
        let outside = |column: &&String| match &updates.key {
            Some(key) => !key.contains(column),
            None => true,
        };
        if let Some(column) = partition_by.iter().find(outside) {
            let message = format!(
                "{updated}, and {}: partitioned by `{column}`, the rows of one key would go to \
                 different subtasks and overtake each other",
                told_apart(updates)
            );
            faults.push(fault(at("partitionBy"), message, partition_help(updates)));
        } else if partition_by.is_empty()
            && updates.key.is_none()
            && readers != Readers::Same
            && readers != Readers::Own(stream.parallelism)
        {
            let message = format!(
                "{updated}, and {}: dealt out to another number of subtasks, they would overtake each \
                 other",
                told_apart(updates)
            );
            let help = "give both nodes the same parallelism, or keep the key's columns";
            faults.push(fault(at("parallelism"), message, help.to_owned()));
        }
    }
    faults
}

fn partition_help(updates: &Updates) -> String {
    match &updates.key {
        Some(key) if !key.is_empty() => {
            format!("partition by columns of the key: {}", listed(key))
        }
        _ => "remove `partitionBy`".to_owned(),
    }
}

/// By what the rows of a stream are told apart, as part of a sentence.
pub(crate) fn told_apart(updates: &Updates) -> String {
    match &updates.key {
        Some(key) if key.is_empty() => "there is only one of them".to_owned(),
        Some(key) => format!("{} tells them apart", listed(key)),
        None => "no columns tell them apart".to_owned(),
    }
}

/// Names in quotes.
pub(crate) fn listed(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

/// What a job file says of state that is not kept: of the whole job's, and how long transforms keep theirs.
pub(crate) fn state_faults(job: &ValidJob, bound: &BTreeMap<String, BoundTransform>) -> Vec<Fault> {
    let keeps = |transform: &&ValidTransform| {
        let mut parts = bound.iter().filter(|(name, _)| {
            let rest = name.strip_prefix(transform.name.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        parts.any(|(_, part)| part.aggregate.is_some())
    };
    let transforms = job.transforms.iter();
    let transforms = transforms.filter(|it| it.state_ttl.is_some() && bound.contains_key(&it.name));
    let idle = transforms.filter(|transform| !keeps(transform));
    let faults = idle.map(|transform| {
        let subject = format!("transform `{}`, stateTtl", transform.name);
        let message = "it keeps no state: it has no GROUP BY, DISTINCT or aggregates".to_owned();
        fault(subject, message, "remove the key".to_owned())
    });
    let mut faults: Vec<Fault> = faults.collect();
    let is_stateless = bound.values().all(|part| part.aggregate.is_none());
    let is_whole = job.transforms.iter().all(|it| bound.contains_key(&it.name));
    if is_stateless && is_whole && job.state_backend != StateBackendSpec::default() {
        let message = "the job keeps no state: no transform has GROUP BY, DISTINCT or aggregates";
        let subject = "spec.stateBackend".to_owned();
        faults.push(fault(
            subject,
            message.to_owned(),
            "remove the key".to_owned(),
        ));
    }
    faults
}

/// Faults of an aggregation beside its SQL. `at` names a place in its transform.
pub(crate) fn aggregate_faults(
    at: impl Fn(&str) -> String,
    transform: &ValidTransform,
    bound: Option<&BoundAggregate>,
    job: &ValidJob,
) -> Vec<Fault> {
    let mut faults = Vec::new();
    let Some(aggregate) = bound else {
        return faults;
    };
    if aggregate.keys == 0 && transform.parallelism.is_some_and(|own| own != 1) {
        let message =
            "without GROUP BY there is one group, and one subtask that keeps it".to_owned();
        let help = "remove the key, or group by something".to_owned();
        faults.push(fault(at("parallelism"), message, help));
    }
    let parallelism = transform.parallelism.unwrap_or(job.parallelism);
    if aggregate.keys > 0 && parallelism > job.max_parallelism {
        let message = format!(
            "a parallelism of {parallelism} is too high: its keys are divided into {} groups \
             (`spec.maxParallelism`)",
            job.max_parallelism
        );
        let help = "choose a lower parallelism, or a higher `maxParallelism`".to_owned();
        faults.push(fault(at("parallelism"), message, help));
    }
    faults
}

const fn fault(subject: String, message: String, help: String) -> Fault {
    Fault {
        code: ErrorCode::InvalidJob,
        subject,
        place: None,
        message,
        help: Some(help),
    }
}
