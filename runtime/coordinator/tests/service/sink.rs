//! A sink whose transactions live in a ledger that outlives workers and coordinators, as a
//! broker's do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use millstream_connect::sink::WriterContext;
use millstream_connect::{
    CommitOutcome, Lingering, Result, SinkCommitter, SinkConnector, SinkWriter, Standing,
};
use millstream_types::{
    Attempt, Committable, ErrorCode, ErrorKind, Failure, JobId, Opaque, OperatorUid, Timestamp,
};

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
    /// Attempts were swept whose transactions had another family.
    SweepFamily(String, Vec<Attempt>),
}

/// All transactions that were ever begun.
#[derive(Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "what a test wants of the sink, in any combination"
)]
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
    /// What it says that its transactions have in common.
    pub(crate) family: Option<String>,
    /// Families that it can undo besides.
    pub(crate) reaches: Vec<String>,
    /// Whether everything that is open counts as old.
    pub(crate) is_late: bool,
    /// Whether an old transaction is given up at the moment when somebody asks for it.
    pub(crate) gives_up_when_asked: bool,
    /// Whether it can say that a transaction was aborted, and not only that it is gone.
    pub(crate) proves: bool,
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

    fn at_risk(&self, committables: &[Committable], _: Timestamp) -> Vec<Committable> {
        if self.0.lock().unwrap().is_late {
            committables.to_vec()
        } else {
            Vec::new()
        }
    }

    fn look_up<'a>(&'a self, committables: &'a [Committable]) -> BoxFuture<'a, Vec<Standing>> {
        Box::pin(async move {
            let mut ledger = self.0.lock().unwrap();
            committables
                .iter()
                .map(|committable| look_up(&mut ledger, &committable.transaction.0))
                .collect()
        })
    }

    fn family(&self) -> BoxFuture<'_, Result<Option<Opaque>>> {
        let family = self.0.lock().unwrap().family.clone().map(Opaque);
        Box::pin(async move { Ok(family) })
    }

    fn reaches<'a>(&'a self, family: &'a Opaque) -> BoxFuture<'a, Result<bool>> {
        let reaches = self.0.lock().unwrap().reaches.contains(&family.0);
        Box::pin(async move { Ok(reaches) })
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
            ledger.acts.push(match &lingering.family {
                None => Act::Sweep(attempts),
                Some(family) => Act::SweepFamily(family.0.clone(), attempts),
            });
            Ok(aborted)
        })
    }
}

fn look_up(ledger: &mut Ledger, name: &str) -> Standing {
    let gives_up = ledger.gives_up_when_asked;
    let stand = match ledger.transactions.get_mut(name) {
        Some((_, stand)) => {
            if gives_up && *stand == Stand::Open {
                *stand = Stand::Aborted;
            }
            *stand
        }
        None => Stand::Aborted,
    };
    match stand {
        Stand::Open => Standing::Open,
        Stand::Committed => Standing::Committed,
        Stand::Aborted => Standing::Aborted(lost(name)),
    }
}

fn lost(name: &str) -> Failure {
    Failure::new(
        ErrorCode::KafkaTransactionLost,
        ErrorKind::DataLoss,
        format!("transaction {name}"),
    )
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
        Some(_) if ledger.proves => CommitOutcome::Aborted(lost(name)),
        _ => CommitOutcome::Lost(lost(name)),
    }
}
