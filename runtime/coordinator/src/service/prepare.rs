//! How an attempt begins: look → claim → read → commit → abort → import → verify → discover.
//!
//! The look finds what would make the start fail, so that it fails before anybody is fenced. The
//! order is what keeps output exactly once. The claim comes first, so that no older attempt
//! can decide anything after the chain was read. What the newest checkpoint lists is committed
//! before anything is aborted. Both happen before any task of the new attempt runs.

pub(super) mod origin;
mod patience;
pub(super) mod state;

use std::collections::{BTreeMap, BTreeSet};

use millstream_checkpoint::{
    Admission, ChainState, CommitPermit, Manifest, Release, ReleaseReason, Storage, read_savepoint,
    reserve,
};
use millstream_connect::SplitEnumerator;
use millstream_types::{Attempt, Bug, Deployment, ErrorKind, Failure, OperatorUid};

use crate::Restore;
use crate::job::{Event, Over, Prepared};
use crate::opened::lingering;
use crate::preflight;
use crate::service::commit::{Commits, Listed, NotCommitted, commit_all, ensure_held};
use crate::service::keeper::{Keeper, open};
use crate::service::rewind::{Rewind, commit_or_go_back};
use crate::service::sweep::{Sweep, sweep};
use origin::{Basis, Wish};
use patience::Patience;
use state::{Beginning, Import};

/// The enumerators of an attempt, with the splits that they know.
pub(super) type Enumerators = BTreeMap<OperatorUid, (Box<dyn SplitEnumerator>, BTreeSet<String>)>;

