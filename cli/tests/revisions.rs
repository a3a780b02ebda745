//! History and rollback.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

use jiff::Timestamp;
use millstream_cli::command::act::approvable;
use millstream_cli::command::diff::{changes, three_way_patch};
use millstream_cli::command::history::text;
use millstream_cli::command::rollback::choose;
use millstream_cli::command::waiting::{Goal, Progress, progress};
use millstream_cli::job::Job;
use millstream_cli::problem::Problem;
use millstream_cli::revision::{Revision, changed_paths, covered, history, merge_patch};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn job(case: &str) -> Job {
    let path = format!("{}/tests/screens/{case}.json", env!("CARGO_MANIFEST_DIR"));
    let mut case: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    Job::read(serde_json::from_value(case["job"].take()).unwrap()).unwrap()
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Three revisions: the first, the one that runs, and one that is not known to the status.
fn revisions(job: &Job) -> Vec<Revision> {
    let runs = covered(job).unwrap();
    let mut first = runs.clone();
    first["dataflow"]["transforms"][0]["sql"] = json!("SELECT * FROM orders");
    first["image"] = json!("ghcr.io/millstream/millstream:0.0.9");
    first.as_object_mut().unwrap().remove("restart");
    let mut lost = runs.clone();
    lost["restartAt"] = json!("2026-11-24T19:00:00Z");
    [
        ("77b0e4d211", "2026-11-24T20:00:05Z", first),
        ("0000000001", "2026-11-24T19:00:00Z", lost),
        ("3fa1c20b9d", "2026-11-24T21:30:00Z", runs),
    ]
    .into_iter()
    .map(|(hash, created, covered)| Revision {
        name: format!("order-processor-{hash}"),
        created: Some(time(created)),
        covered,
    })
    .collect()
}

#[test]
fn history_is_told_from_the_newest_to_the_oldest() {
    let job = job("running");
    let entries = history(&job, &revisions(&job));
    let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "order-processor-3fa1c20b9d",
            "order-processor-77b0e4d211",
            "order-processor-0000000001"
        ]
    );
    assert_eq!(entries[0].marks, ["runs", "good"]);
    assert_eq!(
        entries[0].changed.as_deref().unwrap(),
        ["dataflow.transforms[valid].sql", "image", "restart (new)"]
    );
    assert_eq!(entries[2].changed, None);

    let path = format!("{}/tests/screens/history.txt", env!("CARGO_MANIFEST_DIR"));
    let shown = text(&entries, time("2026-11-24T22:11:04Z"));
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &shown).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        shown, expected,
        "run the test with UPDATE_EXPECT=1 and look at the change"
    );
}

#[test]
fn rollback_chooses_the_newest_good_revision_that_differs() {
    let job = job("running");
    let revisions = revisions(&job);
    let current = covered(&job).unwrap();
    let chosen = choose(&job, &current, &revisions, None).unwrap();
    assert_eq!(chosen.name, "order-processor-77b0e4d211");
    for meant in ["77b0", "77b0e4d211", "order-processor-77b0e4d211"] {
        let chosen = choose(&job, &current, &revisions, Some(meant)).unwrap();
        assert_eq!(chosen.name, "order-processor-77b0e4d211");
    }
    let unknown = choose(&job, &current, &revisions, Some("ffff")).unwrap_err();
    assert!(
        unknown.what_to_do().contains("order-processor-3fa1c20b9d"),
        "{unknown:?}"
    );
    let bad = [revisions[2].clone(), revisions[1].clone()];
    let none = choose(&job, &current, &bad, None).unwrap_err();
    assert!(matches!(none, Problem::NotNow { .. }), "{none:?}");
}

#[test]
fn the_patch_of_a_rollback_changes_what_a_revision_covers_and_nothing_else() {
    let job = job("running");
    let revisions = revisions(&job);
    let current = covered(&job).unwrap();
    let patch = merge_patch(&current, &revisions[0].covered).unwrap();
    let mut keys: Vec<&String> = patch.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["dataflow", "image", "restart"]);
    assert_eq!(patch["restart"], Value::Null);
    let mut spec = job.spec.clone();
    apply(&mut spec, &patch);
    let rolled_back = Job { spec, ..job };
    assert_eq!(
        covered(&rolled_back).unwrap()["image"],
        revisions[0].covered["image"]
    );
    assert_eq!(rolled_back.number("/parallelism"), Some(2));
}

