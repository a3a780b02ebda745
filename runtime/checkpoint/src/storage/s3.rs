//! Checkpoints in S3 or in a service that speaks its language.
//!
//! A slot is one `PUT` with `If-None-Match: *`, never a multipart upload: some services ignore
//! the condition when a multipart upload is completed. 412 says that the name is taken, perhaps
//! by an earlier try of the same request that the SDK has repeated; 409
//! (`ConditionalRequestConflict`) says that nobody knows yet.
//!
//! Source: Amazon S3 user guide, "How to prevent object overwrites with conditional writes".

mod attempts;
mod blobs;
mod endpoint;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use attempts::Attempts;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::Credentials;
use aws_sdk_s3::config::SharedHttpClient;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use aws_smithy_http_client::tls;
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::RwLock;

pub(crate) use endpoint::check_endpoint;

use crate::error::{Error, Result};
use crate::key::Key;
use crate::storage::S3Options;
use crate::storage::door::{Created, Door, Listed};

/// Objects above this many bytes are uploaded in parts of this many bytes.
const PART_BYTES: usize = 8 * 1024 * 1024;
/// Parts of one object on their way at the same time.
const CONCURRENT_PARTS: usize = 4;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
const TAKEN: u16 = 412;
/// Answers that say that the credentials are not valid, or not any more.
const BAD_CREDENTIALS: [&str; 5] = [
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
];

/// Answers that stay the same until somebody starts the job with another address.
const NO_BUCKET: [&str; 2] = ["InvalidBucketName", "NoSuchBucket"];
/// Answers that stay the same for the same keys. Keys of a file may be corrected there.
const WRONG_KEYS: [&str; 2] = ["InvalidAccessKeyId", "SignatureDoesNotMatch"];

/// A prefix in a bucket as a store.
#[derive(Debug)]
pub(crate) struct S3Door {
    client: RwLock<Client>,
    /// The service has refused the client's credentials. The next request reads them anew: somebody
    /// may have changed them, and the SDK reads files only once.
    is_refused: AtomicBool,
    options: S3Options,
    http: SharedHttpClient,
    bucket: String,
    /// Empty, or ends in `/`.
    prefix: String,
}

impl S3Door {
    /// Prepares a client; sends nothing to the service.
    pub(crate) async fn connect(bucket: String, prefix: String, options: &S3Options) -> Self {
        let tls = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(tls)
            .build_https();
        let prefix = if prefix.is_empty() {
            prefix
        } else {
            format!("{prefix}/")
        };
        Self {
            client: RwLock::new(client(options, &http).await),
            is_refused: AtomicBool::new(false),
            options: options.clone(),
            http,
            bucket,
            prefix,
        }
    }

    async fn client(&self) -> Client {
        if self.is_refused.swap(false, Ordering::AcqRel) {
            let fresh = client(&self.options, &self.http).await;
            *self.client.write().await = fresh;
        }
        self.client.read().await.clone()
    }

    fn object(&self, key: &Key) -> String {
        format!("{}{key}", self.prefix)
    }

    /// What the names of all objects in a folder begin with.
    fn inside(&self, folder: &Key) -> String {
        if folder.as_str().is_empty() {
            self.prefix.clone()
        } else {
            format!("{}/", self.object(folder))
        }
    }

