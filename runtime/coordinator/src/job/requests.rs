//! What people ask for.

use millstream_types::api::{CheckpointState, SavepointStatus, StopRequest};

use crate::job::Job;
use crate::job::closing::cancelled;
use crate::job::event::Now;
use crate::job::state::{Next, Phase};
use crate::trigger::Stop;
use crate::{Outcome, RequestError};

impl Job {
    /// Asks for a savepoint. The same name again is the same request, unless it has failed.
    ///
    /// # Errors
    /// The name is not allowed, or the job is ending.
    pub fn request_savepoint(
        &mut self,
        name: &str,
        now: Now,
    ) -> Result<SavepointStatus, RequestError> {
        check_name(name)?;
        if let Some(status) = self.records.savepoints.get(name)
            && status.state != CheckpointState::Failed
        {
            return Ok(status.clone());
        }
        self.refuse_if_ending()?;
        let status = self.records.savepoint_requested(name);
        self.savepoints.push(name.to_owned());
        if let Phase::Executing(execution) = &mut self.phase
            && execution.all_running()
        {
            execution.trigger.savepoint(name.to_owned());
        }
        self.advance(now);
        Ok(self.records.savepoints.get(name).cloned().unwrap_or(status))
    }

    /// How a savepoint stands that this coordinator was asked for.
    pub fn savepoint(&self, name: &str) -> Option<&SavepointStatus> {
        self.records.savepoints.get(name)
    }

    /// Asks the job to stop. The same request again is fine.
    ///
    /// # Errors
    /// The savepoint's name is not allowed or in use, or the job is ending otherwise.
    pub fn request_stop(&mut self, request: StopRequest, now: Now) -> Result<(), RequestError> {
        let stop = Stop {
            savepoint: request.savepoint,
            drain: request.drain,
        };
        if let Some(name) = &stop.savepoint {
            check_name(name)?;
        }
        if self.is_stopped_as(&stop) {
            return Ok(());
        }
        match &self.stop {
            Some(under_way) if *under_way == stop => return Ok(()),
            Some(_) => {
                return Err(RequestError::Conflict(
                    "the job is stopping already, by another request".to_owned(),
                ));
            }
            None => self.refuse_if_ending()?,
        }
        if let Some(name) = &stop.savepoint {
            if self
                .records
                .savepoints
                .get(name)
                .is_some_and(|status| status.state != CheckpointState::Failed)
            {
                return Err(RequestError::Conflict(format!(
                    "savepoint `{name}` exists already; choose another name"
                )));
            }
            self.records.savepoint_requested(name);
        }
        self.stop = Some(stop.clone());
        match &mut self.phase {
            Phase::Executing(execution) if execution.all_running() => execution.trigger.stop(stop),
            // Stopping needs no patience.
            Phase::Delaying { until } => *until = now.monotonic,
            _ => {}
        }
        self.advance(now);
        Ok(())
    }

    /// Asks the job to end at once, without a checkpoint: the next start goes on from the newest
    /// one, unless `checkpoint.retention` has them deleted. The same request again is fine.
    ///
    /// # Errors
    /// The job has ended otherwise, or is ending.
    pub fn request_cancel(&mut self, now: Now) -> Result<(), RequestError> {
        if self.cancelled {
            return Ok(());
        }
        if matches!(self.phase, Phase::Closing(_) | Phase::Ended(_)) {
            return Err(RequestError::Conflict(format!(
                "the job is ending: {}",
                self.note()
            )));
        }
        self.cancelled = true;
        self.last_failure = None;
        match &mut self.phase {
            Phase::Executing(_) => {
                let reason = cancelled();
                tracing::info!(attempt = %self.attempt, "the job is cancelled");
                self.stop_attempt(&reason, Next::Cancel, now);
            }
            Phase::Cancelling(cancelling) => cancelling.next = Next::Cancel,
            Phase::Waiting(_) | Phase::Delaying { .. } => self.close_cancelled(),
            // What is under way has to come to an end before.
            Phase::Preparing { .. } | Phase::Closing(_) | Phase::Ended(_) => {}
        }
        self.advance(now);
        Ok(())
    }

    /// Whether the job has been stopped just as this request wants.
    fn is_stopped_as(&self, stop: &Stop) -> bool {
        let is_stopped = matches!(self.phase, Phase::Ended(Outcome::Stopped { .. }));
        let with = self.stopped_with().and_then(|path| path.rsplit('/').next());
        is_stopped
            && stop
                .savepoint
                .as_deref()
                .is_none_or(|name| with == Some(name))
    }

    /// As [`request_stop`](Self::request_stop), for a savepoint that lies in the store although
    /// this coordinator was not asked for it.
    ///
    /// # Errors
    /// It was not the job's stop that wrote it.
    pub fn request_stop_again(&self, request: &StopRequest) -> Result<(), RequestError> {
        let stop = Stop {
            savepoint: request.savepoint.clone(),
            drain: request.drain,
        };
        if self.is_stopped_as(&stop) {
            return Ok(());
        }
        let name = stop.savepoint.unwrap_or_default();
        Err(RequestError::Conflict(format!(
            "savepoint `{name}` exists already; choose another name"
        )))
    }

    /// Whether a stop is asked for that needs no running tasks.
    pub(super) fn may_stop_idle(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| !stop.drain)
    }

    fn refuse_if_ending(&self) -> Result<(), RequestError> {
        match &self.phase {
            Phase::Ended(_) | Phase::Closing(_) => Err(RequestError::Conflict(format!(
                "the job is ending: {}",
                self.note()
            ))),
            _ if self.cancelled => Err(RequestError::Conflict(
                "the job is being cancelled".to_owned(),
            )),
            _ if self.stop.is_some() => {
                Err(RequestError::Conflict("the job is stopping".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

/// Checks the name of a savepoint.
///
/// # Errors
/// It is not allowed.
pub(crate) fn check_name(name: &str) -> Result<(), RequestError> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=63).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(());
    }
    let shown: String = name.chars().take(63).collect();
    Err(RequestError::Invalid(format!(
        "`{shown}` is not a savepoint name: use 1 to 63 lower-case letters, digits and `-`"
    )))
}
