//! How an attempt begins: claim → read → commit → abort → import → verify → discover.
//!
//! The order is what keeps output exactly once. The claim comes first, so that no older attempt
//! can decide anything after the chain was read. What the newest checkpoint lists is committed
//! before anything is aborted. Both happen before any task of the new attempt runs.

mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream_checkpoint::{
    ChainState, CommitPermit, Holder, Manifest, ReleaseReason, Storage, read_savepoint, reserve,
};
use millstream_operators::{Lingering, SplitEnumerator};
use millstream_types::{Attempt, Committable, ErrorKind, Failure, OperatorUid};

use crate::Restore;
use crate::job::{Event, Prepared};
use crate::service::commit::{Commits, commit_all, ensure_held};
use crate::service::keeper::Keeper;
use state::{Beginning, Import, check_compatible, own_checkpoint};

/// Between two looks at what older attempts have open.
const REVISIT_INTERVAL: Duration = Duration::from_secs(10);
/// How many older attempts are looked at again. A worker hears of a restart long before the job
/// has restarted this often, or it is cut off and hears nothing until its next message is refused.
const REVISITED_MAX: usize = 16;

/// The enumerators of an attempt, with the splits that they know.
pub(super) type Enumerators = BTreeMap<OperatorUid, (Box<dyn SplitEnumerator>, BTreeSet<String>)>;

/// Begins an attempt.
pub(super) async fn prepare(keeper: &mut Keeper) -> (Event, Enumerators) {
    match try_prepare(keeper).await {
        Ok(Start::Attempt(prepared, enumerators)) => (Event::Prepared(prepared), enumerators),
        Ok(Start::Completed(manifest)) => (Event::AlreadyCompleted(manifest), Enumerators::new()),
        Err(failure) => (Event::PrepareFailed(failure), Enumerators::new()),
    }
}

/// What a start comes to.
enum Start {
    /// A new attempt.
    Attempt(Box<Prepared>, Enumerators),
    /// Nothing: the chain says that the job has completed, with this checkpoint.
    Completed(Option<Box<Manifest>>),
}

async fn try_prepare(keeper: &mut Keeper) -> Result<Start, Failure> {
    let storage = open(keeper).await?;
    if let Some(state) = completed(keeper, &storage).await? {
        return Ok(Start::Completed(state.newest.map(Box::new)));
    }
    let import = read_import(keeper).await?;
    let state = claim(keeper, &storage).await?;
    resolve(keeper, &state, import.as_ref()).await?;
    let mut beginning = begin(keeper, &state, import).await?;
    let mut enumerators = Enumerators::new();
    discover(keeper, &mut beginning, &mut enumerators).await?;
    if beginning.is_new() {
        decide(keeper, &mut beginning).await?;
    }
    keeper.restore = Restore::Latest;
    let prepared = beginning.into_prepared(&enumerators);
    Ok(Start::Attempt(Box::new(prepared), enumerators))
}

/// Opens and checks storage and sinks, once per process.
async fn open(keeper: &mut Keeper) -> Result<Storage, Failure> {
    if let Some(storage) = &keeper.storage {
        return Ok(storage.clone());
    }
    let uri = keeper.job.checkpoint.storage.clone();
    keeper.note(format!("opens {uri}"));
    let storage = Storage::open(&uri, &keeper.storage_options).await?;
    storage.probe().await?;
    for (uid, committer) in &keeper.committers {
        keeper.note(format!("checks sink {uid}"));
        committer.preflight().await?;
        for name in committer.reservations().await? {
            let identity = keeper.job.identity.as_deref();
            reserve(&storage, &name, &keeper.job.id, identity).await?;
        }
    }
    keeper.storage = Some(storage.clone());
    Ok(storage)
}

/// The chain, if it says that the job has completed and nobody wants it anew.
async fn completed(keeper: &Keeper, storage: &Storage) -> Result<Option<ChainState>, Failure> {
    if keeper.claimed.is_some() || keeper.restore != Restore::Latest {
        return Ok(None);
    }
    keeper.note("reads the chain");
    let state = keeper.chain(storage).observe().await?;
    let completed = state.released == Some(ReleaseReason::Completed) && state.newest_is_committed();
    Ok(completed.then_some(state))
}

