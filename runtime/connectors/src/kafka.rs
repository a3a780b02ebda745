//! Topics of a Kafka cluster: a source, and a sink whose transactions survive their producer.
//!
//! Two clients speak to the cluster. librdkafka moves the records ([`ffi`] is the only place with
//! `unsafe` code); a small client of our own ([`client`]) does what librdkafka has no call for.
//! Both are set up from one [`access`].
//!
//! Invariants:
//! - A transactional id is never initialised while a checkpoint may still commit a transaction of
//!   it; one (id, producer id, epoch) carries one transaction.
//! - Every partition is read from an explicit offset that a checkpoint can keep; nothing depends
//!   on the broker's idea of where a group stands.
//!
//! Reading order: [`access`], [`client`], [`transaction`], [`committer`], [`sink`], [`source`].

mod access;
mod client;
mod committer;
mod failure;
mod ffi;
mod headers;
mod sink;
mod source;
mod transaction;

use std::sync::Arc;

use millstream_connect::{Result, SinkConnector, SourceConnector};
use millstream_spec::connector::{KafkaSink, KafkaSource};
use millstream_spec::{ValidSink, ValidSource};

use access::Access;
use sink::KafkaSinkConnector;
#[cfg(feature = "simulation")]
pub use sink::SimulatedSlots;
use source::KafkaSourceConnector;

/// A topic, in words that are the same for everybody who reads or writes it.
fn place(cluster: &str, topic: &str) -> String {
    format!("topic `{topic}` of cluster `{cluster}`")
}

/// The source that reads `options.topics`.
///
/// # Errors
/// An option cannot work.
pub fn source(spec: &Arc<ValidSource>, options: &KafkaSource) -> Result<Arc<dyn SourceConnector>> {
    let access = Access::new(
        &spec.name,
        &options.bootstrap_servers,
        (options.tls.as_ref(), options.sasl.as_ref()),
        options.connect_timeout.0,
    )?;
    Ok(Arc::new(KafkaSourceConnector {
        spec: Arc::clone(spec),
        options: options.clone(),
        access,
    }))
}

/// The sink that writes to `options.topic`.
///
/// # Errors
/// An option cannot work.
pub fn sink(spec: &Arc<ValidSink>, options: &KafkaSink) -> Result<Arc<dyn SinkConnector>> {
    let access = Access::new(
        &spec.name,
        &options.bootstrap_servers,
        (options.tls.as_ref(), options.sasl.as_ref()),
        options.connect_timeout.0,
    )?;
    Ok(Arc::new(KafkaSinkConnector {
        spec: Arc::clone(spec),
        options: options.clone(),
        access,
    }))
}
