//! A real Prometheus that scrapes what a test runs, and `promtool`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::ports::free_port;
use crate::scratch::Scratch;
use crate::server::{Launch, Server};
use crate::tools;
use crate::wait::wait_until;

const READY: Duration = Duration::from_mins(1);
const TIMEOUT: Duration = Duration::from_secs(10);

/// A running Prometheus that scrapes and evaluates every second.
#[derive(Debug)]
pub struct Prometheus {
    agent: ureq::Agent,
    address: String,
    server: Server,
    _scratch: Scratch,
}

/// An alert that is pending or fires.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Alert {
    /// `alertname` and whatever else tells it from others.
    pub labels: BTreeMap<String, String>,
    /// What people are told.
    pub annotations: BTreeMap<String, String>,
    /// `pending` or `firing`.
    pub state: String,
}

impl Alert {
    /// Name of its rule.
    pub fn name(&self) -> &str {
        self.labels.get("alertname").map_or("", String::as_str)
    }
}

impl Prometheus {
    /// Starts it with these rule files, as they are, and scrapes `/metrics` of these `host:port`.
    #[track_caller]
    pub fn start(targets: &[&str], rules: &[&Path]) -> Self {
        tools::install("prometheus.sh", &[]);
        let scratch = Scratch::new("prometheus");
        let config = serde_json::json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": rules,
            "scrape_configs": [{
                "job_name": "millstream",
                "honor_labels": true,
                "static_configs": [{"targets": targets}],
            }],
        });
        std::fs::write(scratch.join("prometheus.yml"), config.to_string())
            .expect("a file in the scratch directory");
        let address = format!("127.0.0.1:{}", free_port());
        let server = Launch::new(tools::cache().join("prometheus/prometheus"))
            .arg(format!(
                "--config.file={}",
                scratch.join("prometheus.yml").display()
            ))
            .arg(format!(
                "--storage.tsdb.path={}",
                scratch.join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .start(&scratch.join("log"));
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            .build();
        let mut prometheus = Self {
            agent: config.new_agent(),
            address,
            server,
            _scratch: scratch,
        };
        let url = format!("http://{}/-/ready", prometheus.address);
        wait_until("Prometheus is ready", READY, || {
            assert!(
                prometheus.server.is_running(),
                "Prometheus has ended:\n{}",
                prometheus.server.output()
            );
            let answer = prometheus.agent.get(&url).call();
            answer.is_ok_and(|answer| answer.status() == 200)
        });
        prometheus
    }

    /// Alerts that are pending or fire.
    #[track_caller]
    pub fn alerts(&self) -> Vec<Alert> {
        let url = format!("http://{}/api/v1/alerts", self.address);
        let mut answer = self.agent.get(&url).call().expect("Prometheus answers");
        let text = answer.body_mut().read_to_string().expect("it is text");
        let body: Value = serde_json::from_str(&text).expect("it is JSON");
        serde_json::from_value(body["data"]["alerts"].clone()).expect("alerts")
    }

    /// Names of the rules that fire.
    #[track_caller]
    pub fn firing(&self) -> BTreeSet<String> {
        let alerts = self.alerts().into_iter();
        let firing = alerts.filter(|alert| alert.state == "firing");
        firing.map(|alert| alert.name().to_owned()).collect()
    }

    /// The samples of an expression now, as the HTTP interface tells them.
    ///
    /// # Errors
    /// It is no expression of `PromQL`.
    #[track_caller]
    pub fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let url = format!("http://{}/api/v1/query", self.address);
        let form = [("query", expression)];
        let answer = self.agent.post(&url).send_form(form);
        let text = answer
            .expect("Prometheus answers")
            .body_mut()
            .read_to_string()
            .expect("it is text");
        let body: Value = serde_json::from_str(&text).expect("it is JSON");
        match body["data"]["result"].as_array() {
            Some(samples) => Ok(samples.clone()),
            None => Err(body["error"].to_string()),
        }
    }

    /// Names of all metrics that were ever scraped.
    #[track_caller]
    pub fn names(&self) -> BTreeSet<String> {
        let url = format!("http://{}/api/v1/label/__name__/values", self.address);
        let mut answer = self.agent.get(&url).call().expect("Prometheus answers");
        let text = answer.body_mut().read_to_string().expect("it is text");
        let body: Value = serde_json::from_str(&text).expect("it is JSON");
        serde_json::from_value(body["data"].clone()).expect("names")
    }
}

/// Runs `promtool test rules` on a file.
#[track_caller]
pub fn test_rules(file: &Path) {
    tools::install("prometheus.sh", &[]);
    let output = Command::new(tools::cache().join("prometheus/promtool"))
        .args(["test", "rules"])
        .arg(file)
        .output()
        .expect("promtool starts");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
