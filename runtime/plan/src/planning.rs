//! Planning a job: bind every transform, keep the columns that are used, chain the nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_schema::SchemaRef;
use millstream_spec::ValidJob;
use millstream_spec::valid::Input;
use millstream_types::schema::{arrow_schema, dead_letter_schema};

use crate::changes::{self, Readers, Stream};
use crate::error::{Fault, PlanError};
use crate::functions::Functions;
use crate::graph::JobGraph;
use crate::nodes::{self, internal};
use crate::sql::derived::{self, Part};
use crate::sql::{BoundTransform, bind_transform};
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

fn plan_here(given: &ValidJob) -> Result<JobGraph, PlanError> {
    let parts: Vec<Part> = given.transforms.iter().flat_map(derived::parts).collect();
    // The same job without SELECTs in FROM.
    let mut job = given.clone();
    job.transforms = parts.iter().map(|part| part.transform.clone()).collect();
    let job = &job;
    let mut faults = Vec::new();
    let (mut bound, outputs) = bind_all(job, &parts, &mut faults);
    faults.extend(changes::state_faults(given, &bound));
    faults.extend(sink_faults(job, &outputs));
    PlanError::of(faults)?;
    let needed = needed_columns(job, &mut bound, &outputs);
    let changelogs = changes::changelogs(job, &bound, &outputs);
    let (nodes, edges) = nodes::nodes(&nodes::Parts {
        job,
        bound: &bound,
        needed: &needed,
        streams: &outputs,
        changelogs: &changelogs,
    })
    .map_err(PlanError::from)?;
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

/// Each node's main output, by the node's name.
type Outputs = BTreeMap<String, Stream>;

/// Bound transforms by name.
type Bound = BTreeMap<String, BoundTransform>;

fn bind_all(job: &ValidJob, parts: &[Part], faults: &mut Vec<Fault>) -> (Bound, Outputs) {
    let functions = Functions::new();
    let mut bound = Bound::new();
    let mut outputs: Outputs = job
        .sources
        .iter()
        .map(|source| {
            let stream = Stream::of(arrow_schema(&source.schema), source.parallelism);
            (source.name.clone(), stream)
        })
        .collect();
    for part in parts {
        let transform = &part.transform;
        let inputs = transform.inputs.iter();
        let inputs: Option<Vec<_>> = inputs.map(|input| output_of(input, &outputs)).collect();
        let Some(inputs) = inputs else {
            continue;
        };
        let at = |key: &str| format!("transform `{}`, {key}", part.node);
        faults.extend(partition::faults(
            at,
            &transform.partition_by,
            &transform.inputs,
            &schemas(&inputs),
        ));
        match bind_transform(&functions, part, &inputs) {
            Ok(transformed) => {
                let aggregate = transformed.aggregate.as_ref();
                faults.extend(changes::aggregate_faults(at, transform, aggregate, job));
                faults.extend(changes::order_faults(
                    at,
                    &transform.partition_by,
                    // What computes an aggregate's input runs where the input is.
                    match aggregate {
                        Some(_) => Readers::Same,
                        None => Readers::Own(transform.parallelism),
                    },
                    &transform.inputs,
                    &inputs,
                ));
                let stream = Stream::transformed(transform, &transformed, &inputs);
                outputs.insert(transform.name.clone(), stream);
                bound.insert(transform.name.clone(), transformed);
            }
            Err(found) => faults.extend(found),
        }
    }
    (bound, outputs)
}

/// An output; `None` if it belongs to a faulty transform.
fn output_of(input: &Input, outputs: &Outputs) -> Option<Stream> {
    match input {
        Input::Main(name) => outputs.get(name).cloned(),
        Input::DeadLetters(name) => {
            let parallelism = outputs.get(name).and_then(|source| source.parallelism);
            Some(Stream::of(dead_letter_schema(), parallelism))
        }
    }
}

fn schemas(streams: &[Stream]) -> Vec<SchemaRef> {
    let streams = streams.iter();
    streams.map(|stream| Arc::clone(&stream.schema)).collect()
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
        let schemas = schemas(&inputs);
        faults.extend(partition::faults(
            at,
            &one.partition_by,
            &one.inputs,
            &schemas,
        ));
        let before = faults.len();
        faults.extend(sink::update_faults(index, one, &inputs));
        if faults.len() == before {
            faults.extend(changes::order_faults(
                at,
                &one.partition_by,
                Readers::Own(one.parallelism),
                &one.inputs,
                &inputs,
            ));
        }
        match partition::same_columns(&one.inputs, &schemas) {
            Ok(schema) => {
                let updates = inputs.iter().any(|input| input.updates.is_some());
                faults.extend(sink::faults(index, one, &schema, updates));
            }
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
        let all = output_of(input, outputs).map(|stream| {
            stream
                .schema
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
        let own = needed.entry(transform.name.clone()).or_default();
        // The key of a stream that updates stays: readers may be given rows by it.
        let updates = outputs.get(&transform.name);
        let updates = updates.and_then(|stream| stream.updates.as_ref());
        own.extend(
            updates
                .into_iter()
                .flat_map(|it| it.key.iter().flatten().cloned()),
        );
        bound.keep(own);
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
