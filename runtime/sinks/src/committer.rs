//! The half of a transactional sink that runs in the coordinator.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use millstream_connect::{
    CommitOutcome, KnownTransaction, Lingering, Result, SinkCommitter, Standing,
};
use millstream_types::{Attempt, Committable, ErrorCode, ErrorKind, Failure, Opaque};
use serde::{Deserialize, Serialize};

use crate::client::blocking;
use crate::context::SinkContext;
use crate::id::{TransactionId, family, prefix};
use crate::transactional::{Open, TwoPhaseCommit};

/// Ends transactions. One call at a time reaches the sink.
pub(crate) struct Committer<S> {
    cx: SinkContext,
    open: Arc<Open<S>>,
    /// Made when it is first needed.
    sink: Arc<Mutex<Option<S>>>,
}

/// What all transactions of a sink have in common, as the chain keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Family {
    /// Where they lie.
    place: String,
    /// What their names begin with.
    prefix: String,
}

impl Family {
    fn read(family: &Opaque) -> Option<Self> {
        serde_json::from_str(&family.0).ok()
    }
}

impl<S: TwoPhaseCommit> Committer<S> {
    pub(crate) fn new(cx: SinkContext, open: Arc<Open<S>>) -> Self {
        Self {
            cx,
            open,
            sink: Arc::new(Mutex::new(None)),
        }
    }

    /// Has the sink do something on a thread that may block.
    fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut S) -> Result<T> + Send + 'static,
    ) -> BoxFuture<'static, Result<T>> {
        let (cx, open, sink) = (
            self.cx.clone(),
            Arc::clone(&self.open),
            Arc::clone(&self.sink),
        );
        let run = move || {
            // One that has panicked is not used again.
            let mut held = sink.lock().unwrap_or_else(PoisonError::into_inner);
            let mut sink = match held.take() {
                Some(sink) => sink,
                None => open(&cx)?,
            };
            let done = work(&mut sink);
            *held = Some(sink);
            done
        };
        blocking(run).boxed()
    }

    fn family_prefix(&self) -> String {
        family(&self.cx.job, &self.cx.sink)
    }

    /// What the names of transactions of these attempts begin with.
    fn prefix_of(&self, lingering: &Lingering) -> String {
        let former = lingering.family.as_ref().and_then(Family::read);
        let family = former.map_or_else(|| self.family_prefix(), |former| former.prefix);
        prefix(&family, lingering.lineage.as_ref())
    }
}

/// Reads a committable.
fn transaction<S: TwoPhaseCommit>(committable: &Committable) -> Result<S::Transaction> {
    let text = &committable.transaction.0;
    serde_json::from_str(text).map_err(|error| {
        let message =
            format!("the checkpoint has a transaction that cannot be read: {error}: {text}");
        Failure::new(ErrorCode::CorruptObject, ErrorKind::CorruptData, message)
    })
}

/// The attempts of a question: everything up to the newest of them is over.
fn newest(lingering: &Lingering) -> Option<Attempt> {
    lingering.attempts.iter().map(|(attempt, _)| *attempt).max()
}

/// The transactions of attempts that are over, each with whether it is to be kept.
fn leftovers<S: TwoPhaseCommit>(
    sink: &mut S,
    prefix: &str,
    lingering: &Lingering,
) -> Result<Vec<(S::Transaction, Option<usize>)>> {
    let Some(newest) = newest(lingering) else {
        return Ok(Vec::new());
    };
    let kept = lingering.keep.iter().map(|kept| {
        let transaction = transaction::<S>(kept)?;
        Ok(S::name(&transaction).to_owned())
    });
    let kept: Vec<String> = kept.collect::<Result<_>>()?;
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for orphan in sink.orphans(prefix)? {
        let name = S::name(&orphan);
        let is_older = name.starts_with(prefix)
            && TransactionId::parse(name).is_some_and(|id| id.attempt <= newest);
        if is_older && seen.insert(name.to_owned()) {
            let place = kept.iter().position(|kept| kept == name);
            found.push((orphan, place));
        }
    }
    Ok(found)
}

