//! The attempts that have failed, for people.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use millstream_types::api::FailureReport;
use millstream_types::{Attempt, Failure, Timestamp};

/// How many failures are remembered.
const REMEMBERED: usize = 100;

/// Attempts that have failed since this coordinator began.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    /// The newest first. Shared with those who look at them.
    pub(crate) reports: VecDeque<Arc<FailureReport>>,
}

impl Failures {
    /// An attempt has failed; the next begins after a delay, or none does.
    pub(crate) fn note(
        &mut self,
        attempt: Attempt,
        failure: &Failure,
        restart: Option<Duration>,
        now: Timestamp,
    ) {
        let millis = |delay: Duration| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.reports.push_front(Arc::new(FailureReport {
            attempt,
            at: now,
            failure: failure.clone().into(),
            page: failure.code.code().to_owned(),
            restart_delay_ms: restart.map(millis),
        }));
        self.reports.truncate(REMEMBERED);
    }
}
