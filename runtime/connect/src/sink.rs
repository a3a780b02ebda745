//! The doors of a sink: writer (one per subtask, on its task thread) and committer (one per job,
//! in the coordinator).
//!
//! Two-phase commit is cut between them. The writer writes into a transaction and, at a barrier,
//! prepares it: durable, revocable, not visible, able to survive its process. The committer, which
//! runs where the decision is made, commits what a decided checkpoint lists. It is the same code
//! after a restart as on every ordinary checkpoint.

use std::sync::Arc;
use std::time::Duration;

use arrow_schema::SchemaRef;
use futures::future::BoxFuture;
use millstream_types::change::{Changelog, changelog, without_changes};
use millstream_types::{
    Attempt, Batch, CheckpointId, Committable, ErrorCode, ErrorKind, Failure, JobId, Lineage,
    Opaque, OperatorUid, SubtaskIndex, Timestamp,
};

use crate::Result;

/// One configured sink of a job: makes its writers and its committer.
pub trait SinkConnector: Send + Sync {
    /// The part that runs in one subtask.
    fn writer(&self, cx: WriterContext) -> Result<Box<dyn SinkWriter>>;

    /// The part that runs in the coordinator; `None` if nothing ever needs to be committed.
    fn committer(&self, job: &JobId, uid: &OperatorUid) -> Result<Option<Arc<dyn SinkCommitter>>>;
}

/// What a writer is told when it is made.
#[derive(Debug, Clone)]
pub struct WriterContext {
    /// The job it belongs to.
    pub job: JobId,
    /// The sink's node.
    pub uid: OperatorUid,
    /// The attempt; everything the writer opens carries it.
    pub attempt: Attempt,
    /// The chain that it is an attempt of: two jobs of one name differ in it. Chains of older builds
    /// have none.
    pub lineage: Option<Lineage>,
    /// Which copy of the sink.
    pub subtask: SubtaskIndex,
    /// How many copies there are.
    pub parallelism: u32,
    /// Columns of the batches that it will be given; the last one is that of changes, if the stream
    /// updates.
    pub schema: SchemaRef,
    /// Which changes the rows may be.
    pub changelog: Changelog,
}

impl WriterContext {
    /// The columns that are written: all but that of changes.
    pub fn columns(&self) -> SchemaRef {
        without_changes(&self.schema)
    }

    /// Checks that the stream only appends, for a sink that can write nothing else.
    ///
    /// # Errors
    /// It updates; the plan should have refused it.
    pub fn only_appends(&self, sink: &str) -> Result<()> {
        if !self.changelog.updates() && !changelog(&self.schema).updates() {
            return Ok(());
        }
        let message = format!(
            "sink `{sink}` only takes new rows, and is given a stream that updates; the plan should \
             have refused this job"
        );
        Err(Failure::new(
            ErrorCode::PlanMismatch,
            ErrorKind::Internal,
            message,
        ))
    }
}

/// Writes records into transactions. Owned and called by one task thread.
pub trait SinkWriter: Send {
    /// Writes records into the open transaction. May block while the other side is slower. Returns
    /// how many were written: fewer than the batch has rows, where changes of one key become one.
    ///
    /// # Errors
    /// Records cannot be written. Sticky: every later call fails too.
    fn write(&mut self, batch: &Batch) -> Result<u64>;

    /// Ends the open transaction at the barrier of `checkpoint`: everything written so far is
    /// durable when this returns. Returns what a committer needs to make it visible; nothing if
    /// nothing was written. Later writes go into a new transaction.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn prepare(&mut self, checkpoint: CheckpointId) -> Result<Vec<Committable>>;

    /// These were committed and a decided checkpoint has said so; what they hold may be freed.
    fn committed(&mut self, committables: &[Committable]) {
        let _ = committables;
    }

    /// Bytes written since this writer was made.
    fn bytes(&self) -> u64;

    /// How long it has waited for the other side to take records, since it was made. For people:
    /// it tells what holds a task up.
    fn waited(&self) -> Duration {
        Duration::ZERO
    }
}

/// Makes prepared transactions visible, or undoes them. Runs in the coordinator.
pub trait SinkCommitter: Send + Sync {
    /// Checks what can be checked before the job starts: reachability, permissions, limits,
    /// settings that cannot work together. With `has_run`, the job has a checkpoint with this sink:
    /// what the sink writes to was there, and is not made anew.
    ///
    /// # Errors
    /// The sink cannot work as configured; the message has all numbers.
    fn preflight(&self, has_run: bool) -> BoxFuture<'_, Result<()>>;

