use super::*;

fn spec(extra: &Value) -> StreamJobSpec {
    let mut spec = json!({
        "image": "runtime:1",
        "checkpoint": { "storage": "s3://bucket/jobs" },
        "dataflow": {
            "sources": [{ "name": "orders", "generator": {} }],
            "sinks": [{ "name": "out", "input": "orders", "blackhole": {} }],
        },
    });
    if let (Value::Object(into), Value::Object(from)) = (&mut spec, extra) {
        into.extend(from.clone());
    }
    serde_json::from_value(spec).unwrap()
}

fn names() -> Names {
    Names::of(&StreamJob::new("orders", spec(&json!({}))))
}

fn wanted(extra: &Value) -> Revision {
    Revision::wanted(&names(), &spec(extra)).unwrap()
}

#[test]
fn how_to_get_there_is_not_part_of_a_revision() {
    let plain = wanted(&json!({}));
    for extra in [
        json!({"parallelism": 7}),
        json!({"state": "Suspended"}),
        json!({"paused": true}),
        json!({"upgrade": {"strategy": "LastState"}}),
        json!({"restore": {"policy": "Fresh"}}),
        json!({"deletion": {"policy": "Savepoint"}}),
        json!({"savepoints": {"interval": "1h"}}),
    ] {
        assert_eq!(wanted(&extra), plain, "{extra}");
    }
}

#[test]
fn what_runs_is_part_of_a_revision() {
    let plain = wanted(&json!({}));
    for extra in [
        json!({"image": "runtime:2"}),
        json!({"restartAt": "2026-01-01T00:00:00Z"}),
        json!({"operatorChaining": false}),
        json!({"metrics": {"flinkNames": true}}),
        json!({"checkpoint": {"storage": "s3://bucket/jobs", "interval": "1s"}}),
        json!({"workers": {"slots": 2}}),
        json!({"secrets": [{"name": "kafka"}]}),
        json!({"serviceAccountName": "orders"}),
        json!({"internalTls": {"secretName": "orders-tls"}}),
    ] {
        assert_ne!(wanted(&extra).hash, plain.hash, "{extra}");
        assert!(!plain.is_asked_by(&spec(&extra)), "{extra}");
    }
}

#[test]
fn a_default_that_is_written_out_asks_for_the_same_revision() {
    let written = json!({"operatorChaining": true, "workers": {"slots": 1}});
    assert!(wanted(&json!({})).is_asked_by(&spec(&written)));
}

#[test]
fn a_revision_frozen_before_a_field_existed_is_still_the_same() {
    let mut old = wanted(&json!({})).covered;
    old.as_object_mut().unwrap().remove("operatorChaining");
    let frozen = Revision::new(&names(), old);
    assert!(frozen.is_asked_by(&spec(&json!({}))));
}

#[test]
fn a_revision_is_read_back_from_its_config_map() {
    let job = StreamJob::new("orders", spec(&json!({})));
    let revision = wanted(&json!({}));
    let map = revision.config_map(&job, "owner").unwrap();
    assert_eq!(Revision::read(&names(), &map).unwrap(), revision);
    assert_eq!(revision.spec(3).unwrap().parallelism, 3);
}

#[test]
fn a_config_map_that_was_changed_is_refused() {
    let job = StreamJob::new("orders", spec(&json!({})));
    let mut map = wanted(&json!({})).config_map(&job, "owner").unwrap();
    let data = map.data.as_mut().unwrap();
    let text = data[REVISION_SPEC].replace("runtime:1", "evil:1");
    data.insert(REVISION_SPEC.to_owned(), text);
    let error = Revision::read(&names(), &map).unwrap_err();
    assert!(error.to_string().contains("belongs to"), "{error}");
}

#[test]
fn the_job_file_is_one_that_the_runtime_reads() {
    let job = StreamJob::new("orders", spec(&json!({})));
    let file = wanted(&json!({})).job_file(&job, "owner").unwrap();
    let valid = millstream_spec::read(&file, "job.yaml").unwrap();
    assert_eq!(valid.identity.as_deref(), Some("owner"));
}
