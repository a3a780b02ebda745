//! How long state is kept.

use millstream_types::duration::{KubeDuration, KubeSize};

use super::{Report, items};
use crate::path::key;
use crate::read::tree::Node;
use crate::{CheckpointSpec, StateBackendSpec};

/// An empty table has buffers, too.
const LEAST_MEMORY: KubeSize = KubeSize(1 << 20);

pub(super) fn check(spec: Option<&Node>, checkpoint: &CheckpointSpec, report: &mut Report<'_>) {
    let path = "spec.stateBackend";
    let backend = spec.and_then(|spec| spec.get("stateBackend"));
    let backend = report.read::<StateBackendSpec>(backend, path);
    if let Some(ttl) = backend.as_ref().and_then(|backend| backend.ttl) {
        check_ttl(ttl, &key(path, "ttl"), checkpoint, report);
    }
    if let Some(memory) = backend.as_ref().and_then(|backend| backend.memory)
        && memory < LEAST_MEMORY
    {
        report.add(
            &key(path, "memory"),
            format!(
                "is {memory}, and no state fits into less than {LEAST_MEMORY}: write 64Mi or more"
            ),
        );
    }
    if let Some(directory) = backend.and_then(|backend| backend.directory)
        && !directory.is_absolute()
    {
        report.add(
            &key(path, "directory"),
            format!(
                "is {}, and what it is relative to is not said: write a path that begins with `/`",
                directory.display()
            ),
        );
    }
    let dataflow = spec.and_then(|spec| spec.get("dataflow"));
    for (path, transform) in items(dataflow, "transforms") {
        let path = key(&path, "stateTtl");
        if let Some(ttl) = report.read::<KubeDuration>(transform.get("stateTtl"), &path) {
            check_ttl(ttl, &path, checkpoint, report);
        }
    }
}

/// State that is gone before a checkpoint has it would be another after each failure.
fn check_ttl(ttl: KubeDuration, path: &str, checkpoint: &CheckpointSpec, report: &mut Report<'_>) {
    if ttl < checkpoint.interval {
        let interval = checkpoint.interval;
        report.add(
            path,
            format!(
                "is {ttl}, which is shorter than `spec.checkpoint.interval` ({interval}): state would be \
                 gone before a checkpoint has it. Keep it for at least {interval}, or take checkpoints \
                 more often"
            ),
        );
    }
}
