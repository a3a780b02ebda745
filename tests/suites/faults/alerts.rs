//! A real Prometheus scrapes a real job, and alerts fire for what they are about: the two of the guide
//! as it writes them, and ours.
//!
//! Alerts wait for minutes before they fire, so these tests are long; they hardly cost anything.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream_tests::cluster::{Cluster, Coordinator};
use millstream_tests::feed::Feed;
use millstream_tests::order_job::OrderJobFile;
use millstream_tests::prometheus::{Prometheus, test_rules};
use millstream_tests::proxy::{Action, Proxy, Request};
use millstream_tests::server::{Launch, Server};
use millstream_tests::wait::wait_until;
use millstream_tests::{Broker, BrokerOptions, Minio, tools};
use millstream_types::api::{JobState, JobStatus};

const DEADLINE: Duration = Duration::from_mins(2);
/// No rule waits longer than five minutes for its cause to last.
const FIRES: Duration = Duration::from_mins(10);
const FEED_PAUSE: Duration = Duration::from_millis(500);

fn ours() -> PathBuf {
    tools::root().join("charts/millstream-operator/files/rules.yaml")
}

/// The rules of the guide, as it writes them.
fn guide() -> PathBuf {
    tools::root().join("tests/suites/faults/alerts/guide.yaml")
}

/// The order job with metrics under Flink's names, orders that flow, and a Prometheus that looks at it.
struct Watched {
    prometheus: Prometheus,
    coordinator: Coordinator,
    workers: Vec<Server>,
    cluster: Cluster,
    store: Proxy,
    feed: Feed,
    _broker: Broker,
    _minio: Minio,
}

impl Watched {
    #[track_caller]
    fn start(
        name: &str,
        change: fn(OrderJobFile) -> OrderJobFile,
        more: impl FnOnce(Launch) -> Launch,
    ) -> Self {
        let broker = Broker::start(BrokerOptions::default());
        for topic in ["orders", "processed-orders", "rejected-orders"] {
            broker.create_topic(topic, 4);
        }
        let minio = Minio::start();
        let store = Proxy::start("127.0.0.1", &minio.address());
        let mut environment = minio.environment();
        environment[0] = ("AWS_ENDPOINT_URL", format!("http://{}", store.address()));
        let file = OrderJobFile::new(&broker.bootstrap(), "s3://checkpoints/alerts");
        let file = file.replace(
            "  dataflow:\n",
            "  metrics: {flinkNames: true}\n  dataflow:\n",
        );
        let text = change(file).into_text();
        let mut cluster = Cluster::new(name, &text).environment(environment);
        let coordinator = cluster.coordinator_with(None, more);
        let prometheus = Prometheus::start(&[&coordinator.addresses.rest], &[&ours(), &guide()]);
        let mut watched = Self {
            prometheus,
            workers: Vec::new(),
            coordinator,
            cluster,
            store,
            feed: Feed::start_with_pause(&broker, "orders", FEED_PAUSE),
            _broker: broker,
            _minio: minio,
        };
        watched.workers = (0..2).map(|number| watched.worker(number)).collect();
        // What happens before the first look did not happen for Prometheus.
        wait_until("Prometheus has looked at the job", DEADLINE, || {
            let seen = watched.prometheus.query("millstream_job_state");
            seen.is_ok_and(|samples| !samples.is_empty())
        });
        watched
    }

    fn worker(&mut self, number: usize) -> Server {
        let grpc = self.coordinator.addresses.grpc.clone();
        self.cluster.worker(&format!("worker-{number}"), &grpc, 1)
    }

    #[track_caller]
    fn wait_for(&self, what: &str, wanted: impl Fn(&JobStatus) -> bool) {
        wait_until(what, DEADLINE, || {
            self.coordinator.rest.job().is_ok_and(|job| wanted(&job))
        });
    }

    /// Waits until all of these fire.
    #[track_caller]
    fn wait_for_alerts(&self, names: &[&str]) {
        let wanted: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let what = format!(
            "{wanted:?} fire; logs in {}",
            self.cluster.directory().display()
        );
        // A rule may have fired and ended again before the last of them does.
        let mut seen = BTreeSet::new();
        wait_until(&what, FIRES, || {
            seen.extend(self.prometheus.firing());
            wanted.is_subset(&seen)
        });
        for alert in self.prometheus.alerts() {
            for (key, text) in &alert.annotations {
                let is_written = !text.contains("error expanding") && !text.contains("<no value>");
                assert!(is_written, "{} {key}: {text}", alert.name());
            }
        }
    }

    fn finish(self) {
        self.feed.end();
    }
}

fn is_running(job: &JobStatus) -> bool {
    job.state == JobState::Running && job.last_checkpoint.is_some()
}

#[test]
fn extended_every_rule_fires_above_its_bound_and_not_below() {
    test_rules(&tools::root().join("tests/suites/faults/alerts/rules_test.yaml"));
}

