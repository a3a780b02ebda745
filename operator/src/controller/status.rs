//! The status as people and tools read it: conditions, the state in one word, counts. A pure
//! function of what was decided and what is observed.
//!
//! Every condition is always written, with the generation of the spec that it is about; so tools
//! that follow kstatus never see half a status.

mod conditions;
mod phase;
mod situation;
mod words;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use millstream_crds::conditions::{ConditionStatus, NewCondition};
use millstream_crds::status::WorkersStatus;
use millstream_crds::{ConditionType, Reason, StreamJobSpec, StreamJobStatus};

use super::build::names::Names;
use super::decide::Inputs;
use super::memory::Trouble;
use crate::runtime_client::RuntimeStatus;
use situation::Situation;

/// Everything that the status is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    /// What was decided on.
    pub(super) inputs: &'a Inputs<'a>,
    /// What was decided.
    pub(super) status: &'a StreamJobStatus,
    /// Spec of the revision that is deployed.
    pub(super) running: Option<&'a StreamJobSpec>,
    /// Why objects could not be applied.
    pub(super) trouble: Option<&'a Trouble>,
}

impl<'a> View<'a> {
    /// What the coordinator of the newest deployment says, or has said a moment ago.
    fn runtime(&self) -> Option<&'a RuntimeStatus> {
        let observed = self.inputs.observed;
        observed
            .runtime
            .current()
            .or(observed.heard_before.as_ref())
    }
}

/// Completes a status.
pub(super) fn completed(view: &View<'_>) -> StreamJobStatus {
    let situation = Situation::of(view);
    let inputs = view.inputs;
    let generation = inputs.meta.generation.unwrap_or_default();
    let now = Time(to_seconds(inputs.now));
    let mut status = view.status.clone();
    status.conditions = ConditionType::ALL
        .iter()
        .map(|condition| {
            let (value, reason, message) = conditions::of(*condition, view, &situation);
            new(*condition, value, reason, message).stored(
                &inputs.status.conditions,
                generation,
                &now,
            )
        })
        .collect();
    status.observed_generation = Some(generation);
    status.state = Some(phase::of(view, &situation));
    status.message = situation.headline();
    if status.deployed.is_some() {
        status.replicas = status.parallelism.and_then(|all| i32::try_from(all).ok());
    } else {
        status.replicas = Some(0);
    }
    let name = inputs.meta.name.as_deref().unwrap_or_default();
    let deployment = status.deployment.and_then(|it| u64::try_from(it).ok());
    // An autoscaler takes a pod for a replica. Where a pod runs several subtasks it would scale the
    // wrong way, so it is shown none and does nothing.
    let one_each = view.running.is_none_or(|spec| spec.workers.slots == 1);
    status.selector = one_each.then(|| Names::of_name(name).worker_selector_text(deployment));
    status.workers = Some(workers(view));
    status
}

fn new(
    condition_type: ConditionType,
    status: ConditionStatus,
    reason: Reason,
    message: String,
) -> NewCondition {
    NewCondition {
        condition_type,
        status,
        reason,
        message: words::cut(message, condition_type),
    }
}

/// Kubernetes keeps times of conditions in whole seconds.
fn to_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn workers(view: &View<'_>) -> WorkersStatus {
    let desired = match (view.status.deployed.as_ref(), view.running) {
        (Some(_), Some(spec)) => {
            let parallelism = view.status.parallelism.unwrap_or_default();
            let parallelism = u32::try_from(parallelism).unwrap_or_default();
            let needed = spec.dataflow.slots(parallelism);
            let workers = needed.div_ceil(spec.workers.slots.max(1));
            i32::try_from(workers).unwrap_or(i32::MAX)
        }
        _ => 0,
    };
    let ready = view.inputs.observed.workers.ready.min(desired);
    WorkersStatus {
        desired,
        ready,
        summary: format!("{ready}/{desired}"),
    }
}

#[cfg(test)]
mod tests;
