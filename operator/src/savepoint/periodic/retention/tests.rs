use proptest::prelude::*;
use serde_json::json;

use super::*;

fn at(minute: i64) -> Timestamp {
    Timestamp::from_second(1_780_000_000 + minute * 60).unwrap()
}

fn kept(minute: i64, state: SavepointState) -> Kept {
    Kept {
        name: format!("orders-{minute}"),
        uid: format!("u-{minute}"),
        job: "orders".to_owned(),
        created: at(minute),
        state: Some(state),
        path: Some(format!("s3://state/savepoints/ssp-{minute}")),
        leaving: false,
    }
}

fn names(expired: &[Kept]) -> Vec<&str> {
    expired.iter().map(|one| one.name.as_str()).collect()
}

const COMPLETED: SavepointState = SavepointState::Completed;

#[test]
fn the_newest_completed_ones_stay() {
    let all = (1..=5).map(|minute| kept(minute, COMPLETED)).collect();
    let limits = Limits {
        keep: 3,
        max_age: None,
    };
    assert_eq!(
        names(&expired(all, limits, at(9))),
        ["orders-2", "orders-1"]
    );
}

#[test]
fn old_ones_go_by_age_but_never_the_newest() {
    let all = (1..=3).map(|minute| kept(minute, COMPLETED)).collect();
    let limits = Limits {
        keep: 10,
        max_age: Some(Duration::from_mins(1)),
    };
    assert_eq!(
        names(&expired(all, limits, at(500))),
        ["orders-2", "orders-1"]
    );
}

#[test]
fn failed_ones_stay_until_a_newer_one_is_complete_and_running_ones_stay() {
    let limits = Limits {
        keep: 1,
        max_age: None,
    };
    let failed = vec![
        kept(1, SavepointState::Failed),
        kept(2, SavepointState::Abandoned),
    ];
    assert!(expired(failed.clone(), limits, at(9)).is_empty());
    let mut all = failed;
    all.extend([kept(3, COMPLETED), kept(4, SavepointState::InProgress)]);
    all.push(kept(5, SavepointState::Failed));
    assert_eq!(
        names(&expired(all, limits, at(9))),
        ["orders-2", "orders-1"]
    );
}

#[test]
fn one_that_is_leaving_already_counts_for_nothing() {
    let mut all: Vec<Kept> = (1..=2).map(|minute| kept(minute, COMPLETED)).collect();
    all[1].leaving = true;
    assert!(
        expired(
            all,
            Limits {
                keep: 1,
                max_age: None
            },
            at(9)
        )
        .is_empty()
    );
}

fn job(namespace: &str, data: &Value) -> DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": "millstream.dev/v1alpha1", "kind": "StreamJob",
        "metadata": {"name": "any", "namespace": namespace},
        "spec": data["spec"], "status": data["status"],
    }))
    .unwrap()
}

#[test]
fn whatever_a_status_or_a_wish_to_restore_names_is_referred_to() {
    let one = kept(7, COMPLETED);
    let path = one.path.clone().unwrap();
    for data in [
        json!({"spec": {}, "status": {"restorePoint": path}}),
        json!({"spec": {}, "status": {"upgrade": {"restoreFrom": format!("{path}/")}}}),
        json!({"spec": {}, "status": {"revisions": [{"name": "a"}, {"restorePoint": path}]}}),
        json!({"spec": {}, "status": {"deployed": {"restore": path}}}),
        json!({"spec": {"restore": {"policy": "From", "from": {"path": path}}}, "status": {}}),
        json!({"spec": {"restore": {"policy": "From", "from": {"savepoint": "orders-7"}}}}),
    ] {
        let mut references = References::default();
        references.add(&job("shop", &data));
        assert!(references.name("shop", &one), "{data}");
        assert!(!references.name("shop", &kept(8, COMPLETED)), "{data}");
    }
}

#[test]
fn a_name_refers_only_within_its_namespace() {
    let mut references = References::default();
    let data = json!({"spec": {"restore": {"from": {"savepoint": "orders-7"}}}});
    references.add(&job("other", &data));
    assert!(!references.name("shop", &kept(7, COMPLETED)));
}

proptest! {
    #[test]
    fn the_newest_completed_one_always_stays(
        states in prop::collection::vec(0_u8..5, 0..30),
        keep in 0_usize..5,
        age in prop::option::of(0_u64..10_000),
        now in 0_i64..1_000,
    ) {
        let all: Vec<Kept> = states
            .iter()
            .zip(0_i64..)
            .map(|(state, minute)| kept(minute, match state {
                0 => SavepointState::Pending,
                1 => SavepointState::InProgress,
                2 => SavepointState::Failed,
                3 => SavepointState::Abandoned,
                _ => COMPLETED,
            }))
            .collect();
        let limits = Limits { keep, max_age: age.map(Duration::from_secs) };
        let gone = expired(all.clone(), limits, at(now));
        let newest = all.iter().rev().find(|one| one.state == Some(COMPLETED));
        if let Some(newest) = newest {
            prop_assert!(!gone.contains(newest));
        }
        prop_assert!(gone.iter().all(Kept::has_ended));
        let stays = all.iter().filter(|one| one.state == Some(COMPLETED) && !gone.contains(one));
        prop_assert!(stays.count() <= keep.max(1));
    }
}
