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
//! Reading order: [`decoding`] turns payloads into batches for every source that reads bytes, and
//! [`encoding`] batches into payloads for every sink that writes them; [`generator`] is the smallest
//! source; [`files`] is the smallest exactly-once pair; [`print`] and [`blackhole`] are sinks that
//! promise less; `kafka` is the big one.
//!
//! # Crash points
//! With the feature `fail/failpoints` these names can be armed; each ends the process at once:
//!
//! | name | where |
//! |---|---|
//! | `kafka-sink::flushed` | a transaction's records are all acknowledged, the sink is not prepared |
//! | `kafka-commit::sent` | a transaction's `EndTxn` is sent, its answer is not read |
//! | `files-sink::prepared` | a file is complete under its hidden name |
//! | `files-sink::before-rename` | a file is to get its visible name |
//! | `files-sink::linked` | a file has both names |
//! | `files-sink::after-rename` | a file has its visible name, and is marked as committed |

pub mod blackhole;
pub mod decoding;
pub mod encoding;
pub mod files;
pub mod generator;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod print;

use std::sync::Arc;
use std::time::Duration;

use millstream_connect::{Result, SinkConnector, SourceConnector};
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
        SourceOptions::Files(options) => Ok(files::source(spec, options)),
        SourceOptions::Generator(options) => Ok(generator::source(spec, options)),
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
        SinkOptions::Files(options) => Ok(files::sink(spec, options)),
        // It is a crate of its own.
        SinkOptions::Postgres(_) => Err(not_built(&spec.name, "postgres")),
        // So is whatever a program has registered.
        SinkOptions::Custom(_) => Err(not_built(&spec.name, "custom")),
        SinkOptions::Print(options) => Ok(print::sink(spec, options)),
        SinkOptions::Blackhole(_) => Ok(blackhole::sink()),
    }
}

/// Waits in a reader that has nothing to return.
#[expect(
    clippy::disallowed_methods,
    reason = "a reader waits on its own task thread, which runs nothing else meanwhile"
)]
fn pause(time: Duration) {
    std::thread::sleep(time);
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

#[cfg(all(test, not(feature = "kafka")))]
mod tests {
    use millstream_spec::OnError;

    use super::*;

    #[test]
    fn a_build_without_kafka_says_so() {
        let options = r#"{"bootstrapServers": "localhost:9092", "topics": ["orders"]}"#;
        let spec = ValidSource {
            parallelism: None,
            name: "orders".to_owned(),
            connector: SourceOptions::Kafka(serde_json::from_str(options).unwrap()),
            format: millstream_spec::Format::Raw(millstream_spec::dataflow::RawFormat {}),
            schema: Vec::new(),
            metadata: Vec::new(),
            watermark: None,
            on_error: OnError::Fail,
        };
        let failure = source(&Arc::new(spec)).err().unwrap();
        assert_eq!(failure.kind, ErrorKind::InvalidJob);
        assert!(failure.message.contains("--features kafka"), "{failure}");
    }
}
