//! The controller of `StreamJob`: one reconcile, read top to bottom.
//!
//! [`dereference`] reads what the API server says, [`validate`] what the spec asks for,
//! [`observe`] what is there, [`decide`] what to do next; `apply` does it, in an order in which a
//! crash after any write converges: the revision's config map, the status, then objects and
//! requests; `status` is what people and tools read of it.

mod apply;
pub mod build;
pub mod decide;
pub mod deletion;
pub mod dereference;
pub mod digest;
pub mod memory;
pub mod observe;
pub mod revision;
mod status;
pub mod validate;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource as _;
use kube::api::DynamicObject;
use millstream_crds::{StreamJob, StreamJobStatus};

use self::apply::{Applier, FINALIZER};
use self::decide::{Decision, Inputs, RuntimeRequest, decide};
use self::deletion::Deletion;
use self::dereference::Dereferenced;
use self::memory::JobMemory;
use self::validate::{Asked, validate};
use crate::context::{Context, Fault, Next, api_error_kind};
use crate::events::{self, Notice};

/// A look at what was just written.
const AT_ONCE: Duration = Duration::from_millis(200);

/// A look at a job some of whose objects Kubernetes refuses.
const IN_TROUBLE: Duration = Duration::from_secs(2);

/// Why a reconcile ended.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The API server refused, or could not be asked.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// The status was written by another version, or by somebody else.
    #[error("the status of the StreamJob cannot be read: {0}")]
    Status(serde_json::Error),
    /// A kept revision was written by another version.
    #[error("a kept revision of the StreamJob cannot be read: {0}")]
    Revision(serde_json::Error),
    /// A revision cannot be written, a fault of ours.
    #[error("a revision cannot be written as YAML: {0}")]
    Yaml(serde_yaml::Error),
}

impl Fault for ReconcileError {
    fn kind(&self) -> &'static str {
        match self {
            Self::Api(error) => api_error_kind(error),
            Self::Status(_) | Self::Revision(_) | Self::Yaml(_) => "malformed",
        }
    }
}

/// The time.
fn now(context: &Context) -> Timestamp {
    i64::try_from(context.clock.now().0)
        .ok()
        .and_then(|millis| Timestamp::from_millisecond(millis).ok())
        .unwrap_or_default()
}

/// Brings one `StreamJob` a step further.
///
/// # Errors
/// The API server could not be asked, or answers what is not understood; the same reconcile may
/// be tried again at any time.
pub async fn reconcile(object: DynamicObject, context: &Context) -> Result<Next, ReconcileError> {
    let facts = dereference::dereference(object, context).await?;
    let wish = validate(&Asked {
        meta: &facts.meta,
        spec: &facts.spec,
        owner: &facts.owner,
        known: &facts.revisions,
        current: facts.status.revision.as_deref(),
        source: &facts.source,
    });
    let uid = facts.meta.uid.as_deref().unwrap_or_default();
    let mut memory = context.memory.of(uid);
    let observed = observe::observe(&facts, &memory, context).await;
    memory.note(&observed, facts.status.deployment);
    let deletion = Deletion::of(&facts.spec);
    let inputs = Inputs {
        meta: &facts.meta,
        paused: facts.paused(),
        deletion: &deletion,
        wish: wish.as_ref(),
        status: &facts.status,
        observed: &observed,
        replaced: &memory.replaced.clone(),
        now: now(context),
    };
    let decision = decide(&inputs);
    match Box::pin(carry_out(&facts, &inputs, decision, memory, context)).await {
        // Somebody else has written the resource meanwhile: what was decided may be wrong.
        Err(ReconcileError::Api(kube::Error::Api(status))) if status.code == 409 => {
            tracing::debug!(job = facts.name(), "overtaken by another write");
            Ok(Next::after(AT_ONCE))
        }
        other => other,
    }
}

