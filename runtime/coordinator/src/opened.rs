//! Which transactions attempts may have opened, and who can find them: by what the chain says of
//! each attempt, in the sinks that the job has now.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_checkpoint::{ChainState, Claim};
use millstream_connect::SinkCommitter;
use millstream_types::{Attempt, Failure, Opaque, OperatorUid};

/// The committers of a job, by sink.
pub type Committers = BTreeMap<OperatorUid, Arc<dyn SinkCommitter>>;

/// What an attempt may have opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The attempt.
    pub attempt: Attempt,
    /// How many subtasks every sink had.
    pub parallelism: u32,
    /// What the transactions of each of its sinks have in common; empty if its claim does not say.
    pub sinks: BTreeMap<OperatorUid, Opaque>,
}

impl From<&Claim> for Opened {
    fn from(claim: &Claim) -> Self {
        Self {
            attempt: claim.attempt,
            parallelism: claim.holder.parallelism,
            sinks: claim.holder.sinks.clone(),
        }
    }
}

/// Attempts that may have left something open when a chain was claimed.
pub fn lingering(state: &ChainState) -> Vec<Opened> {
    let lingering = state.lingering();
    let is_one = |claim: &&Claim| {
        let mut attempts = lingering.iter();
        attempts.any(|(attempt, _)| *attempt == claim.attempt)
    };
    let claims = state.claims.iter().filter(is_one);
    claims.map(Opened::from).collect()
}

/// What attempts may have left in one sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The sink.
    pub sink: OperatorUid,
    /// What its transactions had in common then, if that is not what they have in common now.
    pub former: Option<Opaque>,
    /// The attempts and the parallelism of each.
    pub attempts: Vec<(Attempt, u32)>,
}

/// Sorts what attempts may have opened by where it is to be looked for: first in `sinks` as they
/// are, of which `families` says what their transactions have in common, then in sinks that are
/// gone or had another family.
pub fn leftovers<'a>(
    sinks: impl IntoIterator<Item = &'a OperatorUid>,
    families: &BTreeMap<OperatorUid, Opaque>,
    opened: &[Opened],
) -> Vec<Leftover> {
    let mut found: Vec<Leftover> = sinks
        .into_iter()
        .map(|sink| {
            let family = families.get(sink);
            let own = opened.iter().filter(|opened| match opened.sinks.get(sink) {
                Some(then) => Some(then) == family,
                // The claim does not say, or the sink has nothing by which to tell.
                None => opened.sinks.is_empty() || family.is_none(),
            });
            Leftover {
                sink: sink.clone(),
                former: None,
                attempts: own.map(|one| (one.attempt, one.parallelism)).collect(),
            }
        })
        .collect();
    let mut former: BTreeMap<(&OperatorUid, &Opaque), Vec<(Attempt, u32)>> = BTreeMap::new();
    for one in opened {
        for (sink, family) in &one.sinks {
            if families.get(sink) != Some(family) {
                let attempts = former.entry((sink, family)).or_default();
                attempts.push((one.attempt, one.parallelism));
            }
        }
    }
    found.extend(
        former
            .into_iter()
            .map(|((sink, family), attempts)| Leftover {
                sink: sink.clone(),
                former: Some(family.clone()),
                attempts,
            }),
    );
    found.retain(|leftover| !leftover.attempts.is_empty());
    found
}

/// Who can look for a leftover: the sink of the same name first, then any other. `None` if nobody
/// can.
///
/// # Errors
/// A sink cannot be asked.
pub async fn who_reaches(
    committers: &Committers,
    leftover: &Leftover,
) -> Result<Option<Arc<dyn SinkCommitter>>, Failure> {
    let same = committers.get(&leftover.sink);
    let Some(former) = &leftover.former else {
        return Ok(same.cloned());
    };
    for committer in same.into_iter().chain(committers.values()) {
        if committer.reaches(former).await? {
            return Ok(Some(Arc::clone(committer)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(attempt: u64, sinks: &[(&str, &str)]) -> Opened {
        let sinks = sinks.iter();
        Opened {
            attempt: Attempt(attempt),
            parallelism: 2,
            sinks: sinks
                .map(|(sink, family)| ((*sink).into(), Opaque((*family).to_owned())))
                .collect(),
        }
    }

    fn found(sinks: &[&str], families: &[(&str, &str)], opened: &[Opened]) -> Vec<String> {
        let sinks: Vec<OperatorUid> = sinks.iter().map(|sink| (*sink).into()).collect();
        let families = self::opened(0, families).sinks;
        let show = |leftover: Leftover| {
            let attempts = leftover.attempts.iter();
            let attempts: Vec<String> = attempts.map(|(attempt, _)| attempt.to_string()).collect();
            let former = leftover
                .former
                .map_or_else(String::new, |family| format!("/{}", family.0));
            format!("{}{former}: {}", leftover.sink, attempts.join(" "))
        };
        let leftovers = leftovers(&sinks, &families, opened);
        leftovers.into_iter().map(show).collect()
    }

    #[test]
    fn a_sink_that_is_as_it_was_looks_for_its_own() {
        let attempts = [opened(1, &[("out", "a")]), opened(2, &[("out", "a")])];
        assert_eq!(found(&["out"], &[("out", "a")], &attempts), ["out: 1 2"]);
    }

    #[test]
    fn what_a_sink_with_another_family_or_one_that_is_gone_has_left_is_looked_for_there() {
        let attempts = [
            opened(1, &[("out", "a"), ("gone", "g")]),
            opened(2, &[("out", "b")]),
        ];
        assert_eq!(
            found(&["out"], &[("out", "b")], &attempts),
            ["out: 2", "gone/g: 1", "out/a: 1"]
        );
    }

    #[test]
    fn attempts_of_older_builds_are_looked_for_under_the_names_of_now() {
        let attempts = [opened(1, &[]), opened(2, &[("out", "a")])];
        assert_eq!(found(&["out"], &[("out", "a")], &attempts), ["out: 1 2"]);
    }

    #[test]
    fn sinks_without_families_are_always_asked_and_new_ones_only_about_what_they_have_seen() {
        let attempts = [opened(1, &[("out", "a")])];
        let sinks = ["files", "new", "out"];
        let families = [("new", "n"), ("out", "a")];
        assert_eq!(found(&sinks, &families, &attempts), ["files: 1", "out: 1"]);
    }
}
