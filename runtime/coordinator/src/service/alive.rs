//! Whether what a checkpoint lists can still be committed. Asked before it is decided, where it is
//! late: a broker gives up a transaction that has been open for too long, and a decision for one
//! that is gone would be a loss, where no decision is only a restart.

use futures::future::join_all;
use millstream_connect::Standing;
use millstream_types::{CheckpointId, Committable, ErrorKind, Failure, OperatorUid};

use crate::service::commit::Listed;
use crate::service::keeper::Keeper;

/// Why a checkpoint must not be decided.
#[derive(Debug)]
pub(super) enum Doubt {
    /// Something that it lists is gone.
    Dead(Failure),
    /// Nobody can tell for now.
    Unclear(Failure),
}

/// Asks about everything that has been open for so long that it may be gone.
pub(super) async fn ensure_alive(
    keeper: &Keeper,
    checkpoint: CheckpointId,
    listed: &Listed,
) -> Result<(), Doubt> {
    let sinks = listed.iter();
    let asked = sinks.map(|(uid, committables)| ask(keeper, checkpoint, uid, committables));
    let mut unclear = None;
    for answer in join_all(asked).await {
        match answer {
            Err(Doubt::Unclear(failure)) => unclear = Some(failure),
            answer => answer?,
        }
    }
    unclear.map_or(Ok(()), |failure| Err(Doubt::Unclear(failure)))
}

async fn ask(
    keeper: &Keeper,
    checkpoint: CheckpointId,
    uid: &OperatorUid,
    committables: &[Committable],
) -> Result<(), Doubt> {
    let Some(committer) = keeper.committers.get(uid) else {
        return Ok(());
    };
    let late = committer.at_risk(committables, keeper.clock.now());
    if late.is_empty() {
        return Ok(());
    }
    tracing::info!(%checkpoint, sink = %uid, count = late.len(), "asks whether old transactions still live");
    let mut unclear = None;
    for standing in committer.look_up(&late).await {
        match standing {
            Standing::Open | Standing::Committed => {}
            Standing::Aborted(failure) => return Err(Doubt::Dead(dead(checkpoint, uid, &failure))),
            Standing::Unknown(failure) => unclear = Some(failure),
        }
    }
    match unclear {
        None => Ok(()),
        Some(failure) => Err(Doubt::Unclear(Failure {
            kind: ErrorKind::Retryable,
            message: format!(
                "checkpoint {checkpoint} is not decided, because it cannot be told whether the \
                 transactions of sink {uid} still live: {}",
                failure.message
            ),
            ..failure
        })),
    }
}

fn dead(checkpoint: CheckpointId, uid: &OperatorUid, failure: &Failure) -> Failure {
    Failure {
        kind: ErrorKind::Retryable,
        message: format!(
            "checkpoint {checkpoint} is not decided, because a transaction of sink {uid} that it \
             lists is gone; nothing is lost, the job goes on from the checkpoint before: {}",
            failure.message
        ),
        ..failure.clone()
    }
}
