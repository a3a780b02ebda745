//! Files as tasks write and read them, in a directory and in S3.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, future, stream};
use millstream_checkpoint::{Chunks, Error, Files, Result, Storage};
use millstream_tests::{Minio, Scratch, wait_until};
use millstream_types::{Attempt, CheckpointId, FileRef, OperatorUid, SubtaskIndex};
use tokio::sync::Notify;

use crate::proxy::{Fault, Proxy};
use crate::s3::{open, options, start_moto};
use crate::sample::{NOW, chain, directory, holder, job};

/// As much as one part of an upload to S3 has.
const PART: usize = 8 * 1024 * 1024;

fn files(storage: &Storage) -> Files {
    Files::new(storage.clone(), &job("orders"), Attempt(1), SubtaskIndex(3))
}

/// Bytes that differ everywhere, so that none are taken for others.
fn content(length: usize) -> Bytes {
    let words = (0_u64..).map(|word| word.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    words.flatten().take(length).collect()
}

/// The same in pieces of odd sizes.
fn pieces(mut content: Bytes) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let mut all = Vec::new();
    for size in [1, 0, 70_001, 3_000_003].into_iter().cycle() {
        if content.is_empty() {
            break;
        }
        all.push(Ok(content.split_to(content.len().min(size))));
    }
    stream::iter(all)
}

async fn put(files: &Files, name: &str, content: &Bytes) -> Result<FileRef> {
    let operator = OperatorUid::from("sums");
    let pieces = pieces(content.clone());
    files.put(CheckpointId(7), &operator, name, pieces).await
}

async fn read(chunks: Result<Chunks>) -> Result<Bytes> {
    let chunks: Vec<Bytes> = chunks?.try_collect().await?;
    Ok(chunks.concat().into())
}

pub(crate) async fn files_are_read_as_they_were_written(storage: &Storage) {
    let files = files(storage);
    for length in [0, 1, 1_000_000, PART - 1, PART, PART + 1, 2 * PART + 12_345] {
        let content = content(length);
        let name = format!("{length}.sst");
        let file = put(&files, &name, &content).await.unwrap();
        let expected = FileRef {
            path: format!("data/1/7/sums/3-{name}"),
            bytes: u64::try_from(length).unwrap(),
            crc32c: crc32c::crc32c(&content),
        };
        assert_eq!(file, expected);
        assert!(
            read(files.open(&file).await).await.unwrap() == content,
            "{length}"
        );
        let middle = length / 2;
        for range in [
            0..0,
            0..length.min(10),
            middle..length,
            length..length,
            0..length,
        ] {
            let bytes = u64::try_from(range.start).unwrap()..u64::try_from(range.end).unwrap();
            let part = read(files.open_range(&file, bytes).await).await.unwrap();
            assert!(
                part == content.slice(range.clone()),
                "{range:?} of {length}"
            );
        }
        let beyond = files.open_range(&file, 0..file.bytes + 1).await;
        assert!(matches!(beyond.map(drop), Err(Error::Rule(_))));
    }
}

#[tokio::test]
async fn files_in_a_directory_are_read_as_they_were_written() {
    let (_folder, storage) = directory();
    files_are_read_as_they_were_written(&storage).await;
}

#[tokio::test]
async fn files_in_s3_are_read_as_they_were_written() {
    let minio = Minio::start();
    files_are_read_as_they_were_written(&open(&options(minio.endpoint())).await).await;
}

/// What is read is what was written, or the reading ends with an error that names the file.
pub(crate) async fn damage_is_seen_at_the_end(storage: &Storage) {
    let files = files(storage);
    let content = content(3_000_000);
    let whole = put(&files, "a", &content).await.unwrap();
    let corrupt = async |file: FileRef| {
        let read = read(files.open(&file).await).await.unwrap_err();
        assert!(matches!(read, Error::Corrupt { .. }), "{read:?}");
        assert!(read.to_string().contains(&file.path), "{read}");
        read.to_string()
    };
    let flipped = corrupt(FileRef {
        crc32c: whole.crc32c ^ 1,
        ..whole.clone()
    });
    assert!(flipped.await.contains("CRC-32C"));
    for bytes in [whole.bytes - 1, whole.bytes + 1] {
        let cut = corrupt(FileRef {
            bytes,
            ..whole.clone()
        });
        assert!(cut.await.contains("were written"));
    }
    let missing = corrupt(FileRef {
        path: "data/1/7/sums/3-b".to_owned(),
        ..whole.clone()
    });
    assert!(missing.await.contains("missing"));
    // A part of a file that is shorter than it should be.
    let longer = FileRef {
        bytes: whole.bytes + 10,
        ..whole
    };
    for start in [longer.bytes - 20, longer.bytes - 5] {
        let part = read(files.open_range(&longer, start..longer.bytes).await).await;
        assert!(matches!(part, Err(Error::Corrupt { .. })), "{part:?}");
    }
}

