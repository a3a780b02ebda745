//! The watermark of one source subtask: the minimum over its active splits. Pure; time comes in.

use std::time::Duration;

use millstream_types::EventTime;

/// What a source tells downstream about event time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// No record older than this follows, except late ones.
    Watermark(EventTime),
    /// Every split is idle: do not wait for this source.
    Idle,
}

/// Watermarks of the splits of one source subtask.
///
/// A split's watermark is its newest event time minus the allowed lateness: a record with exactly
/// that time is not late. A split that has seen no record holds the source back, until it is idle.
#[derive(Debug)]
pub struct Watermarks {
    lateness_micros: i64,
    idle_timeout: Option<Duration>,
    splits: Vec<Split>,
    emitted: EventTime,
    idle: bool,
}

#[derive(Debug, Clone, Copy)]
struct Split {
    newest: Option<EventTime>,
    active_at: Duration,
    finished: bool,
}

impl Watermarks {
    /// No splits yet.
    pub fn new(max_out_of_orderness: Duration, idle_timeout: Option<Duration>) -> Self {
        Self {
            lateness_micros: i64::try_from(max_out_of_orderness.as_micros()).unwrap_or(i64::MAX),
            idle_timeout,
            splits: Vec::new(),
            emitted: EventTime::MIN,
            idle: false,
        }
    }

    /// What was told last; `None` before the first.
    pub fn told(&self) -> Option<EventTime> {
        (self.emitted > EventTime::MIN).then_some(self.emitted)
    }

    /// Makes room for splits up to `count`; new ones are active from `now`.
    pub fn set_splits(&mut self, count: usize, now: Duration) {
        let fresh = Split {
            newest: None,
            active_at: now,
            finished: false,
        };
        if count > self.splits.len() {
            self.splits.resize(count, fresh);
        }
    }

    /// A split has been read to its end: it holds nothing back any more.
    pub fn finish(&mut self, split: usize) {
        if let Some(split) = self.splits.get_mut(split) {
            split.finished = true;
        }
    }

    /// Records of a split have come; `newest` is the largest event time among them, if any has
    /// one. Before them came what [`advance`](Self::advance) said.
    pub fn observe(&mut self, split: usize, newest: Option<EventTime>, now: Duration) {
        self.set_splits(split + 1, now);
        if let Some(split) = self.splits.get_mut(split) {
            split.active_at = now;
            split.newest = split.newest.max(newest);
        }
    }

    /// What to tell downstream now, if it is news. Watermarks never go back.
    pub fn advance(&mut self, now: Duration) -> Option<Progress> {
        let mut waiting = self
            .splits
            .iter()
            .filter(|split| !split.finished)
            .peekable();
        waiting.peek()?;
        let mut active = waiting
            .filter(|split| !self.is_idle(split, now))
            .map(|split| split.newest)
            .peekable();
        if active.peek().is_none() {
            let news = !self.idle;
            self.idle = true;
            return news.then_some(Progress::Idle);
        }
        let oldest = active.min().flatten();
        let watermark = oldest.map_or(EventTime::MIN, |time| {
            EventTime(time.0.saturating_sub(self.lateness_micros))
        });
        let news = self.idle || watermark > self.emitted;
        self.idle = false;
        self.emitted = self.emitted.max(watermark);
        news.then_some(Progress::Watermark(self.emitted))
    }

    fn is_idle(&self, split: &Split, now: Duration) -> bool {
        self.idle_timeout
            .is_some_and(|timeout| now.saturating_sub(split.active_at) >= timeout)
    }
}

#[cfg(test)]
mod tests;
