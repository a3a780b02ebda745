//! One hash over everything that all processes of a job must agree on.

use millstream_spec::ValidJob;
use millstream_types::text::hex;
use sha2::{Digest, Sha256};

use crate::graph::{JobGraph, NodeKind};

/// Counts changes of [`canonical`] and of what the same text means.
const FORMAT: u32 = 4;

/// The hash, in hexadecimal digits.
///
/// The job's parallelism is not in it: a job that is only rescaled keeps it.
pub(crate) fn fingerprint(job: &ValidJob, graph: &JobGraph) -> String {
    hex(&Sha256::digest(canonical(job, graph).join("\n").as_bytes()))
}

/// One line per fact.
fn canonical(job: &ValidJob, graph: &JobGraph) -> Vec<String> {
    let mut lines = vec![format!("format {FORMAT}"), format!("job {}", job.id)];
    lines.push(format!("max parallelism {}", graph.max_parallelism));
    let transforms = job.transforms.iter();
    lines.extend(
        transforms.map(|transform| format!("sql {:?} {:?}", transform.name, transform.sql)),
    );
    for node in &graph.nodes {
        let (uid, parallelism) = (node.uid.as_str(), node.parallelism);
        lines.push(format!("node {uid:?} parallelism {parallelism:?}"));
        match &node.kind {
            NodeKind::Source(source) => lines.push(format!("source {source:?}")),
            NodeKind::Sql(sql) => {
                for select in &sql.selects {
                    lines.push(format!("select {}", select.input));
                    let filter = select.filter.iter().map(|filter| &filter.expression);
                    lines.extend(filter.map(|expression| format!("filter {expression}")));
                    let projection = select.projection.iter().map(|column| &column.expression);
                    lines.extend(projection.map(|expression| format!("project {expression}")));
                }
            }
            NodeKind::Aggregate(aggregation) => lines.push(format!("aggregate {aggregation:?}")),
            // Not its copy of the checkpoint settings, which change no record.
            NodeKind::Sink(sink) => {
                lines.push(format!("sink {:?} {:?}", sink.connector, sink.format));
                let metadata = sink.metadata.iter();
                lines.extend(metadata.map(|column| format!("metadata {column:?}")));
            }
        }
        lines.push(format!(
            "changes {} by {:?}",
            node.changelog.name(),
            node.key
        ));
        lines.extend(node.schema.fields().iter().map(|field| {
            let (name, nullable) = (field.name(), field.is_nullable());
            format!("column {name:?} {} {nullable}", field.data_type())
        }));
    }
    lines.extend(graph.edges.iter().map(|edge| format!("edge {edge:?}")));
    lines.extend(
        graph
            .vertices
            .iter()
            .map(|vertex| format!("vertex {vertex:?}")),
    );
    lines
}
