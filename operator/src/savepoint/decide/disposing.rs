//! Once the resource is being deleted: its data goes first if it was to go with it.

use millstream_crds::Reason;

use super::super::template::{ANNOTATION, Template};
use super::{
    Action, DISPOSAL_RETRY, Decision, DisposalSeen, LATER, Machine, RuntimeSeen, SOON,
    has_finalizer,
};
use crate::context::Next;
use crate::controller::build::names::ANNOTATION_SKIP_FINALIZER;
use crate::events::Notice;

impl Machine<'_> {
    pub(super) fn dispose(mut self) -> Decision {
        if !has_finalizer(self.savepoint) {
            return self.ended(Action::None);
        }
        if self.annotation(ANNOTATION_SKIP_FINALIZER) == Some("true") {
            return self.leave_behind("as its annotation millstream.dev/skip-finalizer says");
        }
        if self.is_overdue() {
            let last = self.status.message.clone().unwrap_or_default();
            let deadline = self.savepoint.spec.deadline;
            let why = format!("because it could not be deleted within {deadline}: {last}");
            return self.leave_behind(&why);
        }
        match self.path() {
            Some(path) => {
                self.status.path = Some(path.clone());
                self.dispose_of(path)
            }
            // It may still come to be: then there would be data that nobody deletes.
            None if self.seen.runtime == RuntimeSeen::InProgress && self.now < self.deadline() => {
                self.conclude(
                    Reason::Deleting,
                    "deleted while it is being taken: waiting for its end".to_owned(),
                );
                self.decide(Action::None, Next::after(SOON))
            }
            None => self.ended(Action::Release),
        }
    }

    /// Whether the deletion has had its time. Nothing is held for ever, a namespace least of all.
    fn is_overdue(&self) -> bool {
        let began = self.savepoint.metadata.deletion_timestamp.as_ref();
        let until =
            began.and_then(|began| began.0.checked_add(self.savepoint.spec.deadline.0).ok());
        until.is_some_and(|until| self.now > until) && self.seen.disposal != DisposalSeen::Succeeded
    }

    fn path(&self) -> Option<String> {
        let known = self.status.path.clone();
        known.or_else(|| match &self.seen.runtime {
            RuntimeSeen::Completed { path, .. } => Some(path.clone()),
            _ => None,
        })
    }

    fn dispose_of(mut self, path: String) -> Decision {
        match self.seen.disposal.clone() {
            DisposalSeen::Succeeded => self.ended(Action::Release),
            DisposalSeen::Running => self.decide(Action::None, Next::after(LATER)),
            DisposalSeen::Absent => {
                let Some(template) = self.template() else {
                    return self.leave_behind("because nothing says how it could be deleted");
                };
                self.conclude(Reason::Deleting, format!("deleting {path}"));
                self.decide(Action::Dispose { path, template }, Next::after(LATER))
            }
            DisposalSeen::Failed { message, at } => {
                let text = format!(
                    "{path} could not be deleted: {message}. It is tried again; to let the \
                     resource go without it, annotate it with {ANNOTATION_SKIP_FINALIZER}=true"
                );
                if self.status.message.as_deref() != Some(text.as_str()) {
                    self.notices
                        .push(Notice::warning(Reason::SavepointFailed, text.clone()));
                }
                self.conclude(Reason::SavepointFailed, text);
                let since = at.map_or(DISPOSAL_RETRY, |at| {
                    self.now.duration_since(at).try_into().unwrap_or_default()
                });
                match DISPOSAL_RETRY.checked_sub(since) {
                    Some(left) if !left.is_zero() => self.decide(Action::None, Next::after(left)),
                    _ => self.decide(Action::RetryDisposal, Next::after(SOON)),
                }
            }
        }
    }

    /// The job knows best; without it, what was noted when the savepoint was asked for.
    fn template(&self) -> Option<Template> {
        let of_job = self.seen.job.as_ref().and_then(|job| job.template.clone());
        of_job.or_else(|| {
            self.annotation(ANNOTATION)
                .and_then(Template::of_annotation)
        })
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        let annotations = self.savepoint.metadata.annotations.as_ref()?;
        annotations.get(key).map(String::as_str)
    }

    /// Lets the resource go and says what stays.
    fn leave_behind(mut self, why: &str) -> Decision {
        let path = self
            .status
            .path
            .clone()
            .unwrap_or_else(|| "its data, if any,".to_owned());
        let message = format!("{path} stays, {why}");
        self.notices
            .push(Notice::warning(Reason::SavepointFailed, message));
        self.ended(Action::Release)
    }
}
