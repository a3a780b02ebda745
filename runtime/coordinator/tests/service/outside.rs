//! What can be seen from outside: metrics and the document of the interface.

use millstream_coordinator::Restore;

use crate::scenario::Scenario;

#[tokio::test]
async fn metrics_tell_what_the_snapshot_tells() {
    let scenario = Scenario::default();
    let running = scenario.start(Restore::Latest);
    let _worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(2).await;
    let text = running.handle.metrics().encode();
    for line in [
        "millstream_job_state{namespace=\"default\",streamjob=\"orders\",state=\"Running\"} 1",
        "millstream_job_state{namespace=\"default\",streamjob=\"orders\",state=\"Failed\"} 0",
        "millstream_job_attempt{namespace=\"default\",streamjob=\"orders\"} 1",
        "millstream_job_restarts_total{namespace=\"default\",streamjob=\"orders\"} 0",
        "millstream_workers{namespace=\"default\",streamjob=\"orders\"} 1",
        "millstream_worker_slots{namespace=\"default\",streamjob=\"orders\"} 2",
        "millstream_audit_gaps{namespace=\"default\",streamjob=\"orders\"} 0",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    for name in [
        "millstream_checkpoints_completed_total{",
        "millstream_checkpoint_duration_seconds_bucket{",
        "millstream_last_checkpoint_size_bytes{",
        "millstream_last_checkpoint_completed_timestamp_seconds{",
        "millstream_operator_records_in_total{",
        "operator=\"out\"",
    ] {
        assert!(text.contains(name), "{name} is not in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn every_metric_is_explained() {
    let page = std::fs::read_to_string(format!(
        "{}/../../docs/metrics.md",
        env!("CARGO_MANIFEST_DIR")
    ))
    .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let text = runtime.block_on(async {
        let scenario = Scenario::default();
        let running = scenario.start(Restore::Latest);
        let _worker = scenario.worker("a", 2, &running).await;
        running.wait_for_checkpoints(1).await;
        running.handle.metrics().encode()
    });
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        assert!(
            page.contains(&format!("`{name}")),
            "docs/metrics.md does not explain {name}"
        );
    }
}

#[test]
fn the_committed_document_of_the_interface_is_current() {
    let path = format!(
        "{}/../../docs/reference/openapi.json",
        env!("CARGO_MANIFEST_DIR")
    );
    let mut document =
        serde_json::to_string_pretty(&millstream_coordinator::rest::openapi()).unwrap();
    document.push('\n');
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &document).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        committed, document,
        "docs/reference/openapi.json is not current; run the test with UPDATE_EXPECT=1 and look at \
         the change"
    );
}
