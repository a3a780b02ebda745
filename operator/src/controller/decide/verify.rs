//! A deployment must prove itself: its first checkpoints, within the progress deadline.

use millstream_crds::Reason;
use millstream_crds::status::{RejectedStatus, UpgradeStatus, UpgradeStep};
use millstream_crds::stream_job::UpgradeStrategy;
use millstream_types::ErrorKind;

use super::start::Start;
use super::upgrade::name;
use super::{Machine, SOON, STEADY, noted};
use crate::controller::observe::Runtime;
use crate::controller::observe::pods::{Problem, ProblemKind};
use crate::events::Notice;
use crate::runtime_client::{RuntimeState, RuntimeStatus};

/// How often a number is given out again because the chain has a greater one. The last leap is over a
/// year.
const LEAPS_MAX: i32 = 14;

impl Machine<'_> {
    /// Deploying and verifying: the same look, the step says how far it is.
    pub(super) fn verifying(&mut self) {
        let Some(upgrade) = self.status().upgrade.clone() else {
            return;
        };
        let since = self.status().deployed.as_ref().map(|one| one.at.clone());
        self.look_for(since.as_ref().unwrap_or(&upgrade.since), SOON);
        match self.runtime().map(|runtime| runtime.state) {
            Some(RuntimeState::Completed) => return self.complete(),
            Some(RuntimeState::Stopped) if !self.suspension_asked() => {
                self.status_mut().upgrade = None;
                return self.settled();
            }
            _ => {}
        }
        if self.suspension_asked() {
            return self.begin_suspension();
        }
        if let Some(wish) = self.wish() {
            if self.change_asked(wish) && !self.is_rejected(wish) {
                return self.begin_upgrade(wish);
            }
            self.rescale(wish);
        }
        if self.is_good() {
            return self.finish(&upgrade);
        }
        if self.gave_up() || self.wish().is_some_and(|wish| self.is_rejected(wish)) {
            return self.look_again(STEADY);
        }
        if self.is_outnumbered() && upgrade.tries < LEAPS_MAX {
            return self.leap(upgrade);
        }
        if let Some((reason, message)) = self.failure() {
            return self.fail(upgrade, reason, message);
        }
        if self.claimed() && upgrade.step == UpgradeStep::Deploying {
            let since = self.now();
            self.status_mut().upgrade = Some(UpgradeStatus {
                step: UpgradeStep::Verifying,
                since,
                ..upgrade
            });
        }
    }

    fn is_good(&self) -> bool {
        let known = self.status().revisions.first().is_some_and(|one| one.good);
        let needed = self.wish().filter(|_| !known);
        let needed = needed.map_or(1, |wish| wish.spec.upgrade.rollback.after_checkpoints);
        let seen = self
            .status()
            .deployed
            .as_ref()
            .map_or(0, |deployed| deployed.checkpoints);
        u32::try_from(seen).unwrap_or(0) >= needed
            && self.runtime().is_some_and(noted::completed_while_running)
    }

    fn finish(&mut self, upgrade: &UpgradeStatus) {
        let revision = self.status().revision.clone();
        if let Some(revision) = &revision
            && let Some(entry) = self.revision_entry(revision)
        {
            entry.good = true;
        }
        let rolled_back = self.rolling_back(upgrade);
        let status = self.status_mut();
        status.upgrade = None;
        if !rolled_back {
            status.rolled_back_from = None;
        }
        let own = status
            .rejected
            .as_ref()
            .is_some_and(|rejected| Some(&rejected.revision) == revision.as_ref());
        if own {
            status.rejected = None;
        }
        self.tell(Notice::normal(
            Reason::Deployed,
            format!(
                "{} runs and has completed its checkpoints",
                name(revision.as_ref())
            ),
        ));
        self.look_again(STEADY);
    }

    /// Whether what is deployed has been rejected already: a person must act, though it may still
    /// come to life.
    fn gave_up(&self) -> bool {
        let status = self.status();
        status
            .rejected
            .as_ref()
            .is_some_and(|rejected| Some(&rejected.revision) == status.revision.as_ref())
    }

    fn rolling_back(&self, upgrade: &UpgradeStatus) -> bool {
        self.status().rolled_back_from.is_some()
            && self.status().rolled_back_from == upgrade.from
            && upgrade.from != upgrade.to
    }

    /// Whether the chain has seen a greater number than that of this deployment, which has never come
    /// to life: one of a job that was deleted, by a clock that was ahead of ours.
    fn is_outnumbered(&self) -> bool {
        let problem = self.inputs.observed.coordinator.problem.as_ref();
        !self.claimed()
            && self.runtime().is_none()
            && problem.is_some_and(|problem| problem.kind == ProblemKind::Fenced)
    }

    /// The same under a much greater number.
    fn leap(&mut self, upgrade: UpgradeStatus) {
        let status = self.status();
        let (Some(revision), Some(deployed)) = (status.revision.clone(), &status.deployed) else {
            return;
        };
        let start = Start::of(deployed);
        let tries = upgrade.tries.max(0);
        let hours = 1_i64 << tries.min(LEAPS_MAX);
        let before = status.deployment.unwrap_or_default();
        let number = before.saturating_add(hours.saturating_mul(3_600_000));
        self.tell(Notice::normal(
            Reason::Deploying,
            format!(
                "deploys {revision} again: the job's chain has seen a greater number than {before}, \
                 so our clock is behind that of an earlier operator"
            ),
        ));
        self.status_mut().deployment = Some(number);
        self.deploy(&revision, start, Some(upgrade), None);
        if let Some(upgrade) = &mut self.status_mut().upgrade {
            upgrade.tries = tries.saturating_add(1);
        }
    }

    /// Why the deployment does not work, if that is certain.
    fn failure(&self) -> Option<(Reason, String)> {
        if let Some(runtime) = self.runtime()
            && runtime.state == RuntimeState::Failed
        {
            return Some(failed(runtime));
        }
        if let Some(problem) = self.pod_problem().filter(|problem| problem.kind.is_final()) {
            let reason = match problem.kind {
                ProblemKind::InvalidJob => Reason::InvalidSpec,
                _ => Reason::PodsFailing,
            };
            return Some((reason, problem.message.clone()));
        }
        if self.runtime().is_none() && self.runs_unheard() {
            // It runs, as the kubelet finds; that we cannot ask it is not its fault.
            return None;
        }
        let deployed = self.status().deployed.as_ref()?;
        let waited = self.elapsed(&deployed.at);
        (waited > self.progress_deadline()).then(|| {
            let waiting = self.waiting_for();
            let message = format!(
                "no checkpoint within {}s of its deployment: {waiting}",
                self.progress_deadline().as_secs()
            );
            (Reason::ProgressDeadlineExceeded, message)
        })
    }

    fn pod_problem(&self) -> Option<&Problem> {
        let observed = self.inputs.observed;
        observed
            .coordinator
            .problem
            .as_ref()
            .or(observed.workers.problem.as_ref())
    }

    fn waiting_for(&self) -> String {
        if let Some(problem) = self.pod_problem() {
            return problem.message.clone();
        }
        match self.runtime() {
            Some(runtime) if !runtime.message.is_empty() => runtime.message.clone(),
            Some(runtime) => format!("the job is {:?}", runtime.state),
            None => match &self.inputs.observed.runtime {
                Runtime::Silent(reason) => reason.clone(),
                _ => "there is no coordinator that could be asked".to_owned(),
            },
        }
    }

    /// The deployment does not work: back to the last good revision if so wished, otherwise left
    /// as it is for a person to look at.
    fn fail(&mut self, upgrade: UpgradeStatus, reason: Reason, message: String) {
        let (target, start) = match self.rollback(&upgrade) {
            Ok(Some(rollback)) => rollback,
            Ok(None) => return self.reject(&upgrade, reason, message),
            Err(why) => {
                let message = format!("{message}. It is not rolled back: {why}");
                return self.reject(&upgrade, reason, message);
            }
        };
        let bad = upgrade.to.clone();
        self.status_mut().rejected = Some(RejectedStatus {
            revision: name(bad.as_ref()).to_owned(),
            generation: self.generation(),
            reason: reason.as_str().to_owned(),
            message: message.clone(),
            at: self.now(),
        });
        self.status_mut().rolled_back_from.clone_from(&bad);
        self.tell(Notice::warning(
            Reason::RolledBack,
            format!(
                "{} does not work: {message}. Goes back to {target} from {}",
                name(bad.as_ref()),
                start.restore
            ),
        ));
        let back = UpgradeStatus {
            from: bad,
            to: Some(target.clone()),
            restore_hash: None,
            savepoint: None,
            changes: None,
            ..upgrade
        };
        self.deploy(&target, start, Some(back), None);
    }

    /// What to go back to, if that is wished and there is something.
    ///
    /// # Errors
    /// Why it cannot be gone back to.
    fn rollback(&self, upgrade: &UpgradeStatus) -> Result<Option<(String, Start)>, String> {
        let wished = self
            .wish()
            .is_some_and(|wish| wish.spec.upgrade.rollback.enabled);
        if !wished || self.rolling_back(upgrade) {
            return Ok(None);
        }
        let kept = &self.inputs.observed.revisions;
        let good = self.status().revisions.iter().find(|revision| {
            revision.good
                && Some(&revision.name) != upgrade.to.as_ref()
                && kept.contains_key(&revision.name)
        });
        let Some(target) = good.map(|revision| revision.name.clone()) else {
            return Ok(None);
        };
        let bad = upgrade.to.as_deref().unwrap_or_default();
        if !self.share_storage(&target, bad) {
            return Err(format!(
                "{target} has its checkpoints in {}, where nothing is known of what has become of \
                 the job since",
                self.storage_of(&target).unwrap_or_default()
            ));
        }
        let start = self.rollback_start(upgrade, &target)?;
        Ok(Some((target, start)))
    }

    /// The savepoint that the job was stopped with for this upgrade. If the new revision has
    /// completed checkpoints, its output is committed: going back further would commit it twice.
    /// What we have seen of that is one thing; the chain has the last word.
    fn rollback_start(&self, upgrade: &UpgradeStatus, target: &str) -> Result<Start, String> {
        let status = self.status();
        let deployed = status.deployed.as_ref();
        let point = status.restore_point.as_ref();
        let taken = |path: &&String| {
            path.rsplit('/').next() == upgrade.savepoint.as_deref()
                || deployed.is_some_and(|deployed| deployed.restore == **path)
        };
        if let Some(path) = point.filter(taken) {
            let advanced = deployed.is_some_and(|deployed| deployed.checkpoints > 0);
            return Ok(if advanced {
                Start::latest()
            } else {
                Start::believed(path.clone())
            });
        }
        // The newest checkpoint is then not what the old revision had come to.
        let elsewhere =
            upgrade.strategy == UpgradeStrategy::Stateless || upgrade.restore_hash.is_some();
        if elsewhere {
            return Err(format!("there is no savepoint of {target} to go back to"));
        }
        Ok(Start::latest())
    }
}

/// What a runtime that has given up says of it.
fn failed(runtime: &RuntimeStatus) -> (Reason, String) {
    let Some(failure) = &runtime.last_failure else {
        return (Reason::JobFailed, runtime.message.clone());
    };
    let reason = if failure.kind == ErrorKind::InvalidJob {
        Reason::InvalidSpec
    } else {
        Reason::JobFailed
    };
    (reason, failure.to_string())
}
