//! What to do next: a pure function of the resource, its status, what is observed, and the time.
//!
//! The status is the machine's only memory. A decision is a new status, and what has to be done
//! once it is written: objects and requests that follow from it and may be repeated.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use millstream_crds::StreamJobStatus;

use super::observe::Observed;
use super::validate::{Faults, Wish};
use crate::events::Notice;

/// All that a decision depends on.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The resource's metadata.
    pub meta: &'a ObjectMeta,
    /// Whether `spec.paused` is set, also in a spec with faults.
    pub paused: bool,
    /// What the spec asks for, or what is wrong with it.
    pub wish: Result<&'a Wish, &'a Faults>,
    /// What was decided before.
    pub status: &'a StreamJobStatus,
    /// What is there.
    pub observed: &'a Observed,
    /// The time.
    pub now: Timestamp,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The new status, still with the old conditions. To be written before anything else is done.
    pub status: StreamJobStatus,
    /// Whether objects are applied and pruned at all: not while paused.
    pub hands_off: bool,
    /// The check of a revision that should exist.
    pub preflight: Option<PreflightWanted>,
    /// Whether the Kubernetes job that deletes the job's checkpoints should exist.
    pub disposal: bool,
    /// What to ask of the coordinator.
    pub request: Option<RuntimeRequest>,
    /// Whether the finalizer should be there.
    pub finalizer: bool,
    /// What to tell people.
    pub notices: Vec<Notice>,
    /// When to look again if nothing happens before.
    pub requeue: Duration,
}

/// A check of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreflightWanted {
    /// Its revision.
    pub revision: String,
    /// What it should be able to restore: `latest`, a path, or `fresh` for nothing.
    pub restore: String,
    /// Whether state may be dropped.
    pub allow_dropped_state: bool,
    /// The step that it belongs to: an older job of the same name is another one.
    pub since: String,
}

/// A request to the coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeRequest {
    /// Stop, with a savepoint of this name or with a last checkpoint.
    Stop {
        /// The name.
        savepoint: Option<String>,
    },
}