/// RFC 7396, section 2, word for word.
fn apply(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else {
        return;
    };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            apply(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        (0_i64..3).prop_map(Value::from),
        "[ab]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-c]", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn a_merge_patch_makes_the_new_value_of_the_old_one(old in value(), new in value()) {
        let mut made = old.clone();
        if let Some(patch) = merge_patch(&old, &new) {
            apply(&mut made, &patch);
            prop_assert_ne!(&old, &new);
        }
        prop_assert_eq!(made, new);
    }

    #[test]
    fn changed_places_are_named_exactly_when_values_differ(old in value(), new in value()) {
        prop_assert_eq!(changed_paths(&old, &new).is_empty(), old == new);
    }
}

#[test]
fn a_changed_order_of_named_things_is_a_change() {
    let (a, b) = (json!({"name": "a"}), json!({"name": "b"}));
    let changed = changed_paths(&json!({"l": [a, b]}), &json!({"l": [b, a]}));
    assert_eq!(changed, ["l (order)"]);
}

#[test]
fn diff_says_what_the_operator_would_do() {
    let old = job("running");
    let with = |pointer: &str, value: Value| {
        let mut new = old.clone();
        *new.spec.pointer_mut(pointer).unwrap() = value;
        changes(Some(&old), &new).consequence
    };
    assert_eq!(
        changes(Some(&old), &old).consequence,
        "nothing would change"
    );
    assert!(with("/image", json!("x")).contains("an upgrade with strategy Savepoint"));
    assert!(with("/parallelism", json!(4)).contains("a rescale from 2 to 4"));
    assert!(with("/state", json!("Suspended")).contains("stopped with a savepoint"));
    assert!(with("/paused", json!(true)).contains("nothing while spec.paused is set"));
    assert!(with("/deletion/policy", json!("Savepoint")).contains("no restart"));
    assert!(changes(None, &old).consequence.contains("would be created"));
}

#[test]
fn diff_removes_what_the_last_manifest_said_and_this_one_does_not() {
    let applied = json!({"spec": {"image": "a", "restartAt": "x", "restart": {"fixedDelay": {}}}});
    let manifest = json!({"spec": {"image": "b", "restart": {"none": {}}}});
    let patch = three_way_patch(&applied, &manifest);
    assert_eq!(
        patch,
        json!({"spec": {
            "image": "b",
            "restartAt": null,
            "restart": {"fixedDelay": null, "none": {}},
        }})
    );
    // What somebody else has set stays: the patch does not speak of it.
    let mut live = json!({"spec": {"image": "a", "parallelism": 8, "restartAt": "x"}});
    apply(&mut live, &patch);
    assert_eq!(live["spec"]["parallelism"], 8);
    assert_eq!(live["spec"].get("restartAt"), None);
}

#[test]
fn only_what_waits_can_be_approved() {
    let waiting = job("approval");
    let revision = "order-processor-9c41ab03fe";
    assert_eq!(approvable(&waiting, None).unwrap(), revision);
    assert_eq!(approvable(&waiting, Some("9c41ab03fe")).unwrap(), revision);
    let other = approvable(&waiting, Some("3fa1c20b9d")).unwrap_err();
    assert!(
        other.to_string().contains("9c41ab03fe waits for approval"),
        "{other}"
    );
    let none = approvable(&job("running"), None).unwrap_err();
    assert!(
        none.to_string().contains("no upgrade is under way"),
        "{none}"
    );
}

#[test]
fn waiting_ends_when_it_is_so_or_cannot_be() {
    let running = job("running");
    assert_eq!(progress(&running, Goal::Ready, 3), Progress::Reached);
    assert!(matches!(
        progress(&running, Goal::Ready, 4),
        Progress::NotYet(_)
    ));
    assert!(matches!(
        progress(&running, Goal::Suspended, 3),
        Progress::NotYet(_)
    ));
    assert_eq!(
        progress(&job("suspended"), Goal::Suspended, 4),
        Progress::Reached
    );
    let stuck = progress(&job("bad-image"), Goal::Ready, 9);
    assert!(matches!(stuck, Progress::Stuck(why) if why.contains("failed to pull")));
}
