//! Committing what a decided checkpoint lists: the same way on every checkpoint as in recovery.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_checkpoint::Manifest;
use millstream_operators::CommitOutcome;
use millstream_types::{CheckpointId, Committable, ErrorCode, ErrorKind, Failure, OperatorUid};

use crate::service::keeper::Keeper;

/// Pause before the second try of a commit, and the longest between two tries.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What is to be committed, by sink.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Commits {
    pub(super) checkpoint: CheckpointId,
    pub(super) by_sink: BTreeMap<OperatorUid, Vec<Committable>>,
    /// Kinds of the connectors that have prepared it.
    connectors: BTreeMap<OperatorUid, String>,
    /// Whether somebody has said to go on without what of it is lost.
    loss_is_accepted: bool,
}

impl Commits {
    /// Everything that a manifest lists.
    pub(super) fn of(manifest: &Manifest) -> Self {
        Self {
            checkpoint: manifest.checkpoint,
            by_sink: manifest
                .committing_operators()
                .map(|uid| (uid.clone(), manifest.committables(uid)))
                .collect(),
            connectors: manifest.connectors.clone(),
            loss_is_accepted: false,
        }
    }

    /// The same, without what is lost of it if this is the checkpoint whose loss was accepted.
    pub(super) fn accepting_loss_of(self, accepted: Option<CheckpointId>) -> Self {
        Self {
            loss_is_accepted: accepted == Some(self.checkpoint),
            ..self
        }
    }
}

/// Commits everything, or says why not. What could not be committed yet is tried again until
/// `checkpoint.timeout` has passed; nothing is skipped that nobody has given up.
pub(super) async fn commit_all(keeper: &mut Keeper, commits: Commits) -> Result<(), Failure> {
    fail::fail_point!("coordinator::before-commit", |_| std::process::abort());
    let kinds = keeper.graph.connectors();
    for (uid, committables) in commits.by_sink {
        let before = commits.connectors.get(&uid);
        if let (Some(before), Some(now)) = (before, kinds.get(&uid))
            && before != now
        {
            let failure = another_kind(commits.checkpoint, &uid, before, now);
            drop_output(keeper, failure)?;
            continue;
        }
        let part = Part {
            checkpoint: commits.checkpoint,
            sink: &uid,
            loss_is_accepted: commits.loss_is_accepted,
        };
        commit_sink(keeper, part, committables).await?;
    }
    fail::fail_point!("coordinator::after-commit", |_| std::process::abort());
    Ok(())
}

/// What one sink is to commit of a checkpoint.
#[derive(Debug, Clone, Copy)]
struct Part<'a> {
    checkpoint: CheckpointId,
    sink: &'a OperatorUid,
    loss_is_accepted: bool,
}

