//! Files in S3.
//!
//! A file that fits into one part is one `PUT`; a larger one is a multipart upload, which has no name
//! before it is completed. Both carry a nonce as metadata: whoever does not know what came of a request
//! looks whose file lies there. Names are used once, so that the condition on the last request is only
//! a second belt; not every service honours it for multipart uploads.

use std::ops::Range;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};

use super::{PART_BYTES, S3Door, TAKEN, status};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::nonce::nonce;
use crate::storage::Rounds;
use crate::storage::blob::{Blobs, Chunks, Copied, Source};
use crate::storage::door::{Created, Door};

/// Parts of one file on their way at the same time. With the two that are gathered it needs memory for
/// four parts.
const CONCURRENT_PARTS: usize = 2;
/// Metadata that says who has written a file.
const WRITER: &str = "millstream-writer";
/// A copy of a large file takes the service longer than other requests.
const COPY_TIMEOUT: Duration = Duration::from_mins(5);

/// A multipart upload that is neither completed nor aborted. Without its value it is aborted.
struct Upload {
    client: Client,
    bucket: String,
    object: String,
    /// None once its end is somebody's business.
    id: Option<String>,
}

impl Drop for Upload {
    fn drop(&mut self) {
        let (Some(id), Ok(runtime)) = (self.id.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        // The owner was cancelled. Where this does not come to its end either, garbage collection
        // aborts what the attempt has left.
        let abort = self.client.abort_multipart_upload();
        let abort = abort.bucket(&self.bucket).key(&self.object).upload_id(id);
        runtime.spawn(abort.send());
    }
}

impl S3Door {
    async fn write_chunks(&self, key: &Key, chunks: Chunks) -> Result<Created> {
        let nonce = nonce();
        let mut parts = Parts::new(chunks);
        let first = parts.next().await?.unwrap_or_default();
        let Some(second) = parts.next().await? else {
            let put = || self.put_file(key, &nonce, first.clone());
            return self.settle(key, &nonce, put).await;
        };
        let mut upload = self.begin(key, &nonce).await?;
        let id = upload.id.clone().unwrap_or_default();
        let sent: Result<Vec<CompletedPart>> = stream::iter([Ok(first), Ok(second)])
            .chain(parts.rest())
            .zip(stream::iter(1..))
            .map(|(part, number)| {
                let id = &id;
                async move { self.upload_part(key, id, number, part?).await }
            })
            .buffered(CONCURRENT_PARTS)
            .try_collect()
            .await;
        let done = match sent {
            Ok(parts) => {
                let complete = || self.complete(key, &id, parts.clone());
                self.settle(key, &nonce, complete).await
            }
            Err(error) => Err(error),
        };
        if !matches!(done, Ok(Created::New))
            && let Err(error) = self.abort(&upload.object, &id, key).await
        {
            tracing::warn!(%error, "unfinished upload stays until garbage is collected");
        }
        upload.id = None;
        done
    }

    async fn begin(&self, key: &Key, nonce: &str) -> Result<Upload> {
        let client = self.client().await;
        let object = self.object(key);
        let begun = client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(&object)
            .metadata(WRITER, nonce)
            .send()
            .await
            .map_err(|error| self.error("write", key, error))?;
        Ok(Upload {
            client,
            bucket: self.bucket.clone(),
            object,
            id: begun.upload_id,
        })
    }

    async fn put_file(&self, key: &Key, nonce: &str, bytes: Bytes) -> Result<Created> {
        let put = self
            .client()
            .await
            .put_object()
            .bucket(&self.bucket)
            .key(self.object(key))
            .if_none_match("*")
            .metadata(WRITER, nonce)
            .body(ByteStream::from(bytes))
            .send()
            .await;
        match put {
            Ok(_) => Ok(Created::New),
            Err(error) if status(&error) == Some(TAKEN) => Ok(Created::Taken),
            Err(error) => Err(self.error("write", key, error)),
        }
    }

    async fn complete(&self, key: &Key, id: &str, parts: Vec<CompletedPart>) -> Result<Created> {
        let parts = CompletedMultipartUpload::builder()
            .set_parts(Some(parts))
            .build();
        let completed = self
            .client()
            .await
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(self.object(key))
            .upload_id(id)
            .if_none_match("*")
            .multipart_upload(parts)
            .send()
            .await;
        match completed {
            Ok(_) => Ok(Created::New),
            Err(error) if status(&error) == Some(TAKEN) => Ok(Created::Taken),
            Err(error) => Err(self.error("write", key, error)),
        }
    }

    /// Sends the request that gives a file its name, and finds out what came of it.
    async fn settle<F: Future<Output = Result<Created>>>(
        &self,
        key: &Key,
        nonce: &str,
        send: impl Fn() -> F,
    ) -> Result<Created> {
        let mut rounds = Rounds::default();
        loop {
            let error = match send().await {
                Ok(Created::New) => return Ok(Created::New),
                Ok(Created::Taken) => {
                    Error::unavailable("read", self.address(key), "it was there and is gone")
                }
                Err(error) => error,
            };
            match self.writer_of(key).await {
                Ok(Some(writer)) if writer == nonce => return Ok(Created::New),
                Ok(Some(_)) => return Ok(Created::Taken),
                Ok(None) | Err(_) => rounds.again(error).await?,
            }
        }
    }

    /// The nonce that a file was written with, empty if it has none; `None` if there is no file.
    async fn writer_of(&self, key: &Key) -> Result<Option<String>> {
        let head = self.head(key).await?;
        Ok(head.map(|(_, writer)| writer))
    }

