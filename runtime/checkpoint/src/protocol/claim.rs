//! Who may claim a chain, and as what.

use millstream_types::Attempt;

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

/// How a claim treats another job's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Courtesy {
    /// Refuse to depose a job of another identity.
    Respect,
    /// A person has said that the other job is gone.
    TakeOver,
}

/// The next claim of a chain.
///
/// # Errors
/// The claim of another job that is still in force.
pub(crate) fn bid(view: &View, holder: &Holder, courtesy: Courtesy) -> Result<Bid, ClaimEntry> {
    let in_force = view
        .claim
        .as_ref()
        .filter(|_| view.released.is_none() && courtesy == Courtesy::Respect);
    if let Some((_, claim)) = in_force
        && let (Some(theirs), Some(ours)) = (&claim.holder.identity, &holder.identity)
        && theirs != ours
    {
        return Err(claim.clone());
    }
    Ok(Bid {
        slot: view.tail.next(),
        attempt: view.attempt.next(),
    })
}
