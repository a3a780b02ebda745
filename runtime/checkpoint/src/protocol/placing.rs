//! How one slot is written: put, and where the outcome is not plain, read and judge.

use millstream_types::{Attempt, CheckpointId};

use crate::protocol::{Mark, Record};
use crate::slot::CommittedEntry;

/// What a coordinator wants to write, as far as it must be told from what others write.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Intent {
    /// Claim as the attempt. Two coordinators may want the same attempt; the nonce tells them
    /// apart.
    Claim {
        /// Random.
        nonce: String,
    },
    /// Decide the checkpoint.
    Checkpoint {
        /// Its number.
        id: CheckpointId,
    },
    /// Confirm that everything decided is committed.
    Committed(CommittedEntry),
    /// End the attempt.
    Released,
}

/// How a conditional write of a slot was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Put {
    /// It was written.
    Created,
    /// The slot is taken.
    Taken,
    /// No answer, or one that does not say.
    Unknown,
}

/// What to do next about a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Next {
    /// It is written: done.
    Placed,
    /// Read the slot, then [`after_read`].
    Read,
    /// Look whether any later slot exists, then [`after_look`].
    LookBehind,
    /// Put again, into the same slot.
    PutAgain,
    /// Somebody else has gone past. Whoever holds the chain is fenced; whoever wants to claim it
    /// must look at it again.
    Overtaken,
}

/// Judges the answer of a put.
pub(crate) const fn after_put(answer: Put) -> Next {
    match answer {
        Put::Created => Next::Placed,
        // Taken may be taken by this very write, if it was repeated below us.
        Put::Taken | Put::Unknown => Next::Read,
    }
}

/// Judges what a slot holds after a put that may or may not have been applied.
pub(crate) fn after_read(attempt: Attempt, intent: &Intent, found: Option<&Record>) -> Next {
    let Some(record) = found else {
        return Next::LookBehind;
    };
    // From its claim on, an attempt has one writer, which settles one write before the next.
    let mine = record.attempt == attempt
        && match (intent, &record.mark) {
            (Intent::Claim { nonce }, Mark::Claim(claim)) => claim.nonce == *nonce,
            (Intent::Checkpoint { id }, Mark::Checkpoint(found)) => found.id == *id,
            (Intent::Committed(committed), Mark::Committed(found)) => found == committed,
            (Intent::Released, Mark::Released(_)) => true,
            _ => false,
        };
    if mine { Next::Placed } else { Next::Overtaken }
}

/// Judges an absent slot. If a later one exists, this one was taken once and is garbage now: a
/// second write into it would fool the writer.
///
/// Somebody may still go past between the look and the next put, and the slot may become garbage
/// meanwhile. It can then only have held this very write, applied late: everybody who went past
/// has seen it, so that finding it written is true. This is why an unsettled write is repeated
/// byte for byte before anything else is written, and never replaced by another.
pub(crate) const fn after_look(later_slot_exists: bool) -> Next {
    if later_slot_exists {
        Next::Overtaken
    } else {
        Next::PutAgain
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use millstream_types::Timestamp;

    use super::*;
    use crate::slot::{ClaimEntry, Holder};

    fn claim(attempt: u64, nonce: &str) -> Record {
        let holder = Holder {
            name: "a".to_owned(),
            build: String::new(),
            identity: None,
            parallelism: 1,
            deployment: None,
            host: None,
            sinks: BTreeMap::new(),
        };
        Record {
            attempt: Attempt(attempt),
            newest: None,
            next_checkpoint: CheckpointId(1),
            deployment: None,
            lineage: None,
            mark: Mark::Claim(ClaimEntry {
                nonce: nonce.to_owned(),
                holder,
                time: Timestamp(0),
                replaced: Vec::new(),
                earlier: Vec::new(),
                ended: None,
            }),
        }
    }

    fn committed(attempt: u64, swept: u64) -> Record {
        Record {
            mark: Mark::Committed(entry(swept)),
            ..claim(attempt, "")
        }
    }

    const fn entry(swept: u64) -> CommittedEntry {
        CommittedEntry {
            checkpoint: None,
            given_up: None,
            swept_through: Attempt(swept),
        }
    }

    #[test]
    fn a_lost_reply_is_resolved_by_what_the_slot_holds() {
        let mine = Intent::Claim {
            nonce: "mine".to_owned(),
        };
        for (found, expected) in [
            (None, Next::LookBehind),
            (Some(claim(2, "mine")), Next::Placed),
            (Some(claim(2, "other")), Next::Overtaken),
            (Some(claim(3, "other")), Next::Overtaken),
            (Some(committed(2, 1)), Next::Overtaken),
        ] {
            assert_eq!(
                after_read(Attempt(2), &mine, found.as_ref()),
                expected,
                "{found:?}"
            );
        }
    }

    #[test]
    fn a_write_is_known_again_by_its_attempt_and_what_it_says() {
        let intent = Intent::Committed(entry(1));
        let at = |record: Record| after_read(Attempt(2), &intent, Some(&record));
        assert_eq!(at(committed(2, 1)), Next::Placed);
        assert_eq!(at(committed(2, 0)), Next::Overtaken);
        assert_eq!(at(committed(3, 1)), Next::Overtaken);
        assert_eq!(at(claim(3, "next")), Next::Overtaken);
    }

    #[test]
    fn an_absent_slot_is_free_only_at_the_end_of_the_chain() {
        assert_eq!(after_look(false), Next::PutAgain);
        assert_eq!(after_look(true), Next::Overtaken);
    }
}