/// Begins an attempt.
pub(super) async fn prepare(keeper: &mut Keeper) -> (Event, Enumerators) {
    match try_prepare(keeper).await {
        Ok(Start::Attempt(prepared, enumerators)) => (Event::Prepared(prepared), enumerators),
        Ok(Start::Over(over)) => (Event::Over(over), Enumerators::new()),
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
    /// Nothing: the chain says that the deployment has ended.
    Over(Box<Over>),
}

async fn try_prepare(keeper: &mut Keeper) -> Result<Start, Failure> {
    let storage = open(keeper).await?;
    let is_first = keeper.claimed.is_none();
    let seen = match look(keeper, &storage).await? {
        Look::Done(start) => return Ok(*start),
        Look::ToClaim(seen) => seen,
    };
    check_sinks(keeper, &storage, seen.as_deref()).await?;
    let mut wish = origin::wish(keeper, &storage, seen.as_deref()).await?;
    let state = match claim(keeper, &storage).await? {
        Claimed::Mine(state) => *state,
        Claimed::Over(over) => return Ok(Start::Over(over)),
    };
    let resumes = state.admits(keeper.deployment) == Admission::Resume;
    if resumes {
        // Another coordinator of this deployment has begun it meanwhile.
        keeper.restore = Restore::Latest;
        wish = Wish::Newest;
    }
    let mut basis = origin::start(keeper, &storage, &state, wish).await?;
    let rewind = resolve(keeper, &state, &basis).await?;
    if resumes
        && is_first
        && rewind.is_none()
        && let Some(over) = finish_stop(keeper, &storage, &state).await?
    {
        return Ok(Start::Over(over));
    }
    let given_up = rewind.as_ref().map(|rewind| rewind.given_up.clone());
    if let (Some(rewind), Basis::Newest(_)) = (rewind, &basis) {
        basis = Basis::Import(Box::new(rewind.import));
    }
    let mut beginning = begin(keeper, &state, basis).await?;
    let mut enumerators = Enumerators::new();
    discover(keeper, &mut beginning, &mut enumerators).await?;
    if beginning.is_new() {
        decide(keeper, &mut beginning).await?;
    }
    keeper.restore = Restore::Latest;
    // From here on the chain has a checkpoint.
    keeper.expect_state = true;
    let prepared = Prepared {
        given_up,
        ..beginning.into_prepared(&enumerators, keeper.lineage())
    };
    Ok(Start::Attempt(Box::new(prepared), enumerators))
}

/// Checks the sinks and reserves the names that they need, once per process.
async fn check_sinks(
    keeper: &mut Keeper,
    storage: &Storage,
    seen: Option<&ChainState>,
) -> Result<(), Failure> {
    if keeper.sinks_are_checked {
        return Ok(());
    }
    // Which sinks have written before.
    let newest = seen.and_then(|seen| seen.newest.as_ref());
    let mut families = BTreeMap::new();
    for (uid, committer) in &keeper.committers {
        keeper.note(format!("checks sink {uid}"));
        preflight::ask_sink(uid, committer.as_ref(), &keeper.graph, newest).await?;
        if let Some(family) = committer.family().await? {
            families.insert(uid.clone(), family);
        }
        for name in committer.reservations().await? {
            let identity = keeper.job.identity.as_deref();
            reserve(storage, &name, &keeper.job.id, identity).await?;
        }
    }
    keeper.families = families;
    keeper.sinks_are_checked = true;
    Ok(())
}

/// What a look at the chain comes to.
enum Look {
    /// There is nothing to do.
    Done(Box<Start>),
    /// The chain is to be claimed; this was seen, unless it has been claimed before.
    ToClaim(Option<Box<ChainState>>),
}

/// Looks at the chain before anything is touched: whether the job has completed and nobody wants
/// it anew, and what this deployment may do.
///
/// # Errors
/// A newer deployment has come.
async fn look(keeper: &mut Keeper, storage: &Storage) -> Result<Look, Failure> {
    if keeper.claimed.is_some() {
        return Ok(Look::ToClaim(None));
    }
    keeper.note("reads the chain");
    let mut patience = Patience::default();
    loop {
        let state = keeper.chain(storage).observe().await?;
        let seen = judge(keeper, storage, state)?;
        let Look::ToClaim(Some(state)) = &seen else {
            return Ok(seen);
        };
        match patience.wait(keeper, state) {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return Ok(seen),
        }
    }
}

fn judge(keeper: &mut Keeper, storage: &Storage, state: ChainState) -> Result<Look, Failure> {
    match state.admits(keeper.deployment) {
        Admission::Begin => {
            let by_hand = keeper.deployment.is_none() && keeper.restore == Restore::Latest;
            let completed = by_hand
                && state.released() == Some(ReleaseReason::Completed)
                && state.newest_is_committed();
            if completed {
                let start = Start::Completed(state.newest.map(Box::new));
                return Ok(Look::Done(Box::new(start)));
            }
        }
        Admission::Resume => keeper.restore = Restore::Latest,
        Admission::Over => {
            if let Some(over) = over(state.clone()) {
                return Ok(Look::Done(Box::new(Start::Over(over))));
            }
        }
        Admission::Superseded(newest) => return Err(superseded(keeper, storage, newest)),
    }
    Ok(Look::ToClaim(Some(Box::new(state))))
}

fn superseded(keeper: &Keeper, storage: &Storage, newest: Deployment) -> Failure {
    Failure::from(millstream_checkpoint::Error::Superseded {
        job: keeper.job.id.clone(),
        deployment: keeper.deployment.unwrap_or_default(),
        newest,
        chain: keeper.chain(storage).path(),
    })
}

fn over(state: ChainState) -> Option<Box<Over>> {
    Some(Box::new(Over {
        attempt: state.claims.last().map(|claim| claim.attempt)?,
        release: state.release?,
        manifest: state.newest,
        checkpoints: state.checkpoints,
    }))
}

/// What an attempt to claim comes to.
enum Claimed {
    /// The chain is this attempt's; this lies below the claim.
    Mine(Box<ChainState>),
    /// The deployment has ended.
    Over(Box<Over>),
}

/// Claims the chain for the next attempt. A coordinator that was deposed does not come back by
/// claiming: whoever claimed after it goes on.
async fn claim(keeper: &mut Keeper, storage: &Storage) -> Result<Claimed, Failure> {
    let before = match &keeper.claimed {
        None => None,
        Some(claimed) => {
            claimed.ensure_there().await?;
            Some(claimed.chain())
        }
    };
    if before.is_some() {
        ensure_held(keeper).await?;
    }
    keeper.note("claims the chain");
    let holder = keeper.holder();
    fail::fail_point!("coordinator::before-claim", |_| std::process::abort());
    let now = keeper.clock.now();
    let chain = before.unwrap_or_else(|| keeper.chain(storage));
    let claim = if keeper.overrides.take_over {
        chain.take_over(holder, now).await
    } else {
        chain.claim(holder, now).await
    };
    let (claimed, state) = match claim {
        Ok(claimed) => claimed,
        Err(error @ millstream_checkpoint::Error::Over { .. }) => {
            // Another coordinator of this deployment has ended it a moment ago.
            let state = chain.observe().await?;
            return match (state.admits(keeper.deployment), over(state)) {
                (Admission::Over, Some(over)) => Ok(Claimed::Over(over)),
                _ => Err(error.into()),
            };
        }
        Err(error) => return Err(error.into()),
    };
    fail::fail_point!("coordinator::after-claim", |_| std::process::abort());
    tracing::info!(attempt = %claimed.attempt(), newest = ?state.newest_path, "chain claimed");
    keeper.begin_attempt(claimed);
    Ok(Claimed::Mine(Box::new(state)))
}

/// Commits what the newest checkpoint lists and aborts everything else that older attempts have
/// left. Where to go back to, if all of the newest checkpoint was aborted before that.
async fn resolve(
    keeper: &mut Keeper,
    state: &ChainState,
    basis: &Basis,
) -> Result<Option<Rewind>, Failure> {
    let import = match basis {
        Basis::Import(import) => Some(import.as_ref()),
        Basis::Newest(_) | Basis::Empty => None,
    };
    let permit = keeper.claimed()?.recovery_permit();
    let rewind = match (&permit, &state.newest) {
        (Some(_), Some(newest)) if !Bug::RecoveryDoesNotCommit.is_seeded() => {
            commit_or_go_back(keeper, state, newest).await?
        }
        _ => None,
    };
    let opened = lingering(state);
    if !opened.is_empty() {
        let older = Sweep {
            opened: &opened,
            keep: &kept(state, import),
            only_open: false,
        };
        sweep(keeper, older).await?;
    }
    match permit {
        Some(permit) if rewind.is_some() => {
            let claimed = keeper.claimed()?;
            let older = Attempt(claimed.attempt().0.saturating_sub(1));
            claimed.give_up(permit, older).await?;
        }
        permit => {
            // Unless the attempt decides its own beginning, this is what says that it runs tasks.
            let says = !opened.is_empty() || state.newest.is_some();
            confirm(keeper, permit, says).await?;
        }
    }
    keeper.resolved(state);
    Ok(rewind)
}

/// Finishes a stop with a savepoint that this deployment had come to and not released: the
/// checkpoint that it stops with is the newest, and the savepoint of it is written.
async fn finish_stop(
    keeper: &mut Keeper,
    storage: &Storage,
    state: &ChainState,
) -> Result<Option<Box<Over>>, Failure> {
    let Some(newest) = state
        .newest
        .as_ref()
        .filter(|newest| newest.kind.stops_job())
    else {
        return Ok(None);
    };
    let chain = keeper.chain(storage);
    let Some(savepoint) = chain.savepoint_of(&newest.taken()).await? else {
        return Ok(None);
    };
    tracing::info!(savepoint, "the job was about to stop: finishes that");
    let release = Release {
        savepoint: Some(savepoint),
        time: Some(keeper.clock.now()),
        ..ReleaseReason::Stopped.into()
    };
    let claimed = keeper.claimed()?;
    claimed.release(release.clone()).await?;
    Ok(Some(Box::new(Over {
        attempt: claimed.attempt(),
        release,
        manifest: state.newest.clone(),
        checkpoints: state.checkpoints.clone(),
    })))
}

/// Transactions that must not be aborted, by sink: those that the newest checkpoint lists, and
/// those of what the job is to be started from.
fn kept(state: &ChainState, import: Option<&Import>) -> Listed {
    let mut keep = Listed::new();
    let imported = import.filter(|import| !import.is_committed);
    let imported = imported.map(|import| &import.manifest);
    for manifest in state.newest.iter().chain(imported) {
        for (uid, committables) in Commits::of(manifest).by_sink {
            keep.entry(uid).or_default().extend(committables);
        }
    }
    keep
}

async fn confirm(
    keeper: &mut Keeper,
    permit: Option<CommitPermit>,
    says: bool,
) -> Result<(), Failure> {
    if permit.is_none() && !says {
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
    basis: Basis,
) -> Result<Beginning, Failure> {
    let place = (keeper.claimed()?.attempt(), state.next_checkpoint);
    let beginning = match basis {
        Basis::Import(import) => {
            if !import.is_committed {
                let commits = Commits::of(&import.manifest);
                let commits = commits.accepting_loss_of(keeper.accept_lost_output);
                let done = commit_all(keeper, &commits).await;
                done.map_err(NotCommitted::into_failure)?;
            }
            Beginning::imported(keeper, *import, place)
        }
        Basis::Newest(newest) => {
            let path = state.newest_path.clone().unwrap_or_default();
            let mut manifest = *newest;
            if Bug::RestoreFromOlder.is_seeded()
                && let Some(older) = state.checkpoints.iter().rev().nth(1)
                && let Ok(older) = read_savepoint(&older.path, &keeper.storage_options).await
            {
                manifest = older;
            }
            Beginning::restored(manifest, path, place)
        }
        Basis::Empty => Beginning::empty(keeper, place),
    };
    Ok(beginning.behind(state.newest.as_ref()))
}

/// Makes the enumerators and asks them: is it still what the checkpoint was taken of, and what is
/// new?
async fn discover(
    keeper: &Keeper,
    beginning: &mut Beginning,
    enumerators: &mut Enumerators,
) -> Result<(), Failure> {
    let mut reads = preflight::Reads::new();
    for (uid, source) in &keeper.sources {
        keeper.note(format!("asks source {uid} for its splits"));
        let mut enumerator = source.enumerator()?;
        beginning.fit(uid, &mut *enumerator).await?;
        let (mut known, first) = beginning.known(uid);
        let identity = beginning.identities.get(uid);
        let found = preflight::discover(enumerator.as_mut(), identity, &known, first).await?;
        known.extend(found.splits.iter().map(|split| split.split.clone()));
        beginning.discovered(uid, found, first, keeper.job.parallelism);
        let places = enumerator.reads().into_iter();
        reads.extend(places.map(|place| (place, uid.clone())));
        enumerators.insert(uid.clone(), (enumerator, known));
    }
    for (uid, committer) in &keeper.committers {
        preflight::ensure_not_read(uid, committer.as_ref(), &reads).await?;
    }
    Ok(())
}

/// Writes where the job begins into the chain, so that every later attempt begins at the same
/// place: starting options such as `latest` are resolved once.
async fn decide(keeper: &mut Keeper, beginning: &mut Beginning) -> Result<(), Failure> {
    let mut manifest = beginning.seal(keeper);
    if let Some(folder) = beginning.folder.take() {
        let options = keeper.storage_options.clone();
        let claimed = keeper.claimed()?;
        claimed
            .import_files(&mut manifest, &folder, &options)
            .await?;
        beginning.manifest.operators.clone_from(&manifest.operators);
    }
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
