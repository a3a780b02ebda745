//! Two processes of one deployment: the one that was replaced does not depose the other.
//!
//! A pod on a node that is cut off from Kubernetes only, or that does not want to go, is replaced
//! and still runs. It is fenced, its kubelet starts it again, and it would claim the chain and
//! fence the other one, which would be started again, for ever. So a process that finds that the
//! claim in force has replaced its own place waits until that one stands still.

use std::time::Duration;

use millstream_checkpoint::{ChainState, Claim, SlotNumber};
use millstream_spec::ValidJob;
use millstream_types::Deployment;

use crate::service::keeper::Keeper;

/// Between two looks at the chain, at most.
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(5);

/// Watches a chain that somebody else holds.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// The last slot that was seen, and since when it is the last.
    tail: Option<(SlotNumber, Duration)>,
}

impl Patience {
    /// How long to wait before the chain is looked at again; `None` if it may be claimed.
    pub(super) fn wait(&mut self, keeper: &Keeper, state: &ChainState) -> Option<Duration> {
        let other = replaced_by(state, keeper.deployment?, keeper.host.as_deref()?)?;
        let now = keeper.clock.monotonic();
        let since = match self.tail {
            Some((tail, since)) if tail == state.tail => since,
            _ => self.tail.insert((state.tail, now)).1,
        };
        let enough = stillness(&keeper.job);
        let name = &other.holder.name;
        if now.saturating_sub(since) >= enough {
            tracing::warn!(
                other = name,
                "it has not written for long: its chain is claimed"
            );
            return None;
        }
        keeper.note(format!(
            "waits: {name} has replaced this process and runs the job; takes over when it has \
             written nothing for {} s",
            enough.as_secs_f64()
        ));
        Some(keeper.job.checkpoint.interval.0.min(LOOK_INTERVAL_MAX))
    }
}

/// A job that runs writes at least this often: a checkpoint completes or fails within its timeout,
/// and one that has failed is followed by the next, or by another claim.
fn stillness(job: &ValidJob) -> Duration {
    let checkpoint = &job.checkpoint;
    let intervals = checkpoint.interval.0.saturating_mul(2);
    intervals.saturating_add(checkpoint.timeout.0)
}

/// The claim in force, if it is another place's, of the same deployment or of a person, and this
/// place has claimed the chain for the deployment before.
fn replaced_by<'a>(state: &'a ChainState, deployment: Deployment, host: &str) -> Option<&'a Claim> {
    let last = state.claims.last()?;
    let of_ours = last
        .holder
        .deployment
        .is_none_or(|other| other == deployment);
    let was_here = last.replaced.iter().any(|replaced| replaced == host);
    (state.release.is_none() && of_ours && was_here).then_some(last)
}
