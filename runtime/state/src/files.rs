//! Where runs lie.

use bytes::Bytes;
use futures::future::BoxFuture;
use millstream_types::{CheckpointId, FileRef, OperatorUid};

use crate::Result;

/// The files of one subtask of one attempt.
pub trait StateFiles: Send + Sync {
    /// Writes a file of an operator for a checkpoint. It is durable when this returns. Each name is used
    /// once, also after a failure.
    fn put<'a>(
        &'a self,
        checkpoint: CheckpointId,
        operator: &'a OperatorUid,
        name: &'a str,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<FileRef>>;

    /// Reads a file that the restored checkpoint names, and checks its checksum.
    fn get<'a>(&'a self, file: &'a FileRef) -> BoxFuture<'a, Result<Bytes>>;
}
