//! A store of checkpoints that does not answer, or refuses, and what becomes of a job meanwhile.

use std::time::{Duration, Instant};

use millstream_tests::Minio;
use millstream_tests::ports::free_port;
use millstream_tests::wait::{pause, wait_until};

use crate::{DEADLINE, OrdersLocal};

/// Within this an address that nobody answers is named.
const NAMED: Duration = Duration::from_secs(5);

fn in_s3(name: &str, environment: Vec<(&'static str, String)>) -> OrdersLocal {
    let mut job = OrdersLocal::new(name);
    let here = job.cluster.directory().to_string_lossy().into_owned();
    let directory = format!("file://{here}/checkpoints");
    assert!(job.text.contains(&directory));
    let bucket = format!("s3://{}/{name}", Minio::BUCKET);
    job.text = job.text.replace(&directory, &bucket);
    job.cluster = job.cluster.environment(environment);
    job
}

#[test]
fn an_endpoint_that_nobody_answers_is_named_at_once_and_again() {
    let endpoint = format!("http://127.0.0.1:{}", free_port());
    let environment = vec![
        ("AWS_ENDPOINT_URL", endpoint.clone()),
        ("AWS_ACCESS_KEY_ID", "key".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
    ];
    let mut job = in_s3("silent-store", environment);
    let began = Instant::now();
    let mut run = job.run(1);
    let line = format!("S3 at {endpoint} does not answer");
    wait_until("the endpoint is named", DEADLINE, || {
        run.output().contains(&line)
    });
    assert!(began.elapsed() < NAMED, "{:?}", began.elapsed());
    assert!(run.output().contains("refused"), "{}", run.output());
    wait_until("it is named again", DEADLINE, || {
        run.output().matches(&line).count() >= 2
    });
    assert!(run.kill(), "it goes on trying");
}

#[test]
fn what_does_not_heal_ends_a_first_start_at_once() {
    let minio = Minio::start();
    for (name, secret, bucket, answer) in [
        (
            "no-bucket",
            Minio::SECRET_KEY,
            "no-such-bucket",
            "NoSuchBucket",
        ),
        (
            "wrong-secret",
            "hunter2",
            Minio::BUCKET,
            "SignatureDoesNotMatch",
        ),
    ] {
        let mut job = in_s3(
            name,
            vec![
                ("AWS_ENDPOINT_URL", minio.endpoint()),
                ("AWS_REGION", Minio::REGION.to_owned()),
                ("AWS_ACCESS_KEY_ID", Minio::ACCESS_KEY.to_owned()),
                ("AWS_SECRET_ACCESS_KEY", secret.to_owned()),
            ],
        );
        let there = format!("s3://{}/", Minio::BUCKET);
        job.text = job.text.replace(&there, &format!("s3://{bucket}/"));
        let mut run = job.run(1);
        let status = run.wait(DEADLINE);
        assert_eq!(status.code(), Some(2), "{name}: {}", run.output());
        assert!(run.output().contains(answer), "{name}: {}", run.output());
        assert!(
            !run.output().contains("hunter2"),
            "{name}: the secret is told"
        );
    }
}

#[test]
fn credentials_that_are_put_right_in_their_file_are_read_again() {
    let minio = Minio::start();
    let mut job = in_s3("rotated-keys", Vec::new());
    let file = job.cluster.directory().join("credentials");
    let write = |secret: &str| {
        let key = Minio::ACCESS_KEY;
        let text =
            format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n");
        std::fs::write(&file, text).expect("a file in the scratch directory");
    };
    write("the-wrong-secret");
    job.cluster = job.cluster.environment(vec![
        ("AWS_ENDPOINT_URL", minio.endpoint()),
        ("AWS_REGION", Minio::REGION.to_owned()),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ("AWS_SHARED_CREDENTIALS_FILE", file.display().to_string()),
    ]);
    let mut run = job.run(2);
    wait_until("the store refuses the keys", DEADLINE, || {
        assert!(run.is_running(), "{}", run.output());
        run.output().contains("SignatureDoesNotMatch")
    });
    assert!(!run.output().contains("the-wrong-secret"));
    write(Minio::SECRET_KEY);
    let status = run.wait(DEADLINE);
    assert!(status.success(), "{}", run.output());
    assert_eq!(job.output(), crate::ORDERS_LOCAL);
}

#[test]
fn two_signals_at_once_are_one_request_and_a_later_one_ends_the_process() {
    let mut job = OrdersLocal::new("signals");
    let mut run = job.run(2);
    job.wait_for_more(&mut run, 0);
    // As `timeout` does: the process, then its group.
    run.interrupt();
    pause(Duration::from_millis(20));
    run.interrupt();
    let status = run.wait(DEADLINE);
    assert!(
        status.success(),
        "it stops with a last checkpoint:\n{}",
        run.output()
    );
    assert!(!run.output().contains("ended at once"), "{}", run.output());
}