impl<S: TwoPhaseCommit> SinkCommitter for Committer<S> {
    fn preflight(&self, has_run: bool) -> BoxFuture<'_, Result<()>> {
        self.with(move |sink| {
            sink.check()?;
            sink.set_up(has_run)
        })
    }

    fn inspect(&self, _: bool) -> BoxFuture<'_, Result<()>> {
        self.with(S::check)
    }

    fn reservations(&self) -> BoxFuture<'_, Result<Vec<String>>> {
        // Names carry the job and its chain.
        std::future::ready(Ok(Vec::new())).boxed()
    }

    fn commit<'a>(&'a self, committables: &'a [Committable]) -> BoxFuture<'a, Vec<CommitOutcome>> {
        let owned = committables.to_vec();
        let done = self.with(move |sink| {
            let commit = |one: &Committable| match transaction::<S>(one) {
                Ok(transaction) => sink.commit(&transaction),
                Err(failure) => CommitOutcome::Refused(failure),
            };
            Ok(owned.iter().map(commit).collect::<Vec<_>>())
        });
        async move {
            done.await.unwrap_or_else(|failure| {
                let again = |_| CommitOutcome::Retry(failure.clone());
                committables.iter().map(again).collect()
            })
        }
        .boxed()
    }

    fn look_up<'a>(&'a self, committables: &'a [Committable]) -> BoxFuture<'a, Vec<Standing>> {
        let owned = committables.to_vec();
        let done = self.with(move |sink| {
            let look = |one: &Committable| match transaction::<S>(one) {
                Ok(transaction) => sink.standing(&transaction),
                Err(failure) => Standing::Unknown(failure),
            };
            Ok(owned.iter().map(look).collect::<Vec<_>>())
        });
        async move {
            done.await.unwrap_or_else(|failure| {
                let unknown = |_| Standing::Unknown(failure.clone());
                committables.iter().map(unknown).collect()
            })
        }
        .boxed()
    }

    fn family(&self) -> BoxFuture<'_, Result<Option<Opaque>>> {
        let prefix = self.family_prefix();
        let place = self.with(S::place);
        async move {
            let Some(place) = place.await? else {
                return Ok(None);
            };
            let family = serde_json::to_string(&Family { place, prefix });
            let family = family.map_err(|error| {
                let message = format!("the sink's place cannot be written: {error}");
                Failure::new(ErrorCode::SinkFailed, ErrorKind::Internal, message)
            })?;
            Ok(Some(Opaque(family)))
        }
        .boxed()
    }

    fn reaches<'a>(&'a self, family: &'a Opaque) -> BoxFuture<'a, Result<bool>> {
        let Some(former) = Family::read(family) else {
            return std::future::ready(Ok(false)).boxed();
        };
        let place = self.with(S::place);
        async move { Ok(place.await? == Some(former.place)) }.boxed()
    }

    fn abort_lingering<'a>(&'a self, lingering: &'a Lingering) -> BoxFuture<'a, Result<u64>> {
        let (prefix, lingering) = (self.prefix_of(lingering), lingering.clone());
        self.with(move |sink| {
            let over = newest(&lingering);
            sink.fence(&prefix, &|id| Some(id.attempt) <= over)?;
            let mut aborted = 0;
            for (orphan, keep) in leftovers(sink, &prefix, &lingering)? {
                if keep.is_none() {
                    sink.abort(&orphan)?;
                    aborted += 1;
                }
            }
            Ok(aborted)
        })
    }

    fn list<'a>(&'a self, of: &'a Lingering) -> BoxFuture<'a, Result<Vec<KnownTransaction>>> {
        let (prefix, of) = (self.prefix_of(of), of.clone());
        self.with(move |sink| {
            let found = leftovers(sink, &prefix, &of)?;
            let known = |(orphan, keep): (S::Transaction, Option<usize>)| KnownTransaction {
                id: S::name(&orphan).to_owned(),
                producer_id: -1,
                epoch: 0,
                state: "Prepared".to_owned(),
                is_open: true,
                began_at: None,
                timeout_ms: 0,
                partitions: Vec::new(),
                listed_by: keep
                    .and_then(|at| of.keep.get(at))
                    .map(|one| one.checkpoint),
            };
            Ok(found.into_iter().map(known).collect())
        })
    }

    fn abort<'a>(&'a self, transaction: &'a KnownTransaction) -> BoxFuture<'a, Result<bool>> {
        let name = transaction.id.clone();
        self.with(move |sink| {
            let found = sink.orphans(&name)?;
            let one = found.iter().find(|one| S::name(one) == name);
            one.map_or(Ok(false), |one| sink.abort(one).map(|()| true))
        })
    }
}
