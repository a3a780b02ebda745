use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const SETTINGS: Settings = Settings {
    interval: millis(1_000),
    min_pause: millis(300),
    timeout: millis(5_000),
    aligned_timeout: None,
    max_concurrent: 1,
};

const fn id(id: u64) -> CheckpointId {
    CheckpointId(id)
}

/// A trigger and what people want.
struct Asked {
    trigger: Trigger,
    savepoints: VecDeque<String>,
    stop: Option<Stop>,
}

impl Asked {
    fn running(settings: Settings) -> Self {
        let mut trigger = Trigger::new(settings);
        trigger.running(millis(0));
        Self {
            trigger,
            savepoints: VecDeque::new(),
            stop: None,
        }
    }

    fn savepoint(&mut self, name: &str) {
        self.savepoints.push_back(name.to_owned());
    }

    fn next(&self, now: Duration) -> Option<Purpose> {
        let wanted = Wanted {
            stop: self.stop.as_ref(),
            savepoint: self.savepoints.front().map(String::as_str),
        };
        self.trigger.next(wanted, now)
    }

    /// Triggers what is due and returns it.
    fn fire(&mut self, number: u64, now: u64) -> Option<Purpose> {
        let purpose = self.next(millis(now))?;
        self.trigger.triggered(id(number), &purpose, millis(now));
        if let Purpose::Savepoint(name) = &purpose {
            self.savepoints.retain(|waiting| waiting != name);
        }
        Some(purpose)
    }
}

/// Triggers what is due and returns it.
fn fire(asked: &mut Asked, number: u64, now: u64) -> Option<Purpose> {
    asked.fire(number, now)
}

const fn stop() -> Stop {
    Stop {
        savepoint: None,
        drain: false,
    }
}

#[test]
fn nothing_is_triggered_before_all_tasks_run_and_the_first_one_at_once_then() {
    let mut trigger = Asked {
        trigger: Trigger::new(SETTINGS),
        savepoints: VecDeque::new(),
        stop: Some(stop()),
    };
    trigger.savepoint("early");
    assert_eq!(trigger.next(millis(9_999)), None);
    assert_eq!(trigger.trigger.wake_at(), None);
    let trigger = Asked::running(SETTINGS);
    assert_eq!(trigger.next(millis(0)), Some(Purpose::Periodic));
}

#[test]
fn the_interval_counts_from_trigger_to_trigger() {
    let mut trigger = Asked::running(SETTINGS);
    fire(&mut trigger, 1, 0);
    trigger.trigger.completed(id(1), millis(200));
    assert_eq!(trigger.trigger.wake_at(), Some(millis(1_000)));
    assert_eq!(trigger.next(millis(999)), None);
    assert_eq!(trigger.next(millis(1_000)), Some(Purpose::Periodic));
}

#[test]
fn the_pause_counts_from_completion_to_trigger() {
    let mut trigger = Asked::running(SETTINGS);
    fire(&mut trigger, 1, 0);
    trigger.trigger.completed(id(1), millis(950));
    assert_eq!(trigger.next(millis(1_249)), None);
    assert_eq!(trigger.next(millis(1_250)), Some(Purpose::Periodic));
}

#[test]
fn a_failed_checkpoint_starts_no_pause() {
    let mut trigger = Asked::running(SETTINGS);
    fire(&mut trigger, 1, 0);
    trigger.trigger.remove(id(1));
    assert_eq!(trigger.next(millis(1_000)), Some(Purpose::Periodic));
}

#[test]
fn no_more_are_under_way_than_allowed() {
    let mut trigger = Asked::running(Settings {
        max_concurrent: 2,
        ..SETTINGS
    });
    assert!(fire(&mut trigger, 1, 0).is_some());
    assert!(fire(&mut trigger, 2, 1_000).is_some());
    assert_eq!(trigger.next(millis(9_000)), None);
    trigger.trigger.completed(id(1), millis(9_000));
    assert_eq!(trigger.next(millis(9_300)), Some(Purpose::Periodic));
}

#[test]
fn a_checkpoint_expires_unless_every_task_has_acknowledged() {
    let mut trigger = Asked::running(SETTINGS);
    fire(&mut trigger, 1, 0);
    assert_eq!(trigger.trigger.wake_at(), Some(millis(5_000)));
    assert_eq!(trigger.trigger.expired(millis(4_999)), []);
    assert_eq!(trigger.trigger.expired(millis(5_000)), [id(1)]);
    trigger.trigger.acknowledged(id(1));
    assert_eq!(trigger.trigger.expired(millis(9_000)), []);
    assert_eq!(trigger.trigger.wake_at(), None, "only its end makes room");
}

#[test]
fn savepoints_go_first_in_order_and_wait_for_no_pause() {
    let mut trigger = Asked::running(SETTINGS);
    fire(&mut trigger, 1, 0);
    trigger.savepoint("a");
    trigger.savepoint("b");
    assert_eq!(trigger.next(millis(10)), None, "there is no room");
    trigger.trigger.completed(id(1), millis(10));
    assert_eq!(
        fire(&mut trigger, 2, 10),
        Some(Purpose::Savepoint("a".to_owned()))
    );
    trigger.trigger.remove(id(2));
    assert_eq!(
        fire(&mut trigger, 3, 11),
        Some(Purpose::Savepoint("b".to_owned()))
    );
    trigger.trigger.remove(id(3));
    assert_eq!(
        trigger.next(millis(12)),
        None,
        "the periodic one keeps its time"
    );
    assert_eq!(trigger.next(millis(1_000)), Some(Purpose::Periodic));
}

