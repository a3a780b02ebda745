//! What a worker answers over HTTP: whether it lives, whether it is connected, and metrics.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use millstream_worker::Activity;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A worker that is watched.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    slots: u32,
    activity: watch::Receiver<Activity>,
}

impl Watched {
    pub(super) const fn new(slots: u32, activity: watch::Receiver<Activity>) -> Self {
        Self { slots, activity }
    }

    fn now(&self) -> Activity {
        self.activity.borrow().clone()
    }
}

#[derive(Clone)]
struct Served {
    watched: Watched,
    registry: Arc<Registry>,
}

/// All routes of a worker.
pub(super) fn router(watched: Watched) -> Router {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(watched.clone()));
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Served {
            watched,
            registry: Arc::new(registry),
        })
}

/// Serves until `ended`.
pub(super) async fn serve(listener: TcpListener, routes: Router, ended: CancellationToken) {
    let served = axum::serve(listener, routes)
        .with_graceful_shutdown(ended.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "health checks and metrics have ended");
    }
}

/// A coordinator has accepted the worker, and it does not want to leave.
async fn readyz(State(served): State<Served>) -> Response {
    let activity = served.watched.now();
    let reason = match (activity.registered, activity.leaving) {
        (true, false) => return "ok\n".into_response(),
        (true, true) => "the worker waits for leave\n",
        (false, _) => "the worker is not connected to a coordinator\n",
    };
    (StatusCode::SERVICE_UNAVAILABLE, reason).into_response()
}

async fn metrics(State(served): State<Served>) -> Response {
    let mut text = String::new();
    if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &served.registry) {
        // Only a metric that cannot be encoded fails; writing to a string does not.
        tracing::error!(%error, "metrics cannot be encoded");
    }
    let open_metrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, open_metrics)], text).into_response()
}

impl Collector for Watched {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let activity = self.now();
        let flag = |is: bool| if is { 1.0 } else { 0.0 };
        let attempt = activity.attempt.map_or(0, |attempt| attempt.0);
        let gauges = [
            (
                "millstream_worker_registered",
                "1 while a coordinator has accepted the worker",
                flag(activity.registered),
            ),
            (
                "millstream_worker_leaving",
                "1 while the worker waits for leave",
                flag(activity.leaving),
            ),
            (
                "millstream_worker_offered_slots",
                "Slots that the worker offers",
                f64::from(self.slots),
            ),
            (
                "millstream_worker_tasks",
                "Tasks that run in the worker",
                activity.tasks as f64,
            ),
            (
                "millstream_worker_attempt",
                "The attempt whose tasks run in the worker, 0 if none do",
                attempt as f64,
            ),
            (
                "process_resident_memory_bytes",
                "Memory of the process",
                resident_bytes() as f64,
            ),
        ];
        for (name, help, value) in gauges {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        let name = "process_cpu_seconds";
        let help = "CPU time that the process has used";
        let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(cpu_seconds()).encode(metric)
    }
}

/// Source: `proc_pid_stat(5)`, `utime` and `stime`, the 14th and 15th field, in ticks of which Linux
/// shows programs 100 a second. The second field, a name in parentheses, may hold anything.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    let fields = behind_name.split_whitespace().skip(11).take(2);
    let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0
}

/// Source: `proc_pid_status(5)`, `VmRSS`, in units of 1,024 bytes.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next());
    let kibibytes: u64 = kibibytes.and_then(|text| text.parse().ok()).unwrap_or(0);
    kibibytes.saturating_mul(1_024)
}

#[cfg(test)]
mod tests {
    use millstream_types::Attempt;

    use super::*;

    fn text(activity: Activity) -> String {
        let (_sender, receiver) = watch::channel(activity);
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Watched::new(2, receiver)));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn metrics_tell_what_the_worker_does() {
        let text = text(Activity {
            registered: true,
            leaving: false,
            attempt: Some(Attempt(3)),
            tasks: 4,
        });
        for line in [
            "millstream_worker_registered 1",
            "millstream_worker_leaving 0",
            "millstream_worker_offered_slots 2",
            "millstream_worker_tasks 4",
            "millstream_worker_attempt 3",
            "process_cpu_seconds_total ",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        let memory = text
            .lines()
            .find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
        assert!(memory.unwrap().parse::<f64>().unwrap() > 1e6, "{text}");
    }

    #[test]
    fn every_metric_of_a_worker_is_explained() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        let page = std::fs::read_to_string(page).unwrap();
        let text = text(Activity::default());
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        for name in types.filter_map(|line| line.split(' ').next()) {
            assert!(page.contains(&format!("`{name}")), "{name}");
        }
    }
}
