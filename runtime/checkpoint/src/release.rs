//! How an attempt has ended by itself.

use millstream_types::{Failure, Timestamp};
use serde::{Deserialize, Deserializer, Serialize};

/// Most bytes of a failure's message that a release keeps.
const MESSAGE_BYTES_MAX: usize = 8 * 1_024;

/// Why an attempt has ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReleaseReason {
    /// Stopped by request; to be continued.
    Stopped,
    /// Bounded sources have ended and everything is committed.
    Completed,
    /// Given up; a person must act.
    Failed,
    /// The job is deleted and so are its checkpoints: the next claim starts from nothing.
    Deleted,
}

/// How an attempt has ended by itself: all that a later process needs to say how the job stands
/// without running it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// Why.
    pub reason: ReleaseReason,
    /// Path of the savepoint that the job was stopped with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub savepoint: Option<String>,
    /// Why the job was given up. Left out by a build that does not know the failure's code.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "known"
    )]
    pub failure: Option<Failure>,
    /// Path of what the attempt was restored from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_from: Option<String>,
    /// When, by the clock of the process that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
}

impl From<ReleaseReason> for Release {
    fn from(reason: ReleaseReason) -> Self {
        Self {
            reason,
            savepoint: None,
            failure: None,
            restored_from: None,
            time: None,
        }
    }
}

impl Release {
    /// The same with a failure whose message is no longer than a slot should be.
    #[must_use]
    pub fn with_failure(mut self, failure: Option<&Failure>) -> Self {
        self.failure = failure.map(|failure| {
            let mut failure = failure.clone();
            let end = failure.message.floor_char_boundary(MESSAGE_BYTES_MAX);
            if end < failure.message.len() {
                failure.message.truncate(end);
                failure.message.push('…');
            }
            failure
        });
        self
    }
}

/// A slot must stay readable for builds that are older than the failure in it.
fn known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Failure>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).ok())
}

#[cfg(test)]
mod tests {
    use millstream_types::{ErrorCode, ErrorKind};

    use super::*;

    #[test]
    fn a_release_of_an_older_build_is_read() {
        let release: Release = serde_json::from_str(r#"{"reason":"stopped"}"#).unwrap();
        assert_eq!(release, ReleaseReason::Stopped.into());
    }

    #[test]
    fn a_failure_of_a_newer_build_does_not_make_a_slot_unreadable() {
        let text = r#"{"reason":"failed","failure":{"code":"Later","kind":"Odd","message":"m"}}"#;
        let release: Release = serde_json::from_str(text).unwrap();
        assert_eq!(release, ReleaseReason::Failed.into());
    }

    #[test]
    fn a_long_failure_is_cut_between_characters_and_read_back() {
        let long = "ü".repeat(MESSAGE_BYTES_MAX);
        let failure = Failure::new(ErrorCode::KafkaBroker, ErrorKind::Internal, long);
        let release = Release::from(ReleaseReason::Failed).with_failure(Some(&failure));
        let kept = release.failure.clone().unwrap();
        assert!(kept.message.ends_with("ü…") && kept.message.len() < MESSAGE_BYTES_MAX + 8);
        let text = serde_json::to_string(&release).unwrap();
        assert_eq!(serde_json::from_str::<Release>(&text).unwrap(), release);
    }
}
