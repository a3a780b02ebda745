//! Committing the newest checkpoint in a recovery, or going back to the one before it.
//!
//! An outage that is longer than a transaction may be open aborts everything that a decided
//! checkpoint lists. If nothing of it is committed and the checkpoint before it is, then going back
//! to that one repeats what nobody has ever seen: it is exactly once, and needs no person. If a
//! part of it is committed, it is not, and the loss is for a person to accept.

use std::time::Duration;

use futures::future::join_all;
use millstream_checkpoint::{ChainState, CheckpointEntry, Manifest, Origin, read_savepoint};
use millstream_connect::Standing;
use millstream_types::api::GivenUp;
use millstream_types::{ErrorCode, ErrorKind, Failure};

use crate::service::commit::{Commits, Listed, NotCommitted, aborted, commit_all, ensure_held};
use crate::service::keeper::Keeper;
use crate::service::prepare::state::{Import, fitting};

/// Between two looks while the other side aborts one transaction after the other.
const PAUSE: Duration = Duration::from_secs(1);
/// Beside `checkpoint.timeout`, how long that may take: transactions of one checkpoint were begun
/// at different times, and a broker looks for old ones every ten seconds.
const GRACE: Duration = Duration::from_secs(30);

/// Where a recovery goes back to.
#[derive(Debug)]
pub(super) struct Rewind {
    /// The checkpoint before the newest.
    pub(super) import: Import,
    /// What is to be said about it.
    pub(super) given_up: GivenUp,
}

/// Commits what the newest checkpoint lists. Where the attempt goes back to, if nothing of it can
/// ever be committed.
///
/// # Errors
/// A part of it is lost, or cannot be committed yet.
pub(super) async fn commit_or_go_back(
    keeper: &Keeper,
    state: &ChainState,
    newest: &Manifest,
) -> Result<Option<Rewind>, Failure> {
    keeper.note(format!("commits checkpoint {}", newest.checkpoint));
    let commits = Commits::of(newest).accepting_loss_of(keeper.accept_lost_output);
    let Some(before) = confirmed_predecessor(state) else {
        let done = commit_all(keeper, &commits).await;
        return done.map(|()| None).map_err(NotCommitted::into_failure);
    };
    let earlier = match read_savepoint(&before.path, &keeper.storage_options).await {
        Ok(earlier) => earlier,
        Err(error) => {
            // A newer attempt deletes what this one would go back to.
            ensure_held(keeper).await?;
            return Err(error.into());
        }
    };
    let commits = commits.after(Commits::of(&earlier).by_sink);
    let why = if state.newest_is_given_up() {
        // An attempt before this one had found that out, and ended before it had gone back.
        Some(interrupted(newest))
    } else {
        why_go_back(keeper, &commits).await?
    };
    let Some(failure) = why else {
        return Ok(None);
    };
    let (checkpoint, back_to) = (newest.checkpoint, earlier.checkpoint);
    tracing::warn!(
        %checkpoint, %back_to, %failure,
        "all output of the newest checkpoint was aborted before it could be committed: the job goes \
         back to the checkpoint before it, and nothing is lost"
    );
    keeper.note(format!(
        "goes back from checkpoint {checkpoint} to {back_to}"
    ));
    Ok(Some(Rewind {
        import: Import {
            origin: Origin {
                path: before.path.clone(),
                taken: earlier.taken(),
                identity: keeper.resource_uid.clone(),
            },
            manifest: fitting(keeper, earlier)?,
            folder: keeper.held()?.chain().path(),
            is_committed: true,
        },
        given_up: GivenUp {
            checkpoint,
            went_back_to: back_to,
            at: keeper.clock.now(),
            failure: failure.into(),
        },
    }))
}

/// Commits, unless all of it was aborted: then why.
async fn why_go_back(keeper: &Keeper, commits: &Commits) -> Result<Option<Failure>, Failure> {
    if let Some(failure) = all_aborted(keeper, &commits.new_ones()).await? {
        return Ok(Some(aborted(commits.checkpoint, Some(&failure))));
    }
    match commit_all(keeper, commits).await {
        Ok(()) => Ok(None),
        Err(NotCommitted::Aborted { reason, .. }) => Ok(Some(reason)),
        Err(NotCommitted::Failed(failure)) => Err(failure),
    }
}

/// The checkpoint before the newest, if everything that it lists is confirmed to be committed.
pub(super) fn confirmed_predecessor(state: &ChainState) -> Option<&CheckpointEntry> {
    let before = state.checkpoints.iter().rev().nth(1)?;
    let is_confirmed = state
        .committed
        .is_some_and(|committed| committed.slot == before.slot);
    is_confirmed.then_some(before)
}

/// How the transactions of a checkpoint stand together.
enum Together {
    /// Nothing is known to be aborted, or something is committed: to be committed.
    Committable,
    /// All are aborted.
    Aborted(Failure),
    /// Some are aborted, the others open.
    Partly,
}

/// Looks at what is old before anything is committed, so that no part of it is while the rest is
/// gone. While the other side has aborted some and not yet all, waits for the rest.
async fn all_aborted(keeper: &Keeper, listed: &Listed) -> Result<Option<Failure>, Failure> {
    let now = keeper.clock.now();
    let is_late = listed.iter().any(|(uid, committables)| {
        let committer = keeper.committers.get(uid);
        committer.is_some_and(|committer| !committer.at_risk(committables, now).is_empty())
    });
    if !is_late {
        return Ok(None);
    }
    let patience = keeper.job.checkpoint.timeout.0.saturating_add(GRACE);
    let deadline = keeper.clock.monotonic().saturating_add(patience);
    loop {
        match together(keeper, listed).await {
            Together::Committable => return Ok(None),
            Together::Aborted(failure) => return Ok(Some(failure)),
            Together::Partly if keeper.clock.monotonic() >= deadline => return Ok(None),
            Together::Partly => {
                ensure_held(keeper).await?;
                keeper.note("waits until all transactions of the newest checkpoint are aborted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn together(keeper: &Keeper, listed: &Listed) -> Together {
    let asked = listed.iter().map(|(uid, committables)| async move {
        match keeper.committers.get(uid) {
            Some(committer) => committer.look_up(committables).await,
            None => Vec::new(),
        }
    });
    let standings: Vec<Standing> = join_all(asked).await.into_iter().flatten().collect();
    let count: usize = listed.values().map(Vec::len).sum();
    let mut first = None;
    let mut open = standings.len() < count;
    for standing in standings {
        match standing {
            Standing::Committed | Standing::Unknown(_) => return Together::Committable,
            Standing::Open => open = true,
            Standing::Aborted(failure) => first = first.or(Some(failure)),
        }
    }
    match first {
        None => Together::Committable,
        Some(_) if open => Together::Partly,
        Some(failure) => Together::Aborted(failure),
    }
}

fn interrupted(newest: &Manifest) -> Failure {
    Failure::new(
        ErrorCode::KafkaTransactionLost,
        ErrorKind::Retryable,
        format!(
            "checkpoint {} was given up by an attempt that ended before it had gone back",
            newest.checkpoint
        ),
    )
}
