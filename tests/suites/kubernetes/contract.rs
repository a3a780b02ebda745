//! What people and tools see of the kinds.

use std::time::Duration;

use millstream_tests::kubernetes::flow::Flow;
use millstream_tests::kubernetes::stage::{DEADLINE, Stage, condition, holds, message, text};
use millstream_tests::tools;
use millstream_tests::wait::poll_until;
use serde_json::{Value, json};

use crate::shared;

/// The definition of a kind as the API server has it.
fn schema(stage: &Stage, plural: &str) -> Value {
    let path =
        format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.millstream.dev");
    let crd = stage.api().get(&path).expect("the kind is installed");
    crd["spec"]["versions"][0].clone()
}

/// Paths of all properties without a description.
fn undescribed(schema: &Value, path: &str, found: &mut Vec<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        if text(&property["description"]).is_empty() && path != ".metadata" {
            found.push(path.clone());
        }
        undescribed(property, &path, found);
    }
    for inner in [&schema["items"], &schema["additionalProperties"]] {
        if inner.is_object() {
            undescribed(inner, &format!("{path}[]"), found);
        }
    }
}

#[test]
fn a01_a_job_that_is_applied_becomes_ready_and_every_order_arrives_exactly_once() {
    let _shared = shared();
    let stage = Stage::new("a01");
    let flow = Flow::start(&stage);
    stage.apply(&stage.orders());
    let wait = [
        "wait",
        "streamjob/orders",
        "--for=condition=Ready",
        "--timeout=120s",
    ];
    stage.kubectl().run(&wait).expect_success();
    flow.wait_for_more("by the ready job");

    let job = stage.wait_for_job("orders", "its pods are ready too", DEADLINE, |job| {
        job["status"]["workers"]["summary"] == json!("2/2")
    });
    assert_eq!(job["status"]["state"], json!("Running"), "{job:#}");
    assert_eq!(job["status"]["replicas"], json!(2), "{job:#}");
    assert!(
        holds(&job, "Valid", "True") && holds(&job, "CheckpointHealthy", "True"),
        "{job:#}"
    );
    assert!(!holds(&job, "Stalled", "True"), "{job:#}");
    stage.finish(flow, "orders");
}

#[test]
fn a02_every_field_is_described_and_lists_show_what_counts() {
    let _shared = shared();
    let stage = Stage::new("a02");
    for plural in ["streamjobs", "streamsavepoints"] {
        let mut found = Vec::new();
        let version = schema(&stage, plural);
        undescribed(&version["schema"]["openAPIV3Schema"], "", &mut found);
        assert!(found.is_empty(), "{plural}: no description of {found:?}");
    }
    let kubectl = stage.kubectl();
    let explained = kubectl
        .run(&["explain", "streamjob", "--recursive"])
        .expect_success();
    for field in [
        "parallelism",
        "dataflow",
        "transactionTimeout",
        "rollback",
        "mountPath",
    ] {
        assert!(explained.contains(field), "{field} in {explained}");
    }
    let explained = kubectl
        .run(&["explain", "sj.spec.upgrade.strategy"])
        .expect_success();
    assert!(explained.contains("Default: `Savepoint`"), "{explained}");

    stage.apply(&stage.generated("counted", None));
    stage.wait_ready("counted");
    stage.wait_for_job(
        "counted",
        "its worker's pod is ready too",
        DEADLINE,
        |job| job["status"]["workers"]["summary"] == json!("1/1"),
    );
    let listed = kubectl.run(&["get", "sj"]).expect_success();
    let header = listed.lines().next().unwrap_or_default();
    for column in [
        "READY",
        "STATE",
        "PARALLELISM",
        "WORKERS",
        "LAST CHECKPOINT",
        "AGE",
    ] {
        assert!(header.contains(column), "{listed}");
    }
    assert!(
        listed.contains("Running") && listed.contains("1/1"),
        "{listed}"
    );
    let listed = kubectl.run(&["get", "streaming"]).expect_success();
    assert!(
        listed.contains("streamjob.millstream.dev/counted"),
        "{listed}"
    );
}

/// What a hostile manifest says must become of it, in its second line.
struct Fate {
    /// Refused by the API server, or else stored and told by the operator in `Valid`.
    refused: bool,
    /// The field, as `spec.image`.
    place: String,
    /// What is said about it.
    sentence: String,
}

/// Fewer words make no sentence.
const WORDS_MIN: usize = 2;

impl Fate {
    /// `# refused: spec.image: must name an image…`
    fn of(name: &str, manifest: &str) -> Self {
        let line = manifest.lines().nth(1).unwrap_or_default();
        let (refused, words) = match (
            line.strip_prefix("# refused: "),
            line.strip_prefix("# invalid: "),
        ) {
            (Some(words), _) => (true, words),
            (_, Some(words)) => (false, words),
            _ => panic!("{name}: the second line says nothing of its fate"),
        };
        let (place, sentence) = words
            .split_once(": ")
            .unwrap_or_else(|| panic!("{name}: `{words}` has no place"));
        assert!(
            sentence.split_whitespace().count() >= WORDS_MIN,
            "{name}: `{sentence}` is no sentence"
        );
        Self {
            refused,
            place: place.to_owned(),
            sentence: sentence.to_owned(),
        }
    }