async fn commit_sink(
    keeper: &mut Keeper,
    part: Part<'_>,
    mut left: Vec<Committable>,
) -> Result<(), Failure> {
    let (checkpoint, uid) = (part.checkpoint, part.sink);
    let Some(committer) = keeper.committers.get(uid).cloned() else {
        return drop_output(keeper, nobody_commits(checkpoint, uid, left.len()));
    };
    let patience = keeper.job.checkpoint.timeout.0;
    let deadline = keeper.clock.monotonic().saturating_add(patience);
    let mut pause = FIRST_PAUSE;
    loop {
        let outcomes = committer.commit(&left).await;
        let Sorted { retry, lost } = sort(uid, &left, outcomes)?;
        if !lost.is_empty() {
            judge_loss(keeper, part, lost).await?;
        }
        let Some((_, failure)) = retry.first().cloned() else {
            return Ok(());
        };
        left = retry
            .into_iter()
            .map(|(committable, _)| committable)
            .collect();
        if keeper.clock.monotonic() >= deadline {
            return Err(Failure {
                kind: ErrorKind::Retryable,
                message: format!(
                    "{} transactions of sink {uid} in checkpoint {checkpoint} could not be \
                     committed within {patience:?}: {}",
                    left.len(),
                    failure.message
                ),
                ..failure
            });
        }
        ensure_held(keeper).await?;
        keeper.note(format!(
            "commits {} transactions of sink {uid} in checkpoint {checkpoint}, so far in vain: \
             {failure}",
            left.len()
        ));
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

struct Sorted {
    retry: Vec<(Committable, Failure)>,
    lost: Vec<Failure>,
}

fn sort(
    uid: &OperatorUid,
    committables: &[Committable],
    outcomes: Vec<CommitOutcome>,
) -> Result<Sorted, Failure> {
    if outcomes.len() != committables.len() {
        return Err(Failure::new(
            ErrorCode::InconsistentSnapshot,
            ErrorKind::Internal,
            format!(
                "sink {uid} was given {} transactions to commit and answered for {}",
                committables.len(),
                outcomes.len()
            ),
        ));
    }
    let mut sorted = Sorted {
        retry: Vec::new(),
        lost: Vec::new(),
    };
    for (committable, outcome) in committables.iter().zip(outcomes) {
        match outcome {
            CommitOutcome::Committed => {}
            CommitOutcome::Retry(failure) => sorted.retry.push((committable.clone(), failure)),
            CommitOutcome::Refused(failure) => return Err(failure),
            CommitOutcome::Aborted(failure) | CommitOutcome::Lost(failure) => {
                sorted.lost.push(failure);
            }
        }
    }
    Ok(sorted)
}

/// What nobody can commit is lost, unless a newer attempt has taken over: then it has been
/// committed and forgotten, or will be, and this attempt has no say any more.
///
/// # Errors
/// It is lost and nobody has accepted that, or this attempt has no say.
async fn judge_loss(
    keeper: &mut Keeper,
    part: Part<'_>,
    lost: Vec<Failure>,
) -> Result<(), Failure> {
    ensure_held(keeper).await?;
    let (checkpoint, sink) = (part.checkpoint, part.sink);
    if part.loss_is_accepted {
        for failure in &lost {
            tracing::warn!(%checkpoint, %sink, %failure, "lost output is given up, as was accepted");
        }
        return Ok(());
    }
    let count = lost.len();
    let Some(first) = lost.into_iter().next() else {
        return Ok(());
    };
    Err(Failure {
        kind: ErrorKind::DataLoss,
        message: format!(
            "output of sink {sink} in checkpoint {checkpoint} is lost ({count} of its \
             transactions), the first: {}. To go on without it, start with \
             `--accept-lost-output {checkpoint}` (`restore.acceptLostOutput: {checkpoint}` of a \
             StreamJob)",
            first.message
        ),
        ..first
    })
}

/// Fails if a newer attempt owns the chain, or the store cannot be asked.
pub(super) async fn ensure_held(keeper: &mut Keeper) -> Result<(), Failure> {
    let job = keeper.job.id.clone();
    let claimed = keeper.claimed()?;
    let attempt = claimed.attempt();
    if claimed.holds().await? {
        return Ok(());
    }
    Err(Failure::new(
        ErrorCode::Fenced,
        ErrorKind::Fenced,
        format!("attempt {attempt} of {job} is fenced: a newer attempt has claimed the chain"),
    ))
}

/// Drops prepared output that nobody can commit, if that is allowed.
fn drop_output(keeper: &Keeper, failure: Failure) -> Result<(), Failure> {
    if !keeper.allow_dropped_state {
        return Err(failure);
    }
    tracing::warn!(%failure, "output is dropped, as is allowed");
    Ok(())
}

fn another_kind(checkpoint: CheckpointId, uid: &OperatorUid, before: &str, now: &str) -> Failure {
    Failure::new(
        ErrorCode::IncompatibleState,
        ErrorKind::InvalidJob,
        format!(
            "checkpoint {checkpoint} holds prepared output of sink {uid}, which wrote to {before} \
             and now writes to {now}, so that nobody can commit it: start the job once with the \
             sink as it was and stop it, then change the sink; or give this output up with \
             `--allow-dropped-state` (`restore.allowDroppedState` of a StreamJob)"
        ),
    )
}

fn nobody_commits(checkpoint: CheckpointId, uid: &OperatorUid, count: usize) -> Failure {
    Failure::new(
        ErrorCode::IncompatibleState,
        ErrorKind::InvalidJob,
        format!(
            "checkpoint {checkpoint} holds {count} prepared transactions of sink {uid}, which the \
             job does not have any more, so that nobody can commit them: start the job once with \
             that sink and stop it, then remove the sink; or give this output up with \
             `--allow-dropped-state` (`restore.allowDroppedState` of a StreamJob)"
        ),
    )
}
