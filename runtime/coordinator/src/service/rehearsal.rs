//! What a start would come to: the same looks that a recovery takes, by the same code, and nothing
//! claimed, reserved, committed or aborted.

use millstream_checkpoint::{ChainState, Manifest, Storage, check_files, ensure_not_reserved};
use millstream_connect::Standing;
use millstream_types::{Committable, ErrorKind, Failure, OperatorUid};
use tokio::sync::mpsc;

use crate::Options;
use crate::preflight::{self, Reach};
use crate::service::commit::{Commits, NotCommitted, Part, judge, refusal};
use crate::service::keeper::Keeper;
use crate::service::prepare::origin::{self, Basis};
use crate::service::rewind::confirmed_predecessor;

/// What a start would come to.
#[derive(Debug, Default)]
pub struct Rehearsal {
    /// What the job would go on from, with its address; nothing if it would begin empty, or where
    /// that cannot be told.
    pub point: Option<(String, Manifest)>,
    /// All that would keep it from starting, as far as it can be told.
    pub failures: Vec<Failure>,
}

/// Looks at everything that a start would look at; of files of state, whether they are there and have
/// their sizes. Whether the job has a place for all state of
/// the restore point is for the caller to tell: it is not looked at here.
///
/// With [`Reach::Local`] only the checkpoint storage is asked, and only for what the job would go
/// on from: who holds it, and what of its output is not committed yet, changes while a job runs.
///
/// # Errors
/// A connector cannot work as configured.
pub async fn rehearse(options: &Options, reach: Reach) -> Result<Rehearsal, Failure> {
    let (notes, _) = mpsc::channel(1);
    let mut keeper = Keeper::new(options, notes)?;
    keeper.rehearses = true;
    keeper.overrides.fork |= reach == Reach::Local;
    let mut rehearsal = Rehearsal::default();
    let storage = open(&keeper, reach).await;
    let chain = match &storage {
        Ok(storage) => look(&keeper, storage, reach, &mut rehearsal).await,
        Err(failure) => Err(failure.clone()),
    };
    rehearsal.failures.extend(chain.err());
    let state = rehearsal.point.as_ref().map(|(_, manifest)| manifest);
    let asked = preflight::connectors(
        &keeper.graph,
        &keeper.sources,
        &keeper.committers,
        state,
        reach,
    );
    rehearsal.failures.extend(asked.await);
    if let (Ok(storage), Reach::Live) = (&storage, reach) {
        rehearsal.failures.extend(reserved(&keeper, storage).await);
    }
    Ok(rehearsal)
}

async fn open(keeper: &Keeper, reach: Reach) -> Result<Storage, Failure> {
    let uri = &keeper.job.checkpoint.storage;
    let storage = Storage::open(uri, &keeper.storage_options).await?;
    if reach == Reach::Live {
        preflight::store(&storage).await?;
    }
    Ok(storage)
}

/// Looks at the chain and at what the job would begin with.
async fn look(
    keeper: &Keeper,
    storage: &Storage,
    reach: Reach,
    rehearsal: &mut Rehearsal,
) -> Result<(), Failure> {
    let chain = keeper.chain(storage);
    let state = chain.observe().await?;
    if reach == Reach::Live {
        let take_over = keeper.overrides.take_over;
        let refused = chain.may_claim(&keeper.holder(), take_over).await;
        rehearsal.failures.extend(refused.err().map(Failure::from));
    }
    let basis = match origin::wish(keeper, storage, Some(&state)).await {
        Ok(wish) => origin::start(keeper, storage, &state, wish).await,
        Err(failure) => Err(failure),
    };
    if reach == Reach::Live {
        let failures = uncommittable(keeper, &state, basis.as_ref().ok()).await;
        rehearsal.failures.extend(failures);
    }
    let is_committed = state.newest_is_committed();
    let folder = match &basis {
        Ok(Basis::Import(import)) => import.folder.clone(),
        _ => chain.path(),
    };
    rehearsal.point = match basis? {
        Basis::Empty => None,
        Basis::Newest(newest) if is_committed => {
            state.newest_path.zip(Some(newest.without_committables()))
        }
        Basis::Newest(newest) => state.newest_path.zip(Some(*newest)),
        Basis::Import(import) => Some((import.origin.path, import.manifest)),
    };
    if let Some((_, manifest)) = &rehearsal.point {
        check_files(manifest, &folder, &keeper.storage_options).await?;
    }
    Ok(())
}

/// Why output that is decided and not known to be committed could not be committed by a start.
async fn uncommittable(keeper: &Keeper, state: &ChainState, basis: Option<&Basis>) -> Vec<Failure> {
    let mut failures = Vec::new();
    let is_settled = state.newest_is_committed() || state.newest_is_given_up();
    if let Some(newest) = state.newest.as_ref().filter(|_| !is_settled) {
        match judged(keeper, newest).await {
            Err(NotCommitted::Aborted { .. }) if confirmed_predecessor(state).is_some() => {}
            found => failures.extend(found.err().map(NotCommitted::into_failure)),
        }
    }
    if let Some(Basis::Import(import)) = basis
        && !import.is_committed
    {
        let found = judged(keeper, &import.manifest).await;
        failures.extend(found.err().map(NotCommitted::into_failure));
    }
    failures
}

async fn judged(keeper: &Keeper, manifest: &Manifest) -> Result<(), NotCommitted> {
    let commits = Commits::of(manifest).accepting_loss_of(keeper.accept_lost_output);
    let mut parts = Vec::new();
    for (uid, committables) in &commits.by_sink {
        parts.push(part(keeper, &commits, uid, committables).await);
    }
    judge(keeper, &commits, parts).await
}

/// How one sink's part of a checkpoint stands.
async fn part(
    keeper: &Keeper,
    commits: &Commits,
    uid: &OperatorUid,
    committables: &[Committable],
) -> Result<Part, Failure> {
    let mut part = Part::default();
    let committer = match refusal(keeper, commits, uid, committables.len()) {
        Ok(Some(committer)) => committer,
        Ok(None) => return Ok(part),
        Err(failure) => return Err(failure),
    };
    for standing in committer.look_up(committables).await {
        match standing {
            Standing::Open | Standing::Committed => part.committed += 1,
            Standing::Aborted(failure) => part.aborted.push(failure),
            Standing::Unknown(failure) if failure.kind == ErrorKind::DataLoss => {
                part.lost.push(failure);
            }
            Standing::Unknown(failure) => return Err(failure),
        }
    }
    Ok(part)
}

/// Names that the sinks need and that are another job's. A sink that does not answer has said so.
async fn reserved(keeper: &Keeper, storage: &Storage) -> Vec<Failure> {
    let mut failures = Vec::new();
    for committer in keeper.committers.values() {
        for name in committer.reservations().await.unwrap_or_default() {
            let free = ensure_not_reserved(storage, &name, &keeper.job.id).await;
            failures.extend(free.err().map(Failure::from));
        }
    }
    failures
}
