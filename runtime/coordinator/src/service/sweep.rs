//! Undoing what attempts have left open: until that is done, or its time is over, readers of the
//! same partitions do not see what comes after it.

use millstream_connect::Lingering;
use millstream_types::{Bug, Failure};

use crate::opened::{Leftover, Opened, leftovers, who_reaches};
use crate::service::commit::Listed;
use crate::service::keeper::Keeper;

/// Attempts that a sink is asked about at once. After a long outage there are many; each of them
/// may have opened thousands of transactions.
const ATTEMPTS_AT_ONCE: usize = 8;

/// What is to be undone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sweep<'a> {
    pub(super) opened: &'a [Opened],
    /// What must not be touched, by sink.
    pub(super) keep: &'a Listed,
    /// As in [`Lingering`].
    pub(super) only_open: bool,
}

/// Undoes what attempts have left open, also in sinks that the job does not have any more or that
/// had another name for their transactions then.
///
/// # Errors
/// A sink of the job cannot be asked. For what former sinks have left that keeps no attempt from
/// beginning: nothing is lost if it stays, and the job may not even have the right to it any more.
pub(super) async fn sweep(keeper: &Keeper, sweep: Sweep<'_>) -> Result<(), Failure> {
    if Bug::FenceSkipped.is_seeded() {
        return Ok(());
    }
    fail::fail_point!("coordinator::before-abort", |_| std::process::abort());
    let sinks = keeper.committers.keys();
    for leftover in leftovers(sinks, &keeper.families, sweep.opened) {
        let sink = &leftover.sink;
        if !sweep.only_open {
            keeper.note(format!(
                "aborts what older attempts have left open in sink {sink}"
            ));
        }
        match abort(keeper, &leftover, sweep).await {
            Ok(Some(0)) => {}
            Ok(Some(aborted)) => {
                tracing::info!(%sink, aborted, "transactions of older attempts aborted");
            }
            Ok(None) => tracing::warn!(
                %sink, former = ?leftover.former,
                "what earlier attempts may have left open in this sink cannot be reached with the \
                 sinks that the job has now: `millstream transactions abort` with the former job \
                 file ends it; otherwise its transactionTimeout does"
            ),
            Err(failure) if leftover.former.is_some() => tracing::warn!(
                %sink, former = ?leftover.former, %failure,
                "what earlier attempts may have left open in this sink cannot be aborted: its \
                 transactionTimeout ends it"
            ),
            Err(failure) => return Err(failure),
        }
    }
    fail::fail_point!("coordinator::after-abort", |_| std::process::abort());
    Ok(())
}

/// Returns how many were aborted; `None` if no sink can do it.
async fn abort(
    keeper: &Keeper,
    leftover: &Leftover,
    sweep: Sweep<'_>,
) -> Result<Option<u64>, Failure> {
    let Some(committer) = who_reaches(&keeper.committers, leftover).await? else {
        return Ok(None);
    };
    let mut aborted = 0;
    for attempts in leftover.attempts.chunks(ATTEMPTS_AT_ONCE) {
        let lingering = Lingering {
            attempts: attempts.to_vec(),
            lineage: keeper.lineage(),
            family: leftover.former.clone(),
            keep: sweep.keep.get(&leftover.sink).cloned().unwrap_or_default(),
            only_open: sweep.only_open,
        };
        aborted += committer.abort_lingering(&lingering).await?;
    }
    Ok(Some(aborted))
}
