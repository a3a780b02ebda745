//! Who may claim a chain, and as what.

use millstream_types::{Attempt, Deployment};

use crate::protocol::Records;
use crate::protocol::view::View;
use crate::slot::{ClaimEntry, Holder, SlotNumber};

/// Where and as which attempt to claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Bid {
    /// The slot to take.
    pub(crate) slot: SlotNumber,
    /// The attempt that begins.
    pub(crate) attempt: Attempt,
}

/// How a claim treats another job's, and the end of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Courtesy {
    /// Refuse to depose a job of another identity, and to run a deployment on that has ended.
    Respect,
    /// A person has said that the other job is gone.
    TakeOver,
    /// The job is to be deleted, which its own end does not prevent.
    Delete,
}

/// Why a chain may not be claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The claim of another job is still in force.
    Taken(Box<ClaimEntry>),
    /// The claim of a deployment is still in force, and a person wants the chain.
    Deployed(Box<ClaimEntry>),
    /// The chain has a newer deployment of the job.
    Superseded {
        /// The newer one.
        newest: Deployment,
    },
    /// The deployment has ended by itself.
    Over,
}

/// What a process may do with a chain that was started for a deployment of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Admission {
    /// Claim it, and start from where the deployment is to start.
    Begin,
    /// Claim it, and go on from the newest checkpoint: a checkpoint was decided under this
    /// deployment, so that its start is part of the chain.
    Resume,
    /// Nothing: the deployment has stopped, completed or failed, and stays so.
    Over,
    /// Nothing: a newer deployment of the job has come.
    Superseded(Deployment),
}

/// Judges a deployment by the newest one of a chain, the one under which the newest checkpoint was
/// decided, and the newest whose own attempt has ended by itself. What a person runs on the chain
/// since neither ends a deployment nor brings one back. A process without a deployment was started
/// by a person, and begins.
pub fn admit(
    deployment: Option<Deployment>,
    newest: Option<Deployment>,
    begun: Option<Deployment>,
    ended: Option<Deployment>,
) -> Admission {
    let Some(deployment) = deployment else {
        return Admission::Begin;
    };
    match newest {
        Some(newest) if newest > deployment => Admission::Superseded(newest),
        _ if ended == Some(deployment) => Admission::Over,
        _ if begun == Some(deployment) => Admission::Resume,
        _ => Admission::Begin,
    }
}

/// The next claim of a chain.
///
/// # Errors
/// Why there is none.
pub(crate) fn bid(view: &View, holder: &Holder, courtesy: Courtesy) -> Result<Bid, Refusal> {
    let in_force = view
        .claim
        .as_ref()
        .filter(|_| view.released.is_none() && courtesy != Courtesy::TakeOver);
    if let Some((_, claim)) = in_force
        && let (Some(theirs), Some(ours)) = (&claim.holder.identity, &holder.identity)
        && theirs != ours
    {
        return Err(Refusal::Taken(Box::new(claim.clone())));
    }
    if let Some((_, claim)) = in_force
        && claim.holder.deployment.is_some()
        && holder.deployment.is_none()
        && courtesy == Courtesy::Respect
    {
        return Err(Refusal::Deployed(Box::new(claim.clone())));
    }
    match view.admits(holder.deployment) {
        Admission::Superseded(newest) => Err(Refusal::Superseded { newest }),
        Admission::Over if courtesy != Courtesy::Delete => Err(Refusal::Over),
        Admission::Begin | Admission::Resume | Admission::Over => Ok(Bid {
            slot: view.tail.next(),
            attempt: view.attempt.next(),
        }),
    }
}

/// Whether the claim was made in a slot that had been taken before and was deleted as garbage
/// between the look for the end of the chain and the claim. `mark` is below which slot the attempt
/// before it may have deleted its own slots, read after the claim was made and before the chain is
/// listed.
///
/// A listing alone does not show it: while it runs, what lies above the claim may be deleted and
/// newer slots may come, and a listing of files is not bound to show either. What attempts *after*
/// the one below delete, they delete after a claim above ours, and claims stay.
pub(crate) fn is_in_a_hole(bid: Bid, mark: Option<SlotNumber>) -> bool {
    mark.is_some_and(|mark| bid.slot < mark)
}

/// What a reading after the claim says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Standing {
    /// It is the end of the chain: everybody older is fenced.
    Holds,
    /// A newer attempt has claimed the chain already.
    Deposed,
    /// An older attempt has written past it: the slot had been taken before, and was deleted as
    /// garbage between the look for the end of the chain and the claim. It fences nobody; claim
    /// again.
    InAHole,
}

/// Judges a claim by what lies above it, read after it was made.
pub(crate) fn standing(records: &Records, bid: Bid) -> Standing {
    let mut above = records.range(bid.slot.next()..).map(|(_, record)| record);
    if above.clone().any(|record| record.attempt > bid.attempt) {
        Standing::Deposed
    } else if above.next().is_some() {
        Standing::InAHole
    } else {
        Standing::Holds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Option<Deployment> = None;

    macro_rules! some {
        ($number:literal) => {
            Some(Deployment($number))
        };
    }

    #[test]
    fn a_deployment_begins_where_it_is_new_and_resumes_once_a_checkpoint_was_decided_under_it() {
        assert_eq!(admit(some!(5), NONE, NONE, NONE), Admission::Begin);
        for ended in [NONE, some!(4)] {
            assert_eq!(admit(some!(5), some!(4), some!(4), ended), Admission::Begin);
        }
        // Claimed, and nothing decided: what it is to start from is not in the chain yet.
        assert_eq!(admit(some!(5), some!(5), NONE, NONE), Admission::Begin);
        assert_eq!(admit(some!(5), some!(5), some!(4), NONE), Admission::Begin);
        assert_eq!(admit(some!(5), some!(5), some!(5), NONE), Admission::Resume);
    }

    #[test]
    fn a_deployment_that_has_ended_stays_so_and_an_older_one_never_comes_back() {
        for begun in [NONE, some!(4), some!(5)] {
            assert_eq!(admit(some!(5), some!(5), begun, some!(5)), Admission::Over);
        }
        for ended in [NONE, some!(5), some!(6)] {
            let superseded = Admission::Superseded(Deployment(6));
            assert_eq!(admit(some!(5), some!(6), some!(5), ended), superseded);
            assert_eq!(admit(some!(5), some!(6), some!(6), ended), superseded);
        }
    }

    #[test]
    fn a_person_may_always_start_a_job() {
        for ended in [NONE, some!(6)] {
            assert_eq!(admit(NONE, some!(6), some!(6), ended), Admission::Begin);
            assert_eq!(admit(NONE, NONE, NONE, ended), Admission::Begin);
        }
    }
}
