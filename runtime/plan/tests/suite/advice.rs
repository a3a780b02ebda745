//! What is not wrong and seldom meant.

use millstream_plan::advice::{CheckpointTimes, advice, of_duration};
use millstream_types::duration::KubeDuration;

/// A job that nothing is to be said about.
const JOB: &str = r#"
apiVersion: millstream.dev/v1alpha1
kind: StreamJob
metadata: {name: orders}
spec:
  checkpoint: {storage: 's3://bucket/path', interval: 10s}
  dataflow:
    sources:
      - name: orders
        kafka: {bootstrapServers: 'kafka:9092', topics: [orders], startingOffsets: {earliest: {}}}
        schema: [{name: customer_id, type: string}, {name: quantity, type: int64}]
    transforms:
      - {name: valid, input: orders, sql: "SELECT * FROM orders WHERE quantity > 0"}
    sinks:
      - {name: out, input: valid, kafka: {bootstrapServers: 'kafka:9092', topic: out}}
"#;

/// Names and places of what is said about the job with these changes.
#[track_caller]
fn said(changes: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut text = JOB.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "the job has no {from}");
        text = text.replace(from, to);
    }
    let job = millstream_spec::read(&text, "job.yaml").unwrap();
    let graph = millstream_plan::plan(&job).unwrap();
    let all = advice(&job, &graph);
    all.into_iter().map(|it| (it.name, it.path)).collect()
}

#[test]
fn a_job_as_most_are_is_not_spoken_of() {
    assert_eq!(said(&[]), []);
}

const INTERVAL: &str = "interval: 10s";
const SQL: &str = "SELECT * FROM orders WHERE quantity > 0";
const GROUPS: &str = "SELECT customer_id, count(*) AS n FROM orders GROUP BY customer_id";
const OUT: &str = "topic: out";

#[test]
fn every_pitfall_of_the_checkpoints_is_told_with_its_place() {
    let cases = [
        (
            "storage-on-one-machine",
            "storage",
            "s3://bucket/path",
            "file:///path",
        ),
        ("interval-short", "interval", INTERVAL, "interval: 500ms"),
        (
            "timeout-short",
            "timeout",
            INTERVAL,
            "interval: 5s, timeout: 5s",
        ),
        (
            "concurrent-checkpoints",
            "maxConcurrent",
            INTERVAL,
            "interval: 10s, maxConcurrent: 2",
        ),
        (
            "one-retained",
            "retained",
            INTERVAL,
            "interval: 10s, retained: 1",
        ),
        (
            "deleted-with-the-job",
            "retention",
            INTERVAL,
            "interval: 10s, retention: DeleteOnCancellation",
        ),
        (
            "at-least-once",
            "mode",
            INTERVAL,
            "interval: 10s, mode: AtLeastOnce",
        ),
    ];
    for (name, key, from, to) in cases {
        let path = format!("spec.checkpoint.{key}");
        assert_eq!(said(&[(from, to)]), [(name.to_owned(), path)], "{to}");
    }
    let seldom = [
        (INTERVAL, "interval: 11m"),
        (OUT, "topic: out, transactionTimeout: 1h"),
    ];
    let path = "spec.checkpoint.interval".to_owned();
    assert_eq!(said(&seldom), [("interval-long".to_owned(), path)]);
}

#[test]
fn every_other_pitfall_of_a_job_file_is_told_with_its_place() {
    let from_group = "groupId: g, startingOffsets: {committed: {fallback: Latest}}";
    let cases: [(&str, &str, &[(&str, &str)]); 6] = [
        (
            "at-least-once",
            "spec.dataflow.sinks[out].kafka.deliveryGuarantee",
            &[(OUT, "topic: out, deliveryGuarantee: AtLeastOnce")],
        ),
        (
            "no-restart",
            "spec.restart",
            &[("  dataflow:", "  restart: {none: {}}\n  dataflow:")],
        ),
        (
            "state-without-ttl",
            "spec.dataflow.transforms[valid].stateTtl",
            &[(SQL, GROUPS), (OUT, "topic: out, key: customer_id")],
        ),
        (
            "starts-at-the-end",
            "spec.dataflow.sources[orders].kafka.startingOffsets",
            &[("earliest: {}", "latest: {}")],
        ),
        (
            "starts-at-the-end",
            "spec.dataflow.sources[orders].kafka.startingOffsets",
            &[("startingOffsets: {earliest: {}}", from_group)],
        ),
        (
            "transaction-timeout-tight",
            // 1 × (2 m) + 1 m + 1 m 6 s + 30 s, and half a minute.
            "spec.dataflow.sinks[out].kafka.transactionTimeout",
            &[(OUT, "topic: out, transactionTimeout: 5m5s")],
        ),
    ];
    for (name, path, changes) in cases {
        assert_eq!(
            said(changes),
            [(name.to_owned(), path.to_owned())],
            "{changes:?}"
        );
    }
}

#[test]
fn state_that_goes_some_day_is_not_spoken_of() {
    let counted = [(SQL, GROUPS), (OUT, "topic: out, key: customer_id")];
    let own = [
        &counted[..],
        &[("name: valid, input", "name: valid, stateTtl: 1h, input")],
    ]
    .concat();
    assert_eq!(said(&own), []);
    let jobs = ("  dataflow:", "  stateBackend: {ttl: 1h}\n  dataflow:");
    assert_eq!(said(&[&counted[..], &[jobs]].concat()), []);
}

#[test]
fn a_checkpoint_is_compared_with_interval_and_timeout() {
    let times = |pause: u64| CheckpointTimes {
        interval: KubeDuration::from_secs(10),
        min_pause: KubeDuration::from_millis(pause),
        timeout: KubeDuration::from_secs(60),
    };
    let named = |seconds: u64| -> Vec<String> {
        let all = of_duration(times(0), KubeDuration::from_secs(seconds));
        all.into_iter().map(|it| it.name).collect()
    };
    assert_eq!(named(8), [""; 0]);
    assert_eq!(named(9), ["checkpoint-slow"]);
    assert_eq!(named(31), ["checkpoint-slow", "checkpoint-near-timeout"]);
    let proposes = |pause| {
        of_duration(times(pause), KubeDuration::from_secs(9))[0]
            .message
            .contains("minPause")
    };
    assert!(proposes(0) && !proposes(500));
}

#[test]
fn every_pitfall_is_explained() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/pitfalls.md");
    let page = std::fs::read_to_string(page).unwrap();
    let sources = ["src/advice.rs", "../coordinator/src/job/warnings.rs"];
    let mut found = 0;
    for source in sources {
        let path = format!("{}/{source}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap();
        for call in ["add(", "Advice::new("] {
            for after in text.split(call).skip(1).map(str::trim_start) {
                let name = after.strip_prefix('"').and_then(|it| it.split('"').next());
                let Some(name) = name else { continue };
                assert!(
                    page.contains(&format!("\n### {name}\n")),
                    "no heading {name}"
                );
                found += 1;
            }
        }
    }
    assert!(found >= 15, "only {found} names were found");
}
