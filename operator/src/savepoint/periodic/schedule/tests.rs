use millstream_crds::SavepointState;
use serde_json::json;

use super::*;

fn at(minute: i64) -> Timestamp {
    Timestamp::from_second(1_780_000_020 + minute * 60).unwrap()
}

fn job(more: &serde_json::Value) -> DynamicObject {
    let mut job = json!({
        "apiVersion": "millstream.dev/v1alpha1", "kind": "StreamJob",
        "metadata": {
            "name": "orders", "namespace": "shop", "creationTimestamp": at(0).to_string(),
        },
        "spec": {"savepoints": {"interval": "10m", "keep": 2}},
        "status": {"state": "Running"},
    });
    for part in ["spec", "status"] {
        if let Some(more) = more.get(part).and_then(serde_json::Value::as_object) {
            job[part].as_object_mut().unwrap().extend(more.clone());
        }
    }
    serde_json::from_value(job).unwrap()
}

fn schedule(more: &serde_json::Value) -> Schedule {
    Schedule::of(&job(more)).unwrap()
}

fn minutes(count: u64) -> Next {
    Next::after(Duration::from_secs(count * 60))
}

fn kept(minute: i64, state: SavepointState) -> Kept {
    Kept {
        name: format!("orders-{minute}"),
        uid: String::new(),
        job: "orders".to_owned(),
        created: at(minute),
        state: Some(state),
        path: None,
        leaving: false,
    }
}

#[test]
fn the_first_one_is_due_an_interval_after_the_job_was_created() {
    let schedule = schedule(&json!({}));
    assert_eq!(schedule.step(at(4)), Step::Wait(minutes(6)));
    assert_eq!(
        schedule.step(at(10)),
        Step::Create {
            name: "orders-20260528203700".to_owned(),
            next: minutes(10)
        }
    );
}

#[test]
fn later_ones_are_due_an_interval_after_the_last() {
    let last = json!({"status": {"lastSavepointAt": at(12).to_string()}});
    assert_eq!(schedule(&last).step(at(15)), Step::Wait(minutes(7)));
    assert!(matches!(schedule(&last).step(at(22)), Step::Create { .. }));
}

#[test]
fn a_job_that_does_not_run_has_none_taken_until_it_runs() {
    for state in ["Suspended", "Restarting", "Failed", "Deploying"] {
        let step = schedule(&json!({"status": {"state": state}})).step(at(30));
        assert_eq!(step, Step::Wait(Next::after(LATER)), "{state}");
    }
}

#[test]
fn one_that_another_operator_created_counts() {
    let schedule = schedule(&json!({}));
    let newest = kept(8, SavepointState::Completed);
    assert_eq!(
        schedule.step_among(&[newest], at(11)),
        Step::Note {
            last: at(8),
            next: minutes(7)
        }
    );
}

#[test]
fn one_that_is_still_being_taken_is_not_overtaken() {
    let running = kept(0, SavepointState::InProgress);
    let step = schedule(&json!({})).step_among(&[running], at(30));
    assert_eq!(step, Step::Wait(Next::after(LATER)));
}

#[test]
fn without_a_wish_while_paused_and_with_a_wrong_wish_there_is_no_schedule() {
    for more in [
        json!({"spec": {"savepoints": null}}),
        json!({"spec": {"paused": true}}),
        json!({"spec": {"savepoints": {"interval": "soon"}}}),
    ] {
        assert_eq!(Schedule::of(&job(&more)), None, "{more}");
    }
}

#[test]
fn one_may_take_no_longer_than_until_the_next() {
    let short = json!({"spec": {"savepoints": {"interval": "2m"}}});
    assert_eq!(schedule(&short).deadline().to_string(), "2m");
    let long = json!({"spec": {"savepoints": {"interval": "24h"}}});
    assert_eq!(schedule(&long).deadline().to_string(), "10m");
}
