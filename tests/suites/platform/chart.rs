//! What the chart renders.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Output};

use millstream_tests::tools::{self, root};
use serde_json::Value;

use super::{check, documents, text, writes_golden, yaml};

/// The version that the local cluster has; a Helm that was built from its module knows none.
const KUBERNETES: &str = "1.34.4";

/// The chart installed for the whole cluster, with everything that can be switched on.
pub(super) const CLUSTER: &[&str] = &[
    "--set=replicas=2",
    "--set=metrics.podMonitor.enabled=true",
    "--set=metrics.rules.enabled=true",
    "--set=metrics.dashboard.enabled=true",
];
/// The chart installed for two namespaces, with nothing of the cluster.
pub(super) const NAMESPACES: &[&str] = &[
    "--set=namespaces={shop,bank}",
    "--set=rbac.aggregateRoles=false",
];

fn chart() -> PathBuf {
    root().join("charts/millstream-operator")
}

#[track_caller]
fn helm(arguments: &[&str]) -> Output {
    tools::install("kubernetes.sh", &["chart"]);
    Command::new(tools::cache().join("bin/helm"))
        .args(arguments)
        .current_dir(chart())
        .output()
        .expect("helm starts")
}

/// The text of everything that the chart renders.
#[track_caller]
pub(super) fn rendered(options: &[&str]) -> String {
    rendered_as("millstream", "millstream", options)
}

