//! The custom resources of Millstream.
//!
//! Plain data: no client, no tokio. The `dataflow`, `checkpoint` and `restart` sections of a
//! [`StreamJob`] are the very types that the runtime reads, so a job file for
//! `millstream run` and a manifest for `kubectl apply` are the same text.
//!
//! Reading order: [`stream_job`] is what a user asks for, [`status`] what the operator answers,
//! [`conditions`] the closed lists of condition types and reasons, [`savepoint`] the second kind,
//! [`contract`] labels, ports and the like that tools agree on.
//! `rules` what the API server checks beyond the types. `crdgen` writes the definitions to `crds/*.yaml`.

pub mod conditions;
pub mod contract;
pub mod definitions;
pub mod pods;
mod rules;
pub mod savepoint;
pub mod status;
pub mod stream_job;

pub use conditions::{ConditionType, Reason};
pub use savepoint::{SavepointState, StreamSavepoint, StreamSavepointSpec, StreamSavepointStatus};
pub use status::{JobPhase, StreamJobStatus};
pub use stream_job::{StreamJob, StreamJobSpec};

/// API group of all kinds.
pub const GROUP: &str = "millstream.dev";
/// The one served and stored version.
pub const VERSION: &str = "v1alpha1";
/// Category that `kubectl get streaming` lists.
pub const CATEGORY: &str = "streaming";
