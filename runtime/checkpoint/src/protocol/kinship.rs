//! Whether a restore point is still the newest state of a job.

use crate::manifest::Taken;

/// How a restore point is related to the newest checkpoint of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kinship {
    /// It is that checkpoint.
    Same,
    /// The chain has gone on from it: starting from there would write output again.
    Ancestor,
    /// Its own chain was started from that checkpoint, and has gone on: it is the newer one.
    Descendant,
    /// Neither comes from the other, as far as is known.
    None,
}

/// A checkpoint, and what its chain was ever started from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Descent<'a> {
    /// The checkpoint.
    pub(crate) taken: &'a Taken,
    /// Checkpoints that its chain was started from.
    pub(crate) origins: &'a [&'a Taken],
}

/// Compares a restore point with the newest checkpoint of a chain. `is_own` says that it lies in
/// the folder of the chain, so that it was taken under it: then it is the newest or older.
///
/// `reached` is the newest checkpoint of the chain that is more than a beginning. An attempt that
/// began anew, from a restore point or from nothing, and has decided nothing since has written no
/// output: what the chain had reached before is what counts.
pub(crate) fn kinship(
    reached: Option<&Taken>,
    newest: Descent<'_>,
    point: Descent<'_>,
    is_own: bool,
) -> Kinship {
    let Some(reached) = reached else {
        // The chain has no output.
        return Kinship::Same;
    };
    let current = [reached, newest.taken];
    if current.contains(&point.taken) {
        Kinship::Same
    } else if is_own || newest.origins.contains(&point.taken) {
        Kinship::Ancestor
    } else if current.iter().any(|taken| point.origins.contains(taken)) {
        Kinship::Descendant
    } else {
        Kinship::None
    }
}

#[cfg(test)]
mod tests {
    use millstream_types::{Attempt, CheckpointId, JobId, Timestamp};

    use super::*;

    fn taken(attempt: u64, checkpoint: u64, at: u64) -> Taken {
        Taken {
            job: JobId {
                namespace: "default".to_owned(),
                name: "orders".to_owned(),
            },
            attempt: Attempt(attempt),
            checkpoint: CheckpointId(checkpoint),
            decided_at: Timestamp(at),
        }
    }

    fn of<'a>(taken: &'a Taken, origins: &'a [&'a Taken]) -> Descent<'a> {
        Descent { taken, origins }
    }

    #[test]
    fn the_chain_that_was_started_from_the_other_is_the_newer_one() {
        let (old, new) = (taken(3, 40, 1_000), taken(1, 9, 2_000));
        let come_from = [&old];
        let compare =
            |newest: Descent<'_>, point| kinship(Some(newest.taken), newest, point, false);
        assert_eq!(compare(of(&old, &[]), of(&old, &[])), Kinship::Same);
        assert_eq!(
            compare(of(&new, &come_from), of(&old, &[])),
            Kinship::Ancestor
        );
        assert_eq!(
            compare(of(&old, &[]), of(&new, &come_from)),
            Kinship::Descendant
        );
        assert_eq!(compare(of(&old, &[]), of(&new, &[])), Kinship::None);
    }

    #[test]
    fn the_same_numbers_in_two_chains_are_not_the_same_checkpoint() {
        let (here, there) = (taken(3, 40, 1_000), taken(3, 40, 1_001));
        let compared = kinship(Some(&here), of(&here, &[]), of(&there, &[]), false);
        assert_eq!(compared, Kinship::None);
    }

    #[test]
    fn what_was_taken_under_the_chain_is_its_newest_or_older() {
        let (old, new) = (taken(3, 40, 1_000), taken(4, 41, 2_000));
        let compare = |point| kinship(Some(&new), of(&new, &[]), of(point, &[]), true);
        assert_eq!(compare(&old), Kinship::Ancestor);
        assert_eq!(compare(&new), Kinship::Same);
    }

    #[test]
    fn a_beginning_with_nothing_behind_it_hides_nothing() {
        let (old, new) = (taken(3, 40, 1_000), taken(3, 41, 2_000));
        let began = taken(4, 42, 3_000);
        let compare = |reached, point| kinship(reached, of(&began, &[]), of(point, &[]), true);
        assert_eq!(compare(Some(&new), &new), Kinship::Same);
        assert_eq!(compare(Some(&new), &began), Kinship::Same);
        assert_eq!(compare(Some(&new), &old), Kinship::Ancestor);
        assert_eq!(compare(None, &old), Kinship::Same);
        // Once something was decided behind it, that is what was reached.
        assert_eq!(compare(Some(&began), &new), Kinship::Ancestor);
    }
}
