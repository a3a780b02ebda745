//! Committing what a decided checkpoint lists: the same way on every checkpoint as in recovery.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use millstream_checkpoint::Manifest;
use millstream_connect::{CommitOutcome, SinkCommitter};
use millstream_types::{
    Bug, CheckpointId, Committable, ErrorCode, ErrorKind, Failure, OperatorUid,
};

use crate::service::keeper::Keeper;

/// Pause before the second try of a commit, and the longest between two tries.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Prepared transactions, by sink.
pub(super) type Listed = BTreeMap<OperatorUid, Vec<Committable>>;

/// What is to be committed, by sink.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Commits {
    pub(super) checkpoint: CheckpointId,
    pub(super) by_sink: Listed,
    /// What an earlier checkpoint lists as well, and has committed.
    earlier: Listed,
    /// Kinds of the connectors that have prepared it.
    connectors: BTreeMap<OperatorUid, String>,
    /// Whether somebody has said to go on without what of it is lost.
    loss_is_accepted: bool,
}

/// Why a checkpoint is not committed as a whole.
#[derive(Debug)]
pub(super) enum NotCommitted {
    /// All of it was aborted, and nothing of it is committed: who goes back to the checkpoint
    /// before it loses nothing.
    Aborted {
        /// What is to be said then.
        reason: Failure,
        /// What is to be said where nobody can go back.
        loss: Failure,
    },
    /// Anything else.
    Failed(Failure),
}

impl NotCommitted {
    /// The failure where nobody can go back.
    pub(super) fn into_failure(self) -> Failure {
        match self {
            Self::Aborted { loss, .. } => loss,
            Self::Failed(failure) => failure,
        }
    }
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
            earlier: Listed::new(),
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

    /// The same, knowing what an earlier checkpoint has committed of it.
    pub(super) fn after(self, earlier: Listed) -> Self {
        Self { earlier, ..self }
    }

    /// What no earlier checkpoint has committed.
    pub(super) fn new_ones(&self) -> Listed {
        let mut listed = self.by_sink.clone();
        for (uid, committables) in &mut listed {
            committables.retain(|one| self.is_new(uid, one));
        }
        listed.retain(|_, committables| !committables.is_empty());
        listed
    }

    fn is_new(&self, uid: &OperatorUid, committable: &Committable) -> bool {
        let earlier = self.earlier.get(uid);
        earlier.is_none_or(|earlier| !earlier.contains(committable))
    }
}

/// Commits everything, all sinks at the same time, or says why not. What could not be committed
/// yet is tried again until `checkpoint.timeout` has passed; nothing is skipped that nobody has
/// given up, and what one sink has lost keeps no other from committing.
pub(super) async fn commit_all(keeper: &Keeper, commits: &Commits) -> Result<(), NotCommitted> {
    fail::fail_point!("coordinator::before-commit", |_| std::process::abort());
    let sinks = commits.by_sink.iter();
    let parts = sinks.map(|(uid, committables)| commit_part(keeper, commits, uid, committables));
    let parts = join_all(parts).await;
    judge(keeper, commits, parts).await?;
    fail::fail_point!("coordinator::after-commit", |_| std::process::abort());
    Ok(())
}

/// What became of one sink's part of a checkpoint.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// How many are committed that no earlier checkpoint had committed.
    pub(super) committed: usize,
    pub(super) aborted: Vec<Failure>,
    pub(super) lost: Vec<Failure>,
}

async fn commit_part(
    keeper: &Keeper,
    commits: &Commits,
    uid: &OperatorUid,
    committables: &[Committable],
) -> Result<Part, Failure> {
    match refusal(keeper, commits, uid, committables.len())? {
        None => Ok(Part::default()),
        Some(committer) => {
            commit_sink(keeper, committer, commits, uid, committables.to_vec()).await
        }
    }
}

/// Who can commit prepared output of a sink; `None` if nobody can and that was accepted.
///
/// # Errors
/// Nobody can: the sink is gone, or writes to something else.
pub(super) fn refusal(
    keeper: &Keeper,
    commits: &Commits,
    uid: &OperatorUid,
    count: usize,
) -> Result<Option<Arc<dyn SinkCommitter>>, Failure> {
    let kinds = keeper.graph.connectors();
    let failure = match (commits.connectors.get(uid), kinds.get(uid)) {
        (Some(before), Some(now)) if before != now => {
            another_kind(commits.checkpoint, uid, before, now)
        }
        _ => match keeper.committers.get(uid) {
            Some(committer) => return Ok(Some(Arc::clone(committer))),
            None => nobody_commits(commits.checkpoint, uid, count),
        },
    };
    give_up_output(commits, failure).map(|()| None)
}

