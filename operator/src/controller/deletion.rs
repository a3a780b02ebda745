//! What becomes of a job's state when its `StreamJob` is deleted: what `spec.deletion` says, or else
//! what `spec.checkpoint.retention` says.
//!
//! Read from the spec as it is stored, because it counts also in a spec with faults elsewhere. What
//! cannot be read, or contradicts itself, deletes nothing.

use std::fmt;

use millstream_crds::stream_job::{DeletionPolicy, DeletionSpec};
use millstream_spec::Retention;
use millstream_types::duration::KubeDuration;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What to do when the resource is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// What happens to checkpoints.
    pub policy: DeletionPolicy,
    /// How long to try.
    pub deadline: KubeDuration,
    /// Why the spec cannot be followed, with the path of the field.
    pub fault: Option<String>,
    /// Whether the policy follows from the retention of checkpoints.
    follows: bool,
}

impl Deletion {
    /// What a stored spec asks for.
    pub fn of(spec: &Value) -> Self {
        let retention = spec.pointer("/checkpoint/retention");
        let retention = read::<Option<Retention>>(retention, "spec.checkpoint.retention");
        let given = read::<DeletionSpec>(spec.get("deletion"), "spec.deletion");
        let (given, retention) = match (given, retention) {
            (Ok(given), Ok(retention)) => (given, retention),
            (Err(fault), _) => return Self::kept(&DeletionSpec::default(), fault),
            (Ok(given), Err(fault)) => return Self::kept(&given, fault),
        };
        match (given.policy, retention) {
            (Some(policy), Some(retention)) if contradict(policy, retention) => {
                let fault = format!(
                    "spec.deletion.policy: {policy:?} contradicts `checkpoint.retention: \
                     {retention:?}`: DeleteOnCancellation goes with DeleteCheckpoints, \
                     RetainOnCancellation with Retain or Savepoint. Leave one of them out"
                );
                Self::kept(&given, fault)
            }
            (policy, retention) => Self {
                policy: policy.unwrap_or_else(|| following(retention.unwrap_or_default())),
                deadline: given.deadline,
                fault: None,
                follows: policy.is_none() && retention.is_some(),
            },
        }
    }

    /// Nothing is deleted, because of a fault.
    fn kept(given: &DeletionSpec, fault: String) -> Self {
        Self {
            policy: DeletionPolicy::Retain,
            deadline: given.deadline,
            fault: Some(fault),
            follows: false,
        }
    }
}

/// The key that asks for it.
impl fmt::Display for Deletion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.follows, self.policy) {
            (true, DeletionPolicy::DeleteCheckpoints) => {
                write!(f, "`checkpoint.retention: DeleteOnCancellation`")
            }
            (true, _) => write!(f, "`checkpoint.retention: RetainOnCancellation`"),
            (false, policy) => write!(f, "`deletion.policy: {policy:?}`"),
        }
    }
}

/// What follows from the retention of checkpoints.
const fn following(retention: Retention) -> DeletionPolicy {
    match retention {
        Retention::RetainOnCancellation => DeletionPolicy::Retain,
        Retention::DeleteOnCancellation => DeletionPolicy::DeleteCheckpoints,
    }
}

/// Whether a policy keeps what a retention wants deleted, or deletes what it wants kept.
fn contradict(policy: DeletionPolicy, retention: Retention) -> bool {
    let deletes = policy == DeletionPolicy::DeleteCheckpoints;
    deletes != (retention == Retention::DeleteOnCancellation)
}

/// A part of the spec; its default where it is not given.
fn read<T: DeserializeOwned + Default>(value: Option<&Value>, path: &str) -> Result<T, String> {
    match value {
        None | Some(Value::Null) => Ok(T::default()),
        Some(value) => serde_path_to_error::deserialize(value).map_err(|error| {
            let within = error.path().to_string();
            let dot = if within == "." { "" } else { "." };
            let within = within.trim_start_matches('.');
            format!("{path}{dot}{within}: {}", error.inner())
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(checkpoint: &Value, deletion: &Value) -> Deletion {
        Deletion::of(&json!({"checkpoint": checkpoint, "deletion": deletion}))
    }

    #[test]
    fn the_policy_follows_the_retention_of_checkpoints() {
        let nothing = Deletion::of(&json!({}));
        assert_eq!(nothing.policy, DeletionPolicy::Retain);
        assert_eq!(nothing.deadline, KubeDuration::from_secs(300));
        let delete = json!({"retention": "DeleteOnCancellation"});
        let follows = of(&delete, &json!({"deadline": "7s"}));
        assert_eq!(follows.policy, DeletionPolicy::DeleteCheckpoints);
        assert_eq!(follows.deadline, KubeDuration::from_secs(7));
        assert_eq!(follows.fault, None);
        assert_eq!(
            follows.to_string(),
            "`checkpoint.retention: DeleteOnCancellation`"
        );
        let retain = of(&json!({"retention": "RetainOnCancellation"}), &json!({}));
        assert_eq!(retain.policy, DeletionPolicy::Retain);
    }

    #[test]
    fn the_policy_may_be_said_without_a_retention() {
        for (word, policy) in [
            ("Retain", DeletionPolicy::Retain),
            ("Savepoint", DeletionPolicy::Savepoint),
            ("DeleteCheckpoints", DeletionPolicy::DeleteCheckpoints),
        ] {
            let said = of(&json!({}), &json!({"policy": word}));
            assert_eq!((said.policy, &said.fault), (policy, &None));
            assert_eq!(said.to_string(), format!("`deletion.policy: {word}`"));
        }
    }

    #[test]
    fn what_contradicts_itself_deletes_nothing_and_says_so() {
        for (retention, policy, fits) in [
            ("DeleteOnCancellation", "DeleteCheckpoints", true),
            ("DeleteOnCancellation", "Retain", false),
            ("DeleteOnCancellation", "Savepoint", false),
            ("RetainOnCancellation", "DeleteCheckpoints", false),
            ("RetainOnCancellation", "Retain", true),
            ("RetainOnCancellation", "Savepoint", true),
        ] {
            let found = of(&json!({"retention": retention}), &json!({"policy": policy}));
            assert_eq!(found.fault.is_none(), fits, "{found:?}");
            if let Some(fault) = &found.fault {
                assert_eq!(found.policy, DeletionPolicy::Retain);
                assert!(fault.starts_with("spec.deletion.policy: "), "{fault}");
            }
        }
    }

    #[test]
    fn what_cannot_be_read_deletes_nothing_and_says_where() {
        let delete = json!({"retention": "DeleteOnCancellation"});
        for (checkpoint, deletion, path) in [
            (
                &delete,
                json!({"policy": "Shred"}),
                "spec.deletion.policy: ",
            ),
            (&delete, json!({"deadline": 3}), "spec.deletion.deadline: "),
            (&delete, json!("later"), "spec.deletion: "),
            (
                &json!({"retention": "Forever"}),
                json!({"policy": "DeleteCheckpoints"}),
                "spec.checkpoint.retention: ",
            ),
        ] {
            let found = of(checkpoint, &deletion);
            assert_eq!(found.policy, DeletionPolicy::Retain);
            let fault = found.fault.unwrap();
            assert!(fault.starts_with(path), "{fault}");
        }
    }
}
