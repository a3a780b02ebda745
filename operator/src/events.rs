//! Events: what has happened, for people who look at `kubectl describe`. The reasons are those of
//! the conditions.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder};
use millstream_crds::Reason;

use crate::controller::digest;

/// Longest note of an event, bytes: the API server refuses longer ones.
const NOTE_BYTES_MAX: usize = 1_000;

/// Something that has happened and that a person should be able to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Why or what.
    pub reason: Reason,
    /// Whether something went wrong.
    pub warning: bool,
    /// What happened, with what a person can do where there is something to do.
    pub message: String,
}

impl Notice {
    /// All is well.
    pub fn normal(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            warning: false,
            message: message.into(),
        }
    }

    /// Something went wrong.
    pub fn warning(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            warning: true,
            message: message.into(),
        }
    }
}

/// Publishes notices about an object. Events are best effort: one that cannot be written is logged
/// and forgotten.
pub async fn publish(recorder: &Recorder, about: &ObjectReference, notices: &[Notice]) {
    for notice in notices {
        let event = Event {
            type_: if notice.warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: notice.reason.as_str().to_owned(),
            note: Some(cut(&notice.message)),
            action: action(notice),
            secondary: None,
        };
        if let Err(error) = recorder.publish(&event, about).await {
            tracing::warn!(%error, reason = event.reason, "an event could not be written");
        }
    }
}

/// The recorder takes events of one reason and action for the same one that happens again, and
/// drops the note of the later ones. Another note is another event.
fn action(notice: &Notice) -> String {
    format!("Reconcile-{}", digest::of(&notice.message, 4))
}

fn cut(text: &str) -> String {
    let end = (0..=NOTE_BYTES_MAX.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
}
