//! Reads the state that tasks go on from, before they begin.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use millstream_types::ids::TaskId;
use millstream_types::protocol::Deploy;
use millstream_types::{Failure, FileRef, StateSnapshot};

use crate::chain::Contents;
use crate::plan::JobTasks;

/// Files that are read at the same time.
const CONCURRENT: usize = 8;

/// Reads every file that the tasks of a deployment go on from, each once.
pub(super) fn fetch(
    job: &dyn JobTasks,
    deploy: &Deploy,
) -> BoxFuture<'static, Result<Contents, Failure>> {
    // Subtasks may share a file.
    let mut files: BTreeMap<String, (TaskId, FileRef)> = BTreeMap::new();
    for deployment in &deploy.tasks {
        let states = deployment.restore.iter();
        let states = states.filter_map(|(_, operator)| operator.state.as_ref());
        for file in states.flat_map(StateSnapshot::files) {
            files
                .entry(file.path.clone())
                .or_insert_with(|| (deployment.task, file.clone()));
        }
    }
    let read = |(path, (task, file)): (String, (TaskId, FileRef))| {
        let store = job.state_files(task);
        async move { Ok((path, store.get(&file).await?)) }
    };
    let reads: Vec<_> = files.into_iter().map(read).collect();
    stream::iter(reads)
        .buffer_unordered(CONCURRENT)
        .try_collect()
        .boxed()
}
