//! What `spec.restore.from` refers to. References may be to things that do not exist yet.

use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject};
use millstream_crds::stream_job::{RestorePolicy, RestoreSpec};
use millstream_crds::{SavepointState, StreamJob, StreamJobStatus, StreamSavepoint};
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
        // Untyped: a fault in that job's spec is none of ours.
        let kind = ApiResource::erase::<StreamJob>(&());
        let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &kind);
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
fn job(name: &str, namespace: &str, found: Option<DynamicObject>) -> Result<String, String> {
    let found = found.ok_or_else(|| {
        format!("Waits for the StreamJob {name}, which `spec.restore.from` names; create it, or name another one")
    })?;
    let status = found.data.get("status").cloned().unwrap_or_default();
    let Ok(status) = serde_json::from_value::<Option<StreamJobStatus>>(status) else {
        return Err(format!("The status of the StreamJob {name} cannot be read"));
    };
    let status = status.unwrap_or_default();
    let at_rest = status.deployed.is_none();
    if let Some(point) = status.restore_point.filter(|_| at_rest) {
        return Ok(point);
    }
    if status.checkpoint.is_none() {
        return Err(format!(
            "Waits for the first checkpoint of the StreamJob {name}"
        ));
    }
    // Where the state is, which is not where a spec that was changed since wants it.
    let spec = found.data.pointer("/spec/checkpoint/storage");
    let storage = status
        .storage
        .as_deref()
        .or_else(|| spec.and_then(Value::as_str));
    let storage = storage.ok_or_else(|| {
        format!("The StreamJob {name} has no `spec.checkpoint.storage` to restore from")
    })?;
    Ok(format!(
        "{}/{namespace}/{name}",
        storage.trim_end_matches('/')
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(body: Value) -> DynamicObject {
        let kind = ApiResource::erase::<StreamJob>(&());
        let mut object = DynamicObject::new("other", &kind);
        object.data = body;
        object
    }

    fn ran(restore_point: Option<&str>, deployed: bool) -> Value {
        let checkpoint = json!({"id": 7, "path": "s3://b/default/other/chain/7", "completedAt":
            "2026-11-24T12:00:00Z", "durationMs": 1, "sizeBytes": 1});
        let deployed = deployed.then(|| json!({"restore": "latest", "at": "2026-11-24T12:00:00Z"}));
        json!({"checkpoint": checkpoint, "restorePoint": restore_point, "deployed": deployed})
    }

    #[test]
    fn a_job_at_rest_is_its_savepoint_and_one_that_runs_its_folder() {
        let spec = json!({"checkpoint": {"storage": "s3://b/"}});
        let job_of = |status: Value| {
            job(
                "other",
                "default",
                Some(found(json!({"spec": spec, "status": status}))),
            )
        };
        assert_eq!(
            job_of(ran(Some("s3://b/x"), false)),
            Ok("s3://b/x".to_owned())
        );
        let folder = Ok("s3://b/default/other".to_owned());
        assert_eq!(job_of(ran(Some("s3://b/x"), true)), folder);
        assert_eq!(job_of(ran(None, false)), folder);
        assert!(
            job_of(Value::Null)
                .unwrap_err()
                .contains("first checkpoint")
        );
    }

    #[test]
    fn a_neighbour_with_a_malformed_spec_is_still_somebody_to_restore_from() {
        let spec = json!({"checkpoint": {"storage": "s3://b"}, "parallelism": "many", "image": 7});
        let object = found(json!({"spec": spec, "status": ran(None, true)}));
        assert_eq!(
            job("other", "default", Some(object)),
            Ok("s3://b/default/other".to_owned())
        );
    }

    #[test]
    fn a_neighbour_whose_storage_was_changed_is_where_its_state_is() {
        let mut status = ran(None, true);
        status["storage"] = json!("s3://old");
        let spec = json!({"checkpoint": {"storage": "s3://new"}});
        let object = found(json!({"spec": spec, "status": status}));
        assert_eq!(
            job("other", "default", Some(object)),
            Ok("s3://old/default/other".to_owned())
        );
    }
}
