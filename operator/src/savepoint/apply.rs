//! Carries out a decision: the status first, then what follows from it.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Resource as _};
use millstream_crds::{StreamSavepoint, StreamSavepointStatus};
use serde_json::{Value, json};

use super::decide::{Action, Decision, refused};
use super::dereference::{disposal_name, namespace};
use super::template::{ANNOTATION, Template};
use super::{FINALIZER, SavepointError, now, runtime_name};
use crate::context::{Context, Next};
use crate::controller::build::names::FIELD_MANAGER;
use crate::events;

/// Field manager of the finalizer and its annotation: they come and go apart from the rest.
const FINALIZER_MANAGER: &str = "millstream-operator-finalizer";

/// When to look at a savepoint that has just been asked for.
const AFTER_REQUEST: Duration = Duration::from_millis(250);
/// When to look at a disposal that has just been created; its end is an event, too.
const AFTER_DISPOSAL: Duration = Duration::from_secs(5);

/// Does what was decided.
pub(super) async fn carry_out(
    savepoint: &StreamSavepoint,
    coordinator: Option<&str>,
    decision: Decision,
    context: &Context,
) -> Result<Next, SavepointError> {
    let mut api = Savepoints::of(savepoint, context);
    // The finalizer comes before the savepoint exists, and so before the status that announces it.
    if let Action::Ask {
        dispose_with: Some(template),
    } = &decision.action
    {
        api.hold(template).await?;
    }
    api.write(&decision).await?;
    match decision.action {
        Action::None => {}
        Action::Ask { .. } => return api.ask(coordinator, decision.status).await,
        Action::Dispose { path, template } => return api.dispose(&path, &template).await,
        Action::RetryDisposal => api.remove_disposal().await?,
        Action::Release => api.release().await?,
    }
    Ok(decision.next)
}

/// What can be done to one savepoint.
struct Savepoints<'a> {
    savepoint: &'a StreamSavepoint,
    api: Api<StreamSavepoint>,
    context: &'a Context,
    name: &'a str,
    /// The version that was read or written last: nobody else's write is overwritten.
    version: Option<String>,
}

impl<'a> Savepoints<'a> {
    fn of(savepoint: &'a StreamSavepoint, context: &'a Context) -> Self {
        Self {
            savepoint,
            api: Api::namespaced(context.client.clone(), namespace(savepoint)),
            context,
            name: savepoint.metadata.name.as_deref().unwrap_or_default(),
            version: savepoint.metadata.resource_version.clone(),
        }
    }

    async fn write(&mut self, decision: &Decision) -> Result<(), SavepointError> {
        if self.savepoint.status.as_ref() != Some(&decision.status) {
            let patch = Self::manifest(json!({
                "metadata": { "resourceVersion": self.version },
                "status": decision.status,
            }));
            let parameters = PatchParams::apply(FIELD_MANAGER).force();
            let written = self
                .api
                .patch_status(self.name, &parameters, &Patch::Apply(patch))
                .await;
            let written = written.map_err(SavepointError::api("writing the status"))?;
            self.version = written.metadata.resource_version;
        }
        let about = self.savepoint.object_ref(&());
        events::publish(&self.context.recorder, &about, &decision.notices).await;
        Ok(())
    }

    /// An apply of something of this very resource: without its uid, one that is gone would be
    /// created anew.
    fn manifest(more: Value) -> Value {
        let mut manifest = json!({
            "apiVersion": StreamSavepoint::api_version(&()),
            "kind": StreamSavepoint::kind(&()),
        });
        if let (Value::Object(manifest), Value::Object(more)) = (&mut manifest, more) {
            manifest.extend(more);
        }
        manifest
    }

    async fn ask(
        self,
        coordinator: Option<&str>,
        status: StreamSavepointStatus,
    ) -> Result<Next, SavepointError> {
        let Some(ip) = coordinator else {
            return Ok(Next::after(AFTER_REQUEST));
        };
        let name = runtime_name(self.savepoint);
        let Err(error) = self.context.runtime.savepoint(ip, &name).await else {
            return Ok(Next::after(AFTER_REQUEST));
        };
        let now = now(self.context.clock.as_ref());
        let mut announced = self.savepoint.clone();
        announced.status = Some(status.clone());
        let decision = refused(&announced, status, &error, now);
        Savepoints {
            savepoint: &announced,
            api: self.api.clone(),
            ..self
        }
        .write(&decision)
        .await?;
        Ok(decision.next)
    }

    /// Makes sure that the resource stays until its data is deleted.
    async fn hold(&mut self, template: &Template) -> Result<(), SavepointError> {
        let patch = Self::manifest(json!({
            "metadata": {
                "uid": self.savepoint.metadata.uid,
                "finalizers": [FINALIZER],
                "annotations": { ANNOTATION: serde_json::to_string(template)? },
            }
        }));
        self.hold_with(patch).await
    }

    /// Lets the resource go.
    async fn release(&mut self) -> Result<(), SavepointError> {
        let patch = Self::manifest(json!({
            "metadata": { "uid": self.savepoint.metadata.uid, "finalizers": [] }
        }));
        self.hold_with(patch).await
    }

    async fn hold_with(&mut self, patch: Value) -> Result<(), SavepointError> {
        let parameters = PatchParams::apply(FINALIZER_MANAGER).force();
        match self
            .api
            .patch(self.name, &parameters, &Patch::Apply(patch))
            .await
        {
            Ok(written) => {
                self.version = written.metadata.resource_version;
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(SavepointError::api("writing the finalizer")(error)),
        }
    }

    async fn dispose(&mut self, path: &str, template: &Template) -> Result<Next, SavepointError> {
        let name = disposal_name(self.savepoint);
        let owner: Vec<_> = self
            .savepoint
            .controller_owner_ref(&())
            .into_iter()
            .collect();
        let namespace = namespace(self.savepoint);
        let disposal = template.disposal(
            &name,
            Some(namespace),
            &self.savepoint.spec.job_ref.name,
            &owner,
        );
        let jobs: Api<Job> = Api::namespaced(self.context.client.clone(), namespace);
        let post = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        match jobs.create(&post, &disposal.of_savepoint(path)).await {
            Ok(_) => Ok(Next::after(AFTER_DISPOSAL)),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Next::after(AFTER_DISPOSAL)),
            Err(kube::Error::Api(status)) if is_terminating(&status.message) => {
                tracing::warn!(path, "stays: its namespace is being deleted");
                self.release().await?;
                Ok(Next::on_change())
            }
            Err(error) => Err(SavepointError::api("creating the disposal")(error)),
        }
    }

    async fn remove_disposal(&self) -> Result<(), SavepointError> {
        let jobs: Api<Job> =
            Api::namespaced(self.context.client.clone(), namespace(self.savepoint));
        match jobs
            .delete(&disposal_name(self.savepoint), &DeleteParams::background())
            .await
        {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(SavepointError::api("removing the failed disposal")(error)),
        }
    }
}

/// Nothing can be created in a namespace that is being deleted, so nothing can be disposed of.
fn is_terminating(message: &str) -> bool {
    message.contains("because it is being terminated")
}