    /// Size and writer of a file.
    async fn head(&self, key: &Key) -> Result<Option<(u64, String)>> {
        let head = self
            .client()
            .await
            .head_object()
            .bucket(&self.bucket)
            .key(self.object(key))
            .send()
            .await;
        match head {
            Ok(head) => {
                let metadata = head.metadata().and_then(|all| all.get(WRITER));
                let bytes = head
                    .content_length()
                    .and_then(|bytes| bytes.try_into().ok());
                let writer = metadata.cloned().unwrap_or_default();
                Ok(Some((bytes.unwrap_or_default(), writer)))
            }
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(self.error("look for", key, error)),
        }
    }

    async fn read_chunks(&self, key: &Key, range: Option<Range<u64>>) -> Result<Option<Chunks>> {
        if range.as_ref().is_some_and(Range::is_empty) {
            return Ok(Some(stream::empty().boxed()));
        }
        let header = range.map(|range| format!("bytes={}-{}", range.start, range.end - 1));
        let got = self
            .client()
            .await
            .get_object()
            .bucket(&self.bucket)
            .key(self.object(key))
            .set_range(header)
            .send()
            .await;
        let body = match got {
            Ok(got) => got.body,
            Err(error) if error.code() == Some("NoSuchKey") => return Ok(None),
            // It ends before the range.
            Err(error) if error.code() == Some("InvalidRange") => {
                return Ok(Some(stream::empty().boxed()));
            }
            Err(error) => return Err(self.error("read", key, error)),
        };
        let address = self.address(key);
        let chunks = stream::try_unfold(body, move |mut body| {
            let address = address.clone();
            async move {
                let chunk = body.next().await.transpose();
                let chunk = chunk.map_err(|error| Error::unavailable("read", address, error))?;
                Ok(chunk.map(|chunk| (chunk, body)))
            }
        });
        Ok(Some(chunks.boxed()))
    }

    async fn copy_object(&self, from: &str, to: &Key) -> Result<Copied> {
        let timeouts = TimeoutConfig::builder()
            .operation_attempt_timeout(COPY_TIMEOUT)
            .build();
        let patient = aws_sdk_s3::config::Builder::new().timeout_config(timeouts);
        let copied = self
            .client()
            .await
            .copy_object()
            .copy_source(in_a_header(from))
            .bucket(&self.bucket)
            .key(self.object(to))
            .customize()
            .config_override(patient)
            .send()
            .await;
        match copied {
            Ok(_) => Ok(Copied::There),
            Err(error) if error.code() == Some("NoSuchKey") => Ok(Copied::Missing),
            Err(error) => Err(self.error("copy a file to", to, error)),
        }
    }
}

/// A file in parts of one size; only the last may be smaller.
struct Parts {
    chunks: Chunks,
    /// What has come of the next part.
    rest: Bytes,
}

impl Parts {
    const fn new(chunks: Chunks) -> Self {
        Self {
            chunks,
            rest: Bytes::new(),
        }
    }

    /// The next part; `None` at the end of the file.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let mut part = BytesMut::new();
        loop {
            let room = PART_BYTES - part.len();
            part.extend_from_slice(&self.rest.split_to(self.rest.len().min(room)));
            if part.len() == PART_BYTES {
                break;
            }
            match self.chunks.try_next().await? {
                Some(chunk) => self.rest = chunk,
                None => break,
            }
        }
        Ok((!part.is_empty()).then(|| part.freeze()))
    }

    /// All parts from here on.
    fn rest(self) -> Chunks {
        let parts = stream::try_unfold(self, |mut parts| async move {
            let part = parts.next().await?;
            Ok(part.map(|part| (part, parts)))
        });
        parts.boxed()
    }
}

/// `bucket/key` as the header of a copy wants it.
fn in_a_header(object: &str) -> String {
    let mut text = String::with_capacity(object.len());
    for byte in object.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/' | b'~') {
            text.push(char::from(byte));
        } else {
            text.push('%');
            text.push_str(&millstream_types::text::hex(&[byte]).to_ascii_uppercase());
        }
    }
    text
}

impl Blobs for S3Door {
    fn write_file<'a>(&'a self, key: &'a Key, chunks: Chunks) -> BoxFuture<'a, Result<Created>> {
        Box::pin(self.write_chunks(key, chunks))
    }

    fn read_file<'a>(
        &'a self,
        key: &'a Key,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<Option<Chunks>>> {
        Box::pin(self.read_chunks(key, range))
    }

    fn file_bytes<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<u64>>> {
        Box::pin(async move { Ok(self.head(key).await?.map(|(bytes, _)| bytes)) })
    }

    fn place(&self, key: &Key) -> Source {
        Source::S3 {
            service: self.options.endpoint.clone(),
            object: format!("{}/{}", self.bucket, self.object(key)),
        }
    }

    fn copy_file<'a>(&'a self, from: &'a Source, to: &'a Key) -> BoxFuture<'a, Result<Copied>> {
        Box::pin(async move {
            match from {
                Source::S3 { service, object } if *service == self.options.endpoint => {
                    self.copy_object(object, to).await
                }
                Source::S3 { .. } | Source::File(_) => Ok(Copied::Elsewhere),
                #[cfg(feature = "hdfs")]
                Source::Hdfs => Ok(Copied::Elsewhere),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escaped_name_is_escaped_once_more_in_a_header() {
        assert_eq!(in_a_header("b/a%2Fb/1-2_3.sst"), "b/a%252Fb/1-2_3.sst");
        assert_eq!(in_a_header("b/ä c"), "b/%C3%A4%20c");
    }
}
