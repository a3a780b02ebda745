//! Reads the state and the records in flight that tasks go on from, before they begin.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use millstream_state::{Content, Memory};
use millstream_types::ids::TaskId;
use millstream_types::protocol::Deploy;
use millstream_types::{ErrorCode, ErrorKind, Failure, FileRef};

use crate::chain::Contents;
use crate::plan::JobTasks;
use crate::threads::Threads;

/// Files that are read at the same time.
const CONCURRENT: usize = 8;

/// Reads every file that the tasks of a deployment go on from, each once: into memory, or onto the local disk
/// where that is too much.
pub(super) fn fetch(
    job: &dyn JobTasks,
    deploy: &Deploy,
    (memory, threads): (&Memory, &Threads),
) -> BoxFuture<'static, Result<Contents, Failure>> {
    // Subtasks may share a file.
    let mut files: BTreeMap<String, (TaskId, FileRef)> = BTreeMap::new();
    for deployment in &deploy.tasks {
        let operators = deployment.restore.iter();
        for file in operators.flat_map(|(_, operator)| operator.files()) {
            files
                .entry(file.path.clone())
                .or_insert_with(|| (deployment.task, file.clone()));
        }
    }
    let bytes = files.values().map(|(_, file)| file.bytes).sum();
    let directory = if memory.is_much(bytes) {
        memory.directory()
    } else {
        Ok(None)
    };
    let directory = match directory {
        Ok(directory) => directory,
        Err(failure) => return async move { Err(failure) }.boxed(),
    };
    let read = |(path, (task, file)): (String, (TaskId, FileRef))| {
        let store = job.state_files(task);
        let (directory, threads) = (directory.clone(), threads.clone());
        async move {
            let bytes = store.get(&file).await?;
            let Some(directory) = directory else {
                return Ok((path, Content::from(bytes)));
            };
            let written = threads.work(move || directory.write(&bytes)).await;
            let written = written.map_err(|error| {
                let message = format!("keeping {path} on the local disk panicked: {error}");
                Failure::new(ErrorCode::TaskPanicked, ErrorKind::Internal, message)
            })?;
            Ok((path, Content::Local(written?)))
        }
    };
    let reads: Vec<_> = files.into_iter().map(read).collect();
    stream::iter(reads)
        .buffer_unordered(CONCURRENT)
        .try_collect()
        .boxed()
}
