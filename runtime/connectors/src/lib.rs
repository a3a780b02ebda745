//! Where records come from and go to.
//!
//! One module per connector. [`source`] and [`sink`] choose by what the job file says; nobody
//! outside knows a connector by its type.
//!
//! Invariants:
//! - A reader's position is the place behind the last record it returned, whatever became of that
//!   record: decoded, skipped or sent to the dead letters.
//! - A writer's output is invisible until a committer has committed it, except where a
//!   connector's page in `docs/connectors/` says that it is at-least-once.
//!
//! Reading order: [`decoding`] turns payloads into batches for every source that reads bytes;
//! [`generator`] is the smallest source; [`files`] is the smallest exactly-once pair; [`print`]
//! and [`blackhole`] are sinks that promise less; `kafka` is the big one.

pub mod blackhole;
pub mod decoding;
#[cfg(feature = "kafka")]
pub mod kafka;

use std::sync::Arc;

use millstream_operators::{Result, SinkConnector, SourceConnector};
use millstream_spec::valid::{SinkConnector as SinkOptions, SourceConnector as SourceOptions};
use millstream_spec::{ValidSink, ValidSource};
use millstream_types::{ErrorCode, ErrorKind, Failure};

/// The connector of a source.
///
/// # Errors
/// The options cannot work, or this build lacks the connector.
pub fn source(spec: &Arc<ValidSource>) -> Result<Arc<dyn SourceConnector>> {
    match &spec.connector {
        #[cfg(feature = "kafka")]
        SourceOptions::Kafka(options) => kafka::source(spec, options),
        #[cfg(not(feature = "kafka"))]
        SourceOptions::Kafka(_) => Err(not_built(&spec.name, "kafka")),
        SourceOptions::Files(_) => Err(not_built(&spec.name, "files")),
        SourceOptions::Generator(_) => Err(not_built(&spec.name, "generator")),
    }
}

/// The connector of a sink.
///
/// # Errors
/// The options cannot work, or this build lacks the connector.
pub fn sink(spec: &Arc<ValidSink>) -> Result<Arc<dyn SinkConnector>> {
    match &spec.connector {
        #[cfg(feature = "kafka")]
        SinkOptions::Kafka(options) => kafka::sink(spec, options),
        #[cfg(not(feature = "kafka"))]
        SinkOptions::Kafka(_) => Err(not_built(&spec.name, "kafka")),
        SinkOptions::Files(_) => Err(not_built(&spec.name, "files")),
        SinkOptions::Print(_) => Err(not_built(&spec.name, "print")),
        SinkOptions::Blackhole(_) => Ok(blackhole::sink()),
    }
}

fn not_built(node: &str, connector: &str) -> Failure {
    Failure::new(
        ErrorCode::InvalidJob,
        ErrorKind::InvalidJob,
        format!(
            "`{node}` uses the {connector} connector, which this build of millstream does not \
             have: build it with `--features {connector}`"
        ),
    )
}
