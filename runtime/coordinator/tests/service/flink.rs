//! Metrics under Flink's names.

use std::collections::{BTreeMap, BTreeSet};

use millstream_coordinator::Restore;
use millstream_types::api::JobState;

use crate::scenario::{Running, Scenario};
use crate::worker::STEP;

/// What Flink itself tells.
const FLINK: &str = include_str!("flink-1.20.txt");
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/flink-metrics.md");
/// Those that everybody's boards and the guide's alerts ask for.
const WANTED: [&str; 20] = [
    "flink_jobmanager_job_lastCheckpointDuration",
    "flink_jobmanager_job_lastCheckpointSize",
    "flink_jobmanager_job_lastCheckpointFullSize",
    "flink_jobmanager_job_numberOfCompletedCheckpoints",
    "flink_jobmanager_job_numberOfFailedCheckpoints",
    "flink_jobmanager_job_numberOfInProgressCheckpoints",
    "flink_jobmanager_job_numRestarts",
    "flink_jobmanager_job_uptime",
    "flink_jobmanager_job_downtime",
    "flink_jobmanager_taskSlotsTotal",
    "flink_taskmanager_job_task_checkpointAlignmentTime",
    "flink_taskmanager_job_task_numRecordsIn",
    "flink_taskmanager_job_task_numRecordsOutPerSecond",
    "flink_taskmanager_job_task_busyTimeMsPerSecond",
    "flink_taskmanager_job_task_idleTimeMsPerSecond",
    "flink_taskmanager_job_task_backPressuredTimeMsPerSecond",
    "flink_taskmanager_job_task_isBackPressured",
    "flink_taskmanager_job_task_currentInputWatermark",
    "flink_taskmanager_job_task_operator_numRecordsInPerSecond",
    "flink_taskmanager_job_task_operator_numRecordsOut",
];

/// Name, labels and value of a line.
type Sample<'a> = (&'a str, BTreeMap<&'a str, &'a str>, f64);

fn samples(text: &str) -> Vec<Sample<'_>> {
    let lines = text.lines().filter(|line| line.starts_with("flink_"));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap();
            let labels = labels.trim_end_matches('}').split(',');
            let labels = labels.map(|label| {
                let (key, value) = label.split_once('=').unwrap();
                (key, value.trim_matches('"'))
            });
            (name, labels.collect(), value.parse().unwrap())
        })
        .collect()
}

/// Flink's metrics with the names of their labels.
fn flink() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let lines = FLINK.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, labels) = line.split_once(": ").unwrap();
            (name, labels.split(' ').collect())
        })
        .collect()
}

async fn running() -> (Scenario, Running, crate::worker::TestWorker) {
    let mut scenario = Scenario::default();
    "order-processor".clone_into(&mut scenario.name);
    scenario.flink_names = true;
    let running = scenario.start(Restore::Latest);
    let worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(2).await;
    (scenario, running, worker)
}

#[tokio::test]
async fn the_job_is_told_under_flinks_names_with_flinks_labels() {
    let (_scenario, running, _worker) = running().await;
    let measured = |snapshot: &millstream_coordinator::Snapshot| {
        let tasks = &snapshot.job.tasks;
        !tasks.is_empty() && tasks.iter().all(|task| task.load.is_some())
    };
    running.wait_for("measured tasks", measured).await;
    let text = running.handle.metrics().encode();
    let told = samples(&text);
    let flink = flink();
    for (name, labels, _) in &told {
        let known = flink.get(name);
        let known = known.unwrap_or_else(|| panic!("Flink has no metric {name}"));
        let labels: BTreeSet<&str> = labels.keys().copied().collect();
        assert_eq!(&labels, known, "labels of {name}");
    }
    let names: BTreeSet<&str> = told.iter().map(|(name, ..)| *name).collect();
    let page = std::fs::read_to_string(PAGE).unwrap();
    for name in &names {
        assert!(
            page.contains(&format!("`{name}`")),
            "{name} is not explained"
        );
    }
    for wanted in WANTED {
        assert!(names.contains(wanted), "{wanted} is not in\n{text}");
    }
    // Flink's reporter calls everything a gauge, so that no name gets an ending.
    let types = text
        .lines()
        .filter(|line| line.starts_with("# TYPE flink_"));
    assert!(types.clone().count() > WANTED.len());
    assert!(types.clone().all(|line| line.ends_with(" gauge")), "{text}");
    assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1);
    assert!(
        text.contains("millstream_job_state"),
        "ours are beside them"
    );
}