#[tokio::test]
async fn damage_to_a_file_in_a_directory_is_seen_at_its_end() {
    let (_folder, storage) = directory();
    damage_is_seen_at_the_end(&storage).await;
}

#[tokio::test]
async fn damage_to_a_file_in_s3_is_seen_at_its_end() {
    let minio = Minio::start();
    damage_is_seen_at_the_end(&open(&options(minio.endpoint())).await).await;
}

async fn a_name_is_used_once(storage: &Storage) {
    let files = files(storage);
    for length in [1_000, PART + 1_000] {
        let name = length.to_string();
        let (one, other) = (content(length), content(length - 1));
        let (first, second) = tokio::join!(put(&files, &name, &one), put(&files, &name, &other));
        let (winner, written) = match (first, second) {
            (Ok(winner), Err(Error::Rule(_))) => (winner, one.clone()),
            (Err(Error::Rule(_)), Ok(winner)) => (winner, other),
            both => panic!("{both:?}"),
        };
        let again = put(&files, &name, &one).await.unwrap_err();
        assert!(again.to_string().contains("exists already"), "{again}");
        assert!(read(files.open(&winner).await).await.unwrap() == written);
    }
}

/// What uploads have left, as the next attempt finds and removes it.
async fn unfinished(storage: &Storage) -> u64 {
    let (mut next, _) = chain(storage).claim(holder("next"), NOW).await.unwrap();
    next.collect_garbage(1).await.unwrap().unfinished
}

#[tokio::test]
async fn a_name_in_a_directory_is_used_once() {
    let (_folder, storage) = directory();
    drop(chain(&storage).claim(holder("a"), NOW).await.unwrap());
    a_name_is_used_once(&storage).await;
    assert_eq!(unfinished(&storage).await, 0);
}

#[tokio::test]
async fn a_name_in_s3_is_used_once() {
    let minio = Minio::start();
    let storage = open(&options(minio.endpoint())).await;
    a_name_is_used_once(&storage).await;
    assert_eq!(minio.uploads(), 0);
}

/// So many bytes, and then an error.
fn breaking(length: usize) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let error = Err(io::Error::other("the disk is gone"));
    pieces(content(length)).chain(stream::iter([error]))
}

async fn a_source_that_breaks_leaves_nothing(storage: &Storage) {
    let files = files(storage);
    for length in [0, 1_000, 2 * PART + 5] {
        let operator = OperatorUid::from("sums");
        let name = length.to_string();
        let put = files.put(CheckpointId(7), &operator, &name, breaking(length));
        let error = put.await.unwrap_err();
        assert!(matches!(error, Error::Unreadable { .. }), "{error:?}");
        let file = FileRef {
            path: format!("data/1/7/sums/3-{name}"),
            bytes: 0,
            crc32c: 0,
        };
        let missing = files.open(&file).await.map(drop).unwrap_err();
        assert!(missing.to_string().contains("missing"), "{missing}");
    }
}

#[tokio::test]
async fn a_source_that_breaks_leaves_nothing_in_a_directory() {
    let (_folder, storage) = directory();
    drop(chain(&storage).claim(holder("a"), NOW).await.unwrap());
    a_source_that_breaks_leaves_nothing(&storage).await;
    assert_eq!(unfinished(&storage).await, 0);
}

#[tokio::test]
async fn a_source_that_breaks_leaves_nothing_in_s3() {
    let minio = Minio::start();
    a_source_that_breaks_leaves_nothing(&open(&options(minio.endpoint())).await).await;
    assert_eq!(minio.uploads(), 0);
}

