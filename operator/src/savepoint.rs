//! The controller of `StreamSavepoint`: one reconcile, read top to bottom.
//!
//! `dereference` reads what a decision needs, [`decide`] decides without I/O, `apply` writes the
//! new status before anything that follows from it is done. The coordinator is asked under a name
//! that follows from the resource's uid, so asking again is the same savepoint, whichever
//! coordinator or operator is there by then.
//!
//! A savepoint whose data goes with its resource (`retain: false`) carries a finalizer and, in an
//! annotation, what a pod needs that deletes it ([`template`]): so it can be disposed of while the
//! job is down, and after the job is gone. [`periodic`] creates savepoints and deletes old ones.

mod apply;
pub mod decide;
mod dereference;
pub mod periodic;
pub mod template;

use jiff::Timestamp;
use kube::core::DynamicObject;
use millstream_crds::StreamSavepoint;
use millstream_types::Clock;

use crate::context::{Context, Fault, Next, api_error_kind};

/// Finalizer of a savepoint whose data is deleted with it.
pub const FINALIZER: &str = "millstream.dev/savepoint";

/// Why a reconcile of a savepoint ended early.
#[derive(Debug, thiserror::Error)]
pub enum SavepointError {
    /// The Kubernetes API refused or did not answer.
    #[error("{action}: {error}")]
    Api {
        /// What was being done.
        action: &'static str,
        /// What the API said.
        error: Box<kube::Error>,
    },
    /// The resource is not what this version of its definition allows.
    #[error("the resource cannot be read: {0}")]
    Malformed(Box<kube::core::dynamic::ParseDynamicObjectError>),
    /// Something of ours cannot be written as JSON, which would be a fault of the types.
    #[error("cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl SavepointError {
    fn api(action: &'static str) -> impl FnOnce(kube::Error) -> Self {
        move |error| Self::Api {
            action,
            error: Box::new(error),
        }
    }
}

impl Fault for SavepointError {
    fn kind(&self) -> &'static str {
        match self {
            Self::Api { error, .. } => api_error_kind(error),
            Self::Malformed(_) => "malformed",
            Self::Json(_) => "internal",
        }
    }
}

/// One reconcile.
///
/// # Errors
/// See [`SavepointError`].
pub async fn reconcile(object: DynamicObject, context: &Context) -> Result<Next, SavepointError> {
    let savepoint: StreamSavepoint = object
        .try_parse()
        .map_err(|error| SavepointError::Malformed(Box::new(error)))?;
    let read = dereference::read(&savepoint, context).await?;
    let decision = decide::decide(&savepoint, &read.seen, now(context.clock.as_ref()));
    let completes = decision.completes(&savepoint);
    let next = apply::carry_out(&savepoint, read.coordinator.as_deref(), decision, context).await?;
    if completes {
        // There may be one too many now.
        periodic::retire(&savepoint, context).await?;
    }
    Ok(next)
}

/// The time in whole seconds, as it is written into a status.
fn now(clock: &dyn Clock) -> Timestamp {
    let seconds = i64::try_from(clock.now().0 / 1_000).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

/// Name under which coordinators know a savepoint.
pub fn runtime_name(savepoint: &StreamSavepoint) -> String {
    format!(
        "ssp-{}",
        savepoint.metadata.uid.as_deref().unwrap_or_default()
    )
}