/// Reads what the job is to be started from, before anything is changed: it may not be there.
async fn read_import(keeper: &Keeper) -> Result<Option<Import>, Failure> {
    let Restore::Path(path) = &keeper.restore else {
        return Ok(None);
    };
    keeper.note(format!("reads {path}"));
    let manifest = read_savepoint(path, &keeper.storage_options).await?;
    check_compatible(&keeper.graph, &manifest)?;
    Ok(Some(Import {
        path: path.clone(),
        manifest,
    }))
}

/// Claims the chain for the next attempt. A coordinator that was deposed does not come back by
/// claiming: whoever claimed after it goes on.
async fn claim(keeper: &mut Keeper, storage: &Storage) -> Result<ChainState, Failure> {
    if keeper.claimed.is_some() {
        ensure_held(keeper).await?;
    }
    keeper.note("claims the chain");
    let holder = Holder {
        name: keeper.holder.clone(),
        build: keeper.build.clone(),
        identity: keeper.job.identity.clone(),
        parallelism: keeper.job.parallelism,
    };
    fail::fail_point!("coordinator::before-claim", |_| std::process::abort());
    let now = keeper.clock.now();
    let (claimed, state) = keeper.chain(storage).claim(holder, now).await?;
    fail::fail_point!("coordinator::after-claim", |_| std::process::abort());
    tracing::info!(attempt = %claimed.attempt(), newest = ?state.newest_path, "chain claimed");
    keeper.claimed = Some(claimed);
    Ok(state)
}

/// Commits what the newest checkpoint lists and aborts everything else that older attempts have
/// left.
async fn resolve(
    keeper: &mut Keeper,
    state: &ChainState,
    import: Option<&Import>,
) -> Result<(), Failure> {
    let permit = keeper.claimed()?.recovery_permit();
    if let (Some(_), Some(newest)) = (&permit, &state.newest) {
        keeper.note(format!("commits checkpoint {}", newest.checkpoint));
        commit_all(keeper, Commits::of(newest)).await?;
    }
    let lingering = state.lingering();
    if !lingering.is_empty() {
        abort_lingering(keeper, lingering.clone(), &kept(state, import), false).await?;
    }
    keeper.revisit = Revisit::new(state);
    confirm(keeper, permit, !lingering.is_empty()).await
}

/// Transactions that must not be aborted, by sink: those that the newest checkpoint lists, and
/// those of what the job is to be started from.
fn kept(state: &ChainState, import: Option<&Import>) -> BTreeMap<OperatorUid, Vec<Committable>> {
    let mut keep: BTreeMap<OperatorUid, Vec<Committable>> = BTreeMap::new();
    let imported = import.map(|import| &import.manifest);
    for manifest in state.newest.iter().chain(imported) {
        for (uid, committables) in Commits::of(manifest).by_sink {
            keep.entry(uid).or_default().extend(committables);
        }
    }
    keep
}

async fn abort_lingering(
    keeper: &Keeper,
    attempts: Vec<(Attempt, u32)>,
    keep: &BTreeMap<OperatorUid, Vec<Committable>>,
    only_open: bool,
) -> Result<(), Failure> {
    fail::fail_point!("coordinator::before-abort", |_| std::process::abort());
    for (uid, committer) in &keeper.committers {
        if !only_open {
            keeper.note(format!(
                "aborts what older attempts have left open in sink {uid}"
            ));
        }
        let lingering = Lingering {
            attempts: attempts.clone(),
            keep: keep.get(uid).cloned().unwrap_or_default(),
            only_open,
        };
        let aborted = committer.abort_lingering(&lingering).await?;
        if aborted > 0 {
            tracing::info!(sink = %uid, aborted, "transactions of older attempts aborted");
        }
    }
    fail::fail_point!("coordinator::after-abort", |_| std::process::abort());
    Ok(())
}

/// When older attempts are looked at again, and which.
#[derive(Debug, Default)]
pub(super) struct Revisit {
    attempts: Vec<(Attempt, u32)>,
    /// Time of the keeper's monotonic clock from which on it is due.
    due: Duration,
}

impl Revisit {
    /// The newest attempts before this one: those whose workers may still be somewhere.
    fn new(state: &ChainState) -> Self {
        let newest = state.claims.iter().rev().take(REVISITED_MAX);
        Self {
            attempts: newest
                .map(|claim| (claim.attempt, claim.holder.parallelism))
                .collect(),
            due: Duration::ZERO,
        }
    }
}

