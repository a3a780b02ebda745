//! Where tasks keep the files of their state: in the checkpoint storage of the job, which each worker
//! reaches by itself.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, TryStreamExt, stream};
use millstream_checkpoint::{Error, Files, Storage, StorageOptions};
use millstream_spec::ValidJob;
use millstream_state::StateFiles;
use millstream_types::{Attempt, CheckpointId, Failure, FileRef, JobId, OperatorUid, SubtaskIndex};
use tokio::sync::OnceCell;

/// Pieces in which a file is handed to the store.
const PIECE: usize = 4 * 1024 * 1024;

/// The checkpoint storage of a job, as a worker reaches it. It is opened by the first task that needs
/// it: a job without state needs none.
#[derive(Debug)]
pub struct StateStorage {
    uri: String,
    options: StorageOptions,
    opened: OnceCell<Storage>,
}

impl StateStorage {
    /// What the job file names, reached as the environment of this process says: by the same rules as
    /// in the coordinator's.
    pub fn of(job: &ValidJob) -> Self {
        Self {
            uri: job.checkpoint.storage.clone(),
            options: StorageOptions::from_env(),
            opened: OnceCell::new(),
        }
    }

    /// One that is open.
    pub fn opened(storage: Storage) -> Self {
        Self {
            uri: storage.uri().to_owned(),
            options: StorageOptions::default(),
            opened: OnceCell::new_with(Some(storage)),
        }
    }

    async fn storage(&self) -> Result<&Storage, Failure> {
        let opened = self
            .opened
            .get_or_try_init(|| Storage::open(&self.uri, &self.options));
        opened.await.map_err(told)
    }
}

/// The files of one subtask of one attempt.
#[derive(Debug, Clone)]
pub struct TaskFiles {
    storage: Arc<StateStorage>,
    job: JobId,
    attempt: Attempt,
    subtask: SubtaskIndex,
}

impl TaskFiles {
    /// For a subtask of an attempt of a job.
    pub fn new(
        storage: Arc<StateStorage>,
        job: &JobId,
        attempt: Attempt,
        subtask: SubtaskIndex,
    ) -> Self {
        Self {
            storage,
            job: job.clone(),
            attempt,
            subtask,
        }
    }

    async fn write(
        &self,
        checkpoint: CheckpointId,
        operator: &OperatorUid,
        name: &str,
        mut bytes: Bytes,
    ) -> Result<FileRef, Failure> {
        let files = self.files().await?;
        let pieces = std::iter::from_fn(move || {
            let piece = bytes.split_to(bytes.len().min(PIECE));
            (!piece.is_empty()).then_some(Ok(piece))
        });
        let put = files.put(checkpoint, operator, name, stream::iter(pieces));
        put.await.map_err(told)
    }

    async fn read(&self, file: &FileRef) -> Result<Bytes, Failure> {
        let files = self.files().await?;
        let size = usize::try_from(file.bytes).unwrap_or(usize::MAX);
        let mut chunks = files.open(file).await.map_err(told)?;
        let mut content = Vec::new();
        // No more than what the checksum has been seen of.
        content.try_reserve(size).map_err(|_| too_large(file))?;
        while let Some(chunk) = chunks.try_next().await.map_err(told)? {
            content.extend_from_slice(&chunk);
        }
        Ok(content.into())
    }

    async fn files(&self) -> Result<Files, Failure> {
        let storage = self.storage.storage().await?.clone();
        Ok(Files::new(storage, &self.job, self.attempt, self.subtask))
    }
}

impl StateFiles for TaskFiles {
    fn put<'a>(
        &'a self,
        checkpoint: CheckpointId,
        operator: &'a OperatorUid,
        name: &'a str,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<FileRef, Failure>> {
        self.write(checkpoint, operator, name, bytes).boxed()
    }

    fn get<'a>(&'a self, file: &'a FileRef) -> BoxFuture<'a, Result<Bytes, Failure>> {
        self.read(file).boxed()
    }
}

/// What a task fails with. The coordinator has been let in where a worker is refused.
fn told(error: Error) -> Failure {
    let is_refusal = matches!(
        error,
        Error::Unavailable {
            is_refusal: true,
            ..
        }
    );
    let failure = Failure::from(error);
    if !is_refusal {
        return failure;
    }
    let message = format!(
        "{}. Workers read and write keyed state themselves: they need the environment and the \
         credentials that the coordinator has",
        failure.message
    );
    Failure { message, ..failure }
}

