//! Another revision, or other state: check it while the old one runs on, ask a person if so
//! wished, and only then touch anything.

use std::time::Duration;

use jiff::Timestamp;
use millstream_crds::Reason;
use millstream_crds::status::{RejectedStatus, UpgradeStatus, UpgradeStep};
use millstream_crds::stream_job::{Approval, UpgradeStrategy};

use super::deploy::empty_upgrade;
use super::{Machine, PreflightWanted, RuntimeRequest, SOON, STEADY};
use crate::controller::build::names::ANNOTATION_APPROVE;
use crate::controller::observe::TaskSeen;
use crate::controller::observe::tasks::step_mark;
use crate::controller::validate::Wish;
use crate::events::Notice;
use crate::text;

/// Pause after a first check that ended without a verdict.
const CHECK_PAUSE: Duration = Duration::from_secs(5);
/// Longest pause after a check that ended without a verdict.
const CHECK_PAUSE_MAX: Duration = Duration::from_mins(1);
/// Longest account of changes that is kept, bytes.
const CHANGES_BYTES_MAX: usize = 2_000;

impl Machine<'_> {
    /// Begins to bring in what the spec asks for.
    pub(super) fn begin_upgrade(&mut self, wish: &Wish) {
        let restores = self.restore_asked(wish);
        if restores && let Err(missing) = &wish.restore {
            tracing::debug!(missing, "not upgraded");
            return self.look_again(STEADY);
        }
        let upgrade = UpgradeStatus {
            from: self.status().revision.clone(),
            to: Some(wish.revision.name.clone()),
            step: UpgradeStep::Preflight,
            since: self.now(),
            restore_from: wish.restore.clone().ok().filter(|_| restores),
            restore_hash: restores.then(|| wish.restore_hash.clone()),
            ..empty_upgrade(wish.spec.upgrade.strategy)
        };
        let idle = !self.claimed() && self.runtime().is_none();
        if idle
            && !self.must_stop(&wish.revision.name)
            && wish.spec.upgrade.approval == Approval::Automatic
        {
            // Nothing runs that a check could protect.
            return self.bring_in(upgrade, None);
        }
        self.tell(Notice::normal(
            Reason::Preflight,
            format!(
                "checks {}; {} runs on",
                name(upgrade.to.as_ref()),
                name(upgrade.from.as_ref())
            ),
        ));
        self.enter(upgrade);
        self.preflight();
    }

    /// The new revision is checked; the old one runs on.
    pub(super) fn preflight(&mut self) {
        let Some(upgrade) = self.still_wanted() else {
            return;
        };
        let Some(wish) = self.wish() else { return };
        self.look_for(&upgrade.since, SOON);
        let waited = self.elapsed(&upgrade.since);
        // What was observed is about the try that the status named.
        let seen =
            self.inputs.status.upgrade.as_ref().is_some_and(|seen| {
                seen.to == upgrade.to && step_mark(seen) == step_mark(&upgrade)
            });
        let check = match &self.inputs.observed.preflight {
            check if seen => check,
            _ => &TaskSeen::Absent,
        };
        let mut tries = upgrade.tries;
        match check {
            TaskSeen::Succeeded(report) => return self.checked(upgrade, report),
            TaskSeen::Failed(reason) => {
                self.reject(&upgrade, Reason::PreflightFailed, reason.clone());
            }
            TaskSeen::Waiting(Some(problem)) if problem.kind.is_final() => {
                self.reject(&upgrade, Reason::PreflightFailed, problem.message.clone());
            }
            unfinished if waited > self.progress_deadline() => {
                let why = match unfinished {
                    TaskSeen::Waiting(Some(problem)) => problem.message.as_str(),
                    TaskSeen::Broken { message, .. } => message.as_str(),
                    _ => "",
                };
                let why = if why.is_empty() {
                    String::new()
                } else {
                    format!(": {why}")
                };
                let message = format!(
                    "its check came to no end within {}s{why}. Change `spec.restartAt` to have it \
                     checked again",
                    waited.as_secs()
                );
                self.reject(&upgrade, Reason::PreflightFailed, message);
            }
            TaskSeen::Broken { at, .. } if self.is_due(*at, tries) => {
                tries = tries.saturating_add(1);
                self.enter(UpgradeStatus {
                    tries,
                    ..upgrade.clone()
                });
            }
            TaskSeen::Absent | TaskSeen::Waiting(_) | TaskSeen::Broken { .. } => {}
        }
        // Kept when it failed, so that its log can be read.
        self.decision.preflight = Some(PreflightWanted {
            revision: wish.revision.name.clone(),
            restore: self.restore_to_check(&upgrade),
            allow_dropped_state: wish.spec.restore.allow_dropped_state,
            step: step_mark(&UpgradeStatus { tries, ..upgrade }),
            deadline: self.progress_deadline(),
        });
    }

    /// Whether a check that ended without a verdict so long ago is to be tried again.
    fn is_due(&self, ended: Option<Timestamp>, tries: i32) -> bool {
        let doublings = u32::try_from(tries).unwrap_or(0).min(8);
        let pause = (CHECK_PAUSE * 2_u32.saturating_pow(doublings)).min(CHECK_PAUSE_MAX);
        ended.is_none_or(|ended| {
            let since = self.inputs.now.duration_since(ended);
            Duration::try_from(since).unwrap_or_default() >= pause
        })
    }

    fn checked(&mut self, upgrade: UpgradeStatus, report: &str) {
        let upgrade = UpgradeStatus {
            changes: changes_of(report),
            tries: 0,
            ..upgrade
        };
        let manual = self
            .wish()
            .is_some_and(|wish| wish.spec.upgrade.approval == Approval::Manual);
        if manual && !self.is_approved(&upgrade) {
            self.tell(Notice::normal(
                Reason::WaitingForApproval,
                format!(
                    "{} passed its check and waits for the annotation \
                     {ANNOTATION_APPROVE}={}",
                    name(upgrade.to.as_ref()),
                    self.approval_wanted(&upgrade)
                ),
            ));
            let since = self.now();
            let approval = Some(self.approval_wanted(&upgrade));
            return self.enter(UpgradeStatus {
                step: UpgradeStep::WaitingForApproval,
                since,
                approval,
                ..upgrade
            });
        }
        self.approved(upgrade, manual);
    }

    /// A person must approve; the old revision runs on.
    pub(super) fn approval(&mut self) {
        let Some(upgrade) = self.still_wanted() else {
            return;
        };
        let manual = self
            .wish()
            .is_some_and(|wish| wish.spec.upgrade.approval == Approval::Manual);
        if !manual || self.is_approved(&upgrade) {
            return self.approved(upgrade, manual);
        }
        self.look_again(STEADY);
    }

    /// An approval is for one upgrade: the same revision may come again.
    fn approved(&mut self, upgrade: UpgradeStatus, manual: bool) {
        if manual {
            self.status_mut().approval_used = self.approval_given().cloned();
        }
        self.replace(upgrade);
    }

    fn approval_given(&self) -> Option<&String> {
        let annotations = self.inputs.meta.annotations.as_ref();
        annotations.and_then(|all| all.get(ANNOTATION_APPROVE))
    }

    fn is_approved(&self, upgrade: &UpgradeStatus) -> bool {
        let given = self.approval_given();
        given.is_some()
            && given != self.status().approval_used.as_ref()
            && given.is_some_and(|given| {
                Some(given) == upgrade.to.as_ref() || *given == self.approval_wanted(upgrade)
            })
    }

    /// The value that approves an upgrade: its revision, or if that has been used up, the revision
    /// with the generation of the spec that asks for it now.
    fn approval_wanted(&self, upgrade: &UpgradeStatus) -> String {
        let to = name(upgrade.to.as_ref());
        let used = self.status().approval_used.as_deref();
        let used = used.is_some_and(|used| used.split('/').next() == Some(to));
        if used {
            format!("{to}/{}", self.generation())
        } else {
            to.to_owned()
        }
    }

    /// The upgrade that is under way, unless the spec asks for something else by now. Nothing has
    /// been touched yet, so it is simply dropped, and the next look begins anew.
    fn still_wanted(&mut self) -> Option<UpgradeStatus> {
        let upgrade = self.status().upgrade.clone()?;
        let wanted = self.wish().is_some_and(|wish| {
            upgrade.to.as_deref() == Some(wish.revision.name.as_str())
                && upgrade.strategy == wish.spec.upgrade.strategy
                && self.change_asked(wish)
                && upgrade.restore_hash.is_none() != self.restore_asked(wish)
                && upgrade
                    .restore_hash
                    .as_ref()
                    .is_none_or(|hash| *hash == wish.restore_hash)
        });
        if wanted && !self.suspension_asked() {
            return Some(upgrade);
        }
        self.status_mut().upgrade = None;
        self.settled();
        None
    }

    /// Everything is checked: the old revision is stopped, or replaced at once.
    fn replace(&mut self, upgrade: UpgradeStatus) {
        let to = upgrade.to.as_deref().unwrap_or_default();
        let runs = self.claimed() || self.must_stop(to);
        let stop = self.stop_for(&upgrade).filter(|_| runs);
        let Some(RuntimeRequest::Stop { savepoint }) = stop else {
            return self.bring_in(upgrade, None);
        };
        let from = name(upgrade.from.as_ref());
        self.tell(Notice::normal(
            Reason::TakingSavepoint,
            savepoint.as_ref().map_or_else(
                || format!("stops {from} with a last checkpoint"),
                |savepoint| format!("stops {from} with savepoint {savepoint}"),
            ),
        ));
        let since = self.now();
        self.enter(UpgradeStatus {
            step: UpgradeStep::Stopping,
            since,
            savepoint,
            ..upgrade
        });
    }

    /// How the old revision is to be stopped, if it is.
    fn stop_for(&self, upgrade: &UpgradeStatus) -> Option<RuntimeRequest> {
        let with_savepoint = || RuntimeRequest::Stop {
            savepoint: Some(format!("upgrade-{}", self.millis())),
        };
        let to = upgrade.to.as_deref().unwrap_or_default();
        let moves = upgrade.restore_from.is_none() && self.moves_from(to).is_some();
        let rollback = self
            .wish()
            .is_some_and(|wish| wish.spec.upgrade.rollback.enabled);
        match upgrade.strategy {
            UpgradeStrategy::Savepoint => Some(with_savepoint()),
            // So that there is something to go back to.
            UpgradeStrategy::Stateless if rollback => Some(with_savepoint()),
            // Another chain cannot fence what still writes to this one.
            UpgradeStrategy::LastState | UpgradeStrategy::Stateless => {
                moves.then_some(RuntimeRequest::Stop { savepoint: None })
            }
        }
    }

    pub(super) fn enter(&mut self, upgrade: UpgradeStatus) {
        self.look_again(SOON);
        self.status_mut().upgrade = Some(upgrade);
    }

    /// Gives a revision up; what runs is left alone.
    pub(super) fn reject(&mut self, upgrade: &UpgradeStatus, reason: Reason, message: String) {
        let revision = name(upgrade.to.as_ref()).to_owned();
        self.tell(Notice::warning(reason, format!("{revision}: {message}")));
        let rejected = RejectedStatus {
            revision,
            generation: self.generation(),
            reason: reason.as_str().to_owned(),
            message,
            at: self.now(),
        };
        let status = self.status_mut();
        status.rejected = Some(rejected);
        if upgrade.step < UpgradeStep::Stopping {
            status.upgrade = None;
        }
        self.look_again(STEADY);
    }

    pub(super) fn progress_deadline(&self) -> Duration {
        let deadline = self.wish().map(|wish| wish.spec.upgrade.progress_deadline);
        deadline.unwrap_or_default().0.0
    }
}

/// The name of a revision, for sentences.
pub(super) fn name(revision: Option<&String>) -> &str {
    revision.map_or("the job", String::as_str)
}

/// What changes, by the report of a preflight.
fn changes_of(report: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Report {
        #[serde(default)]
        changes: Vec<String>,
    }
    let report: Report = serde_json::from_str(report).ok()?;
    let text = text::cut(report.changes.join("; "), CHANGES_BYTES_MAX);
    (!text.is_empty()).then_some(text)
}
