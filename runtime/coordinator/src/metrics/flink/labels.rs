//! Flink's labels of a job, a task and an operator.
//!
//! Values have only letters, digits, `:` and `_`, as Flink's reporter has them by default: a job
//! `order-processor` is `order_processor`. Ids have the form of Flink's, and are the same whenever the
//! same job file is run.

use std::collections::{BTreeMap, BTreeSet};

use millstream_spec::ValidJob;
use millstream_types::api::{JobGraphReport, TaskStatus};
use millstream_types::{OperatorUid, VertexId};

/// Name and value of a label.
pub(super) type Label = (&'static str, String);

/// What the parts of a job are called.
#[derive(Debug)]
pub(super) struct Names {
    host: String,
    job_id: String,
    job_name: String,
    operators: BTreeMap<OperatorUid, String>,
    vertices: BTreeMap<VertexId, String>,
    /// Operators whose records leave their vertex, and sinks.
    last: BTreeSet<OperatorUid>,
    pub(super) sources: BTreeSet<OperatorUid>,
    pub(super) sinks: BTreeSet<OperatorUid>,
}

impl Names {
    pub(super) fn new(job: &ValidJob, graph: &JobGraphReport) -> Self {
        let uid = |name: &String| OperatorUid(name.clone());
        let sources: BTreeSet<_> = job.sources.iter().map(|it| uid(&it.name)).collect();
        let sinks: BTreeSet<_> = job.sinks.iter().map(|it| uid(&it.name)).collect();
        let named = |uid: &OperatorUid| match uid {
            uid if sources.contains(uid) => format!("Source: {uid}"),
            uid if sinks.contains(uid) => format!("{uid}: Writer"),
            uid => uid.to_string(),
        };
        let all = || graph.vertices.iter().flat_map(|vertex| &vertex.operators);
        let vertices = graph.vertices.iter().map(|vertex| {
            let operators: Vec<String> = vertex.operators.iter().map(named).collect();
            (vertex.id, filtered(&operators.join(" -> ")))
        });
        let identity = job.identity.clone().unwrap_or_else(|| job.id.to_string());
        Self {
            host: filtered(&host()),
            job_id: id(&identity),
            job_name: filtered(&job.id.name),
            vertices: vertices.collect(),
            operators: all()
                .map(|uid| (uid.clone(), filtered(&named(uid))))
                .collect(),
            last: all().filter(|uid| is_last(graph, uid)).cloned().collect(),
            sources,
            sinks,
        }
    }

    /// Of the coordinator.
    pub(super) fn host(&self) -> Vec<Label> {
        vec![("host", self.host.clone())]
    }

    /// Of the job.
    pub(super) fn job(&self) -> Vec<Label> {
        vec![
            ("job_id", self.job_id.clone()),
            ("host", self.host.clone()),
            ("job_name", self.job_name.clone()),
        ]
    }

    /// Of a task that was started again so many times. Where Flink names the host of a worker, this is
    /// the name of the worker, as `tm_id`.
    pub(super) fn task(&self, task: &TaskStatus, restarts: u64) -> Vec<Label> {
        let name = self.vertices.get(&task.vertex);
        let head = task.operators.first();
        let task_id = id(head.map_or("", OperatorUid::as_str));
        let attempt = format!("{}_{}_{restarts}", id(&self.job_id), task_id);
        let worker = filtered(&task.worker);
        vec![
            ("job_id", self.job_id.clone()),
            ("task_attempt_id", format!("{attempt}_{}", task.subtask)),
            ("task_id", task_id),
            ("host", worker.clone()),
            ("task_name", name.cloned().unwrap_or_default()),
            ("task_attempt_num", restarts.to_string()),
            ("job_name", self.job_name.clone()),
            ("tm_id", worker),
            ("subtask_index", task.subtask.to_string()),
        ]
    }

    /// Of an operator in a task with these labels.
    pub(super) fn operator(&self, task: &[Label], uid: &OperatorUid) -> Vec<Label> {
        let name = self.operators.get(uid).cloned();
        let mut labels = task.to_vec();
        labels.push(("operator_id", id(uid.as_str())));
        labels.push(("operator_name", name.unwrap_or_default()));
        labels
    }

    /// Whether records of an operator leave its task.
    pub(super) fn is_last(&self, uid: &OperatorUid) -> bool {
        self.last.contains(uid)
    }
}

fn is_last(graph: &JobGraphReport, uid: &OperatorUid) -> bool {
    let mut edges = graph
        .edges
        .iter()
        .filter(|edge| edge.from == *uid)
        .peekable();
    let is_sink = edges.peek().is_none();
    let is_beside = |other: &OperatorUid| {
        let mut vertices = graph.vertices.iter();
        vertices.any(|vertex| [uid, other].iter().all(|it| vertex.operators.contains(it)))
    };
    is_sink || edges.any(|edge| !is_beside(&edge.to))
}

/// The name of this machine, which is the pod's on Kubernetes.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "coordinator".to_owned(),
        name => name.to_owned(),
    }
}

/// As Flink's reporter writes a value of a label.
fn filtered(text: &str) -> String {
    let kept = |c: char| c.is_ascii_alphanumeric() || c == ':' || c == '_';
    text.chars()
        .map(|c| if kept(c) { c } else { '_' })
        .collect()
}

/// 32 hexadecimal digits, as Flink's ids have: FNV-1a of 128 bits. It only tells things of one job
/// apart, and stays when the job is restarted.
fn id(text: &str) -> String {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0100_0000_0000_0000_0000_013b;
    let hash = text.bytes().fold(OFFSET, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(PRIME)
    });
    format!("{hash:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_ids_have_the_form_that_flink_gives_them() {
        assert_eq!(filtered("Source: orders -> out"), "Source:_orders____out");
        // Source: draft-eastlake-fnv, the empty text and `a`.
        assert_eq!(id(""), "6c62272e07bb014262b821756295c58d");
        assert_eq!(id("a"), "d228cb696f1a8caf78912b704e4a8964");
    }
}