#[test]
fn savepoints_without_end_do_not_keep_a_checkpoint_from_being_taken() {
    let mut trigger = Asked::running(SETTINGS);
    fire(&mut trigger, 1, 0);
    trigger.trigger.completed(id(1), millis(10));
    for name in ["a", "b", "c"] {
        trigger.savepoint(name);
    }
    // Each takes long enough for the next periodic one to become due.
    let mut taken = Vec::new();
    for number in 2..7 {
        let now = number * 2_000;
        taken.extend(fire(&mut trigger, number, now));
        trigger.trigger.remove(id(number));
    }
    let savepoint = |name: &str| Purpose::Savepoint(name.to_owned());
    let (a, b, c) = (savepoint("a"), savepoint("b"), savepoint("c"));
    assert_eq!(taken, [a, Purpose::Periodic, b, Purpose::Periodic, c]);
}

#[test]
fn somebody_who_waits_gets_the_next_checkpoint_at_once() {
    let mut trigger = Asked::running(SETTINGS);
    fire(&mut trigger, 1, 0);
    trigger.trigger.completed(id(1), millis(100));
    trigger.trigger.expedite();
    assert_eq!(fire(&mut trigger, 2, 101), Some(Purpose::Periodic));
    trigger.trigger.completed(id(2), millis(150));
    assert_eq!(trigger.next(millis(1_100)), None);
    assert_eq!(trigger.next(millis(1_101)), Some(Purpose::Periodic));
}

#[test]
fn a_stop_goes_ahead_of_everything_and_is_the_last() {
    let mut trigger = Asked::running(SETTINGS);
    trigger.savepoint("a");
    trigger.trigger.ended();
    trigger.stop = Some(stop());
    assert_eq!(fire(&mut trigger, 1, 0), Some(Purpose::Stop));
    trigger.trigger.completed(id(1), millis(1));
    assert_eq!(trigger.next(millis(99_999)), None);
}

#[test]
fn the_final_checkpoint_waits_for_room_only_and_is_the_last() {
    let mut trigger = Asked::running(SETTINGS);
    fire(&mut trigger, 1, 0);
    trigger.trigger.ended();
    assert_eq!(trigger.next(millis(10)), None);
    trigger.trigger.completed(id(1), millis(11));
    assert_eq!(fire(&mut trigger, 2, 11), Some(Purpose::Final));
    trigger.trigger.completed(id(2), millis(12));
    assert_eq!(trigger.next(millis(99_999)), None);
}

#[test]
fn one_failure_more_in_a_row_than_tolerated_is_too_many() {
    let mut counter = FailureCounter::new(2);
    assert!(!counter.failed(id(1), FailureReason::Expired));
    assert!(!counter.failed(id(2), FailureReason::Declined));
    assert!(counter.failed(id(3), FailureReason::NotDecided));
}

#[test]
fn a_success_ends_the_row_and_older_failures_no_longer_count() {
    let mut counter = FailureCounter::new(0);
    counter.succeeded(id(5));
    assert!(!counter.failed(id(4), FailureReason::Expired));
    assert!(counter.failed(id(6), FailureReason::Expired));
}

#[test]
fn a_checkpoint_counts_once_and_needless_ones_not_at_all() {
    let mut counter = FailureCounter::new(1);
    assert!(!counter.failed(id(1), FailureReason::Declined));
    assert!(!counter.failed(id(1), FailureReason::Expired));
    assert!(!counter.failed(id(2), FailureReason::Superseded));
    assert_eq!(counter.in_a_row(), 1);
}

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Complete,
    Fail,
    Savepoint,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(
        prop_oneof![
            4 => (1_u64..700).prop_map(Step::Wait),
            3 => Just(Step::Complete),
            1 => Just(Step::Fail),
            1 => Just(Step::Savepoint),
        ],
        1..120,
    )
}

proptest! {
    #[test]
    fn intervals_pauses_and_room_hold_over_any_history(
        steps in steps(),
        max_concurrent in 1_usize..4,
    ) {
        let settings = Settings { max_concurrent, ..SETTINGS };
        let mut trigger = Asked::running(settings);
        let (mut now, mut number) = (0, 0);
        let mut under_way: Vec<(u64, Purpose)> = Vec::new();
        let (mut last_periodic, mut last_completed) = (None, None);
        for step in steps {
            match step {
                Step::Wait(time) => now += time,
                Step::Savepoint => trigger.savepoint(&format!("s{number}")),
                Step::Complete | Step::Fail if under_way.is_empty() => {}
                Step::Complete => {
                    let (done, purpose) = under_way.remove(0);
                    if purpose == Purpose::Periodic {
                        trigger.trigger.completed(id(done), millis(now));
                        last_completed = Some(now);
                    } else {
                        trigger.trigger.remove(id(done));
                    }
                }
                Step::Fail => trigger.trigger.remove(id(under_way.remove(0).0)),
            }
            number += 1;
            if let Some(purpose) = fire(&mut trigger, number, now) {
                if purpose == Purpose::Periodic {
                    prop_assert!(last_periodic.is_none_or(|last| now >= last + 1_000));
                    prop_assert!(last_completed.is_none_or(|last| now >= last + 300));
                    last_periodic = Some(now);
                }
                under_way.push((number, purpose));
            }
            prop_assert!(under_way.len() <= max_concurrent);
        }
    }
}