    /// Whether a line of a text names the place and then says the sentence.
    fn is_told_in(&self, text: &str) -> bool {
        text.lines().any(|line| {
            let found = line.split_once(&self.place);
            found.is_some_and(|(_, rest)| rest.starts_with(':') && rest.contains(&self.sentence))
        })
    }
}

fn hostile() -> Vec<(String, String, Fate)> {
    let directory = tools::root().join("tests/hostile");
    let mut manifests = Vec::new();
    for entry in std::fs::read_dir(directory).expect("the manifests are there") {
        let path = entry.expect("a readable directory").path();
        let name = path.file_stem().expect("a name").to_string_lossy();
        let manifest = std::fs::read_to_string(&path).expect("a text file");
        let fate = Fate::of(&name, &manifest);
        manifests.push((name.into_owned(), manifest, fate));
    }
    manifests.sort_by(|one, other| one.0.cmp(&other.0));
    manifests
}

/// Applies them all; what did not meet its fate, and how many the API server has refused.
fn apply_hostile(stage: &Stage) -> (Vec<String>, usize) {
    let mut faults = Vec::new();
    let mut waiting = Vec::new();
    let mut at_once = 0;
    for (name, manifest, fate) in hostile() {
        let ran = stage.kubectl().run_with(&["apply", "-f", "-"], &manifest);
        at_once += usize::from(!ran.ok);
        if ran.ok == fate.refused || fate.refused && !fate.is_told_in(&ran.err) {
            let (place, sentence) = (&fate.place, &fate.sentence);
            faults.push(format!(
                "{name}: expected {place}: {sentence}, but: {}{}",
                ran.out, ran.err
            ));
        } else if ran.ok {
            let object: Value = serde_yaml::from_str(&manifest).expect("YAML");
            waiting.push((text(&object["metadata"]["name"]), fate));
        }
    }
    for (job, fate) in waiting {
        let path = stage.job_path(&job);
        let is_invalid = |object: &Value| {
            holds(object, "Valid", "False") && fate.is_told_in(&message(object, "Valid"))
        };
        let found = poll_until(Duration::from_mins(1), || {
            stage.api().get(&path).filter(is_invalid)
        });
        if found.is_none() {
            let (place, sentence) = (&fate.place, &fate.sentence);
            let valid = condition(&stage.job(&job), "Valid").cloned();
            faults.push(format!(
                "{job}: expected {place}: {sentence}, but: {valid:?}"
            ));
        }
    }
    (faults, at_once)
}

#[test]
fn a03_hostile_manifests_are_refused_with_their_place_and_disturb_no_job() {
    let _shared = shared();
    let stage = Stage::new("a03");
    let flow = Flow::start(&stage);
    stage.apply(&stage.orders());
    stage.wait_ready("orders");
    let uids = stage.pod_uids("orders");
    let restarts = stage.job("orders")["status"]["attempt"].clone();

    let (faults, at_once) = apply_hostile(&stage);
    println!(
        "a03: {at_once} of {} are refused by the API server",
        hostile().len()
    );
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );

    flow.wait_for_more("beside hostile manifests");
    assert_eq!(stage.pod_uids("orders"), uids);
    assert_eq!(stage.job("orders")["status"]["attempt"], restarts);
    stage.finish(flow, "orders");
}

#[test]
fn a03_the_longest_manifest_that_the_schema_allows_costs_the_rules_not_too_much() {
    let _shared = shared();
    let stage = Stage::new("a03-long");
    let name = |kind: &str, number: usize| format!("{kind}{number}-{}", "x".repeat(50));
    let sources: Vec<Value> = (0..100)
        .map(|source| {
            let topics: Vec<String> = (0..100)
                .map(|topic| format!("t-{source}-{topic}"))
                .collect();
            json!({"name": name("s", source), "format": {"raw": {}},
                "kafka": {"bootstrapServers": "kafka:9092", "topics": topics}})
        })
        .collect();
    let transforms: Vec<Value> = (0..1000)
        .map(|number| json!({"name": name("t", number), "input": "s", "sql": "SELECT * FROM s"}))
        .collect();
    let sinks: Vec<Value> = (0..100)
        .map(|number| json!({"name": name("k", number), "input": "s", "blackhole": {}}))
        .collect();
    let secrets: Vec<Value> = (0..20)
        .map(|number| {
            let path = format!("/{}{number}", "m".repeat(500));
            json!({"name": format!("secret-{number}"), "mountPath": path})
        })
        .collect();
    let job = stage
        .generated("long", None)
        .set("/spec/dataflow/sources", json!(sources))
        .set("/spec/dataflow/transforms", json!(transforms))
        .set("/spec/dataflow/sinks", json!(sinks))
        .set("/spec/secrets", json!(secrets));
    let create = ["create", "--dry-run=server", "-f", "-"];
    stage
        .kubectl()
        .run_with(&create, &job.json().to_string())
        .expect_success();
}