    /// As [`preflight`](Self::preflight), for somebody who only wants to know: changes nothing.
    ///
    /// # Errors
    /// As [`preflight`](Self::preflight).
    fn inspect(&self, has_run: bool) -> BoxFuture<'_, Result<()>> {
        self.preflight(has_run)
    }

    /// Names that no other job may use while this one exists (such as a transactional id
    /// prefix, with the cluster it belongs to). Reserved in the checkpoint store.
    fn reservations(&self) -> BoxFuture<'_, Result<Vec<String>>>;

    /// Commits transactions; answers in the same order. Committing one again is harmless.
    fn commit<'a>(&'a self, committables: &'a [Committable]) -> BoxFuture<'a, Vec<CommitOutcome>>;

    /// Those that the other side may have given up by `now`, the wall clock: open for more than
    /// half of the time that it allows, or since a time that cannot be right because clocks differ.
    /// Asks nobody.
    fn at_risk(&self, committables: &[Committable], now: Timestamp) -> Vec<Committable> {
        let _ = (committables, now);
        Vec::new()
    }

    /// How prepared transactions stand on the other side, in the same order. Changes nothing.
    fn look_up<'a>(&'a self, committables: &'a [Committable]) -> BoxFuture<'a, Vec<Standing>> {
        Box::pin(async move { vec![Standing::Unknown(not_looked_up()); committables.len()] })
    }

    /// What it writes to, in the words of [`SplitEnumerator::reads`](crate::SplitEnumerator::reads);
    /// `None` if nothing of the kind is ever read.
    ///
    /// # Errors
    /// The other side cannot be asked.
    fn writes(&self) -> BoxFuture<'_, Result<Option<String>>> {
        Box::pin(async { Ok(None) })
    }

    /// What all transactions of this sink have in common, as it is configured now: kept in the
    /// chain with every claim, so that those of an attempt are also found when the sink is
    /// configured otherwise or is gone. `None` if it opens none.
    ///
    /// # Errors
    /// The other side cannot be asked.
    fn family(&self) -> BoxFuture<'_, Result<Option<Opaque>>> {
        Box::pin(async { Ok(None) })
    }

    /// Whether this committer can undo what a sink of that family has left open.
    fn reaches<'a>(&'a self, family: &'a Opaque) -> BoxFuture<'a, Result<bool>> {
        let _ = family;
        Box::pin(async { Ok(false) })
    }

    /// Undoes everything that older attempts may have left open, except what `keep` names.
    /// Returns how many transactions were aborted.
    ///
    /// # Errors
    /// The other side cannot be asked; the attempt must not start.
    fn abort_lingering<'a>(&'a self, lingering: &'a Lingering) -> BoxFuture<'a, Result<u64>>;

    /// What the other side knows of transactions of attempts, for people. Changes nothing.
    ///
    /// # Errors
    /// The other side cannot be asked.
    fn list<'a>(&'a self, of: &'a Lingering) -> BoxFuture<'a, Result<Vec<KnownTransaction>>> {
        let _ = of;
        Box::pin(async { Ok(Vec::new()) })
    }

    /// Undoes one transaction that [`list`](Self::list) has shown as open, and no other one of its
    /// id. Whether it was open still.
    ///
    /// # Errors
    /// The other side cannot be asked.
    fn abort<'a>(&'a self, transaction: &'a KnownTransaction) -> BoxFuture<'a, Result<bool>> {
        let _ = transaction;
        Box::pin(async { Ok(false) })
    }
}

/// A transaction as the other side shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownTransaction {
    /// Its id.
    pub id: String,
    /// Which producer has it.
    pub producer_id: i64,
    /// Which incarnation of the producer.
    pub epoch: i16,
    /// How far it is, in the other side's words.
    pub state: String,
    /// Whether readers wait for it.
    pub is_open: bool,
    /// When it began, by the other side's clock, if it is open.
    pub began_at: Option<Timestamp>,
    /// How long the other side keeps it open, milliseconds.
    pub timeout_ms: u64,
    /// Where it has written to, if it is open.
    pub partitions: Vec<String>,
    /// The checkpoint at whose barrier it was prepared, if it is one of those to be kept.
    pub listed_by: Option<CheckpointId>,
}

/// Older attempts whose transactions may still be open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lingering {
    /// The attempts and the parallelism each ran with.
    pub attempts: Vec<(Attempt, u32)>,
    /// The chain that they are attempts of.
    pub lineage: Option<Lineage>,
    /// The family that they were opened in; the committer's own if not given.
    pub family: Option<Opaque>,
    /// Transactions that must not be touched.
    pub keep: Vec<Committable>,
    /// Touch only what is open now, and leave alone what may be opened later: for looking again
    /// and again at little cost.
    pub only_open: bool,
}

/// How a prepared transaction stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It can be committed.
    Open,
    /// It is committed.
    Committed,
    /// The other side says that it was aborted: nothing of it is visible, or ever will be.
    Aborted(Failure),
    /// It cannot be told.
    Unknown(Failure),
}

/// How a commit ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitOutcome {
    /// It is committed, now or before.
    Committed,
    /// Unknown; try again. The committer has already tried for its own deadline.
    Retry(Failure),
    /// It cannot be committed with the job as it is configured; trying again does not help. It may
    /// well be there where the job was configured otherwise.
    Refused(Failure),
    /// The other side says that it was aborted: nothing of it is visible, or ever will be.
    Aborted(Failure),
    /// Nobody knows any more what became of it: its records are lost, unless a newer attempt has
    /// taken over and dealt with it.
    Lost(Failure),
}

fn not_looked_up() -> Failure {
    Failure::new(
        ErrorCode::InconsistentSnapshot,
        ErrorKind::Internal,
        "this sink does not tell how its transactions stand",
    )
}
