//! Who may claim a chain, and as what.

use millstream_types::Attempt;

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