/// Looks at older attempts again, when a checkpoint of this one is committed. A writer that does
/// not know that its attempt is over, because its process was cut off or frozen, may open a
/// transaction behind the first sweep, which would hide everything behind it until its timeout.
pub(super) async fn revisit(
    keeper: &mut Keeper,
    listed: &BTreeMap<OperatorUid, Vec<Committable>>,
    is_last: bool,
) {
    let now = keeper.clock.monotonic();
    if keeper.revisit.attempts.is_empty() || (now < keeper.revisit.due && !is_last) {
        return;
    }
    keeper.revisit.due = now.saturating_add(REVISIT_INTERVAL);
    let attempts = keeper.revisit.attempts.clone();
    if let Err(failure) = abort_lingering(keeper, attempts, listed, true).await {
        // Nothing is lost, and a later checkpoint comes by here again.
        tracing::warn!(%failure, "older attempts are not swept again");
    }
}

async fn confirm(
    keeper: &mut Keeper,
    permit: Option<CommitPermit>,
    swept: bool,
) -> Result<(), Failure> {
    if permit.is_none() && !swept {
        return Ok(());
    }
    let claimed = keeper.claimed()?;
    let older = Attempt(claimed.attempt().0.saturating_sub(1));
    claimed.restate_commit(permit, older).await?;
    Ok(())
}

/// What the attempt begins with, before its sources are asked.
async fn begin(
    keeper: &mut Keeper,
    state: &ChainState,
    import: Option<Import>,
) -> Result<Beginning, Failure> {
    let place = (keeper.claimed()?.attempt(), state.next_checkpoint);
    if let Some(import) = import {
        // A checkpoint of this chain lists nothing that is not committed by now.
        if !own_checkpoint(state, &import) {
            commit_all(keeper, Commits::of(&import.manifest)).await?;
        }
        return Ok(Beginning::imported(keeper, import, place));
    }
    match &state.newest {
        Some(newest) if keeper.restore == Restore::Latest => {
            check_compatible(&keeper.graph, newest)?;
            let path = state.newest_path.clone().unwrap_or_default();
            Ok(Beginning::restored(newest.clone(), path, place))
        }
        _ => Ok(Beginning::empty(keeper, place)),
    }
}

/// Makes the enumerators and asks them: is it still what the checkpoint was taken of, and what is
/// new?
async fn discover(
    keeper: &Keeper,
    beginning: &mut Beginning,
    enumerators: &mut Enumerators,
) -> Result<(), Failure> {
    for (uid, source) in &keeper.sources {
        keeper.note(format!("asks source {uid} for its splits"));
        let mut enumerator = source.enumerator()?;
        if let Some(identity) = beginning.identities.get(uid) {
            enumerator.verify(identity).await?;
        }
        let (mut known, first) = beginning.known(uid);
        let found = enumerator.discover(&known, first).await?;
        known.extend(found.splits.iter().map(|split| split.split.clone()));
        beginning.discovered(uid, found, first, keeper.job.parallelism);
        enumerators.insert(uid.clone(), (enumerator, known));
    }
    Ok(())
}

/// Writes where the job begins into the chain, so that every later attempt begins at the same
/// place: starting options such as `latest` are resolved once.
async fn decide(keeper: &mut Keeper, beginning: &mut Beginning) -> Result<(), Failure> {
    let manifest = beginning.seal(keeper);
    keeper.note(format!("writes checkpoint {}", manifest.checkpoint));
    fail::fail_point!("coordinator::before-begin", |_| std::process::abort());
    let permit = keeper.claimed()?.decide(manifest).await?;
    fail::fail_point!("coordinator::after-begin", |_| std::process::abort());
    beginning.path = keeper.slot_path(permit.decided().slot);
    match keeper
        .claimed()?
        .committed(permit)
        .await
        .map_err(Failure::from)
    {
        Err(failure) if failure.kind == ErrorKind::Fenced => Err(failure),
        Err(failure) => {
            // It lists nothing, so nothing is to be confirmed.
            tracing::warn!(%failure, "first checkpoint is not confirmed in the chain");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}
