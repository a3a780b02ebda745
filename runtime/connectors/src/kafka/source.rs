//! Reads topics: every partition from an explicit offset, only committed records.
//!
//! Invariants:
//! - The position of a split is the offset behind the last record that was returned, and behind
//!   everything that no reader sees when the end of the partition has been reached.
//! - No offset is chosen by librdkafka or the group: one that does not exist is an error.
//! - A bounded split ends when its position reaches its stop, not when a record with some offset
//!   arrives: the last offsets of a partition may be aborted records or markers.
//!
//! Reading order: [`position`], [`enumerator`] and [`lag`] (in the coordinator), [`reader`]
//! (in a task).

mod enumerator;
mod lag;
mod options;
mod position;
mod reader;

use std::sync::Arc;

use millstream_connect::{ReaderContext, Result, SourceConnector, SourceReader, SplitEnumerator};
use millstream_spec::ValidSource;
use millstream_spec::connector::KafkaSource;

use super::access::Access;
use super::client::Client;
use enumerator::KafkaEnumerator;
use reader::KafkaReader;

/// One configured Kafka source.
#[derive(Debug)]
pub(super) struct KafkaSourceConnector {
    pub(super) spec: Arc<ValidSource>,
    pub(super) options: KafkaSource,
    pub(super) access: Access,
}

impl SourceConnector for KafkaSourceConnector {
    fn enumerator(&self) -> Result<Box<dyn SplitEnumerator>> {
        let client = Client::new(self.access.clone())?;
        Ok(Box::new(KafkaEnumerator::new(
            self.spec.name.clone(),
            self.options.clone(),
            client,
        )))
    }

    fn reader(&self, cx: ReaderContext) -> Result<Box<dyn SourceReader>> {
        let access = self.access.clone();
        Ok(Box::new(KafkaReader::new(
            &self.spec,
            &self.options,
            access,
            &cx,
        )?))
    }
}
