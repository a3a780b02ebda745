//! Until a savepoint is complete, has failed, or its deadline has passed.

use jiff::Timestamp;
use millstream_crds::{JobPhase, Reason, SavepointState};

use super::{Action, Decision, LATER, Machine, RuntimeSeen, SOON, backoff, has_finalizer, rfc3339};
use crate::context::Next;
use crate::events::Notice;

impl Machine<'_> {
    pub(super) fn take(mut self) -> Decision {
        match self.seen.runtime.clone() {
            RuntimeSeen::Completed {
                path,
                id,
                size_bytes,
            } => {
                self.status.path = Some(path);
                self.status.checkpoint_id = id;
                self.status.size_bytes = size_bytes;
                self.complete()
            }
            _ if self.now >= self.deadline() => self.abandon(),
            RuntimeSeen::InProgress => {
                self.begin();
                self.again_soon()
            }
            RuntimeSeen::Failed(reason) if self.is_in_progress() => self.try_later(&reason),
            RuntimeSeen::NotAsked | RuntimeSeen::Failed(_) => self.ask_when_due(),
            RuntimeSeen::Silent(reason) => {
                let job = self.job();
                let what = format!("the coordinator of StreamJob {job} does not answer: {reason}");
                self.wait(Reason::CoordinatorUnreachable, &what)
            }
            RuntimeSeen::NoCoordinator => self.wait_for_job(),
        }
    }

    fn is_in_progress(&self) -> bool {
        self.status.state == Some(SavepointState::InProgress)
    }

    fn complete(mut self) -> Decision {
        self.status.state = Some(SavepointState::Completed);
        self.status.completed_at = Some(rfc3339(self.now));
        self.status.next_try_at = None;
        let path = self.status.path.clone().unwrap_or_default();
        let message = format!("complete: {path}");
        self.notices
            .push(Notice::normal(Reason::SavepointCompleted, message.clone()));
        self.conclude(Reason::SavepointCompleted, message);
        self.ended(Action::None)
    }

    fn abandon(mut self) -> Decision {
        self.status.state = Some(SavepointState::Abandoned);
        self.status.next_try_at = None;
        let last = self.status.message.clone();
        let last = last.map_or_else(String::new, |last| format!(" Before that: {last}"));
        let message = format!(
            "not complete after {}: abandoned. Create another StreamSavepoint to try again.{last}",
            self.savepoint.spec.deadline
        );
        self.notices
            .push(Notice::warning(Reason::DeadlineExceeded, message.clone()));
        self.conclude(Reason::DeadlineExceeded, message);
        self.ended(Action::None)
    }

    /// It will never work.
    pub(super) fn fail(mut self, reason: &str) -> Decision {
        self.status.state = Some(SavepointState::Failed);
        self.status.next_try_at = None;
        let message = format!("failed for good: {reason}");
        self.notices
            .push(Notice::warning(Reason::SavepointFailed, message.clone()));
        self.conclude(Reason::SavepointFailed, message);
        self.ended(Action::None)
    }

    /// It failed this time.
    pub(super) fn try_later(mut self, reason: &str) -> Decision {
        let tries = self.status.tries.unwrap_or(1);
        let due = self
            .now
            .checked_add(backoff(tries))
            .unwrap_or(Timestamp::MAX);
        self.status.state = Some(SavepointState::Pending);
        self.status.next_try_at = Some(rfc3339(due));
        let message = format!(
            "try {tries} failed: {reason}. Next try at {}, until {}",
            rfc3339(due),
            rfc3339(self.deadline())
        );
        self.notices
            .push(Notice::warning(Reason::SavepointFailed, message.clone()));
        self.conclude(Reason::SavepointFailed, message);
        self.until(due)
    }

    fn ask_when_due(mut self) -> Decision {
        if self.is_in_progress() {
            // It was asked for, or was about to be, and the coordinator that knew is gone.
            return self.ask();
        }
        let due = self
            .status
            .next_try_at
            .as_deref()
            .and_then(|text| text.parse().ok());
        match due {
            Some(due) if self.now < due => self.until(due),
            _ => {
                self.status.tries = Some(self.status.tries.unwrap_or(0).saturating_add(1));
                self.ask()
            }
        }
    }

    fn ask(mut self) -> Decision {
        let mut dispose_with = None;
        if !self.savepoint.spec.retain && !has_finalizer(self.savepoint) {
            let job = self.seen.job.as_ref();
            dispose_with = job.and_then(|job| job.template.clone());
            if dispose_with.is_none() {
                // Without it the data could never be deleted.
                return self.wait_for_job();
            }
        }
        self.begin();
        self.decide(Action::Ask { dispose_with }, Next::after(SOON))
    }

    /// It is being taken from now on.
    fn begin(&mut self) {
        if !self.is_in_progress() {
            self.status.state = Some(SavepointState::InProgress);
            self.status.next_try_at = None;
            self.status.tries.get_or_insert(1);
            let message = format!(
                "being taken by StreamJob {}, until {} at the latest",
                self.job(),
                rfc3339(self.deadline())
            );
            self.conclude(Reason::TakingSavepoint, message);
        }
        let now = rfc3339(self.now);
        self.status.triggered_at.get_or_insert(now);
    }

    pub(super) fn again_soon(self) -> Decision {
        self.decide(Action::None, Next::after(SOON))
    }

    fn wait_for_job(self) -> Decision {
        let job = self.job().to_owned();
        let Some(seen) = &self.seen.job else {
            let message = format!(
                "there is no StreamJob {job} in this namespace. Create it, or delete this \
                 StreamSavepoint"
            );
            return self.wait(Reason::ReferenceMissing, &message);
        };
        match seen.phase {
            Some(JobPhase::Suspended | JobPhase::Suspending) => {
                let message = format!(
                    "StreamJob {job} is suspended. Resume it (spec.state: Running); what it was \
                     suspended with stands in its status.restorePoint"
                );
                self.wait(Reason::Suspended, &message)
            }
            Some(JobPhase::Completed) => {
                self.wait(Reason::Completed, &format!("StreamJob {job} is complete"))
            }
            _ => self.wait(
                Reason::WaitingForPods,
                &format!("StreamJob {job} has no coordinator that could be asked yet"),
            ),
        }
    }

    fn wait(mut self, reason: Reason, what: &str) -> Decision {
        let message = format!("waiting until {}: {what}", rfc3339(self.deadline()));
        if self.status.state.is_none() {
            self.status.state = Some(SavepointState::Pending);
        }
        self.conclude(reason, message);
        let latest = self.deadline();
        let poll = self.now.checked_add(LATER).unwrap_or(latest).min(latest);
        self.until(poll)
    }

    /// Looks again at a time, and at the deadline at the latest.
    fn until(self, time: Timestamp) -> Decision {
        let time = time.min(self.deadline());
        let left = time.duration_since(self.now).unsigned_abs();
        self.decide(Action::None, Next::after(left.max(SOON)))
    }
}
