//! Another revision, or other state: check it while the old one runs on, ask a person if so
//! wished, and only then touch anything.

use std::time::Duration;

use millstream_crds::Reason;
use millstream_crds::status::{RejectedStatus, UpgradeStatus, UpgradeStep};
use millstream_crds::stream_job::{Approval, UpgradeStrategy};

use super::deploy::empty_upgrade;
use super::{Machine, PreflightWanted, SOON, STEADY};
use crate::controller::build::names::ANNOTATION_APPROVE;
use crate::controller::observe::TaskSeen;
use crate::controller::observe::pods::{Problem, ProblemKind};
use crate::controller::validate::Wish;
use crate::events::Notice;

/// How long an image may fail to be pulled before the revision is rejected.
const PULL_PATIENCE: Duration = Duration::from_secs(30);
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
        if idle && wish.spec.upgrade.approval == Approval::Automatic {
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
        let wanted = PreflightWanted {
            revision: wish.revision.name.clone(),
            restore: self.restore_to_check(&upgrade),
            allow_dropped_state: wish.spec.restore.allow_dropped_state,
            since: upgrade.since.clone(),
        };
        self.look_again(SOON);
        let waited = self.elapsed(&upgrade.since);
        // What was observed is about the upgrade that the status named.
        let seen = self.inputs.status.upgrade.as_ref();
        let seen = seen.is_some_and(|seen| seen.since == upgrade.since && seen.to == upgrade.to);
        let check = match &self.inputs.observed.preflight {
            check if seen => check,
            _ => &TaskSeen::Absent,
        };
        match check {
            TaskSeen::Succeeded(report) => return self.checked(upgrade, report),
            TaskSeen::Failed(reason) => {
                self.reject(&upgrade, Reason::PreflightFailed, reason.clone());
            }
            TaskSeen::Waiting(Some(problem)) if is_hopeless(problem, waited) => {
                self.reject(&upgrade, Reason::PreflightFailed, problem.message.clone());
            }
            seen @ (TaskSeen::Absent | TaskSeen::Waiting(_))
                if waited > self.progress_deadline() =>
            {
                let why = match seen {
                    TaskSeen::Waiting(Some(problem)) => format!(": {}", problem.message),
                    _ => String::new(),
                };
                let message = format!("its check did not end within {}s{why}", waited.as_secs());
                self.reject(&upgrade, Reason::PreflightFailed, message);
            }
            TaskSeen::Absent | TaskSeen::Waiting(_) => {}
        }
        // Kept when it failed, so that its log can be read.
        self.decision.preflight = Some(wanted);
    }

    fn restore_to_check(&self, upgrade: &UpgradeStatus) -> String {
        match (&upgrade.restore_from, upgrade.strategy) {
            (Some(restore), _) => restore.clone(),
            (None, UpgradeStrategy::Stateless) => "fresh".to_owned(),
            (None, UpgradeStrategy::Savepoint | UpgradeStrategy::LastState) => self
                .wish()
                .map_or_else(|| "latest".to_owned(), |wish| self.next_restore(wish)),
        }
    }

    fn checked(&mut self, upgrade: UpgradeStatus, report: &str) {
        let upgrade = UpgradeStatus {
            changes: changes_of(report),
            ..upgrade
        };
        let manual = self
            .wish()
            .is_some_and(|wish| wish.spec.upgrade.approval == Approval::Manual);
        if manual && !self.is_approved(&upgrade) {
            self.tell(Notice::normal(
                Reason::WaitingForApproval,
                format!(
                    "{to} passed its check and waits for the annotation \
                     {ANNOTATION_APPROVE}={to}",
                    to = name(upgrade.to.as_ref())
                ),
            ));
            let since = self.now();
            return self.enter(UpgradeStatus {
                step: UpgradeStep::WaitingForApproval,
                since,
                ..upgrade
            });
        }
        self.replace(upgrade);
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
            return self.replace(upgrade);
        }
        self.look_again(STEADY);
    }

    fn is_approved(&self, upgrade: &UpgradeStatus) -> bool {
        let annotations = self.inputs.meta.annotations.as_ref();
        annotations.and_then(|all| all.get(ANNOTATION_APPROVE)) == upgrade.to.as_ref()
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
        let asks = upgrade.strategy == UpgradeStrategy::Savepoint && self.claimed();
        if !asks {
            return self.bring_in(upgrade, None);
        }
        let savepoint = format!("upgrade-{}", self.millis());
        self.tell(Notice::normal(
            Reason::TakingSavepoint,
            format!(
                "stops {} with savepoint {savepoint}",
                name(upgrade.from.as_ref())
            ),
        ));
        let since = self.now();
        self.enter(UpgradeStatus {
            step: UpgradeStep::Stopping,
            since,
            savepoint: Some(savepoint),
            ..upgrade
        });
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

fn is_hopeless(problem: &Problem, waited: Duration) -> bool {
    problem.kind.is_final() || problem.kind == ProblemKind::ImagePull && waited > PULL_PATIENCE
}

/// What changes, by the report of a preflight.
fn changes_of(report: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Report {
        #[serde(default)]
        changes: Vec<String>,
    }
    let report: Report = serde_json::from_str(report).ok()?;
    let mut text = report.changes.join("; ");
    let end = (0..=CHANGES_BYTES_MAX.min(text.len())).rev();
    text.truncate(
        end.into_iter()
            .find(|end| text.is_char_boundary(*end))
            .unwrap_or(0),
    );
    (!text.is_empty()).then_some(text)
}