    fn error<E>(
        &self,
        operation: &'static str,
        key: &Key,
        error: SdkError<E, HttpResponse>,
    ) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let object = self.address(key);
        if error
            .code()
            .is_some_and(|code| BAD_CREDENTIALS.contains(&code))
        {
            self.is_refused.store(true, Ordering::Release);
        }
        let has_fixed_keys =
            self.options.credentials.is_some() || std::env::var_os("AWS_ACCESS_KEY_ID").is_some();
        let is_refusal = error.code().is_some_and(|code| {
            NO_BUCKET.contains(&code) || (has_fixed_keys && WRONG_KEYS.contains(&code))
        });
        let source = match said(&error).or_else(|| unsaid(&error)) {
            Some(said) => said.into(),
            None => error.into(),
        };
        Error::Unavailable {
            operation,
            object,
            source,
            is_refusal,
        }
    }

    async fn put_whole(&self, key: &Key, bytes: Bytes) -> Result<()> {
        self.client()
            .await
            .put_object()
            .bucket(&self.bucket)
            .key(self.object(key))
            .body(ByteStream::from(bytes))
            .send()
            .await
            .map(drop)
            .map_err(|error| self.error("write", key, error))
    }

    async fn put_parts(&self, key: &Key, bytes: Bytes) -> Result<()> {
        let begun = self
            .client()
            .await
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(self.object(key))
            .send()
            .await
            .map_err(|error| self.error("write", key, error))?;
        let upload = begun.upload_id().unwrap_or_default();
        let done = self.upload_parts(key, upload, bytes).await;
        if done.is_err()
            && let Err(error) = self.abort(&self.object(key), upload, key).await
        {
            tracing::warn!(%error, "unfinished upload stays until garbage is collected");
        }
        done
    }

    async fn upload_parts(&self, key: &Key, upload: &str, bytes: Bytes) -> Result<()> {
        let mut parts = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let part = rest.split_to(PART_BYTES.min(rest.len()));
            let number = i32::try_from(parts.len() + 1).unwrap_or(i32::MAX);
            parts.push((number, part));
        }
        let parts: Vec<CompletedPart> = stream::iter(parts)
            .map(|(number, part)| self.upload_part(key, upload, number, part))
            .buffered(CONCURRENT_PARTS)
            .try_collect()
            .await?;
        let parts = CompletedMultipartUpload::builder()
            .set_parts(Some(parts))
            .build();
        self.client()
            .await
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(self.object(key))
            .upload_id(upload)
            .multipart_upload(parts)
            .send()
            .await
            .map(drop)
            .map_err(|error| self.error("write", key, error))
    }

    async fn upload_part(
        &self,
        key: &Key,
        upload: &str,
        number: i32,
        part: Bytes,
    ) -> Result<CompletedPart> {
        let uploaded = self
            .client()
            .await
            .upload_part()
            .bucket(&self.bucket)
            .key(self.object(key))
            .upload_id(upload)
            .part_number(number)
            .body(ByteStream::from(part))
            .send()
            .await
            .map_err(|error| self.error("write", key, error))?;
        Ok(CompletedPart::builder()
            .part_number(number)
            .set_e_tag(uploaded.e_tag)
            .build())
    }

    async fn abort(&self, object: &str, upload: &str, key: &Key) -> Result<()> {
        self.client()
            .await
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(object)
            .upload_id(upload)
            .send()
            .await
            .map(drop)
            .map_err(|error| self.error("abort the upload of", key, error))
    }

    async fn read_object(&self, key: &Key, most: usize) -> Result<Option<Bytes>> {
        let got = self
            .client()
            .await
            .get_object()
            .bucket(&self.bucket)
            .key(self.object(key))
            .send()
            .await;
        let mut body = match got {
            Ok(got) => got.body,
            Err(error) if error.code() == Some("NoSuchKey") => return Ok(None),
            Err(error) => return Err(self.error("read", key, error)),
        };
        let mut bytes = BytesMut::new();
        while let Some(chunk) = body.next().await {
            let chunk =
                chunk.map_err(|error| Error::unavailable("read", self.address(key), error))?;
            bytes.extend_from_slice(&chunk);
            if bytes.len() >= most {
                bytes.truncate(most);
                break;
            }
        }
        Ok(Some(bytes.freeze()))
    }

    async fn list_objects(&self, folder: &Key, after: Option<&str>) -> Result<Vec<Listed>> {
        let inside = self.inside(folder);
        let mut pages = self
            .client()
            .await
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(&inside)
            .set_start_after(after.map(|after| format!("{inside}{after}")))
            .into_paginator()
            .send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.error("list", folder, error))?;
            for object in page.contents() {
                let Some(name) = object.key().and_then(|key| key.strip_prefix(&inside)) else {
                    continue;
                };
                let below_root = object.key().and_then(|key| key.strip_prefix(&self.prefix));
                found.push(Listed {
                    key: Key::from_store(below_root.unwrap_or_default().to_owned()),
                    name: name.to_owned(),
                    bytes: object
                        .size()
                        .and_then(|size| size.try_into().ok())
                        .unwrap_or(0),
                });
            }
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }

    async fn list_folders(&self, folder: &Key) -> Result<Vec<String>> {
        let inside = self.inside(folder);
        let mut pages = self
            .client()
            .await
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(&inside)
            .delimiter("/")
            .into_paginator()
            .send();
        let mut names = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.error("list", folder, error))?;
            let prefixes = page.common_prefixes().iter();
            names.extend(
                prefixes
                    .filter_map(|prefix| prefix.prefix()?.strip_prefix(&inside))
                    .map(|name| name.trim_end_matches('/').to_owned()),
            );
        }
        names.sort();
        Ok(names)
    }

    /// Object names and upload ids of the multipart uploads below a folder.
    async fn uploads(&self, folder: &Key) -> Result<Vec<(String, String)>> {
        let inside = self.inside(folder);
        let mut found = Vec::new();
        let mut markers: (Option<String>, Option<String>) = (None, None);
        loop {
            let page = self
                .client()
                .await
                .list_multipart_uploads()
                .bucket(&self.bucket)
                .prefix(&inside)
                .set_key_marker(markers.0)
                .set_upload_id_marker(markers.1)
                .send()
                .await;
            let page = match page {
                Err(error) if error.code() == Some("NotImplemented") => return Ok(found),
                page => page.map_err(|error| self.error("list uploads of", folder, error))?,
            };
            for upload in page.uploads() {
                if let (Some(object), Some(id)) = (upload.key(), upload.upload_id()) {
                    found.push((object.to_owned(), id.to_owned()));
                }
            }
            if page.is_truncated() != Some(true) {
                return Ok(found);
            }
            markers = (page.next_key_marker, page.next_upload_id_marker);
        }
    }
}