#[test]
fn a03_a_bad_change_leaves_the_valid_revision_running_until_it_is_corrected() {
    let _shared = shared();
    let stage = Stage::new("a03-change");
    let flow = Flow::start(&stage);
    stage.apply(&stage.orders());
    let good = stage.wait_ready("orders");
    let uids = stage.pod_uids("orders");

    stage.apply(
        &stage
            .orders()
            .set("/spec/dataflow/sinks/0/input", json!("enrichd")),
    );
    let bad = stage.wait_condition("orders", "Valid", "False");
    assert!(
        message(&bad, "Valid").contains("spec.dataflow.sinks[0].input"),
        "{bad:#}"
    );
    assert!(
        message(&bad, "Valid").contains("`enriched`"),
        "the nearest name: {bad:#}"
    );
    flow.wait_for_more("by the last valid revision");
    assert_eq!(stage.pod_uids("orders"), uids);
    assert_eq!(
        stage.job("orders")["status"]["revision"],
        good["status"]["revision"]
    );

    stage.apply(&stage.orders());
    stage.wait_ready("orders");
    assert_eq!(
        stage.pod_uids("orders"),
        uids,
        "nothing had to be restarted"
    );
    stage.finish(flow, "orders");
}

#[test]
fn a03_another_restart_strategy_may_be_chosen_later_and_a_savepoint_never_changes() {
    let _shared = shared();
    let stage = Stage::new("a03-choice");
    // Not started: the job is suspended from its creation.
    let job = stage
        .generated("choice", None)
        .set("/spec/state", json!("Suspended"));
    stage.apply(&job);
    stage.apply(&job.set("/spec/restart", json!({"fixedDelay": {"delay": "2s"}})));

    let savepoint = json!({"apiVersion": "millstream.dev/v1alpha1", "kind": "StreamSavepoint",
        "metadata": {"name": "once"}, "spec": {"jobRef": {"name": "choice"}}});
    stage.kubectl().apply(&savepoint).expect_success();
    let patch = r#"{"spec": {"jobRef": {"name": "other"}}}"#;
    let patched = stage
        .kubectl()
        .run(&["patch", "ssp", "once", "--type=merge", "-p", patch]);
    assert!(patched.expect_failure().contains("cannot be changed"));
}

/// The longest that a status may be.
const STATUS_BYTES_MAX: usize = 32 * 1024;

#[track_caller]
fn assert_small(job: &Value) {
    let size = job["status"].to_string().len();
    assert!(size < STATUS_BYTES_MAX, "the status has {size} bytes");
}

#[test]
fn a50_the_status_stays_small_however_long_the_names_and_messages() {
    let _shared = shared();
    let stage = Stage::new("a50");
    // As many faults as a manifest may have, with long texts in them.
    let sinks: Vec<Value> = (0..100)
        .map(|number| {
            let input = format!("{}{number}", "n".repeat(120));
            json!({"name": format!("sink-{number}"), "input": input, "blackhole": {}})
        })
        .collect();
    stage.apply(
        &stage
            .generated("wordy", None)
            .set("/spec/dataflow/sinks", json!(sinks)),
    );
    let job = stage.wait_condition("wordy", "Valid", "False");
    assert_small(&job);

    // A dozen revisions of one job.
    let quick = stage
        .generated("often", None)
        .set("/spec/upgrade", json!({"strategy": "LastState"}));
    stage.apply(&quick);
    stage.wait_ready("often");
    let with = |retained: usize| {
        quick
            .clone()
            .set("/spec/checkpoint/retained", json!(retained))
    };
    for retained in 4..15 {
        let before = stage.job("often")["status"]["revision"].clone();
        stage.apply(&with(retained));
        stage.wait_for_job("often", "another revision is ready", DEADLINE, |job| {
            job["status"]["revision"] != before
                && job["status"]["upgrade"].is_null()
                && holds(job, "Ready", "True")
        });
    }
    let job = stage.job("often");
    assert_small(&job);
    let listed = job["status"]["revisions"].as_array().map_or(0, Vec::len);
    assert_eq!(listed, 10, "{job:#}");

    // A runtime that has much to say: the new revision's check quotes all of it.
    let columns: Vec<String> = (0..2_500)
        .map(|number| format!("no_such_column_{number:05}"))
        .collect();
    let sql = format!("SELECT {} FROM orders", columns.join(", "));
    let wordy = with(14)
        .set(
            "/spec/dataflow/transforms",
            json!([{"name": "much", "input": "orders", "sql": sql}]),
        )
        .set("/spec/dataflow/sinks/0/input", json!("much"));
    stage.apply(&wordy);
    let job = stage.wait_condition("often", "Valid", "False");
    assert!(message(&job, "Valid").contains("no_such_column"), "{job:#}");
    assert_small(&job);
    let rejected = text(&job["status"]["rejected"]["message"]).len();
    assert!(rejected <= 4_096, "{rejected} bytes of `rejected.message`");
}