async fn commit_sink(
    keeper: &Keeper,
    committer: Arc<dyn SinkCommitter>,
    commits: &Commits,
    uid: &OperatorUid,
    mut left: Vec<Committable>,
) -> Result<Part, Failure> {
    let checkpoint = commits.checkpoint;
    let mut part = Part::default();
    let patience = keeper.job.checkpoint.timeout.0;
    let deadline = keeper.clock.monotonic().saturating_add(patience);
    let mut pause = FIRST_PAUSE;
    let mut told = None;
    loop {
        let outcomes = committer.commit(&left).await;
        let retry = part.sort(commits, uid, &left, outcomes)?;
        let Some((_, failure)) = retry.first().cloned() else {
            return Ok(part);
        };
        left = retry
            .into_iter()
            .map(|(committable, _)| committable)
            .collect();
        let count = left.len();
        if keeper.clock.monotonic() >= deadline {
            return Err(Failure {
                kind: ErrorKind::Retryable,
                message: format!(
                    "{count} transactions of sink {uid} in checkpoint {checkpoint} could not be \
                     committed within {patience:?}: {}",
                    failure.message
                ),
                ..failure
            });
        }
        ensure_held(keeper).await?;
        let note = format!(
            "commits {count} transactions of sink {uid} in checkpoint {checkpoint}, which was not \
             possible yet: {failure}"
        );
        // Once, however often it is tried.
        if told.as_ref() != Some(&note) {
            keeper.note(note.clone());
            told = Some(note);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

impl Part {
    /// Takes the outcomes in. What is to be tried again.
    fn sort(
        &mut self,
        commits: &Commits,
        uid: &OperatorUid,
        committables: &[Committable],
        outcomes: Vec<CommitOutcome>,
    ) -> Result<Vec<(Committable, Failure)>, Failure> {
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
        let mut retry = Vec::new();
        for (committable, outcome) in committables.iter().zip(outcomes) {
            match outcome {
                CommitOutcome::Committed if commits.is_new(uid, committable) => self.committed += 1,
                CommitOutcome::Committed => {}
                CommitOutcome::Retry(_) if Bug::UnknownCommitIsDone.is_seeded() => {}
                CommitOutcome::Retry(failure) => retry.push((committable.clone(), failure)),
                CommitOutcome::Refused(failure) => return Err(failure),
                CommitOutcome::Aborted(failure) => self.aborted.push(failure),
                CommitOutcome::Lost(failure) => self.lost.push(failure),
            }
        }
        Ok(retry)
    }
}

/// Judges the whole. What nobody can commit is lost, unless a newer attempt has taken over: then
/// it has been committed and forgotten, or will be, and this attempt has no say any more.
pub(super) async fn judge(
    keeper: &Keeper,
    commits: &Commits,
    parts: Vec<Result<Part, Failure>>,
) -> Result<(), NotCommitted> {
    let mut failures = Vec::new();
    let mut losses = Vec::new();
    let (mut committed, mut lost) = (0, 0);
    for (uid, part) in commits.by_sink.keys().zip(parts) {
        match part {
            Err(failure) => failures.push(failure),
            Ok(part) => {
                committed += part.committed;
                lost += part.lost.len();
                let mut gone = part.lost;
                gone.extend(part.aborted);
                losses.push((uid, gone));
            }
        }
    }
    losses.retain(|(_, gone)| !gone.is_empty());
    failures.sort_by_key(|failure| {
        (
            failure.kind != ErrorKind::Fenced,
            failure.kind.is_restartable(),
        )
    });
    let failed = failures.into_iter().next();
    if let Some(failure) = failed
        .clone()
        .filter(|first| first.kind == ErrorKind::Fenced)
    {
        return Err(NotCommitted::Failed(failure));
    }
    if let Some((sink, gone)) = losses.first() {
        if !keeper.rehearses {
            ensure_held(keeper).await.map_err(NotCommitted::Failed)?;
        }
        if commits.loss_is_accepted {
            for (sink, failure) in losses
                .iter()
                .flat_map(|(sink, gone)| gone.iter().map(move |one| (sink, one)))
            {
                let checkpoint = commits.checkpoint;
                tracing::warn!(%checkpoint, %sink, %failure, "lost output is given up, as was accepted");
            }
        } else if committed > 0 || lost > 0 {
            return Err(NotCommitted::Failed(loss(commits.checkpoint, sink, gone)));
        } else if failed.is_none() {
            return Err(NotCommitted::Aborted {
                reason: aborted(commits.checkpoint, gone.first()),
                loss: loss(commits.checkpoint, sink, gone),
            });
        }
    }
    failed.map_or(Ok(()), |failure| Err(NotCommitted::Failed(failure)))
}

/// Why a job goes back from a checkpoint.
pub(super) fn aborted(checkpoint: CheckpointId, first: Option<&Failure>) -> Failure {
    let first = first.cloned().unwrap_or_else(unnamed);
    Failure {
        kind: ErrorKind::Retryable,
        message: format!(
            "all output of checkpoint {checkpoint} was aborted before any of it was committed, so \
             that nothing of it is visible and nothing is lost: {}",
            first.message
        ),
        ..first
    }
}

fn unnamed() -> Failure {
    Failure::new(ErrorCode::KafkaTransactionLost, ErrorKind::DataLoss, "")
}

fn loss(checkpoint: CheckpointId, sink: &OperatorUid, gone: &[Failure]) -> Failure {
    let first = gone.first().cloned().unwrap_or_else(unnamed);
    Failure {
        kind: ErrorKind::DataLoss,
        message: format!(
            "output of sink {sink} in checkpoint {checkpoint} is lost ({} of its transactions), \
             the first: {}. To go on without it, start with `--accept-lost-output {checkpoint}` \
             (`restore.acceptLostOutput: {checkpoint}` of a StreamJob)",
            gone.len(),
            first.message
        ),
        ..first
    }
}

/// Fails if a newer attempt owns the chain, or the store cannot be asked.
pub(super) async fn ensure_held(keeper: &Keeper) -> Result<(), Failure> {
    let job = &keeper.job.id;
    let claimed = keeper.held()?;
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

/// Gives up prepared output that nobody can commit, if its loss was accepted.
fn give_up_output(commits: &Commits, failure: Failure) -> Result<(), Failure> {
    if !commits.loss_is_accepted {
        return Err(failure);
    }
    tracing::warn!(%failure, "output is given up, as was accepted");
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
             `--accept-lost-output {checkpoint}` (`restore.acceptLostOutput: {checkpoint}` of a \
             StreamJob)"
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
             `--accept-lost-output {checkpoint}` (`restore.acceptLostOutput: {checkpoint}` of a \
             StreamJob)"
        ),
    )
}
