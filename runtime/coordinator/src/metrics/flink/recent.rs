//! What tasks have said in the last minute, for what Flink counts per second and per attempt.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use millstream_types::api::JobState;
use millstream_types::ids::TaskId;
use millstream_types::protocol::TaskProgress;
use millstream_types::snapshot::Counters;
use millstream_types::{Attempt, OperatorUid, Timestamp};

use crate::job::Job;

/// Between two looks at the tasks, at least.
const LOOKS: Duration = Duration::from_secs(1);
/// Between two samples that rates are made of, at least. Source: Flink's `View`, updated every 5 s.
const SAMPLES: Duration = Duration::from_secs(5);
/// Over how long a rate is measured. Source: Flink's `MeterView`.
const SPAN: Duration = Duration::from_mins(1);

/// Totals of one operator in one task.
type Totals = BTreeMap<(TaskId, OperatorUid), Counters>;

/// What tasks have said in the last minute.
#[derive(Debug, Default)]
pub(in super::super) struct Recent(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    attempt: Attempt,
    looked_at: Duration,
    /// With what the attempt's tasks began.
    began_with: Totals,
    /// The oldest first, all of this attempt.
    samples: VecDeque<(Duration, Totals)>,
    view: View,
}

/// What a scrape shows of it.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    /// When the job last stopped running; `None` while it runs.
    pub(super) interrupted_at: Option<Timestamp>,
    /// When the newest attempt was restored from a checkpoint.
    pub(super) restored_at: Option<Timestamp>,
    /// What each operator of a task has done in this attempt. Nothing while no tasks are deployed.
    pub(super) done: BTreeMap<(TaskId, OperatorUid), Done>,
    /// The task that reads a split.
    pub(super) readers: BTreeMap<(OperatorUid, String), TaskId>,
}

/// What an operator of a task has done in this attempt.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Done {
    /// Since the attempt began.
    pub(super) total: Counters,
    /// Of each second of the last minute: records in, records out, bytes.
    pub(super) per_second: [f64; 3],
}

impl Recent {
    /// Takes note of how tasks stand, now and then, and at once when they are new.
    pub(in super::super) fn note(&self, job: &Job, wall: Timestamp, monotonic: Duration) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.view.interrupted_at = match job.state() {
            JobState::Running => None,
            _ => kept.view.interrupted_at.or(Some(wall)),
        };
        let Some(attempt) = job.deployed_attempt() else {
            kept.forget_tasks();
            return;
        };
        if kept.begins(attempt) {
            kept.view.restored_at = job.is_restored().then_some(wall).or(kept.view.restored_at);
        } else if monotonic.saturating_sub(kept.looked_at) < LOOKS {
            return;
        }
        kept.note(attempt, job.progress(), monotonic);
    }

    pub(super) fn view(&self) -> View {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.view.clone()
    }
}

impl Kept {
    /// Whether the tasks of this attempt were not there before.
    fn begins(&self, attempt: Attempt) -> bool {
        self.attempt != attempt || self.samples.is_empty()
    }

    /// How tasks stand; at first what they were restored from.
    fn note<'a>(
        &mut self,
        attempt: Attempt,
        progress: impl Iterator<Item = &'a TaskProgress>,
        monotonic: Duration,
    ) {
        let (mut totals, mut readers) = (Totals::new(), BTreeMap::new());
        for task in progress {
            let counters = task.counters.iter();
            totals.extend(counters.map(|(uid, of)| ((task.task, uid.clone()), *of)));
            for (uid, splits) in &task.positions {
                let splits = splits.iter();
                readers.extend(splits.map(|it| ((uid.clone(), it.split.clone()), task.task)));
            }
        }
        if self.begins(attempt) {
            self.samples.clear();
            self.began_with = totals.clone();
            self.attempt = attempt;
        }
        self.looked_at = monotonic;
        self.view.readers = readers;
        self.measure(monotonic, totals);
    }

    fn forget_tasks(&mut self) {
        self.samples.clear();
        self.view.done.clear();
        self.view.readers.clear();
    }

    fn measure(&mut self, now: Duration, totals: Totals) {
        let span = |since: Duration| now.saturating_sub(since);
        while self.samples.len() > 1 && self.samples.front().is_some_and(|it| span(it.0) > SPAN) {
            self.samples.pop_front();
        }
        let nothing = (now, Totals::new());
        let (since, oldest) = self.samples.front().unwrap_or(&nothing);
        let elapsed = span(*since).as_secs_f64();
        let done = totals.iter().map(|(of, counters)| {
            let began = self.began_with.get(of).copied().unwrap_or_default();
            let before = oldest.get(of).copied().unwrap_or_default();
            let per_second = |count: fn(&Counters) -> u64| {
                let new = count(counters).saturating_sub(count(&before));
                if elapsed > 0.0 {
                    new as f64 / elapsed
                } else {
                    0.0
                }
            };
            let done = Done {
                total: since_then(*counters, began),
                per_second: [
                    per_second(|it| it.records_in),
                    per_second(|it| it.records_out),
                    per_second(|it| it.bytes),
                ],
            };
            (of.clone(), done)
        });
        self.view.done = done.collect();
        if self.samples.back().is_none_or(|it| span(it.0) >= SAMPLES) {
            self.samples.push_back((now, totals));
        }
    }
}

/// What has been counted since.
const fn since_then(now: Counters, then: Counters) -> Counters {
    Counters {
        records_in: now.records_in.saturating_sub(then.records_in),
        records_out: now.records_out.saturating_sub(then.records_out),
        bytes: now.bytes.saturating_sub(then.bytes),
        skipped: now.skipped.saturating_sub(then.skipped),
        dead_letters: now.dead_letters.saturating_sub(then.dead_letters),
        in_flight: now.in_flight,
    }
}

#[cfg(test)]
mod tests {
    use millstream_types::{SubtaskIndex, VertexId};

    use super::*;

    const TASK: TaskId = TaskId {
        vertex: VertexId(0),
        subtask: SubtaskIndex(1),
    };

    fn progress(records_in: u64) -> TaskProgress {
        let counters = Counters {
            records_in,
            ..Counters::default()
        };
        TaskProgress {
            task: TASK,
            counters: BTreeMap::from([("orders".into(), counters)]),
            positions: BTreeMap::new(),
            load: None,
        }
    }

    #[test]
    fn totals_begin_with_the_attempt_and_rates_are_of_the_last_minute() {
        let mut kept = Kept::default();
        let mut at = |attempt: u64, seconds: u64, records: u64| {
            let now = Duration::from_secs(seconds);
            kept.note(Attempt(attempt), [progress(records)].iter(), now);
            let done = kept.view.done[&(TASK, "orders".into())];
            (done.total.records_in, done.per_second[0])
        };
        assert_eq!(at(1, 100, 5_000), (0, 0.0), "what it was restored from");
        assert_eq!(at(1, 110, 6_000), (1_000, 100.0));
        for second in 111..=160 {
            at(1, second, 6_000);
        }
        assert_eq!(at(1, 171, 6_000), (1_000, 0.0), "that was longer ago");
        assert_eq!(
            at(2, 172, 5_500),
            (0, 0.0),
            "restored from an older checkpoint"
        );
        assert_eq!(at(2, 173, 5_600), (100, 100.0));
    }
}
