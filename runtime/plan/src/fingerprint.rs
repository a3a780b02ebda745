//! One hash over everything that all processes of a job must agree on.

use std::fmt::Write as _;

use millstream_spec::ValidJob;
use sha2::{Digest, Sha256};

use crate::graph::{Node, NodeKind, Vertex};

/// Counts changes of [`canonical`] and of what the same text means.
const FORMAT: u32 = 1;

/// The hash, in hexadecimal digits.
///
/// Parallelism is not in it: a job that is only rescaled keeps it.
pub(crate) fn fingerprint(job: &ValidJob, nodes: &[Node], vertices: &[Vertex]) -> String {
    let digest = Sha256::digest(canonical(job, nodes, vertices).as_bytes());
    digest.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// One line per fact.
fn canonical(job: &ValidJob, nodes: &[Node], vertices: &[Vertex]) -> String {
    let mut text = format!("format {FORMAT}\njob {}\n", job.id);
    for transform in &job.transforms {
        let _ = writeln!(text, "sql {:?} {:?}", transform.name, transform.sql);
    }
    for node in nodes {
        let _ = writeln!(text, "node {:?} input {:?}", node.uid.as_str(), node.input);
        match &node.kind {
            NodeKind::Source(source) => {
                let _ = writeln!(text, "source {source:?}");
            }
            NodeKind::Sql(sql) => {
                if let Some(filter) = &sql.filter {
                    let _ = writeln!(text, "filter {filter}");
                }
                for expression in &sql.projection {
                    let _ = writeln!(text, "project {expression}");
                }
            }
            NodeKind::Sink(sink) => {
                let _ = writeln!(text, "sink {sink:?}");
            }
        }
        for field in node.schema.fields() {
            let _ = writeln!(
                text,
                "column {:?} {} {}",
                field.name(),
                field.data_type(),
                field.is_nullable()
            );
        }
    }
    for vertex in vertices {
        let _ = writeln!(text, "vertex {vertex:?}");
    }
    text
}
