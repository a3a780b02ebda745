//! A source whose splits the test adds. Positions are numbers of records.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use millstream_connect::source::ReaderContext;
use millstream_connect::{Discovery, Result, SourceConnector, SourceReader, SplitEnumerator};
use millstream_types::{ErrorCode, ErrorKind, Failure, Opaque, SplitState};

/// What lies outside the job.
#[derive(Debug, Default)]
pub(crate) struct Topic {
    /// Names of its splits.
    pub(crate) splits: Vec<String>,
    /// Where `latest` is: the position that a first discovery gives to every split.
    pub(crate) end: u64,
    /// What it is pinned to.
    pub(crate) identity: String,
    /// How often to look for more.
    pub(crate) interval: Option<Duration>,
    /// What it answers instead of its splits.
    pub(crate) failure: Option<Failure>,
    /// How often it was asked for the first time.
    pub(crate) first_discoveries: u32,
}

/// The source.
#[derive(Debug, Clone, Default)]
pub(crate) struct TestSource(pub(crate) Arc<Mutex<Topic>>);

impl SourceConnector for TestSource {
    fn enumerator(&self) -> Result<Box<dyn SplitEnumerator>> {
        Ok(Box::new(self.clone()))
    }

    fn reader(&self, _: ReaderContext) -> Result<Box<dyn SourceReader>> {
        unreachable!("coordinators read no records")
    }
}

impl SplitEnumerator for TestSource {
    fn discover<'a>(
        &'a mut self,
        known: &'a BTreeSet<String>,
        first: bool,
    ) -> BoxFuture<'a, Result<Discovery>> {
        Box::pin(async move {
            let mut topic = self.0.lock().unwrap();
            if let Some(failure) = &topic.failure {
                return Err(failure.clone());
            }
            topic.first_discoveries += u32::from(first);
            let start = if first { topic.end } else { 0 };
            let splits = topic
                .splits
                .iter()
                .filter(|split| !known.contains(*split))
                .map(|split| SplitState {
                    split: split.clone(),
                    position: Opaque(start.to_string()),
                    records: 0,
                    finished: false,
                })
                .collect();
            Ok(Discovery {
                splits,
                identity: Some(Opaque(topic.identity.clone())),
            })
        })
    }

    fn verify<'a>(&'a mut self, identity: &'a Opaque) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let now = self.0.lock().unwrap().identity.clone();
            if now == identity.0 {
                return Ok(());
            }
            Err(Failure::new(
                ErrorCode::KafkaIdentityChanged,
                ErrorKind::InvalidJob,
                format!("it was {} and is {now}", identity.0),
            ))
        })
    }

    fn interval(&self) -> Option<Duration> {
        self.0.lock().unwrap().interval
    }
}
