//! What sinks show, beside what the job says that it has written.
//!
//! Each sink is read back by the source connector of its kind: from where it ended before the drill to
//! where it ends after it. What is compared are counts: a record that is missing and another one that
//! is there twice are not told apart from none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_checkpoint::{StorageOptions, inspect};
use millstream_connect::{Polled, ReaderContext, SourceConnector};
use millstream_spec::connector::kafka::Empty;
use millstream_spec::connector::{FilesSource, KafkaSink, KafkaSource, StartingOffsets};
use millstream_spec::dataflow::RawFormat;
use millstream_spec::valid::{SinkConnector, SourceConnector as Kind, ValidSource};
use millstream_spec::{Format, OnError};
use millstream_types::schema::{Column, ColumnType, arrow_schema};
use millstream_types::{Failure, JobId, OperatorUid, SplitState, SubtaskIndex};
use serde::Serialize;

use super::{failed, pause};
use crate::job::LoadedJob;

/// How long to wait for a record.
const POLL: Duration = Duration::from_millis(200);

/// What became of the records of a sink during the drill.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SinkRecords {
    /// The sink.
    pub(super) sink: OperatorUid,
    /// Records that the job says it has written.
    pub(super) written: u64,
    /// Records that its readers see; nothing of a sink that nobody can read.
    pub(super) visible: Option<u64>,
    /// Records that are visible and were not written.
    pub(super) duplicates: u64,
    /// Records that were written and are not visible.
    pub(super) missing: u64,
}

/// Where every sink stood before the drill.
pub(super) struct Records {
    written: BTreeMap<OperatorUid, u64>,
    sinks: Vec<Sink>,
}

struct Sink {
    uid: OperatorUid,
    /// Reads what it shows, from where it ended; nothing if nobody can.
    reads: Option<Reads>,
}

struct Reads {
    connector: Arc<dyn SourceConnector>,
    spec: Arc<ValidSource>,
    place: Place,
}

/// Where a sink ended before the drill.
enum Place {
    /// The ends of its partitions.
    Partitions(Vec<SplitState>),
    /// Its files held so many records.
    Files(u64),
}

impl Records {
    /// Looks at all sinks of a job that does not run.
    pub(super) async fn before(loaded: &LoadedJob) -> Result<Self, Failure> {
        let mut sinks = Vec::new();
        for sink in &loaded.job.sinks {
            let reads = match reader_of(&sink.name, &sink.connector) {
                Some(spec) => Some(Reads::begin(spec).await?),
                None => None,
            };
            sinks.push(Sink {
                uid: OperatorUid(sink.name.clone()),
                reads,
            });
        }
        Ok(Self {
            written: written(loaded).await?,
            sinks,
        })
    }

    /// Looks again, and compares.
    pub(super) async fn after(
        &mut self,
        loaded: &LoadedJob,
        deadline: Duration,
    ) -> Result<Vec<SinkRecords>, Failure> {
        let now = written(loaded).await?;
        let mut all = Vec::new();
        for sink in &self.sinks {
            let of = |totals: &BTreeMap<OperatorUid, u64>| {
                totals.get(&sink.uid).copied().unwrap_or_default()
            };
            let written = of(&now).saturating_sub(of(&self.written));
            let visible = match &sink.reads {
                Some(reads) => Some(reads.count(deadline).await?),
                None => None,
            };
            all.push(SinkRecords {
                sink: sink.uid.clone(),
                written,
                visible,
                duplicates: visible.unwrap_or(written).saturating_sub(written),
                missing: written.saturating_sub(visible.unwrap_or(written)),
            });
        }
        Ok(all)
    }
}

/// Records that each operator has put out, by the newest checkpoint.
async fn written(loaded: &LoadedJob) -> Result<BTreeMap<OperatorUid, u64>, Failure> {
    let JobId { namespace, name } = &loaded.job.id;
    let storage = loaded.job.checkpoint.storage.trim_end_matches('/');
    let folder = format!("{storage}/{namespace}/{name}");
    let manifest = inspect::show(&folder, None, &StorageOptions::from_env()).await;
    let totals = manifest.map_err(Failure::from)?.totals().into_iter();
    let written = totals.map(|(uid, counters)| (uid, counters.records_out));
    Ok(written.collect())
}

