//! What `spec.restore.from` refers to. References may be to things that do not exist yet.

use kube::Client;
use kube::api::Api;
use millstream_crds::stream_job::{RestorePolicy, RestoreSpec};
use millstream_crds::{SavepointState, StreamJob, StreamSavepoint};
use serde_json::Value;

/// The path that `spec.restore.from` means now, or why it means none.
pub(super) async fn source(
    spec: &Value,
    namespace: &str,
    client: &Client,
) -> Result<Result<String, String>, kube::Error> {
    let restore = spec.get("restore").cloned().unwrap_or_default();
    let Ok(restore) = serde_json::from_value::<RestoreSpec>(restore) else {
        return Ok(Err("`spec.restore` has faults".to_owned()));
    };
    let Some(from) = restore
        .from
        .filter(|_| restore.policy == RestorePolicy::From)
    else {
        return Ok(Err("`spec.restore.from` is not given".to_owned()));
    };
    if let Some(path) = from.path {
        return Ok(Ok(path));
    }
    if let Some(name) = from.savepoint {
        let api = Api::<StreamSavepoint>::namespaced(client.clone(), namespace);
        return Ok(savepoint(&name, api.get_opt(&name).await?));
    }
    if let Some(name) = from.job {
        let api = Api::<StreamJob>::namespaced(client.clone(), namespace);
        return Ok(job(&name, namespace, api.get_opt(&name).await?));
    }
    Ok(Err("`spec.restore.from` names nothing".to_owned()))
}

fn savepoint(name: &str, found: Option<StreamSavepoint>) -> Result<String, String> {
    let found = found.ok_or_else(|| {
        format!("Waits for the StreamSavepoint {name}, which `spec.restore.from` names; create it, or name another one")
    })?;
    let status = found.status.unwrap_or_default();
    match (status.state, status.path) {
        (Some(SavepointState::Completed), Some(path)) => Ok(path),
        (state, _) => {
            let state = state.unwrap_or(SavepointState::Pending);
            Err(format!(
                "Waits for the StreamSavepoint {name} to be Completed; it is {state:?}"
            ))
        }
    }
}

/// A job at rest is where its savepoint says. One that runs is its folder in the store, which the
/// runtime takes for its newest checkpoint: any single one is soon swept.
fn job(name: &str, namespace: &str, found: Option<StreamJob>) -> Result<String, String> {
    let found = found.ok_or_else(|| {
        format!("Waits for the StreamJob {name}, which `spec.restore.from` names; create it, or name another one")
    })?;
    let status = found.status.unwrap_or_default();
    let at_rest = status.deployed.is_none();
    if let Some(point) = status.restore_point.filter(|_| at_rest) {
        return Ok(point);
    }
    if status.checkpoint.is_none() {
        return Err(format!(
            "Waits for the first checkpoint of the StreamJob {name}"
        ));
    }
    let storage = found.spec.checkpoint.storage;
    Ok(format!(
        "{}/{namespace}/{name}",
        storage.trim_end_matches('/')
    ))
}
