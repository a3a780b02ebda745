//! The chain in S3.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use millstream_checkpoint::disposal::{JobDisposal, delete_job, delete_savepoint};
use millstream_checkpoint::{
    Chain, ClaimedChain, Error, S3Credentials, S3Options, Storage, StorageOptions, read_savepoint,
    reserve,
};
use millstream_tests::ports::free_port;
use millstream_tests::server::{Launch, Server};
use millstream_tests::{Minio, Scratch, tools, wait_until};
use millstream_types::{Attempt, CheckpointId};

use crate::sample::{NOW, chain, holder, job, large, manifest};

/// Options that reach a server at `endpoint`.
pub(crate) fn options(endpoint: String) -> StorageOptions {
    StorageOptions {
        s3: S3Options {
            endpoint: Some(endpoint),
            path_style: true,
            credentials: Some(S3Credentials {
                access_key: Minio::ACCESS_KEY.to_owned(),
                secret_key: Minio::SECRET_KEY.to_owned(),
            }),
            ..S3Options::default()
        },
        ..StorageOptions::default()
    }
}

pub(crate) async fn open(options: &StorageOptions) -> Storage {
    let uri = format!("s3://{}/checkpoints", Minio::BUCKET);
    Storage::open(&uri, options).await.unwrap()
}

