//! When the next checkpoint begins, and how many failures are tolerated. Pure: all times are
//! monotonic and passed in.
//!
//! Source: Flink's `CheckpointRequestDecider` and `CheckpointFailureManager`.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_spec::CheckpointSpec;
use millstream_types::CheckpointId;

/// Rules of triggering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// From one trigger to the next.
    pub interval: Duration,
    /// From the end of a completed checkpoint to the next periodic trigger, at least.
    pub min_pause: Duration,
    /// From a trigger to the decision, at most. The trigger's own part of it ends with the last
    /// acknowledgement.
    pub timeout: Duration,
    /// How long a task may wait for records in front of a barrier before that overtakes them, if ever.
    pub aligned_timeout: Option<Duration>,
    /// How many may be under way at once.
    pub max_concurrent: usize,
}

impl From<&CheckpointSpec> for Settings {
    fn from(spec: &CheckpointSpec) -> Self {
        Self {
            interval: spec.interval.0,
            min_pause: spec.min_pause.0,
            timeout: spec.timeout.0,
            aligned_timeout: spec.aligned_timeout.map(|timeout| timeout.0),
            max_concurrent: usize::try_from(spec.max_concurrent)
                .unwrap_or(usize::MAX)
                .max(1),
        }
    }
}

/// What a checkpoint is taken for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// The interval has passed.
    Periodic,
    /// All bounded sources have ended; what they left is committed and the job completes.
    Final,
    /// A person wants a savepoint of this name.
    Savepoint(String),
    /// The job stops after it.
    Stop,
}

impl Purpose {
    /// Whether it is the last checkpoint of its attempt.
    pub const fn is_last(&self) -> bool {
        matches!(self, Self::Final | Self::Stop)
    }
}

/// How a job is to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// Name of the savepoint to take.
    pub savepoint: Option<String>,
    /// Fire windows and timers before.
    pub drain: bool,
}

/// What people want that is not triggered yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// The job is to stop. Goes ahead of everything; nothing is triggered after it.
    pub stop: Option<&'a Stop>,
    /// The next savepoint. Waits for no pause, and goes ahead of periodic checkpoints, but not twice
    /// in a row: it commits nothing, and open transactions cannot wait for any number.
    pub savepoint: Option<&'a str>,
}

/// Decides when the next checkpoint of one attempt begins.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four things that may be so at once, in any combination"
)]
pub struct Trigger {
    settings: Settings,
    /// When the next periodic one is due; `None` before all tasks run.
    due: Option<Duration>,
    /// Last periodic trigger and last completion, for `due`.
    triggered_last: Option<Duration>,
    completed_last: Option<Duration>,
    under_way: BTreeMap<CheckpointId, UnderWay>,
    ended: bool,
    /// Somebody waits for the next periodic one.
    expedited: bool,
    /// The last one that was triggered was a savepoint.
    savepoint_last: bool,
    /// The last checkpoint of the attempt has been triggered.
    closed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct UnderWay {
    /// When it expires; `None` once every task has acknowledged.
    deadline: Option<Duration>,
}

impl Trigger {
    /// For an attempt whose tasks do not run yet.
    pub const fn new(settings: Settings) -> Self {
        Self {
            settings,
            due: None,
            triggered_last: None,
            completed_last: None,
            under_way: BTreeMap::new(),
            ended: false,
            expedited: false,
            savepoint_last: false,
            closed: false,
        }
    }

    /// All tasks run: the first checkpoint is due at once.
    pub const fn running(&mut self, now: Duration) {
        self.due = Some(now);
    }

    /// All bounded sources have ended: the final checkpoint is due as soon as there is room.
    pub const fn ended(&mut self) {
        self.ended = true;
    }

    /// Somebody waits for the next checkpoint: it is due at once, whatever interval and pause
    /// say.
    pub const fn expedite(&mut self) {
        self.expedited = true;
    }

    /// The last checkpoint of the attempt has failed; there may be others.
    pub const fn reopen(&mut self) {
        self.closed = false;
    }

    /// Whether the last checkpoint of the attempt has been triggered.
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// What is to be triggered now, if anything. The caller triggers it and says so with
    /// [`triggered`](Self::triggered).
    pub fn next(&self, wanted: Wanted<'_>, now: Duration) -> Option<Purpose> {
        let due = self.due?;
        if self.closed || self.under_way.len() >= self.settings.max_concurrent {
            return None;
        }
        if wanted.stop.is_some() {
            return Some(Purpose::Stop);
        }
        let is_due = self.expedited || now >= due;
        if let Some(name) = wanted.savepoint
            && !(self.savepoint_last && is_due)
        {
            return Some(Purpose::Savepoint(name.to_owned()));
        }
        if self.ended {
            return Some(Purpose::Final);
        }
        is_due.then_some(Purpose::Periodic)
    }

