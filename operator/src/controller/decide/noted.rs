//! What the coordinator says is noted, whatever is under way.

use std::time::Duration;

use jiff::Timestamp;
use millstream_crds::Reason;
use millstream_crds::status::CheckpointStatus;
use millstream_crds::stream_job::RestorePolicy;

use super::{Machine, written};
use crate::events::Notice;
use crate::runtime_client::{CompletedCheckpoint, RuntimeState, RuntimeStatus};

/// How often the newest checkpoint is written to the status of a job that just runs.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);
/// More checkpoints than this make no difference to anybody.
const CHECKPOINTS_COUNTED: i32 = 100;

impl Machine<'_> {
    /// Notes what the coordinator of the newest deployment says.
    pub(super) fn note_runtime(&mut self) {
        self.note_earlier_storage();
        let unheard = self.runs_unheard();
        let Some(deployed) = &mut self.decision.status.deployed else {
            return;
        };
        let Some(runtime) = self.inputs.observed.runtime.current() else {
            deployed.claimed |= unheard;
            return;
        };
        self.note_claim(runtime);
        self.note_checkpoint(runtime);
        let status = self.status_mut();
        status.attempt = i64::try_from(runtime.attempt.0).ok();
        status.restored_from.clone_from(&runtime.restored_from);
    }

    /// The deployed revision's storage is where the job has its state now.
    fn note_storage(&mut self) {
        let revision = self.status().revision.clone();
        let storage = revision.and_then(|revision| self.storage_of(&revision).map(str::to_owned));
        if storage.is_some() {
            self.status_mut().storage = storage;
        }
    }

    /// What versions before this one have not noted.
    fn note_earlier_storage(&mut self) {
        let status = self.status();
        let claimed = status.deployed.as_ref().map(|deployed| deployed.claimed);
        let state = match claimed {
            Some(claimed) => claimed,
            None => status.checkpoint.is_some() || status.restore_point.is_some(),
        };
        if state && status.storage.is_none() {
            self.note_storage();
        }
    }

    /// Whether all tasks of the newest deployment run as the kubelet finds, so that it has taken
    /// over even if nobody answers us.
    pub(super) const fn runs_unheard(&self) -> bool {
        self.inputs.observed.kubelet_finds_it_running
    }

    fn note_claim(&mut self, runtime: &RuntimeStatus) {
        let first = self.status().revisions.len() <= 1 && self.inputs.status.checkpoint.is_none();
        let Some(deployed) = &mut self.decision.status.deployed else {
            return;
        };
        if deployed.claimed || !has_claimed(runtime) {
            return;
        }
        deployed.claimed = true;
        let latest = deployed.restore == "latest";
        let believed = deployed.restore.clone();
        let advanced =
            deployed.unless_advanced && runtime.restored_from.as_ref() != Some(&believed);
        self.note_storage();
        let policy = self.wish().map(|wish| wish.spec.restore.policy);
        match &runtime.restored_from {
            Some(path) if first && latest && policy == Some(RestorePolicy::Latest) => {
                self.tell(Notice::normal(
                    Reason::AdoptedState,
                    format!("goes on from {path}, which a job of the same name has left"),
                ));
            }
            Some(path) if advanced => self.tell(Notice::normal(
                Reason::Restored,
                format!("restored from {path}: the job had gone on since {believed}"),
            )),
            Some(path) => self.tell(Notice::normal(
                Reason::Restored,
                format!("restored from {path}"),
            )),
            None => self.tell(Notice::normal(Reason::StartedFresh, "began without state")),
        }
    }

    fn note_checkpoint(&mut self, runtime: &RuntimeStatus) {
        let Some(checkpoint) = &runtime.last_checkpoint else {
            return;
        };
        let before = self.inputs.status.checkpoint.as_ref();
        let id = i64::try_from(checkpoint.id.0).unwrap_or(i64::MAX);
        let is_new = before.is_none_or(|before| before.id != id);
        let counts = is_new && completed_while_running(runtime);
        let Some(deployed) = &mut self.decision.status.deployed else {
            return;
        };
        let first = counts && deployed.checkpoints == 0;
        if counts
            && self.decision.status.upgrade.is_some()
            && deployed.checkpoints < CHECKPOINTS_COUNTED
            || first
        {
            deployed.checkpoints += 1;
        }
        let stale = before.is_none_or(|before| {
            let age = before
                .completed_at
                .parse::<Timestamp>()
                .map(|at| self.inputs.now.duration_since(at));
            age.map_or(true, |age| {
                Duration::try_from(age).unwrap_or_default() >= CHECKPOINT_EVERY
            })
        });
        let under_way = self.decision.status.upgrade.is_some() || first;
        if is_new && (stale || under_way) {
            self.decision.status.checkpoint = Some(stored(checkpoint, id));
        }
    }
}

/// Whether the runtime owns the chain under this deployment, so that `--restore` has had its
/// effect.
fn has_claimed(runtime: &RuntimeStatus) -> bool {
    use RuntimeState as S;
    runtime.restored_from.is_some()
        || runtime.last_checkpoint.is_some()
        || matches!(
            runtime.state,
            S::WaitingForWorkers
                | S::Deploying
                | S::Running
                | S::Stopping
                | S::Stopped
                | S::Completed
        )
}

/// Whether the job runs and has completed its newest checkpoint since it does.
pub(in crate::controller) fn completed_while_running(runtime: &RuntimeStatus) -> bool {
    runtime.state == RuntimeState::Running
        && runtime
            .last_checkpoint
            .as_ref()
            .is_some_and(|checkpoint| checkpoint.ended_at() >= runtime.since)
}

fn stored(checkpoint: &CompletedCheckpoint, id: i64) -> CheckpointStatus {
    let at = i64::try_from(checkpoint.ended_at().0)
        .ok()
        .and_then(|millis| Timestamp::from_millisecond(millis).ok())
        .unwrap_or_default();
    CheckpointStatus {
        id,
        path: checkpoint.path.clone().unwrap_or_default(),
        completed_at: written(at),
        duration_ms: i64::try_from(checkpoint.duration_ms.unwrap_or(0)).unwrap_or(i64::MAX),
        size_bytes: i64::try_from(checkpoint.size_bytes.unwrap_or(0)).unwrap_or(i64::MAX),
    }
}
