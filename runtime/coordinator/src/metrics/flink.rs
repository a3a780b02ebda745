//! The job's metrics under Flink's names, in Flink's units and with Flink's labels
//! (`metrics.flinkNames`), as its Prometheus reporter tells them: everything is a gauge.
//!
//! Names and meanings are in `docs/flink-metrics.md`.
//! Source: Flink 1.20, "Metrics"; `PrometheusReporter`.

mod job;
mod labels;
pub(super) mod recent;
mod tasks;

use std::fmt;
use std::sync::Arc;

use millstream_spec::ValidJob;
use millstream_types::Clock;
use millstream_types::api::JobGraphReport;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::sync::watch;

use crate::Snapshot;
use labels::{Label, Names};
use recent::Recent;

/// Computes metrics from the snapshot and what tasks have said lately, at every scrape.
pub(super) struct FlinkCollector {
    names: Names,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    clock: Arc<dyn Clock>,
    recent: Arc<Recent>,
}

impl FlinkCollector {
    pub(super) fn new(
        job: &ValidJob,
        graph: &JobGraphReport,
        snapshot: watch::Receiver<Arc<Snapshot>>,
        clock: Arc<dyn Clock>,
        recent: Arc<Recent>,
    ) -> Self {
        Self {
            names: Names::new(job, graph),
            snapshot,
            clock,
            recent,
        }
    }
}

impl fmt::Debug for FlinkCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FlinkCollector")
    }
}

impl Collector for FlinkCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = Arc::clone(&self.snapshot.borrow());
        let recent = self.recent.view();
        let mut out = Out { encoder };
        job::encode(&mut out, &self.names, &snapshot, &recent, self.clock.now())?;
        tasks::encode(&mut out, &self.names, &snapshot.job, &recent)
    }
}

/// One series: its labels and its value.
type Series = (Vec<Label>, f64);

/// Writes gauges. One without a series is not mentioned.
struct Out<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl Out<'_> {
    /// `scope` is what Flink's names begin with, such as `jobmanager_job`.
    fn gauge(&mut self, scope: &str, name: &str, series: Vec<Series>) -> fmt::Result {
        if series.is_empty() {
            return Ok(());
        }
        let help = format!("{name} (scope: {scope})");
        let name = format!("flink_{scope}_{name}");
        let kind = MetricType::Gauge;
        let mut metric = self.encoder.encode_descriptor(&name, &help, None, kind)?;
        for (labels, value) in series {
            ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