async fn carry_out(
    facts: &Dereferenced,
    inputs: &Inputs<'_>,
    mut decision: Decision,
    memory: JobMemory,
    context: &Context,
) -> Result<Next, ReconcileError> {
    let uid = facts.meta.uid.clone().unwrap_or_default();
    let mut applier = Applier::new(context, facts, memory, inputs.now);
    let deleting = facts.meta.deletion_timestamp.is_some();
    let finalized = facts
        .meta
        .finalizers
        .as_ref()
        .is_some_and(|all| all.iter().any(|one| one == FINALIZER));
    if deleting && !finalized {
        return Ok(gone(facts, &uid, context));
    }
    if deleting && !decision.finalizer {
        tell(facts, &decision.notices, context).await;
        applier.finalizer(false).await?;
        return Ok(gone(facts, &uid, context));
    }
    if decision.finalizer != finalized {
        applier.finalizer(decision.finalizer).await?;
        return Ok(Next::after(AT_ONCE));
    }
    let wanted = inputs.wish.ok().map(|wish| &wish.revision);
    let missing = wanted.filter(|wanted| {
        names(&decision.status, &wanted.name) && facts.revision(&wanted.name).is_none()
    });
    let kept = match missing {
        None => true,
        Some(revision) => applier.keep_revision(revision).await?,
    };
    if !kept {
        // The status must not name a revision that is not there.
        decision.status = facts.status.clone();
    }
    write_status(facts, inputs, &decision, &applier).await?;
    let mut news = false;
    if !decision.hands_off {
        if kept {
            Box::pin(applier.objects(&decision, wanted)).await?;
        }
        news = applier.settle();
    }
    applier.memory.owner = Some(facts.owner.clone());
    applier.memory.without_tasks = facts.tasks.is_empty();
    context.memory.keep(&uid, applier.memory.clone());
    if kept {
        request(facts, &decision, context).await;
        tell(facts, &decision.notices, context).await;
    }
    let pause = if news {
        AT_ONCE
    } else if !applier.memory.troubles.is_empty() {
        decision.requeue.max(IN_TROUBLE)
    } else {
        decision.requeue
    };
    Ok(Next::after(pause))
}

/// Whether a status refers to a revision.
fn names(status: &StreamJobStatus, revision: &str) -> bool {
    status.revision.as_deref() == Some(revision)
        || status
            .upgrade
            .as_ref()
            .is_some_and(|upgrade| upgrade.to.as_deref() == Some(revision))
}

fn gone(facts: &Dereferenced, uid: &str, context: &Context) -> Next {
    context.memory.forget(uid);
    context.metrics.forget_job(facts.namespace(), facts.name());
    Next::on_change()
}

async fn write_status(
    facts: &Dereferenced,
    inputs: &Inputs<'_>,
    decision: &Decision,
    applier: &Applier<'_>,
) -> Result<(), ReconcileError> {
    let running = decision.status.revision.as_deref();
    let running = running.and_then(|name| facts.revision(name));
    let running = running.and_then(|revision| revision.spec(1).ok());
    let status = status::completed(&status::View {
        inputs,
        status: &decision.status,
        running: running.as_ref(),
        trouble: applier.memory.trouble().as_ref(),
    });
    if let Some(state) = status.state {
        applier
            .context()
            .metrics
            .set_job_state(facts.namespace(), facts.name(), state);
    }
    if status == facts.status {
        return Ok(());
    }
    applier.status(&status).await
}

/// Asks the coordinator. Whether it was heard shows at the next look.
async fn request(facts: &Dereferenced, decision: &Decision, context: &Context) {
    let Some(RuntimeRequest::Stop { savepoint }) = &decision.request else {
        return;
    };
    let Some(ip) = observe::coordinator_ip(&facts.pods, facts.status.deployment) else {
        return;
    };
    if let Err(error) = context.runtime.stop(&ip, savepoint.as_deref()).await {
        tracing::info!(job = facts.name(), %error, "the job could not be asked to stop");
    }
}

async fn tell(facts: &Dereferenced, notices: &[Notice], context: &Context) {
    if notices.is_empty() {
        return;
    }
    let about = ObjectReference {
        api_version: Some(StreamJob::api_version(&()).into_owned()),
        kind: Some(StreamJob::kind(&()).into_owned()),
        namespace: facts.meta.namespace.clone(),
        name: facts.meta.name.clone(),
        uid: facts.meta.uid.clone(),
        ..ObjectReference::default()
    };
    events::publish(&context.recorder, &about, notices).await;
}
