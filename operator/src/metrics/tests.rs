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
    let line =
        r#"millstream_streamjob_state{namespace="shop",streamjob="orders",state="Running"} 1"#;
    let text = metrics.encode();
    assert!(text.contains(line), "{text}");
    assert!(!text.contains("Deploying"), "{text}");
    metrics.forget_job("shop", "orders");
    assert!(!metrics.encode().contains("orders"));
}

#[test]
fn a_forbidden_namespace_shows() {
    let metrics = Metrics::new();
    metrics.set_watched("open", "StreamJob", true);
    metrics.watch_failed("closed", "StreamJob", "forbidden");
    let text = metrics.encode();
    for line in [
        r#"millstream_controller_watched{namespace="open",kind="StreamJob"} 1"#,
        r#"millstream_controller_watched{namespace="closed",kind="StreamJob"} 0"#,
        r#"millstream_controller_watch_errors_total{namespace="closed",kind="StreamJob",reason="forbidden"} 1"#,
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}

#[test]
fn every_metric_has_its_line_in_the_page() {
    let metrics = Metrics::new();
    metrics.failed(Kind::StreamJob, "conflict", Duration::ZERO);
    metrics.queue(Kind::StreamJob);
    metrics.watch_failed("", "StreamJob", "forbidden");
    metrics
        .calls
        .count("get", "pods".to_owned(), "200".to_owned());
    metrics.set_job_state("shop", "orders", JobPhase::Running);
    let page = include_str!("../../../docs/operator-metrics.md");
    let text = metrics.encode();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let mut count = 0;
    for line in types {
        let (name, kind) = line.split_once(' ').unwrap();
        let ending = if kind == "counter" { "_total" } else { "" };
        assert!(
            page.contains(&format!("`{name}{ending}")),
            "{name}{ending} has no line"
        );
        count += 1;
    }
    assert_eq!(count, 9, "{text}");
}
