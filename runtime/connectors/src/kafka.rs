//! Topics of a Kafka cluster.

use std::sync::Arc;

use millstream_operators::{Result, SinkConnector, SourceConnector};
use millstream_spec::connector::{KafkaSink, KafkaSource};
use millstream_spec::{ValidSink, ValidSource};

/// The source that reads `options.topics`.
///
/// # Errors
/// An option cannot work.
pub fn source(spec: &Arc<ValidSource>, _: &KafkaSource) -> Result<Arc<dyn SourceConnector>> {
    Err(crate::not_built(&spec.name, "kafka"))
}

/// The sink that writes to `options.topic`.
///
/// # Errors
/// An option cannot work.
pub fn sink(spec: &Arc<ValidSink>, _: &KafkaSink) -> Result<Arc<dyn SinkConnector>> {
    Err(crate::not_built(&spec.name, "kafka"))
}