    /// What [`next`](Self::next) answered has been triggered at `now` under this number.
    pub fn triggered(&mut self, id: CheckpointId, purpose: &Purpose, now: Duration) {
        let deadline = Some(now.saturating_add(self.settings.timeout));
        self.under_way.insert(id, UnderWay { deadline });
        self.savepoint_last = matches!(purpose, Purpose::Savepoint(_));
        match purpose {
            Purpose::Periodic => {
                self.triggered_last = Some(now);
                self.expedited = false;
                self.reschedule();
            }
            Purpose::Savepoint(_) => {}
            Purpose::Final | Purpose::Stop => self.closed = true,
        }
    }

    /// Every task has acknowledged: it no longer expires, but takes up room until it is
    /// [`completed`](Self::completed) or [`removed`](Self::remove).
    pub fn acknowledged(&mut self, id: CheckpointId) {
        if let Some(under_way) = self.under_way.get_mut(&id) {
            under_way.deadline = None;
        }
    }

    /// A checkpoint (not a savepoint) is decided and committed. Starts the pause.
    pub fn completed(&mut self, id: CheckpointId, now: Duration) {
        if self.under_way.remove(&id).is_some() {
            self.completed_last = Some(now);
            self.reschedule();
        }
    }

    /// It takes up no room any more: it failed, or is a savepoint and all tasks have acknowledged.
    pub fn remove(&mut self, id: CheckpointId) {
        self.under_way.remove(&id);
    }

    /// Checkpoints that have taken too long.
    pub fn expired(&self, now: Duration) -> Vec<CheckpointId> {
        self.under_way
            .iter()
            .filter(|(_, under_way)| under_way.deadline.is_some_and(|deadline| deadline <= now))
            .map(|(id, _)| *id)
            .collect()
    }

    /// When [`next`](Self::next) or [`expired`](Self::expired) may answer something new without
    /// another event.
    pub fn wake_at(&self) -> Option<Duration> {
        let deadlines = self
            .under_way
            .values()
            .filter_map(|under_way| under_way.deadline);
        let full = self.closed || self.under_way.len() >= self.settings.max_concurrent;
        deadlines.chain(self.due.filter(|_| !full)).min()
    }

    fn reschedule(&mut self) {
        let Some(due) = self.due else {
            return;
        };
        let by_interval = self
            .triggered_last
            .map(|last| last.saturating_add(self.settings.interval));
        let by_pause = self
            .completed_last
            .map(|last| last.saturating_add(self.settings.min_pause));
        self.due = Some(by_interval.max(by_pause).unwrap_or(due));
    }
}

/// Counts checkpoints that failed in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureCounter {
    tolerable: u32,
    in_a_row: u32,
    last_success: Option<CheckpointId>,
    last_counted: Option<CheckpointId>,
}

/// Why a checkpoint failed, as far as counting goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureReason {
    /// A task could not take its snapshot or make it durable.
    Declined,
    /// Not all tasks acknowledged in time.
    Expired,
    /// The manifest could not be written.
    NotDecided,
    /// The attempt ended, a later checkpoint made it needless, or the job is stopping.
    Superseded,
}

impl FailureCounter {
    /// Nothing has failed yet.
    pub const fn new(tolerable: u32) -> Self {
        Self {
            tolerable,
            in_a_row: 0,
            last_success: None,
            last_counted: None,
        }
    }

    /// A checkpoint was decided: the row ends, unless it is older than the last failure's.
    pub fn succeeded(&mut self, id: CheckpointId) {
        if self.last_success.is_none_or(|last| last < id) {
            self.last_success = Some(id);
            self.in_a_row = 0;
        }
    }

    /// A checkpoint failed. Savepoints are not reported here: their failures never count. Returns
    /// whether that is one too many.
    pub fn failed(&mut self, id: CheckpointId, reason: FailureReason) -> bool {
        let counts = !matches!(reason, FailureReason::Superseded)
            && self.last_success.is_none_or(|last| id > last)
            && self.last_counted.is_none_or(|last| id != last);
        if counts {
            self.last_counted = Some(id);
            self.in_a_row = self.in_a_row.saturating_add(1);
        }
        counts && self.in_a_row > self.tolerable
    }

    /// Failures in a row so far.
    pub const fn in_a_row(&self) -> u32 {
        self.in_a_row
    }
}

#[cfg(test)]
mod tests;