/// As [`rendered`], for a release of this name in this namespace.
#[track_caller]
fn rendered_as(release: &str, namespace: &str, options: &[&str]) -> String {
    let start = ["template", release, ".", "--namespace", namespace];
    let version = ["--kube-version", KUBERNETES];
    let output = helm(&[&start[..], &version, options].concat());
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Everything that the chart renders, as objects.
#[track_caller]
pub(super) fn objects(options: &[&str]) -> Vec<Value> {
    let objects = documents(&rendered(options));
    assert!(objects.len() > 10, "the chart renders its objects");
    objects
}

pub(super) fn described(object: &Value) -> String {
    let field = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    format!(
        "{}/{}",
        field(&object["kind"]),
        field(&object["metadata"]["name"])
    )
}

#[test]
fn helm_finds_nothing_to_complain_of() {
    for options in [CLUSTER, NAMESPACES] {
        let output = helm(&[&["lint", "--strict", "."], options].concat());
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
    }
}

/// The first line in which two texts differ.
fn difference(old: &str, new: &str) -> Option<String> {
    let (mut old, mut new) = (old.lines(), new.lines());
    let mut line = 1;
    loop {
        match (old.next(), new.next()) {
            (None, None) => return None,
            (old, new) if old == new => line += 1,
            (old, new) => return Some(format!("{line}: {old:?} is now {new:?}")),
        }
    }
}

#[test]
fn the_chart_renders_what_it_rendered_before() {
    let mut faults = Vec::new();
    for (name, options) in [("cluster", CLUSTER), ("namespaces", NAMESPACES)] {
        let options = [options, &["--set=crds.install=false"]].concat();
        let now = rendered(&options);
        let path = root().join(format!("tests/suites/platform/golden/{name}.yaml"));
        if writes_golden() {
            std::fs::write(&path, &now).expect("the golden file is written");
        }
        faults.extend(difference(&text(&path), &now).map(|what| format!("{name}.yaml:{what}")));
    }
    check(
        "golden files (MILLSTREAM_GOLDEN=write writes them)",
        &faults,
    );
}

/// Values of these keys, anywhere, are texts for Kubernetes.
const TEXTS: [&str; 8] = [
    "name",
    "namespace",
    "serviceAccountName",
    "priorityClassName",
    "imagePullPolicy",
    "interval",
    "args",
    "resourceNames",
];

/// Paths of what should be text and is not: values of [`TEXTS`], and of labels and selectors.
fn not_text(value: &Value, path: &str, faults: &mut Vec<String>) {
    let is_text = |value: &Value| match value {
        Value::Array(items) => items
            .iter()
            .all(|item| item.is_string() || item.is_object()),
        Value::Object(_) => true,
        other => other.is_string(),
    };
    match value {
        Value::Object(keys) => {
            for (key, inner) in keys {
                let path = format!("{path}.{key}");
                let is_map = ["labels", "matchLabels", "selector"].contains(&key.as_str());
                let values = inner.as_object().into_iter().flatten();
                let wrong = is_map && values.into_iter().any(|(_, value)| !is_text(value));
                if wrong || (TEXTS.contains(&key.as_str()) && !is_text(inner)) {
                    faults.push(format!("{path}: {inner}"));
                }
                not_text(inner, &path, faults);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| not_text(item, path, faults)),
        _ => {}
    }
}

#[test]
fn names_that_yaml_takes_for_numbers_or_booleans_stay_names() {
    let filter = "info,kube=debug: 1 # all";
    let log = format!("--set-string=log.filter={}", filter.replace(',', "\\,"));
    let options = [
        CLUSTER,
        &[
            "--set-string=namespaces={123,true}",
            "--set-string=imagePullSecrets={1e3}",
            "--set-string=serviceAccount.name=007",
            "--set-string=pod.priorityClassName=true",
            "--set-string=pod.nodeSelector.zone=1",
            log.as_str(),
            "--set=crds.install=false",
        ],
    ]
    .concat();
    for name in ["nameOverride", "fullnameOverride"] {
        let name = format!("--set-string={name}=123");
        let objects = documents(&rendered_as(
            "2024",
            "456",
            &[&options[..], &[&name]].concat(),
        ));
        let mut faults = Vec::new();
        for object in &objects {
            not_text(object, &described(object), &mut faults);
        }
        check("texts that are rendered as something else", &faults);
        let deployment = objects.iter().find(|object| object["kind"] == "Deployment");
        let args =
            &deployment.expect("the operator")["spec"]["template"]["spec"]["containers"][0]["args"];
        let args = args.as_array().expect("arguments");
        assert!(args.contains(&format!("--log={filter}").into()), "{args:?}");
        assert!(args.contains(&"--namespaces=123,true".into()), "{args:?}");
    }
}

#[test]
fn a_number_where_text_belongs_is_seen() {
    let object = serde_json::json!({"metadata": {"name": 1, "labels": {"a": true}},
        "spec": {"args": ["x", 2], "replicas": 3}});
    let mut faults = Vec::new();
    not_text(&object, "x", &mut faults);
    assert_eq!(faults.len(), 3, "{faults:?}");
}

#[test]
fn the_test_of_the_chart_may_ask_the_operator_whoever_may_scrape() {
    let scraper = "--set-json=networkPolicy.metricsFrom=\
        [{\"namespaceSelector\":{\"matchLabels\":{\"team\":\"metrics\"}}}]";
    for options in [&[][..], &[scraper][..]] {
        let objects = objects(options);
        let pod = objects
            .iter()
            .find(|object| object["metadata"]["annotations"]["helm.sh/hook"] == "test")
            .expect("the test's pod");
        let policy = objects
            .iter()
            .find(|object| object["kind"] == "NetworkPolicy")
            .expect("the policy");
        let rule = &policy["spec"]["ingress"][0];
        let Some(peers) = rule["from"].as_array() else {
            assert!(options.is_empty(), "who may scrape is left out: {rule}");
            continue;
        };
        assert!(
            peers
                .iter()
                .any(|peer| peer["namespaceSelector"].is_object())
        );
        let labels = &pod["metadata"]["labels"];
        let lets_in = |peer: &&Value| {
            let wanted = peer["podSelector"]["matchLabels"].as_object();
            wanted.is_some_and(|wanted| wanted.iter().all(|(key, value)| labels[key] == *value))
        };
        assert_eq!(peers.iter().filter(lets_in).count(), 1, "{rule}");
        let operator = objects
            .iter()
            .find(|object| object["kind"] == "Deployment")
            .expect("the operator");
        let labels = &operator["spec"]["template"]["metadata"]["labels"];
        assert_ne!(
            labels["app.kubernetes.io/component"], "test",
            "the operator itself"
        );
    }
}

#[test]
fn values_that_do_not_exist_or_have_another_type_are_refused_by_name() {
    for (option, named) in [
        ("--set=replica=2", "replica"),
        ("--set=replicas=two", "/replicas"),
        ("--set=image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("--set=namespaces={Shop}", "/namespaces/0"),
        ("--set=log.format=xml", "/log/format"),
        ("--set=metrics.rules.enable=true", "enable"),
    ] {
        let output = helm(&["template", ".", "--kube-version", KUBERNETES, option]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{option} is taken");
        assert!(said.contains(named), "{option}: {said}");
    }
}

#[test]
fn the_chart_brings_the_definitions_of_this_version_and_keeps_them() {
    let names = [
        "streamjobs.millstream.dev",
        "streamsavepoints.millstream.dev",
    ];
    for name in names {
        let file = format!("{name}.yaml");
        let copy = text(&chart().join("files/crds").join(&file));
        assert!(
            copy == text(&root().join("crds").join(&file)),
            "the chart's copy of crds/{file} is old: run tools/chart.sh"
        );
    }
    let rendered = objects(&[]);
    for name in names {
        let file = format!("{name}.yaml");
        let mut definition = rendered
            .iter()
            .find(|object| object["metadata"]["name"] == name)
            .unwrap_or_else(|| panic!("{name} is not rendered"))
            .clone();
        assert_eq!(
            definition["metadata"]["annotations"]["helm.sh/resource-policy"],
            "keep"
        );
        let metadata = definition["metadata"].as_object_mut().expect("metadata");
        metadata.remove("annotations");
        let original = yaml(&root().join("crds").join(&file));
        assert!(
            definition == original,
            "{name} is rendered with another content"
        );
    }
}

#[test]
fn definitions_are_left_to_the_user_who_wants_to() {
    let objects = objects(&["--set=crds.install=false"]);
    assert!(
        objects
            .iter()
            .all(|object| object["kind"] != "CustomResourceDefinition")
    );
}

/// Names of metrics that a text uses.
fn metrics(text: &str) -> BTreeSet<String> {
    text.match_indices("millstream_")
        .map(|(start, _)| {
            text[start..]
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                .collect()
        })
        .collect()
}

/// The boards, by the name of their file.
fn boards() -> Vec<(String, Value)> {
    let directory = chart().join("files/dashboards");
    let files = std::fs::read_dir(directory).expect("the boards are there");
    let mut boards: Vec<(String, Value)> = files
        .map(|file| {
            let file = file.expect("a file").path();
            let name = file.file_name().expect("a name").to_string_lossy();
            let board = serde_json::from_str(&text(&file)).expect("a board is JSON");
            (name.into_owned(), board)
        })
        .collect();
    boards.sort_by(|one, other| one.0.cmp(&other.0));
    boards
}

/// Every query of a board: those of its panels, and those of its variables.
fn queries(board: &Value) -> Vec<String> {
    let items = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let panels = items(&board["panels"]);
    let targets = panels.iter().flat_map(|panel| items(&panel["targets"]));
    let of_panels = targets.map(|target| target["expr"].clone());
    let variables = items(&board["templating"]["list"]);
    let of_variables = variables.iter().map(|it| it["definition"].clone());
    let queries = of_panels.chain(of_variables);
    let texts = queries.filter_map(|query| query.as_str().map(str::to_owned));
    texts.collect()
}

/// Series that pages of metrics explain. Other tests fail where a page and what is told differ.
fn documented() -> BTreeSet<String> {
    let pages = ["docs/metrics.md", "docs/operator-metrics.md"].into_iter();
    pages
        .flat_map(|page| metrics(&text(&root().join(page))))
        .collect()
}

#[test]
fn alerts_and_boards_ask_for_metrics_that_are_documented() {
    let documented = documented();
    let mut faults = Vec::new();
    let boards = boards();
    let asked = boards
        .iter()
        .flat_map(|(name, board)| queries(board).into_iter().map(move |it| (name.clone(), it)));
    let rules = [(
        "rules.yaml".to_owned(),
        text(&chart().join("files/rules.yaml")),
    )];
    for (file, query) in asked.chain(rules) {
        let used = metrics(&query);
        if used.is_empty() && !query.contains("process_") {
            faults.push(format!("{file}: asks for nothing of ours: {query}"));
        }
        for metric in used {
            let series = metric.strip_suffix("_bucket").unwrap_or(&metric);
            if !documented.contains(series) {
                faults.push(format!("{file}: {metric}"));
            }
        }
    }
    check("metrics that no page documents", &faults);
}

#[test]
fn there_is_a_board_for_a_job_and_one_for_all_jobs() {
    let boards = boards();
    let names: Vec<&str> = boards.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["fleet.json", "job.json"]);
    for (name, board) in &boards {
        let asked = queries(board).len();
        assert!(asked > 25, "{name} asks for {asked} things only");
        let panels = board["panels"].as_array().expect("panels");
        let ids: BTreeSet<u64> = panels.iter().filter_map(|it| it["id"].as_u64()).collect();
        assert_eq!(ids.len(), panels.len(), "ids of the panels of {name}");
    }
    let maps: Vec<Value> = objects(CLUSTER)
        .into_iter()
        .filter(|object| object["metadata"]["labels"]["grafana_dashboard"] == "1")
        .collect();
    assert_eq!(maps.len(), boards.len(), "one ConfigMap for each");
    for (map, (name, board)) in maps.iter().zip(&boards) {
        let data = map["data"][format!("millstream-{name}")].as_str();
        let data: Value = serde_json::from_str(data.expect("the board")).expect("JSON");
        assert_eq!(data, *board);
    }
    let without = objects(NAMESPACES);
    let labelled = without
        .iter()
        .filter(|it| it["metadata"]["labels"]["grafana_dashboard"] == "1");
    assert_eq!(labelled.count(), 0, "they are opt-in");
}

#[test]
fn the_examples_for_kubernetes_run_the_dataflows_of_those_without() {
    let example = yaml(&root().join("examples/orders-kubernetes/streamjob.yaml"));
    let orders = yaml(&root().join("examples/orders/streamjob.yaml"));
    assert_eq!(example["spec"]["dataflow"], orders["spec"]["dataflow"]);
    let generator = yaml(&root().join("examples/orders-kubernetes/generator.yaml"));
    let sink = &generator["spec"]["dataflow"]["sinks"][0]["kafka"]["topic"];
    assert_eq!(
        orders["spec"]["dataflow"]["sources"][0]["kafka"]["topics"][0],
        *sink
    );
    let example = yaml(&root().join("examples/per-customer-kubernetes/streamjob.yaml"));
    let job = yaml(&root().join("examples/per-customer/streamjob.yaml"));
    assert_eq!(example["spec"]["dataflow"], job["spec"]["dataflow"]);
}
