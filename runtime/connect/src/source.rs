//! The doors of a source: enumerator (one per job, in the coordinator) and reader (one per
//! subtask, on its task thread).

use std::collections::BTreeSet;
use std::time::Duration;

use arrow_schema::SchemaRef;
use futures::future::BoxFuture;
use millstream_types::api::SplitLag;
use millstream_types::snapshot::Counters;
use millstream_types::{Batch, CheckpointId, JobId, Opaque, OperatorUid, SplitState, SubtaskIndex};

use crate::Result;

pub use millstream_types::schema::dead_letter_schema;

/// One configured source of a job: makes its enumerator and readers.
pub trait SourceConnector: Send + Sync {
    /// The part that runs in the coordinator.
    fn enumerator(&self) -> Result<Box<dyn SplitEnumerator>>;

    /// The part that runs in one subtask. It has no splits yet.
    fn reader(&self, cx: ReaderContext) -> Result<Box<dyn SourceReader>>;
}

/// What a reader is told when it is made.
#[derive(Debug, Clone)]
pub struct ReaderContext {
    /// The job it belongs to.
    pub job: JobId,
    /// The source's node.
    pub uid: OperatorUid,
    /// Which copy of it.
    pub subtask: SubtaskIndex,
    /// How many copies there are.
    pub parallelism: u32,
    /// Columns that anybody downstream uses, in this order: what batches must have. A projection
    /// of the source's declared schema.
    pub schema: SchemaRef,
}

/// Finds the splits of a source. Runs in the coordinator.
pub trait SplitEnumerator: Send {
    /// Finds all splits that are not in `known`, each with an explicit position.
    ///
    /// On the first discovery of a job (`first`), positions follow the source's starting
    /// options, resolved once to concrete places. Splits found later start at their beginning,
    /// or records written between their creation and discovery would be lost.
    ///
    /// # Errors
    /// The source cannot be reached before the connector's own deadline, or does not exist.
    fn discover<'a>(
        &'a mut self,
        known: &'a BTreeSet<String>,
        first: bool,
    ) -> BoxFuture<'a, Result<Discovery>>;

    /// Checks that what lies behind the source's name is still what a checkpoint was taken of
    /// ([`Discovery::identity`]).
    ///
    /// # Errors
    /// It is another cluster, topic or directory.
    fn verify<'a>(&'a mut self, identity: &'a Opaque) -> BoxFuture<'a, Result<()>>;

    /// Fits the splits of a checkpoint to the source as it is configured now, before it is asked
    /// for new ones. All of them are still read.
    ///
    /// # Errors
    /// A position cannot be understood, or the source cannot be reached.
    fn fit(&mut self, splits: Vec<SplitState>) -> BoxFuture<'_, Result<Vec<SplitState>>> {
        Box::pin(async move { Ok(splits) })
    }

    /// How far splits are from being read to their end; `None` if the source has no such measure.
    /// For people and metrics only.
    ///
    /// # Errors
    /// The source cannot be reached, or a position cannot be understood.
    fn lags<'a>(
        &'a mut self,
        splits: &'a [SplitState],
    ) -> BoxFuture<'a, Result<Option<Vec<SplitLag>>>> {
        let _ = splits;
        Box::pin(async { Ok(None) })
    }

    /// What it has found behind its names, by [`discover`](Self::discover) or
    /// [`verify`](Self::verify): a text for each place, the same for everybody who reads or
    /// [writes](crate::SinkCommitter::writes) there, however it is addressed. Only of places whose
    /// readers see what is written while they read.
    fn reads(&self) -> Vec<String> {
        Vec::new()
    }

    /// How often to look for new splits; `None` if there can be none.
    fn interval(&self) -> Option<Duration>;

    /// Whether it asks nobody outside the process, so that it can be part of every check.
    fn is_local(&self) -> bool {
        false
    }
}

/// What an enumerator found.
#[derive(Debug, Clone, Default)]
pub struct Discovery {
    /// New splits.
    pub splits: Vec<SplitState>,
    /// What lies behind the source's name (cluster id, topic ids); kept in the manifest.
    pub identity: Option<Opaque>,
}

/// Reads splits. Owned and called by one task thread.
pub trait SourceReader: Send {
    /// Takes over more splits, each read from its position. Finished ones are kept for the
    /// snapshot and not read.
    ///
    /// # Errors
    /// A position cannot be understood or read from.
    fn add_splits(&mut self, splits: Vec<SplitState>) -> Result<()>;

    /// Returns what is there, waiting at most `timeout` for the first record. At most
    /// [`MAX_BATCH_ROWS`](millstream_types::batch::MAX_BATCH_ROWS) rows.
    ///
    /// # Errors
    /// Reading failed for good, or a record is corrupt and the source says `onError: Fail`.
    fn poll(&mut self, timeout: Duration) -> Result<Polled>;

    /// Where every split stands behind the last record that `poll` returned.
    fn snapshot(&mut self) -> Vec<SplitState>;

    /// Totals of this reader since the last [`add_splits`](Self::add_splits) of its attempt;
    /// the task adds them to the restored ones.
    fn counters(&self) -> Counters;

    /// How long it has waited for records within [`poll`](Self::poll) calls that returned some,
    /// since it was made. For people: it tells how busy a task is.
    fn waited(&self) -> Duration {
        Duration::ZERO
    }

    /// The checkpoint is decided. For telling the outside how far the job is; a failure to do so
    /// is the reader's to log and count, never the job's.
    fn completed(&mut self, checkpoint: CheckpointId) {
        let _ = checkpoint;
    }

    /// The reader has just been asked for the snapshot of `checkpoint`; for those who need the
    /// number later in [`completed`](Self::completed).
    fn snapshotted(&mut self, checkpoint: CheckpointId) {
        let _ = checkpoint;
    }
}

/// Answer of [`SourceReader::poll`].
#[derive(Debug, Clone, PartialEq)]
pub enum Polled {
    /// Records, and records that could not be decoded.
    Records(SourceOutput),
    /// Nothing for now.
    Nothing,
    /// All splits are bounded and read to their end. Not while there are none.
    End,
}

/// What one poll returned.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SourceOutput {
    /// Decoded records, in the columns of [`ReaderContext::schema`].
    pub batch: Option<Batch>,
    /// Which split the rows of `batch` came from, in order; the row counts add up to its rows.
    pub runs: Vec<SplitRun>,
    /// Records for the dead-letter output, in [`dead_letter_schema`].
    pub dead_letters: Option<Batch>,
}

/// Rows in a row of one split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitRun {
    /// Index of the split in [`SourceReader::snapshot`].
    pub split: usize,
    /// Number of rows.
    pub rows: usize,
}
