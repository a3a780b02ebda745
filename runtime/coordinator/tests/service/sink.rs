//! A sink whose transactions live in a ledger that outlives workers and coordinators, as a
//! broker's do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use millstream_operators::sink::WriterContext;
use millstream_operators::{
    CommitOutcome, Lingering, Result, SinkCommitter, SinkConnector, SinkWriter,
};
use millstream_types::{Attempt, Committable, ErrorCode, ErrorKind, Failure, JobId, OperatorUid};

/// How a transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stand {
    /// Open or prepared.
    Open,
    /// Visible.
    Committed,
    /// Gone.
    Aborted,
}

/// What a ledger was asked to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// A transaction was committed.
    Commit(String),
    /// Attempts were swept.
    Sweep(Vec<Attempt>),
}

/// All transactions that were ever begun.
#[derive(Default)]
pub(crate) struct Ledger {
    /// By name; the attempt that began it and how it stands.
    pub(crate) transactions: BTreeMap<String, (Attempt, Stand)>,
    /// What the committer was asked to do.
    pub(crate) acts: Vec<Act>,
    /// While set, every commit answers with a retry.
    pub(crate) unreachable: bool,
    /// Happens right before the next commit.
    pub(crate) before_commit: Option<BoxFuture<'static, ()>>,
    /// What preflight answers.
    pub(crate) preflight: Option<Failure>,
    /// Names that it reserves.
    pub(crate) reservations: Vec<String>,
}

impl Ledger {
    /// Names of transactions that stand like this.
    pub(crate) fn that_stand(&self, stand: Stand) -> Vec<String> {
        self.transactions
            .iter()
            .filter(|(_, (_, at))| *at == stand)
            .map(|(name, _)| name.clone())
            .collect()
    }
}

/// The sink.
#[derive(Clone, Default)]
pub(crate) struct TestSink(pub(crate) Arc<Mutex<Ledger>>);

impl SinkConnector for TestSink {
    fn writer(&self, _: WriterContext) -> Result<Box<dyn SinkWriter>> {
        unreachable!("coordinators write no records")
    }

    fn committer(&self, _: &JobId, _: &OperatorUid) -> Result<Option<Arc<dyn SinkCommitter>>> {
        Ok(Some(Arc::new(self.clone())))
    }
}

impl SinkCommitter for TestSink {
    fn preflight(&self, _: bool) -> BoxFuture<'_, Result<()>> {
        let preflight = self.0.lock().unwrap().preflight.clone();
        Box::pin(async move { preflight.map_or(Ok(()), Err) })
    }

    fn reservations(&self) -> BoxFuture<'_, Result<Vec<String>>> {
        let names = self.0.lock().unwrap().reservations.clone();
        Box::pin(async move { Ok(names) })
    }

    fn commit<'a>(&'a self, committables: &'a [Committable]) -> BoxFuture<'a, Vec<CommitOutcome>> {
        Box::pin(async move {
            let before = self.0.lock().unwrap().before_commit.take();
            if let Some(before) = before {
                before.await;
            }
            let mut ledger = self.0.lock().unwrap();
            committables
                .iter()
                .map(|committable| commit(&mut ledger, &committable.transaction.0))
                .collect()
        })
    }

    fn abort_lingering<'a>(&'a self, lingering: &'a Lingering) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            let mut ledger = self.0.lock().unwrap();
            let attempts: Vec<Attempt> = lingering.attempts.iter().map(|(a, _)| *a).collect();
            let mut aborted = 0;
            for (name, (attempt, stand)) in &mut ledger.transactions {
                let kept = lingering
                    .keep
                    .iter()
                    .any(|keep| keep.transaction.0 == *name);
                if *stand == Stand::Open && attempts.contains(attempt) && !kept {
                    *stand = Stand::Aborted;
                    aborted += 1;
                }
            }
            ledger.acts.push(Act::Sweep(attempts));
            Ok(aborted)
        })
    }
}

fn commit(ledger: &mut Ledger, name: &str) -> CommitOutcome {
    let failure = |code, kind| Failure::new(code, kind, format!("transaction {name}"));
    if ledger.unreachable {
        let failure = failure(ErrorCode::KafkaUnreachable, ErrorKind::Retryable);
        return CommitOutcome::Retry(failure);
    }
    match ledger.transactions.get_mut(name) {
        Some((_, stand)) if *stand != Stand::Aborted => {
            *stand = Stand::Committed;
            ledger.acts.push(Act::Commit(name.to_owned()));
            CommitOutcome::Committed
        }
        _ => CommitOutcome::Lost(failure(
            ErrorCode::KafkaTransactionLost,
            ErrorKind::DataLoss,
        )),
    }
}