async fn client(options: &S3Options, http: &SharedHttpClient) -> Client {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(options.attempt_timeout)
        .build();
    let retries = RetryConfig::standard().with_max_attempts(options.attempts.max(1));
    // Objects carry their own checksum; services that are not AWS often know no others.
    let mut config = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http.clone())
        .timeout_config(timeouts)
        .retry_config(retries)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(endpoint) = &options.endpoint {
        config = config.endpoint_url(endpoint);
    }
    if let Some(keys) = &options.credentials {
        let (access, secret) = (keys.access_key.clone(), keys.secret_key.clone());
        let keys = Credentials::new(access, secret, None, None, "millstream");
        config = config.credentials_provider(keys);
    }
    if let Some(region) = &options.region {
        config = config.region(Region::new(region.clone()));
    } else if options.endpoint.is_some() {
        config = config.region(Region::new("us-east-1"));
    }
    let config = config.load().await;
    let service = options.endpoint.as_ref();
    let service = service.map_or_else(|| "S3".to_owned(), |endpoint| format!("S3 at {endpoint}"));
    let config = aws_sdk_s3::config::Builder::from(&config)
        .force_path_style(options.path_style)
        .interceptor(Attempts::new(service))
        .build();
    Client::from_conf(config)
}

impl Door for S3Door {
    fn address(&self, key: &Key) -> String {
        format!("s3://{}/{}", self.bucket, self.object(key))
            .trim_end_matches('/')
            .to_owned()
    }

    fn create<'a>(&'a self, key: &'a Key, bytes: Bytes) -> BoxFuture<'a, Result<Created>> {
        Box::pin(async move {
            let put = self
                .client()
                .await
                .put_object()
                .bucket(&self.bucket)
                .key(self.object(key))
                .if_none_match("*")
                .body(ByteStream::from(bytes))
                .send()
                .await;
            match put {
                Ok(_) => Ok(Created::New),
                Err(error) if status(&error) == Some(TAKEN) => Ok(Created::Taken),
                Err(error) => Err(self.error("create", key, error)),
            }
        })
    }

    fn confirm<'a>(&'a self, _: &'a Key) -> BoxFuture<'a, Result<()>> {
        // What S3 shows is durable.
        Box::pin(std::future::ready(Ok(())))
    }

    fn put<'a>(&'a self, key: &'a Key, bytes: Bytes) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if bytes.len() > PART_BYTES {
                self.put_parts(key, bytes).await
            } else {
                self.put_whole(key, bytes).await
            }
        })
    }

    fn read<'a>(&'a self, key: &'a Key, most: usize) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(self.read_object(key, most))
    }

    fn list<'a>(
        &'a self,
        folder: &'a Key,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<Listed>>> {
        Box::pin(self.list_objects(folder, after))
    }

    fn folders<'a>(&'a self, folder: &'a Key) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(self.list_folders(folder))
    }

    fn delete<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.client()
                .await
                .delete_object()
                .bucket(&self.bucket)
                .key(self.object(key))
                .send()
                .await
                .map(drop)
                .map_err(|error| self.error("delete", key, error))
        })
    }

    fn remove_unfinished<'a>(
        &'a self,
        folder: &'a Key,
        of: &'a (dyn Fn(&str) -> bool + Send + Sync),
    ) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            let inside = self.inside(folder);
            let mut removed = 0;
            for (object, upload) in self.uploads(folder).await? {
                if object.strip_prefix(&inside).is_some_and(of) {
                    self.abort(&object, &upload, folder).await?;
                    removed += 1;
                }
            }
            Ok(removed)
        })
    }
}

fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error
        .raw_response()
        .map(|response| response.status().as_u16())
}

/// What the service itself said, if it answered.
fn said<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<String> {
    let answer = error.as_service_error()?;
    let code = answer.code()?;
    let message = answer.message().unwrap_or("no message");
    let status = status(error).map_or_else(String::new, |status| format!(" (HTTP {status})"));
    Some(format!("{code}: {message}{status}"))
}

/// What keeps a request from being sent, in words, where the SDK shows its own insides.
fn unsaid<E>(error: &SdkError<E, HttpResponse>) -> Option<String>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let text = millstream_types::error::chain(error);
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let said = if has(&[
        "CredentialsNotLoaded",
        "no providers in chain provided credentials",
        "no credentials found in chain",
    ]) {
        "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or whatever else the \
         standard chain of the AWS SDK reads"
    } else if has(&["region must be set", "Missing Region", "MissingRegion"]) {
        "there is no region: set AWS_REGION"
    } else {
        return None;
    };
    Some(said.to_owned())
}
