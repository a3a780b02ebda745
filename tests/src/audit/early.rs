//! Judges, while a job runs, whether readers see what is not decided.
//!
//! A commit that comes before its decision leaves no trace afterwards unless a crash falls between
//! the two. So this looks again and again: first how many records each sink's readers have seen,
//! then how many the newest decided checkpoint says were written. The first can never be more than
//! the second. A commit by a process that was given up makes it more, and so does a job that has
//! gone back behind what it had committed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::ledger::Verdict;
use super::observer::Observer;
use crate::chain::Manifest;
use crate::wait::pause;

/// Records by sink.
pub type Totals = BTreeMap<String, u64>;

/// Compares on its own thread.
#[derive(Debug)]
pub struct EarlyWatch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Looks>,
}

/// What it saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Looks {
    /// How often both sides were known.
    pub count: u64,
    /// By sink, the most records that were seen beyond those that were decided.
    worst: BTreeMap<String, Excess>,
}

/// A look at which more was seen than decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Excess {
    seen: u64,
    decided: u64,
}

impl Looks {
    /// Notes one look.
    fn note(&mut self, seen: &Totals, decided: &Totals) {
        self.count += 1;
        for (sink, seen) in seen {
            let decided = decided.get(sink).copied().unwrap_or(0);
            let excess = Excess {
                seen: *seen,
                decided,
            };
            let worst = self.worst.get(sink).map_or(0, Excess::records);
            if excess.records() > worst {
                self.worst.insert(sink.clone(), excess);
            }
        }
    }

    /// Records that were visible before they were decided.
    pub fn judge(&self) -> Verdict {
        let mut verdict = Verdict::default();
        for (sink, excess) in &self.worst {
            verdict.anomalies.early += excess.records();
            verdict.example(|| {
                format!(
                    "early: {} records of `{sink}` were visible while {} were decided",
                    excess.seen, excess.decided
                )
            });
        }
        verdict
    }
}

impl Excess {
    fn records(&self) -> u64 {
        self.seen.saturating_sub(self.decided)
    }
}

impl EarlyWatch {
    /// Begins to look, with so much time between two looks. `decided` says what the newest decided
    /// checkpoint says was written, empty before the first one, and `None` where that cannot be
    /// found out just now.
    pub fn start(
        sinks: &[(&str, &Observer)],
        between: Duration,
        decided: impl Fn() -> Option<Totals> + Send + 'static,
    ) -> Self {
        let counters: BTreeMap<String, Arc<AtomicU64>> = sinks
            .iter()
            .map(|(sink, observer)| ((*sink).to_owned(), observer.counter()))
            .collect();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let mut looks = Looks::default();
                loop {
                    let is_last = stop.load(Ordering::Relaxed);
                    // In this order: what is decided meanwhile only makes the second side larger.
                    let seen = counters.iter();
                    let seen =
                        seen.map(|(sink, count)| (sink.clone(), count.load(Ordering::SeqCst)));
                    let seen = seen.collect();
                    if let Some(decided) = decided() {
                        looks.note(&seen, &decided);
                    }
                    if is_last {
                        return looks;
                    }
                    pause(between);
                }
            }
        });
        Self { stop, thread }
    }

    /// Looks once more and ends.
    #[track_caller]
    pub fn stop(self) -> Looks {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the looks ended well")
    }
}

/// Asks `millstream checkpoints show` what the newest decided checkpoint of a job's folder says was
/// written; `None` where there is none yet, too.
pub fn decided_in(
    binary: PathBuf,
    folder: String,
    environment: Vec<(&'static str, String)>,
) -> impl Fn() -> Option<Totals> + Send + 'static {
    move || {
        let output = Command::new(&binary)
            .args(["checkpoints", "show", &folder, "--output", "json"])
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stderr(Stdio::null())
            .output();
        let newest: Manifest = serde_json::from_slice(&output.ok()?.stdout).ok()?;
        let totals = newest.totals().into_iter();
        Some(
            totals
                .map(|(uid, counters)| (uid, counters.records_out))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(processed: u64, rejected: u64) -> Totals {
        [
            ("processed".to_owned(), processed),
            ("rejected".to_owned(), rejected),
        ]
        .into()
    }

    #[test]
    fn as_many_as_were_decided_are_not_early_and_one_more_is() {
        let mut looks = Looks::default();
        looks.note(&totals(0, 0), &Totals::new());
        looks.note(&totals(10, 2), &totals(10, 5));
        assert!(looks.judge().anomalies.is_clean());
        looks.note(&totals(11, 2), &totals(10, 5));
        assert_eq!(looks.judge().anomalies.early, 1);
        // The worst look of each sink counts, not their sum.
        looks.note(&totals(13, 6), &totals(10, 5));
        looks.note(&totals(12, 6), &totals(10, 5));
        assert_eq!(looks.judge().anomalies.early, 4);
        assert_eq!(looks.judge().examples.len(), 2);
        assert_eq!(looks.count, 5);
    }

    #[test]
    fn anything_seen_before_the_first_decision_is_early() {
        let mut looks = Looks::default();
        looks.note(&totals(3, 0), &Totals::new());
        assert_eq!(looks.judge().anomalies.early, 3);
    }
}
