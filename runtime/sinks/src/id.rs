//! Names of transactions.

use std::fmt;

use millstream_types::{Attempt, JobId, Lineage, OperatorUid, SubtaskIndex};
use sha2::{Digest as _, Sha256};

/// Name of one transaction: `ms<sink>-<chain>-<attempt>-<subtask>-<number>`. No two transactions of
/// any job have the same, also not of jobs of one name that follow each other. At most 80 characters,
/// of `a` to `z`, digits and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId {
    prefix: String,
    /// The attempt that has begun it.
    pub attempt: Attempt,
    /// The subtask that has begun it.
    pub subtask: SubtaskIndex,
    /// How many transactions the subtask had begun before.
    pub number: u64,
}

impl TransactionId {
    /// Name of a subtask's transaction.
    pub fn new(prefix: String, attempt: Attempt, subtask: SubtaskIndex, number: u64) -> Self {
        Self {
            prefix,
            attempt,
            subtask,
            number,
        }
    }

    /// Reads a name; none if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.rsplitn(4, '-');
        let number = parts.next()?.parse().ok()?;
        let subtask = SubtaskIndex(parts.next()?.parse().ok()?);
        let attempt = Attempt(parts.next()?.parse().ok()?);
        let prefix = format!("{}-", parts.next()?);
        let id = Self::new(prefix, attempt, subtask, number);
        // `007` is not how a number is written.
        (id.to_string() == text).then_some(id)
    }

    /// What the names of all transactions of one subtask of one attempt begin with, without the last
    /// `-`.
    pub fn of_subtask(&self) -> String {
        format!("{}{}-{}", self.prefix, self.attempt, self.subtask)
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (prefix, attempt, subtask) = (&self.prefix, self.attempt, self.subtask);
        write!(f, "{prefix}{attempt}-{subtask}-{}", self.number)
    }
}

/// What the names of all transactions of a sink begin with, whatever the chain.
pub fn family(job: &JobId, sink: &OperatorUid) -> String {
    format!("ms{}-", short(&format!("{job}/{sink}"), 6))
}

/// What they begin with in one chain.
pub fn prefix(family: &str, lineage: Option<&Lineage>) -> String {
    match lineage {
        Some(lineage) => format!("{family}{}-", short(lineage.as_str(), 4)),
        None => format!("{family}0-"),
    }
}

/// The first bytes of a text's hash, as hexadecimal digits.
fn short(text: &str, bytes: usize) -> String {
    let hash = Sha256::digest(text.as_bytes());
    let digits = hash.iter().take(bytes).map(|byte| format!("{byte:02x}"));
    digits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_as_they_are_written() {
        let job = JobId {
            namespace: "default".to_owned(),
            name: "orders".to_owned(),
        };
        let family = family(&job, &"out".into());
        for lineage in [None, Some(Lineage("01J".to_owned()))] {
            let prefix = prefix(&family, lineage.as_ref());
            assert!(prefix.starts_with(&family));
            let id = TransactionId::new(prefix, Attempt(12), SubtaskIndex(3), 456);
            let text = id.to_string();
            assert!(text.ends_with("-12-3-456"), "{text}");
            assert!(text.starts_with(&format!("{}-", id.of_subtask())), "{text}");
            assert_eq!(TransactionId::parse(&text), Some(id));
        }
        for text in ["", "ms-1-2", "x-1-2-", "x-01-2-3", "x-1--2-3", "x-1-2-3y"] {
            assert_eq!(TransactionId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_longest_name_is_short_enough_for_every_server() {
        let prefix = prefix("ms0123456789ab-", Some(&Lineage("x".to_owned())));
        let most = TransactionId::new(prefix, Attempt(u64::MAX), SubtaskIndex(u32::MAX), u64::MAX);
        assert!(most.to_string().len() <= 80, "{most}");
        assert!(most.of_subtask().len() <= 63, "{most}");
    }
}