#[test]
fn extended_a_slow_store_sets_off_the_guides_alert_as_it_is_written() {
    let job = Watched::start("alert-slow", |file| file, |launch| launch);
    job.wait_for("a checkpoint has completed", is_running);
    assert_eq!(job.prometheus.firing(), BTreeSet::new(), "all is well");
    job.store.set_rule(|request: &Request| {
        if request.method == "PUT" {
            Action::Delay(Duration::from_millis(4_500))
        } else {
            Action::Forward
        }
    });
    job.wait_for_alerts(&["CheckpointDurationHigh", "StreamJobCheckpointsSlow"]);
    let status = job.coordinator.rest.job().expect("the coordinator answers");
    let took = status.last_checkpoint.and_then(|it| it.duration_ms);
    assert!(took.is_some_and(|took| took > 8_000), "{took:?} ms");
    assert_eq!(status.restarts, 0, "it is only slow");
    job.finish();
}

#[test]
fn extended_a_store_that_refuses_everything_sets_off_the_alerts_on_failures() {
    let job = Watched::start(
        "alert-refuses",
        |file| {
            file.replace("timeout: 60s", "timeout: 10s")
                .replace("tolerableFailures: 3", "tolerableFailures: 6")
                .replace("transactionTimeout: 15m", "transactionTimeout: 4m")
        },
        |launch| launch,
    );
    job.wait_for("a checkpoint has completed", is_running);
    assert_eq!(job.prometheus.firing(), BTreeSet::new(), "all is well");
    job.store.set_rule(|_: &Request| Action::Answer(503));
    job.wait_for_alerts(&[
        "CheckpointsFailing",
        "StreamJobCheckpointsFailInARow",
        "StreamJobCheckpointsFail",
        "StreamJobCheckpointsStuck",
        "StreamJobTransactionsAge",
        "StreamJobTransactionsNearTimeout",
    ]);
    // The cause is gone: the job goes on.
    job.store.set_rule(|_: &Request| Action::Forward);
    let rest = &job.coordinator.rest;
    wait_until("checkpoints complete again", Duration::from_mins(5), || {
        let list = rest.checkpoints();
        list.is_ok_and(|list| list.counts.failed_in_a_row == 0)
    });
    job.finish();
}

#[test]
fn extended_workers_that_die_again_and_again_set_off_the_alert_on_restarts() {
    let mut job = Watched::start(
        "alert-restarts",
        |file| file.replace("interval: 10s", "interval: 1s"),
        |launch| launch,
    );
    for restarts in 0..6 {
        job.wait_for("it runs again", |status| {
            is_running(status) && status.restarts >= restarts
        });
        assert!(job.workers[0].kill(), "the worker was running");
        job.workers[0] = job.worker(0);
    }
    job.wait_for_alerts(&["StreamJobRestartsOften"]);
    boards_ask_for_what_is_told(&job);
    job.finish();
}

#[test]
fn extended_a_job_that_has_failed_sets_off_its_alert() {
    let job = Watched::start(
        "alert-failed",
        |file| {
            // Nobody may read dead letters that there are not.
            let text = file.into_text();
            let end = text.find("      - name: rejected-orders");
            let text = &text[..end.expect("the sink of dead letters comes last")];
            OrderJobFile::of(text.to_owned()).replace("onError: DeadLetter", "onError: Fail")
        },
        // It goes on answering after its end, as on Kubernetes.
        |launch| launch.args(["--deployment", "1"]),
    );
    job.wait_for("it has failed", |status| status.state == JobState::Failed);
    job.wait_for_alerts(&["StreamJobFailed"]);
    job.finish();
}

/// Metrics of a board that a job without keyed state, without dead letters that were skipped, and
/// without an operator does not have.
const NOT_HERE: [&str; 5] = [
    "millstream_state_",
    "millstream_controller_",
    "millstream_streamjob_state",
    "millstream_channel_",
    "millstream_source_held_back_records",
];

/// Every expression of every board is `PromQL`, and asks for what the job and its worker tell.
#[track_caller]
fn boards_ask_for_what_is_told(job: &Watched) {
    let told = job.prometheus.names();
    let boards = tools::root().join("charts/millstream-operator/files/dashboards");
    let mut asked = 0;
    for board in ["job.json", "fleet.json"] {
        for expression in expressions(&boards.join(board)) {
            let namespace = expression.replace("$namespace", "default");
            let whole = namespace
                .replace("$streamjob", "order-processor")
                .replace("$__rate_interval", "1m");
            let answer = job.prometheus.query(&whole);
            assert!(answer.is_ok(), "{board}: {whole}: {answer:?}");
            for metric in metrics(&whole) {
                let is_elsewhere = NOT_HERE.iter().any(|it| metric.starts_with(it))
                    || metric.starts_with("millstream_worker_");
                assert!(
                    is_elsewhere || told.contains(&metric),
                    "{board}: nobody tells {metric}"
                );
                asked += usize::from(!is_elsewhere);
            }
        }
    }
    assert!(asked > 50, "only {asked} metrics were looked for");
}

#[track_caller]
fn expressions(board: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(board).expect("the board is there");
    let board: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    let panels = board["panels"].as_array().expect("panels").iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let expressions = targets.map(|target| target["expr"].as_str().expect("text").to_owned());
    expressions.collect()
}

fn metrics(expression: &str) -> Vec<String> {
    let starts = expression.match_indices("millstream_");
    let is_part = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
    starts
        .map(|(start, _)| expression[start..].chars().take_while(is_part).collect())
        .collect()
}