fn too_large(file: &FileRef) -> Failure {
    use millstream_types::{ErrorCode, ErrorKind};

    Failure::new(
        ErrorCode::OperatingSystem,
        ErrorKind::Retryable,
        format!(
            "there is no memory for the {} bytes of {}: give the worker more, or raise the \
             parallelism",
            file.bytes, file.path
        ),
    )
}

#[cfg(test)]
mod tests {
    use millstream_types::{ErrorCode, ErrorKind};

    use super::*;

    fn files(storage: StateStorage, subtask: u32) -> TaskFiles {
        let job = JobId {
            namespace: "default".to_owned(),
            name: "orders".to_owned(),
        };
        TaskFiles::new(Arc::new(storage), &job, Attempt(3), SubtaskIndex(subtask))
    }

    fn of(storage: &str) -> StateStorage {
        let text = format!(
            "apiVersion: millstream.dev/v1alpha1\n\
             kind: StreamJob\n\
             metadata: {{name: orders}}\n\
             spec:\n  \
             checkpoint: {{storage: \"{storage}\"}}\n  \
             dataflow:\n    \
             sources: [{{name: orders, generator: {{}}}}]\n    \
             sinks: [{{name: out, input: orders, blackhole: {{}}}}]\n"
        );
        StateStorage::of(&millstream_spec::read(&text, "job.yaml").unwrap())
    }

    #[tokio::test]
    async fn what_one_subtask_writes_another_reads() {
        let folder = tempfile::tempdir().unwrap();
        let uri = format!("file://{}", folder.path().display());
        let content = Bytes::from(vec![7; PIECE + 1]);
        let operator = OperatorUid::from("sums/aggregate");
        let writer = files(of(&uri), 1);
        let file = writer
            .put(CheckpointId(9), &operator, "1", content.clone())
            .await
            .unwrap();
        assert!(file.path.starts_with("data/3/9/"), "{}", file.path);
        let storage = Storage::open(&uri, &StorageOptions::default()).await;
        let reader = files(StateStorage::opened(storage.unwrap()), 0);
        assert_eq!(reader.get(&file).await.unwrap(), content);
        // A name is used once.
        let again = writer.put(CheckpointId(9), &operator, "1", content).await;
        assert_eq!(again.unwrap_err().code, ErrorCode::ChainRuleBroken);

        let path = folder.path().join("default/orders").join(&file.path);
        std::fs::write(&path, "flipped").unwrap();
        let failure = reader.get(&file).await.unwrap_err();
        assert_eq!(failure.code, ErrorCode::CorruptObject);
        assert!(failure.message.contains(&file.path), "{failure}");
        std::fs::remove_file(&path).unwrap();
        let failure = reader.get(&file).await.unwrap_err();
        assert_eq!(failure.code, ErrorCode::CorruptObject);
        assert_eq!(failure.kind, ErrorKind::CorruptData);
    }

    #[tokio::test]
    async fn a_store_that_is_away_is_asked_again_later() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        std::fs::write(&store, "not a folder").unwrap();
        let files = files(of(&format!("file://{}", store.display())), 0);
        let sums = OperatorUid::from("sums");
        let failure = files.put(CheckpointId(1), &sums, "1", Bytes::from("x"));
        let failure = failure.await.unwrap_err();
        assert_eq!(failure.code, ErrorCode::StoreUnavailable);
        assert_eq!(failure.kind, ErrorKind::Retryable);
        std::fs::remove_file(&store).unwrap();
        std::fs::create_dir(&store).unwrap();
        let put = files.put(CheckpointId(1), &sums, "2", Bytes::from("x"));
        put.await.unwrap();
    }

    #[tokio::test]
    async fn an_empty_file_can_be_written_and_read() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(of(&format!("file://{}", folder.path().display())), 0);
        let sums = OperatorUid::from("sums");
        let put = files.put(CheckpointId(1), &sums, "1", Bytes::new());
        let file = put.await.unwrap();
        assert_eq!(files.get(&file).await.unwrap(), Bytes::new());
    }
}
