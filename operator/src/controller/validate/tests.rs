use super::*;

fn plain() -> Value {
    json!({
        "image": "runtime:1",
        "checkpoint": { "storage": "s3://bucket/jobs" },
        "dataflow": {
            "sources": [{ "name": "orders", "generator": {} }],
            "sinks": [{ "name": "out", "input": "orders", "blackhole": {} }],
        },
    })
}

fn with(extra: &Value) -> Value {
    let mut spec = plain();
    if let (Value::Object(into), Value::Object(from)) = (&mut spec, extra) {
        into.extend(from.clone());
    }
    spec
}

fn check(
    spec: &Value,
    known: &[Revision],
    source: &Result<String, String>,
) -> Result<Wish, Faults> {
    let meta = ObjectMeta {
        name: Some("orders".to_owned()),
        namespace: Some("shop".to_owned()),
        ..ObjectMeta::default()
    };
    validate(&Asked {
        meta: &meta,
        spec,
        owner: "owner",
        known,
        current: known.first().map(|one| one.name.as_str()),
        source,
    })
}

fn wish(extra: &Value) -> Wish {
    check(&with(extra), &[], &Err("missing".to_owned())).unwrap()
}

fn faults(extra: &Value) -> Vec<String> {
    check(&with(extra), &[], &Err("missing".to_owned()))
        .unwrap_err()
        .lines
}

#[test]
fn faults_of_the_runtime_and_of_the_operator_are_all_reported_with_their_paths() {
    let lines = faults(&json!({
        "dataflow": {
            "sources": [{ "name": "orders", "generator": {} }],
            "sinks": [{ "name": "out", "input": "ordres", "blackhole": {} }],
        },
        "restartAt": "tomorrow, please, early",
        "savepoints": { "interval": "1s" },
        "upgrade": { "progressDeadline": "0s" },
    }));
    let paths: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.split(':').next())
        .collect();
    assert_eq!(
        paths,
        [
            "spec.dataflow.sinks[0].input",
            "spec.restartAt",
            "spec.savepoints.interval",
            "spec.upgrade.progressDeadline",
        ],
        "{lines:#?}"
    );
}

#[test]
fn a_directory_of_a_pod_is_no_place_for_checkpoints() {
    for storage in ["file:///var/checkpoints", "file://./checkpoints"] {
        let lines = faults(&json!({ "checkpoint": { "storage": storage } }));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].starts_with("spec.checkpoint.storage: "),
            "{lines:?}"
        );
        assert!(lines[0].contains("s3://bucket/path"), "{lines:?}");
    }
}

#[test]
fn what_the_types_refuse_is_a_fault_with_its_path() {
    let lines = faults(&json!({"deletion": {"deadline": "99999999999999999999999s"}}));
    assert!(
        lines[0].starts_with("spec.deletion.deadline: "),
        "{lines:?}"
    );
}

#[test]
fn a_deletion_policy_must_not_contradict_the_retention_of_checkpoints() {
    let delete = json!({"storage": "s3://bucket/jobs", "retention": "DeleteOnCancellation"});
    let lines = faults(&json!({"checkpoint": delete, "deletion": {"policy": "Retain"}}));
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].starts_with("spec.deletion.policy: "), "{lines:?}");
    wish(&json!({"checkpoint": delete}));
    wish(&json!({"checkpoint": delete, "deletion": {"policy": "DeleteCheckpoints"}}));
}

#[test]
fn a_deletion_that_cannot_be_read_is_named_beside_faults_of_the_runtime() {
    let lines = faults(&json!({"deletion": {"policy": "Shred"}, "restart": {"never": {}}}));
    let named = lines
        .iter()
        .filter(|line| line.starts_with("spec.deletion.policy: "));
    assert_eq!(named.count(), 1, "{lines:#?}");
}

#[test]
fn secrets_may_not_cover_what_is_ours_or_each_other() {
    let lines = faults(&json!({"secrets": [
        {"name": "a", "mountPath": "/etc/millstream"},
        {"name": "b", "mountPath": "/tmp/b"},
        {"name": "c", "mountPath": "/keys/../etc"},
        {"name": "d", "mountPath": "/keys"},
        {"name": "e", "mountPath": "/keys/"},
    ]}));
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert!(
        wish(&json!({"secrets": [{"name": "a"}, {"name": "b"}]}))
            .spec
            .secrets
            .len()
            == 2
    );
}

#[test]
fn the_restore_policy_says_where_state_comes_from() {
    assert_eq!(wish(&json!({})).restore.as_deref(), Ok("latest"));
    assert_eq!(
        wish(&json!({"restore": {"policy": "Fresh"}}))
            .restore
            .as_deref(),
        Ok("fresh")
    );
    let from = with(&json!({"restore": {"policy": "From", "from": {"savepoint": "monday"}}}));
    let known = check(&from, &[], &Ok("s3://bucket/monday".to_owned())).unwrap();
    assert_eq!(known.restore.as_deref(), Ok("s3://bucket/monday"));
    let missing = check(&from, &[], &Err("not yet".to_owned())).unwrap();
    assert_eq!(missing.restore.unwrap_err(), "not yet");
}

#[test]
fn what_may_be_dropped_or_lost_is_not_another_wish_for_state() {
    let plain = wish(&json!({"restore": {"policy": "Fresh"}}));
    let drops = wish(&json!({"restore": {"policy": "Fresh", "allowDroppedState": true}}));
    assert_eq!(plain.restore_hash, drops.restore_hash);
    let loses = wish(&json!({"restore": {"policy": "Fresh", "acceptLostOutput": 42}}));
    assert_eq!(plain.restore_hash, loses.restore_hash);
    assert_ne!(plain.restore_hash, wish(&json!({})).restore_hash);
}

#[test]
fn a_known_revision_that_asks_for_the_same_is_kept() {
    let first = wish(&json!({})).revision;
    let second = wish(&json!({"image": "runtime:2"})).revision;
    let known = [first.clone(), second.clone()];
    let again = check(
        &with(&json!({"parallelism": 4})),
        &known,
        &Ok(String::new()),
    )
    .unwrap();
    assert_eq!(again.revision, first);
    let back = check(
        &with(&json!({"image": "runtime:2"})),
        &known,
        &Ok(String::new()),
    )
    .unwrap();
    assert_eq!(back.revision, second);
}
