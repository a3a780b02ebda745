//! Upgrades that fail, and what they are rolled back to.

use millstream_tests::kubernetes::stage::{DEADLINE, holds, text};
use serde_json::json;

use crate::shared;
use crate::upgrade::{revision, running, unschedulable, wait_upgraded};

#[test]
fn a26_a_failed_upgrade_is_rolled_back_to_the_savepoint_that_it_was_stopped_with() {
    let _shared = shared();
    let (stage, flow, good) = running("a26", |manifest| manifest);
    let old = revision(&stage);
    let upgrade = json!({"progressDeadline": "20s", "rollback": {"enabled": true}});
    let bad = unschedulable(good.clone()).set("/spec/upgrade", upgrade);
    stage.apply(&bad);
    let applied = stage.job("orders");
    let job = stage.wait_for_job(
        "orders",
        "it is stopped with a savepoint",
        DEADLINE,
        |job| {
            job["status"]["upgrade"]["restoreFrom"]
                .as_str()
                .is_some_and(|from| from.contains("/savepoints/"))
        },
    );
    let savepoint = text(&job["status"]["upgrade"]["restoreFrom"]);
    let job = stage.wait_for_job("orders", "it is rolled back", DEADLINE, |job| {
        holds(job, "RolledBack", "True") && job["status"]["upgrade"].is_null()
    });
    assert_eq!(revision(&stage), old, "{job:#}");
    assert_eq!(job["spec"], applied["spec"], "nobody writes the spec");
    assert_eq!(
        job["metadata"]["generation"], applied["metadata"]["generation"],
        "nobody writes the spec"
    );
    assert_eq!(text(&job["status"]["restoredFrom"]), savepoint, "{job:#}");
    flow.wait_for_more("by the old revision");
    // The next change is tried again.
    stage.apply(&good.upgraded());
    let job = wait_upgraded(&stage, &old);
    assert!(!holds(&job, "RolledBack", "True"), "{job:#}");
    stage.finish(flow, "orders");
}

#[test]
fn a26_a_failed_revision_that_has_committed_output_is_rolled_back_from_its_newest_checkpoint() {
    let _shared = shared();
    let (stage, flow, good) = running("a26-committed", |manifest| manifest);
    let old = revision(&stage);
    // It works, commits, and is still not good at its deadline.
    let upgrade = json!({"progressDeadline": "25s",
        "rollback": {"enabled": true, "afterCheckpoints": 100}});
    stage.apply(&good.upgraded().set("/spec/upgrade", upgrade));
    let spec = stage.job("orders")["spec"].clone();
    let job = stage.wait_for_job("orders", "the new revision runs", DEADLINE, |job| {
        job["status"]["revision"] != json!(old)
            && job["status"]["upgrade"]["step"] == json!("Verifying")
            && job["status"]["deployed"]["checkpoints"]
                .as_i64()
                .is_some_and(|seen| seen > 1)
    });
    let bad = text(&job["status"]["revision"]);
    let first = job["status"]["checkpoint"]["id"].as_i64();
    flow.wait_for_more("by the bad revision");
    let job = stage.wait_for_job("orders", "it is rolled back", DEADLINE, |job| {
        holds(job, "RolledBack", "True") && job["status"]["upgrade"].is_null()
    });
    assert_eq!(revision(&stage), old, "{job:#}");
    assert_eq!(job["status"]["rolledBackFrom"], json!(bad), "{job:#}");
    assert_eq!(job["spec"], spec, "nobody writes the spec");
    let from = text(&job["status"]["restoredFrom"]);
    assert!(
        from.contains("/chain/"),
        "back to before what the bad revision has committed: {from}"
    );
    assert!(
        job["status"]["checkpoint"]["id"].as_i64() > first,
        "{job:#}"
    );
    flow.wait_for_more("by the old revision");
    stage.finish(flow, "orders");
}
