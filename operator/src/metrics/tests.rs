use super::*;

#[test]
fn reconciles_errors_and_durations_are_told_apart_by_kind() {
    let metrics = Metrics::new();
    metrics.reconciled(Kind::StreamJob, Duration::from_millis(3));
    metrics.reconciled(Kind::StreamJob, Duration::from_millis(3));
    metrics.failed(Kind::StreamSavepoint, "conflict", Duration::from_millis(1));
    let text = metrics.encode();
    for line in [
        r#"millstream_controller_reconciles_total{kind="StreamJob",result="success"} 2"#,
        r#"millstream_controller_reconciles_total{kind="StreamSavepoint",result="error"} 1"#,
        r#"millstream_controller_errors_total{kind="StreamSavepoint",error="conflict"} 1"#,
        r#"millstream_controller_reconcile_duration_seconds_count{kind="StreamJob"} 2"#,
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}

#[test]
fn a_job_has_one_state_and_none_once_it_is_gone() {
    let metrics = Metrics::new();
    metrics.set_job_state("shop", "orders", JobPhase::Deploying);
    metrics.set_job_state("shop", "orders", JobPhase::Running);
    let line = r#"millstream_streamjob_state{namespace="shop",name="orders",state="Running"} 1"#;
    let text = metrics.encode();
    assert!(text.contains(line), "{text}");
    assert!(!text.contains("Deploying"), "{text}");
    metrics.forget_job("shop", "orders");
    assert!(!metrics.encode().contains("orders"));
}

#[test]
fn a_forbidden_namespace_shows() {
    let metrics = Metrics::new();
    metrics.set_watched("open", true);
    metrics.watch_failed("closed", "forbidden");
    let text = metrics.encode();
    for line in [
        r#"millstream_controller_namespace_watched{namespace="open"} 1"#,
        r#"millstream_controller_namespace_watched{namespace="closed"} 0"#,
        r#"millstream_controller_watch_errors_total{namespace="closed",reason="forbidden"} 1"#,
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}