#[tokio::test]
async fn values_have_flinks_units() {
    let (_scenario, running, _worker) = running().await;
    let snapshot = running
        .wait_for("a measured task that has read something", |snapshot| {
            let text = running.handle.metrics().encode();
            let mut told = samples(&text).into_iter();
            let has_read = told.any(|(name, labels, value)| {
                let name = name == "flink_taskmanager_job_task_numRecordsIn";
                name && labels["subtask_index"] == "1" && value >= STEP as f64
            });
            let mut tasks = snapshot.job.tasks.iter();
            has_read && tasks.any(|task| task.subtask.0 == 1 && task.load.is_some())
        })
        .await;
    let text = running.handle.metrics().encode();
    let told = samples(&text);
    let value = |name: &str, with: &[(&str, &str)]| {
        let name = format!("flink_{name}");
        let mut told = told.iter();
        let is_it = |(told, labels, _): &&Sample<'_>| {
            *told == name && with.iter().all(|(key, value)| labels[key] == *value)
        };
        told.find(is_it).map(|(_, _, value)| *value)
    };
    let task = [
        ("subtask_index", "1"),
        ("task_name", "Source:_orders____out:_Writer"),
        ("job_name", "order_processor"),
        ("tm_id", "a"),
        ("task_attempt_num", "0"),
    ];
    // What the worker says: 0.7, 0.25 and 0.05 of its time, 1.5 s, half full, 40 ms.
    let of_task = |name: &str| value(&format!("taskmanager_job_task_{name}"), &task);
    assert_eq!(of_task("busyTimeMsPerSecond"), Some(700.0));
    assert_eq!(of_task("backPressuredTimeMsPerSecond"), Some(250.0));
    assert_eq!(of_task("isBackPressured"), Some(1.0));
    assert_eq!(of_task("idleTimeMsPerSecond"), Some(50.0));
    assert_eq!(of_task("currentInputWatermark"), Some(1_500.0));
    assert_eq!(of_task("buffers_inPoolUsage"), Some(0.5));
    assert_eq!(of_task("checkpointAlignmentTime"), Some(40e6));
    let read = of_task("numRecordsIn").unwrap();
    assert!(read >= STEP as f64, "{read}");
    let job = |name: &str| value(&format!("jobmanager_job_{name}"), &[]);
    assert_eq!(job("numRestarts"), Some(0.0));
    assert!(job("uptime").unwrap() > 0.0);
    assert_eq!(job("lastCheckpointRestoreTimestamp"), Some(-1.0));
    let last = job("lastCheckpointDuration").unwrap();
    assert!((0.0..30_000.0).contains(&last), "milliseconds: {last}");
    let completed = job("numberOfCompletedCheckpoints").unwrap();
    assert!(completed >= snapshot.counts.completed as f64);
}

#[tokio::test]
async fn counts_begin_anew_with_every_attempt() {
    let (scenario, running, worker) = running().await;
    drop(worker);
    let _other = scenario.worker("b", 2, &running).await;
    running
        .wait_for("the second attempt", |snapshot| {
            snapshot.job.restarts == 1 && snapshot.job.state == JobState::Running
        })
        .await;
    let text = running.handle.metrics().encode();
    let told = samples(&text);
    let value = |name: &str| {
        let mut told = told.iter();
        told.find(|(told, ..)| *told == name)
            .map(|(_, _, value)| *value)
    };
    assert_eq!(value("flink_jobmanager_job_numRestarts"), Some(1.0));
    let restored = value("flink_jobmanager_job_lastCheckpointRestoreTimestamp").unwrap();
    assert!(restored > 1.7e12, "milliseconds since 1970: {restored}");
    let tasks = told.iter().filter(|(name, ..)| name.contains("_job_task_"));
    for (name, labels, _) in tasks {
        assert_eq!(labels["task_attempt_num"], "1", "{name}");
        assert_eq!(labels["tm_id"], "b", "{name}");
    }
}

#[tokio::test]
async fn a_job_that_does_not_ask_for_flinks_names_has_none() {
    let scenario = Scenario::default();
    let running = scenario.start(Restore::Latest);
    let _worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(1).await;
    assert!(!running.handle.metrics().encode().contains("flink_"));
}
