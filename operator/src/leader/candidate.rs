//! What a candidate for a lease does next. Pure: time is passed in, as the time since a fixed
//! point of this process.

use std::time::Duration;

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// How long others wait, from when they saw it, before they take a lease that is not renewed.
    pub duration: Duration,
    /// How long a leader acts after its last renewal began. Shorter than `duration`.
    pub renew_deadline: Duration,
    /// From one attempt to the next.
    pub retry: Duration,
}

impl Default for Terms {
    /// What the controllers of Kubernetes use: a crashed leader is replaced after 17 s at most.
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// What stands in a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; nobody if it was released.
    pub holder: Option<String>,
    /// How often it has changed hands.
    pub transitions: i32,
    /// How long it holds without being renewed, as its holder says.
    pub duration: Duration,
    /// The API server's version of the object.
    pub version: String,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There is no lease: create it in our name.
    Create,
    /// Write our name into it.
    Take {
        /// The count of changes to write.
        transitions: i32,
    },
    /// It is ours: renew it.
    Renew {
        /// The count of changes to write.
        transitions: i32,
    },
    /// Somebody else holds it.
    Wait,
}

/// One that wants to hold a lease.
#[derive(Debug, Clone)]
pub struct Candidate {
    identity: String,
    terms: Terms,
    /// What was seen last, and when that version was seen first.
    seen: Option<(Record, Duration)>,
    /// When our last successful write began.
    renewed_at: Option<Duration>,
}

impl Candidate {
    /// A candidate that knows nothing yet.
    pub const fn new(identity: String, terms: Terms) -> Self {
        Self {
            identity,
            terms,
            seen: None,
            renewed_at: None,
        }
    }

    /// Our name.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// How long things may take.
    pub const fn terms(&self) -> Terms {
        self.terms
    }

    /// Takes note of what was read.
    pub fn observe(&mut self, record: Option<Record>, now: Duration) {
        let known = self.seen.take();
        self.seen = record.map(|record| match known {
            Some((old, since)) if old.version == record.version => (record, since),
            _ => (record, now),
        });
        let ours = |(record, _): &(Record, Duration)| self.holds(record);
        if !self.seen.as_ref().is_some_and(ours) {
            self.renewed_at = None;
        }
    }

    /// Takes note of what we have written; `started` is when the request was begun.
    pub fn wrote(&mut self, record: Record, started: Duration) {
        self.renewed_at = self.holds(&record).then_some(started);
        self.seen = Some((record, started));
    }

    /// What to do next.
    pub fn step(&self, now: Duration) -> Step {
        let Some((record, since)) = &self.seen else {
            return Step::Create;
        };
        let transitions = record.transitions;
        match &record.holder {
            Some(holder) if *holder == self.identity => Step::Renew { transitions },
            Some(_) if now.saturating_sub(*since) <= record.duration => Step::Wait,
            _ => Step::Take {
                transitions: transitions.saturating_add(1),
            },
        }
    }

    /// Whether we may act.
    pub fn acts(&self, now: Duration) -> bool {
        self.renewed_at
            .is_some_and(|renewed| now.saturating_sub(renewed) < self.terms.renew_deadline)
    }

    /// How long an attempt may take: until we do not act any more, but never so long that a
    /// single request which hangs leaves no time for another.
    pub fn patience(&self, now: Duration) -> Duration {
        let end = self
            .renewed_at
            .unwrap_or(now)
            .saturating_add(self.terms.renew_deadline);
        let left = end.saturating_sub(now);
        left.clamp(Duration::from_millis(1), self.terms.renew_deadline / 2)
    }

    /// Time until the next attempt.
    pub const fn pause(&self) -> Duration {
        self.terms.retry
    }

    fn holds(&self, record: &Record) -> bool {
        record.holder.as_deref() == Some(self.identity.as_str())
    }
}

#[cfg(test)]
mod tests;
