//! Why something does not come to life, where only events say so: jobs without a pod, and pods
//! whose volumes cannot be mounted.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};

use crate::context::Context;
use crate::controller::now;

/// How old something is before its events are asked for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most objects whose events are asked for in one reconcile.
const ASKED_MAX: usize = 3;
/// Most events of one object that are read.
const EVENTS_MAX: u32 = 50;

/// The newest warning about each pod or job that does not come to life.
pub(super) async fn about(
    pods: &[Pod],
    tasks: &[Job],
    namespace: &str,
    context: &Context,
) -> Result<BTreeMap<String, String>, kube::Error> {
    let now = now(context);
    let stuck = pods
        .iter()
        .filter(|pod| is_stuck(pod))
        .map(|pod| (pod.name_any(), pod.creation_timestamp()));
    let childless = tasks
        .iter()
        .filter(|task| is_childless(task))
        .map(|task| (task.name_any(), task.creation_timestamp()));
    let api = Api::<Event>::namespaced(context.client.clone(), namespace);
    let mut warnings = BTreeMap::new();
    let old = stuck
        .chain(childless)
        .filter(|(_, created)| is_old(created.as_ref(), now));
    for (name, _) in old.take(ASKED_MAX) {
        let which = ListParams::default()
            .fields(&format!("involvedObject.name={name},type=Warning"))
            .limit(EVENTS_MAX);
        let newest = api
            .list(&which)
            .await?
            .items
            .into_iter()
            .max_by_key(last_seen);
        if let Some(message) = newest.and_then(|event| event.message) {
            warnings.insert(name, message);
        }
    }
    Ok(warnings)
}

fn last_seen(event: &Event) -> Option<Timestamp> {
    let series = event
        .series
        .as_ref()
        .and_then(|series| series.last_observed_time.as_ref());
    let micro = series.or(event.event_time.as_ref()).map(|time| time.0);
    event.last_timestamp.as_ref().map(|time| time.0).or(micro)
}

fn is_old(created: Option<&Time>, now: Timestamp) -> bool {
    created.is_some_and(|created| {
        Duration::try_from(now.duration_since(created.0)).unwrap_or_default() >= PATIENCE
    })
}

fn is_stuck(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_ref());
    let waiting = containers.and_then(|all| all.first()?.state.as_ref()?.waiting.as_ref());
    waiting.is_some_and(|waiting| waiting.reason.as_deref() == Some("ContainerCreating"))
}

fn is_childless(task: &Job) -> bool {
    let status = task.status.as_ref();
    let count = |of: fn(&k8s_openapi::api::batch::v1::JobStatus) -> Option<i32>| {
        status.and_then(of).unwrap_or_default()
    };
    let pods = count(|one| one.active) + count(|one| one.succeeded) + count(|one| one.failed);
    let ended = status.and_then(|status| status.conditions.as_ref());
    pods == 0 && ended.is_none_or(Vec::is_empty)
}