/// Writes so many bytes of a file, and is cancelled before its end.
async fn cancel(files: &Files, length: usize) {
    let reached = Arc::new(Notify::new());
    let notify = Arc::clone(&reached);
    let end = stream::once(async move {
        notify.notify_one();
        future::pending().await
    });
    let operator = OperatorUid::from("sums");
    let chunks = pieces(content(length)).chain(end);
    tokio::select! {
        done = files.put(CheckpointId(7), &operator, "a", chunks) => panic!("{done:?}"),
        () = reached.notified() => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_write_leaves_nothing_in_a_directory() {
    let (folder, storage) = directory();
    cancel(&files(&storage), 20 * 1024 * 1024).await;
    let written = folder
        .path()
        .join("checkpoints/default/orders/data/1/7/sums");
    // The thread that has the file may still be writing.
    wait_until(
        "the temporary file is gone",
        Duration::from_secs(30),
        || std::fs::read_dir(&written).is_ok_and(|mut files| files.next().is_none()),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_write_leaves_nothing_in_s3() {
    let minio = Minio::start();
    cancel(&files(&open(&options(minio.endpoint())).await), 3 * PART).await;
    wait_until("the upload is aborted", Duration::from_secs(30), || {
        minio.uploads() == 0
    });
    assert!(minio.keys("checkpoints/").is_empty());
}

/// On a service that lists uploads below a folder, as AWS does and MinIO does not.
#[test]
fn an_upload_that_died_with_its_process_is_removed_by_the_next_attempt() {
    let scratch = Scratch::new("moto");
    let (_server, port) = start_moto(&scratch);
    let options = options(format!("http://127.0.0.1:{port}"));
    let runtime = || {
        let builder = &mut tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let dies = runtime();
    dies.block_on(async {
        let storage = open(&options).await;
        drop(chain(&storage).claim(holder("a"), NOW).await.unwrap());
        cancel(&files(&storage), 3 * PART).await;
    });
    // Nothing of it runs any more, as after `kill -9`.
    drop(dies);
    runtime().block_on(async {
        let storage = open(&options).await;
        assert_eq!(unfinished(&storage).await, 1);
        assert_eq!(unfinished(&storage).await, 0);
    });
}

/// A file is there or not, whatever the network does; and what is said of it is true.
#[tokio::test]
async fn a_lost_answer_is_resolved_by_looking_whose_file_it_is() {
    let minio = Minio::start();
    let proxy = Proxy::before(minio.endpoint().replace("http://", "")).await;
    for attempts in [1, 3] {
        let mut options = options(proxy.endpoint());
        options.s3.attempts = attempts;
        let storage = open(&options).await;
        for (length, method) in [(1_000, "PUT"), (PART + 1_000, "POST")] {
            for (number, fault) in [
                Fault::ReplyLost,
                Fault::Dropped,
                Fault::AppliedConflict,
                Fault::Conflict,
                Fault::SlowDown,
            ]
            .into_iter()
            .enumerate()
            {
                let files = files(&storage);
                // Of the requests of an upload the one that completes it.
                let path = if method == "POST" {
                    "uploadId"
                } else {
                    "/data/"
                };
                proxy.next(method, path, vec![fault.clone()]);
                let name = format!("{attempts}-{length}-{number}");
                let content = content(length);
                let file = put(&files, &name, &content).await;
                assert_eq!(proxy.heal(), 1, "{fault:?} of {method}");
                let file = file.unwrap_or_else(|error| panic!("{fault:?} of {method}: {error}"));
                assert!(read(files.open(&file).await).await.unwrap() == content);
            }
        }
    }
}

#[tokio::test]
async fn what_cannot_be_found_out_is_not_said_to_be_done() {
    let minio = Minio::start();
    let proxy = Proxy::before(minio.endpoint().replace("http://", "")).await;
    let mut options = options(proxy.endpoint());
    options.s3.attempts = 1;
    let files = files(&open(&options).await);
    proxy.always("", "/data/", Fault::ReplyLost);
    let unknown = put(&files, "a", &content(1_000)).await.unwrap_err();
    assert!(matches!(unknown, Error::Unavailable { .. }), "{unknown:?}");
    proxy.heal();
    // It was written; whoever cannot know it does not name it, and takes another name.
    let taken = put(&files, "a", &content(1_000)).await.unwrap_err();
    assert!(matches!(taken, Error::Rule(_)), "{taken:?}");
    put(&files, "b", &content(1_000)).await.unwrap();
}
