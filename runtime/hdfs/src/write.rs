//! Files that get their name when they are complete.

use bytes::Bytes;
use futures::{Stream, StreamExt};
use hdfs_native::WriteOptions;
use hdfs_native::file::FileWriter;

use crate::client::Hdfs;
use crate::error::{Error, Result};

/// How a rename that does not overwrite ended, if the NameNode answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// The temporary file has the name.
    New,
    /// Another file has the name; the temporary one is deleted.
    Taken,
    /// The temporary file is not there: an earlier request has renamed it, whose answer was lost, or
    /// somebody has cleaned up. Who has the name can tell.
    SourceMissing,
}

impl Hdfs {
    /// Writes a durable and complete file of a name that nobody else makes, with the directories above
    /// it. On an error nothing of it stays, as far as that can be done.
    pub async fn write(&self, temporary: &str, bytes: &Bytes) -> Result<()> {
        // A try that was lost leaves a file that is in nobody's way: it is not complete.
        let write = || async {
            let mut writer = self.begin(temporary).await?;
            self.once(writer.write_bytes(bytes.clone())).await?;
            self.finish(writer).await
        };
        let written = self.repeated(write).await;
        self.tidy(temporary, written).await
    }

    /// As [`write`](Self::write), of pieces as they come. They come once, so that it is tried once.
    ///
    /// # Errors
    /// Those of the pieces, and of this crate.
    pub async fn write_pieces<E: From<Error>>(
        &self,
        temporary: &str,
        mut pieces: impl Stream<Item = std::result::Result<Bytes, E>> + Unpin,
    ) -> std::result::Result<(), E> {
        let begin = || self.begin(temporary);
        let mut writer = self.repeated(begin).await?;
        let mut written = Ok(());
        while let Some(piece) = pieces.next().await {
            written = match piece {
                Ok(piece) => {
                    let write = self.once(writer.write_bytes(piece)).await;
                    write.map(drop).map_err(E::from)
                }
                Err(error) => Err(error),
            };
            if written.is_err() {
                break;
            }
        }
        if written.is_ok() {
            written = self.finish(writer).await.map_err(E::from);
        }
        self.tidy(temporary, written).await
    }

    /// Gives a temporary file its name, if nobody has it. One try: what it came to when there is no
    /// answer, a look at the name says.
    pub async fn name(&self, temporary: &str, path: &str) -> Result<Named> {
        let client = self.client().await;
        match self.once(client.rename(temporary, path, false)).await {
            Ok(()) => Ok(Named::New),
            Err(Error::Exists(_)) => {
                self.discard(temporary).await;
                Ok(Named::Taken)
            }
            Err(Error::NotFound(_)) => Ok(Named::SourceMissing),
            Err(error) => Err(error),
        }
    }

    /// Gives a temporary file its name over whatever has it.
    pub async fn name_over(&self, temporary: &str, path: &str) -> Result<()> {
        let client = self.client().await;
        self.once(client.rename(temporary, path, true)).await
    }

    /// Deletes a temporary file after a failure. A rename of it that is still on its way finds nothing
    /// then. What stays is collected as garbage.
    pub async fn discard(&self, temporary: &str) {
        let client = self.client().await;
        match self.once(client.delete(temporary, false)).await {
            Ok(_) | Err(Error::NotFound(_)) => {}
            Err(error) => {
                tracing::warn!(%error, "temporary file {temporary} stays until garbage is collected");
            }
        }
    }

    async fn begin(&self, temporary: &str) -> Result<FileWriter> {
        let client = self.client().await;
        let options = WriteOptions::default().overwrite(true);
        self.once(client.create(temporary, options)).await
    }

    async fn finish(&self, mut writer: FileWriter) -> Result<()> {
        self.once(writer.hsync()).await?;
        self.once(writer.close()).await
    }

    async fn tidy<T, E>(
        &self,
        temporary: &str,
        written: std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        if written.is_err() {
            self.discard(temporary).await;
        }
        written
    }
}
