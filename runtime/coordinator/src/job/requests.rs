//! What people ask for.

use millstream_types::Failure;
use millstream_types::api::{SavepointStatus, StopRequest};

use crate::job::Job;
use crate::job::checkpoints::trigger::Stop;
use crate::job::event::Now;
use crate::job::outcome::Outcome;
use crate::job::phase::{Next, Phase, Transition};
use crate::job::run::cancelled;

/// Why a request was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The request itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// It does not fit what the job is doing.
    #[error("{0}")]
    Conflict(String),
    /// The checkpoint store could not be asked.
    #[error(transparent)]
    Store(Failure),
    /// The coordinator has ended.
    #[error("the coordinator has ended; ask its successor")]
    Ended,
}

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
        if let Some(status) = self.run.savepoints.in_use(name) {
            return Ok(status.clone());
        }
        self.refuse_if_ending()?;
        let status = self.run.savepoints.request(name);
        self.advance(now);
        Ok(self.savepoint(name).cloned().unwrap_or(status))
    }

    /// How a savepoint stands that this coordinator was asked for.
    pub fn savepoint(&self, name: &str) -> Option<&SavepointStatus> {
        self.run.savepoints.status(name)
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
        match self.run.savepoints.stop() {
            Some(under_way) if *under_way == stop => return Ok(()),
            Some(_) => {
                return Err(RequestError::Conflict(
                    "the job is stopping already, by another request".to_owned(),
                ));
            }
            None => self.refuse_if_ending()?,
        }
        let savepoints = &mut self.run.savepoints;
        let name = stop.savepoint.as_deref();
        if let Some(taken) = name.and_then(|name| savepoints.in_use(name)) {
            return Err(exists(&taken.name));
        }
        savepoints.request_stop(stop);
        if let Phase::Delaying { until } = &mut self.phase {
            // Stopping needs no patience.
            *until = now.monotonic;
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
        if self.run.cancelled {
            return Ok(());
        }
        if matches!(self.phase, Phase::Closing(_) | Phase::Ended(_)) {
            return Err(RequestError::Conflict(format!(
                "the job is ending: {}",
                self.note()
            )));
        }
        self.run.cancelled = true;
        self.run.last_failure = None;
        match &mut self.phase {
            Phase::Cancelling(cancelling) => cancelling.next = Next::Cancel,
            // What is under way has to come to an end before.
            Phase::Preparing { .. } | Phase::Closing(_) | Phase::Ended(_) => {}
            Phase::Executing(_) | Phase::Waiting(_) | Phase::Delaying { .. } => {
                tracing::info!(attempt = %self.run.attempt, "the job is cancelled");
                self.enter(Transition::Leave(cancelled(), Next::Cancel), now);
            }
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
        Err(exists(&name))
    }

    fn refuse_if_ending(&self) -> Result<(), RequestError> {
        match &self.phase {
            Phase::Ended(_) | Phase::Closing(_) => Err(RequestError::Conflict(format!(
                "the job is ending: {}",
                self.note()
            ))),
            _ if self.run.cancelled => Err(RequestError::Conflict(
                "the job is being cancelled".to_owned(),
            )),
            _ if self.run.savepoints.stop().is_some() => {
                Err(RequestError::Conflict("the job is stopping".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

fn exists(name: &str) -> RequestError {
    RequestError::Conflict(format!(
        "savepoint `{name}` exists already; choose another name"
    ))
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
