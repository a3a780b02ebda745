//! Sinks whose output becomes visible with its checkpoint.

use std::sync::Arc;

use millstream_connect::{
    CommitOutcome, Result, SinkCommitter, SinkConnector, SinkWriter, Standing, WriterContext,
};
use millstream_types::{Batch, ErrorCode, ErrorKind, Failure, JobId, OperatorUid};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::committer::Committer;
use crate::context::SinkContext;
use crate::id::{TransactionId, family, prefix};
use crate::writer::Writer;

/// A sink with transactions that outlive the process that has prepared them.
///
/// One value of it writes in a subtask: [`begin`](Self::begin), [`write`](Self::write) some times,
/// [`prepare`](Self::prepare), and so on. Another one ends transactions in the coordinator:
/// [`commit`](Self::commit) and [`abort`](Self::abort) get transactions of any process, alive or not,
/// and may get one again. So a transaction is what it takes to find it, never a connection.
///
/// Nothing that was written may be visible before `commit`. A sink that commits in `prepare` shows
/// records whose checkpoint may never be decided, and shows them again when they are written again.
pub trait TwoPhaseCommit: Send + 'static {
    /// Names a prepared transaction; kept in the checkpoint.
    type Transaction: Serialize + DeserializeOwned + Send + 'static;

    /// The name that [`begin`](Self::begin) was given.
    fn name(transaction: &Self::Transaction) -> &str;

    /// Looks whether the sink can work, in the coordinator: whether the other side is there, lets it
    /// in and fits. Changes nothing.
    ///
    /// # Errors
    /// It cannot; the message says what to do.
    fn check(&mut self) -> Result<()> {
        Ok(())
    }

    /// Makes what the sink needs on the other side, in the coordinator, after
    /// [`check`](Self::check). With `has_run` a checkpoint of the job has output of this sink, so that
    /// everything must be there.
    ///
    /// # Errors
    /// It cannot be made, or is gone.
    fn set_up(&mut self, has_run: bool) -> Result<()> {
        let _ = has_run;
        Ok(())
    }

    /// Begins the transaction with this name.
    ///
    /// # Errors
    /// The other side does not take it.
    fn begin(&mut self, id: &TransactionId) -> Result<()>;

    /// Writes rows into the transaction. Returns how many bytes that were.
    ///
    /// # Errors
    /// They cannot be written; the attempt fails, and nothing more is written.
    fn write(&mut self, batch: &Batch) -> Result<u64>;

    /// Makes everything that was written durable: it can be committed and aborted by its name from now
    /// on, whatever becomes of this process. Nothing of it is visible yet. None if there is nothing to
    /// commit.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn prepare(&mut self) -> Result<Option<Self::Transaction>>;

    /// Makes a prepared transaction visible, as a whole. It may be committed already: that is no
    /// difference, and must be told from one that was aborted.
    fn commit(&mut self, transaction: &Self::Transaction) -> CommitOutcome;

    /// Undoes a prepared transaction. It may be undone already.
    ///
    /// # Errors
    /// The other side cannot be asked.
    fn abort(&mut self, transaction: &Self::Transaction) -> Result<()>;

    /// Every transaction whose name begins with this and that is not committed. Asked when an attempt
    /// begins, and now and then afterwards: what no checkpoint lists is aborted.
    ///
    /// # Errors
    /// The other side cannot be asked.
    fn orphans(&mut self, prefix: &str) -> Result<Vec<Self::Transaction>>;

    /// Keeps writers of older attempts from preparing anything more, where the other side can. A writer
    /// that is frozen or cut off does not know that its attempt is over. Asked before
    /// [`orphans`](Self::orphans); `is_over` tells whether the attempt that a name carries is over.
    ///
    /// # Errors
    /// The other side cannot be asked.
    #[expect(unused_variables, reason = "names for those who implement it")]
    fn fence(&mut self, prefix: &str, is_over: &dyn Fn(&TransactionId) -> bool) -> Result<()> {
        Ok(())
    }

    /// How a prepared transaction stands. Changes nothing.
    fn standing(&mut self, transaction: &Self::Transaction) -> Standing {
        let _ = transaction;
        Standing::Unknown(Failure::new(
            ErrorCode::InconsistentSnapshot,
            ErrorKind::Internal,
            "this sink does not tell how its transactions stand",
        ))
    }

    /// Where its transactions lie: the same text for every sink that can end them. With it, what a sink
    /// has left open that was renamed is found by those that are still there.
    ///
    /// # Errors
    /// The other side cannot be asked.
    fn place(&mut self) -> Result<Option<String>> {
        Ok(None)
    }
}

/// The connector of a job's sink. `open` makes one value for every writer and one for the coordinator;
/// it should not wait for the other side.
pub fn two_phase_commit<S, F>(open: F) -> Arc<dyn SinkConnector>
where
    S: TwoPhaseCommit,
    F: Fn(&SinkContext) -> Result<S> + Send + Sync + 'static,
{
    Arc::new(Connector {
        open: Arc::new(open),
    })
}

/// Makes a sink.
pub(crate) type Open<S> = dyn Fn(&SinkContext) -> Result<S> + Send + Sync;

struct Connector<S> {
    open: Arc<Open<S>>,
}

impl<S: TwoPhaseCommit> SinkConnector for Connector<S> {
    fn writer(&self, cx: WriterContext) -> Result<Box<dyn SinkWriter>> {
        let prefix = prefix(&family(&cx.job, &cx.uid), cx.lineage.as_ref());
        let first = TransactionId::new(prefix, cx.attempt, cx.subtask, 0);
        let sink = (self.open)(&SinkContext {
            job: cx.job.clone(),
            sink: cx.uid.clone(),
            writer: Some(cx),
        })?;
        Ok(Box::new(Writer::new(sink, first)))
    }

    fn committer(&self, job: &JobId, uid: &OperatorUid) -> Result<Option<Arc<dyn SinkCommitter>>> {
        let cx = SinkContext {
            job: job.clone(),
            sink: uid.clone(),
            writer: None,
        };
        let committer = Committer::new(cx, Arc::clone(&self.open));
        Ok(Some(Arc::new(committer)))
    }
}