/// A source that reads what a sink writes.
fn reader_of(name: &str, sink: &SinkConnector) -> Option<Arc<ValidSource>> {
    let connector = match sink {
        SinkConnector::Kafka(kafka) => Kind::Kafka(topic_of(kafka)),
        SinkConnector::Files(files) => Kind::Files(FilesSource {
            path: files.path.clone(),
        }),
        // No source reads a table, or what a sink of one's own has written.
        SinkConnector::Postgres(_)
        | SinkConnector::Custom(_)
        | SinkConnector::Print(_)
        | SinkConnector::Blackhole(_) => return None,
    };
    Some(Arc::new(ValidSource {
        name: format!("drill-{name}"),
        connector,
        format: Format::Raw(RawFormat {}),
        schema: vec![Column::new("value", ColumnType::String, true)],
        metadata: Vec::new(),
        watermark: None,
        on_error: OnError::Skip,
        parallelism: None,
    }))
}

fn topic_of(sink: &KafkaSink) -> KafkaSource {
    KafkaSource {
        bootstrap_servers: sink.bootstrap_servers.clone(),
        topics: vec![sink.topic.clone()],
        group_id: None,
        starting_offsets: StartingOffsets::Latest(Empty {}),
        bounded: false,
        partition_discovery_interval: millstream_types::duration::KubeDuration::default(),
        connect_timeout: sink.connect_timeout,
        tls: sink.tls.clone(),
        sasl: sink.sasl.clone(),
        properties: BTreeMap::new(),
    }
}

impl Reads {
    async fn begin(spec: Arc<ValidSource>) -> Result<Self, Failure> {
        let connector = millstream_connectors::source(&spec)?;
        let mut reads = Self {
            connector,
            spec,
            place: Place::Files(0),
        };
        reads.place = match &reads.spec.connector {
            Kind::Kafka(_) => Place::Partitions(reads.splits().await?),
            Kind::Files(_) | Kind::Generator(_) => Place::Files(reads.all_files().await?),
        };
        Ok(reads)
    }

    async fn splits(&self) -> Result<Vec<SplitState>, Failure> {
        let mut enumerator = self.connector.enumerator()?;
        let found = enumerator.discover(&BTreeSet::new(), true).await?;
        Ok(found.splits)
    }

    /// Records since the beginning.
    async fn count(&self, deadline: Duration) -> Result<u64, Failure> {
        match &self.place {
            Place::Files(before) => Ok(self.all_files().await?.saturating_sub(*before)),
            Place::Partitions(splits) => self.read_to_the_end(splits, deadline).await,
        }
    }

    /// Reads files from their beginning to their end.
    async fn all_files(&self) -> Result<u64, Failure> {
        let splits = self.splits().await?;
        if splits.is_empty() {
            return Ok(0);
        }
        let mut reader = self.connector.reader(self.context())?;
        reader.add_splits(splits)?;
        while reader.poll(POLL)? != Polled::End {}
        Ok(reader.snapshot().iter().map(|split| split.records).sum())
    }

    /// Reads partitions until nothing is left that a reader sees.
    async fn read_to_the_end(
        &self,
        splits: &[SplitState],
        deadline: Duration,
    ) -> Result<u64, Failure> {
        let mut enumerator = self.connector.enumerator()?;
        let mut reader = self.connector.reader(self.context())?;
        reader.add_splits(splits.to_vec())?;
        let began = Instant::now();
        loop {
            while let Polled::Records(_) = reader.poll(POLL)? {}
            let at = reader.snapshot();
            let lags = enumerator.lags(&at).await?.unwrap_or_default();
            let is_read = |lag: &millstream_types::api::SplitLag| {
                lag.pending_records == 0 && lag.held_back.is_none()
            };
            if lags.len() == at.len() && lags.iter().all(is_read) {
                return Ok(at.iter().map(|split| split.records).sum());
            }
            if began.elapsed() > deadline {
                let of = &self.spec.name;
                return Err(failed(format!(
                    "{of}: what was written cannot be read to its end within {deadline:?}: {lags:?}"
                )));
            }
            pause(POLL).await;
        }
    }

    fn context(&self) -> ReaderContext {
        ReaderContext {
            job: JobId {
                namespace: "default".to_owned(),
                name: format!("drill-{}", std::process::id()),
            },
            uid: OperatorUid(self.spec.name.clone()),
            subtask: SubtaskIndex(0),
            parallelism: 1,
            schema: arrow_schema(&self.spec.schema),
        }
    }
}
