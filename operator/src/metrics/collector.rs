//! States of jobs as labels. Only the state that a job is in has a series, so a thousand jobs are
//! a thousand lines, and a job that is gone leaves none behind.

use std::fmt;
use std::sync::PoisonError;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::States;

/// Computes `millstream_streamjob_state` at every scrape.
#[derive(Debug)]
pub(super) struct JobStates {
    states: States,
}

impl JobStates {
    pub(super) const fn new(states: States) -> Self {
        Self { states }
    }
}

impl Collector for JobStates {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(
            "streamjob_state",
            "1 for the state that a StreamJob is in",
            None,
            MetricType::Gauge,
        )?;
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        for ((namespace, name), state) in states.iter() {
            let state = format!("{state:?}");
            let labels = [
                ("namespace", namespace),
                ("streamjob", name),
                ("state", &state),
            ];
            ConstGauge::new(1_i64).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