async fn decide(claimed: &mut ClaimedChain, id: u64) {
    let decided = claimed.decide(manifest(claimed.attempt(), id)).await;
    claimed.committed(decided.unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_job_lives_in_s3_as_it_lives_in_a_directory() {
    let minio = Minio::start();
    let options = options(minio.endpoint());
    let storage = open(&options).await;
    storage.probe().await.unwrap();
    assert_eq!(
        minio.keys(""),
        Vec::<String>::new(),
        "a probe leaves nothing"
    );

    let (mut first, _) = chain(&storage).claim(holder("a"), NOW).await.unwrap();
    for id in 1..=5 {
        decide(&mut first, id).await;
    }
    let collected = first.collect_garbage(2).await.unwrap();
    assert_eq!(collected.slots, 6);
    // The claim stays, and two checkpoints with their confirmations.
    let slots = minio.keys("checkpoints/default/orders/chain/");
    let number = |key: &String| {
        key.rsplit_once('/')
            .unwrap()
            .1
            .trim_start_matches('0')
            .to_owned()
    };
    let left: Vec<String> = slots.iter().map(number).collect();
    assert_eq!(left, ["1.json", "8.json", "9.json", "10.json", "11.json"]);
    let savepoint = first
        .savepoint("now", manifest(Attempt(1), 6))
        .await
        .unwrap()
        .path;
    assert_eq!(
        savepoint,
        "s3://checkpoints/checkpoints/default/orders/savepoints/now"
    );
    let read = read_savepoint(&savepoint, &options).await.unwrap();
    assert_eq!(read, manifest(Attempt(1), 6));

    let (_second, state) = chain(&storage).claim(holder("b"), NOW).await.unwrap();
    assert_eq!(state.newest.as_ref().unwrap().checkpoint, CheckpointId(5));
    assert!(state.newest_is_committed());
    let ids: Vec<u64> = state.checkpoints.iter().map(|entry| entry.id.0).collect();
    assert_eq!(ids, [4, 5]);
    let fenced = first.decide(manifest(Attempt(1), 7)).await;
    assert!(matches!(fenced, Err(Error::Fenced { .. })));
    let by_job = read_savepoint(&chain(&storage).path(), &options)
        .await
        .unwrap();
    assert_eq!(Some(by_job), state.newest);

    reserve(&storage, "prefix", &job("orders"), None)
        .await
        .unwrap();
    let other = reserve(&storage, "prefix", &job("payments"), None).await;
    assert!(matches!(other, Err(Error::PathTaken { .. })));
}

#[tokio::test]
async fn a_large_manifest_is_uploaded_in_parts() {
    let minio = Minio::start();
    let options = options(minio.endpoint());
    let storage = open(&options).await;
    let (mut claimed, _) = chain(&storage).claim(holder("a"), NOW).await.unwrap();
    let mut large = manifest(Attempt(1), 1);
    large.fingerprint = "x".repeat(20 * 1024 * 1024);
    let permit = claimed.decide(large.clone()).await.unwrap();
    claimed.committed(permit).await.unwrap();
    assert_eq!(minio.keys("checkpoints/default/orders/data").len(), 1);
    let state = chain(&storage).observe().await.unwrap();
    assert!(state.newest == Some(large), "every byte is read back");
    decide(&mut claimed, 2).await;
    assert_eq!(claimed.collect_garbage(1).await.unwrap().objects, 1);
    assert_eq!(minio.keys("checkpoints/default/orders/data").len(), 0);
}

#[tokio::test]
async fn what_is_wrong_with_a_store_is_said() {
    let minio = Minio::start();
    let uri = |bucket: &str| format!("s3://{bucket}/x");
    let said = async |uri: String, options: &StorageOptions| {
        let storage = Storage::open(&uri, options).await.unwrap();
        let error = Chain::new(storage, job("orders"))
            .claim(holder("a"), NOW)
            .await
            .map(drop)
            .unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
        millstream_types::Failure::from(error).message
    };
    let good = options(minio.endpoint());
    let missing = said(uri("no-such-bucket"), &good).await;
    assert!(
        missing.contains("NoSuchBucket") && missing.contains("s3://no-such-bucket/x"),
        "{missing}"
    );

    let mut stranger = good.clone();
    stranger.s3.credentials = Some(S3Credentials {
        access_key: "nobody".to_owned(),
        secret_key: "nothing-at-all".to_owned(),
    });
    let refused = said(uri(Minio::BUCKET), &stranger).await;
    assert!(refused.contains("InvalidAccessKeyId"), "{refused}");
    assert!(!refused.contains("nothing-at-all"));

    let mut nowhere = options(format!("http://127.0.0.1:{}", free_port()));
    nowhere.s3.attempts = 1;
    let unreachable = said(uri(Minio::BUCKET), &nowhere).await;
    assert!(unreachable.contains("refused"), "{unreachable}");
}

/// Starts a store that overwrites whatever the condition says.
pub(crate) fn start_moto(scratch: &Scratch) -> (Server, u16) {
    tools::install("moto.sh", &[]);
    let port = free_port();
    let server = Launch::new(tools::cache().join("moto-5.0.0/bin/moto_server"))
        .args(["-H", "127.0.0.1", "-p", &port.to_string()])
        .start(&scratch.join("log"));
    wait_until("moto makes a bucket", Duration::from_mins(1), || {
        make_bucket(port).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    });
    (server, port)
}

fn make_bucket(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let request = format!(
        "PUT /{} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        Minio::BUCKET
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[tokio::test]
async fn a_store_that_ignores_the_condition_is_refused() {
    let scratch = Scratch::new("moto");
    let (_server, port) = start_moto(&scratch);
    let storage = open(&options(format!("http://127.0.0.1:{port}"))).await;
    let error = storage.probe().await.unwrap_err();
    assert!(matches!(error, Error::NotConditional { .. }), "{error:?}");
    assert!(
        error.to_string().contains("s3://checkpoints/checkpoints"),
        "{error}"
    );
}

#[tokio::test]
async fn savepoints_and_jobs_are_deleted_in_s3_as_in_a_directory() {
    let minio = Minio::start();
    let options = options(minio.endpoint());
    let storage = open(&options).await;
    let (mut claimed, _) = chain(&storage).claim(holder("a"), NOW).await.unwrap();
    decide(&mut claimed, 1).await;
    let path = claimed.savepoint("one", large(Attempt(1), 2)).await;
    let other = claimed.savepoint("two", manifest(Attempt(1), 2)).await;
    let chain = path.as_ref().unwrap().path.replace("/savepoints/one", "");
    let refused = delete_savepoint(&chain, &options).await;
    assert!(matches!(refused, Err(Error::Missing { .. })), "{refused:?}");
    let deleted = delete_savepoint(&path.unwrap().path, &options).await;
    assert_eq!(deleted.unwrap().savepoints, 1);
    read_savepoint(&other.unwrap().path, &options)
        .await
        .unwrap();
    let disposal = JobDisposal {
        job: job("orders"),
        holder: holder("disposal"),
        keep_savepoints: false,
    };
    let deleted = delete_job(&storage, &disposal, NOW).await.unwrap();
    assert_eq!((deleted.checkpoints, deleted.savepoints), (1, 1));
    let again = delete_job(&storage, &disposal, NOW).await.unwrap();
    assert!(again.is_nothing());
    let left = minio.keys("checkpoints/default/orders/");
    assert!(
        left.iter()
            .all(|key| !key.contains("/savepoints/") && !key.contains("/data/")),
        "{left:?}"
    );
}
