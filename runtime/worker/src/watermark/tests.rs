use proptest::prelude::*;

use super::*;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn time(micros: i64) -> EventTime {
    EventTime(micros)
}

#[test]
fn the_slowest_split_decides() {
    let mut watermarks = Watermarks::new(Duration::from_micros(5), None);
    watermarks.set_splits(2, seconds(0));
    watermarks.observe(0, Some(time(100)), seconds(1));
    assert_eq!(
        watermarks.advance(seconds(1)),
        None,
        "split 1 has no record"
    );
    watermarks.observe(1, Some(time(40)), seconds(2));
    assert_eq!(
        watermarks.advance(seconds(2)),
        Some(Progress::Watermark(EventTime(35)))
    );
}

#[test]
fn an_idle_split_holds_nothing_back() {
    let mut watermarks = Watermarks::new(Duration::ZERO, Some(seconds(10)));
    watermarks.set_splits(2, seconds(0));
    watermarks.observe(0, Some(time(100)), seconds(9));
    assert_eq!(watermarks.advance(seconds(9)), None);
    assert_eq!(
        watermarks.advance(seconds(10)),
        Some(Progress::Watermark(EventTime(100)))
    );
}

#[test]
fn a_source_without_an_active_split_is_idle_until_a_record_comes() {
    let mut watermarks = Watermarks::new(Duration::ZERO, Some(seconds(10)));
    watermarks.observe(0, Some(time(100)), seconds(0));
    assert_eq!(
        watermarks.advance(seconds(0)),
        Some(Progress::Watermark(EventTime(100)))
    );
    assert_eq!(watermarks.advance(seconds(10)), Some(Progress::Idle));
    assert_eq!(watermarks.advance(seconds(11)), None, "said once");
    watermarks.observe(0, Some(time(90)), seconds(12));
    assert_eq!(
        watermarks.advance(seconds(12)),
        Some(Progress::Watermark(EventTime(100))),
        "active again, and not back in time"
    );
}

#[test]
fn a_finished_split_holds_nothing_back() {
    let mut watermarks = Watermarks::new(Duration::ZERO, None);
    watermarks.observe(0, Some(time(100)), seconds(0));
    watermarks.observe(1, Some(time(10)), seconds(0));
    watermarks.finish(1);
    assert_eq!(
        watermarks.advance(seconds(1)),
        Some(Progress::Watermark(EventTime(100)))
    );
}

#[test]
fn a_source_without_splits_says_nothing() {
    let mut watermarks = Watermarks::new(Duration::ZERO, Some(seconds(1)));
    assert_eq!(watermarks.advance(seconds(100)), None);
}

#[derive(Debug, Clone)]
enum Step {
    Record { split: usize, time: i64 },
    Wait(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_usize..4, -1_000_i64..1_000).prop_map(|(split, time)| Step::Record { split, time }),
        (0_u64..8).prop_map(Step::Wait),
    ]
}

/// The definition, computed from the whole history.
fn naive(history: &[(u64, usize, i64)], splits: usize, now: u64, timeout: u64) -> Option<i64> {
    let mut low: Option<Option<i64>> = None;
    for split in 0..splits {
        let mine = || history.iter().filter(|(_, of, _)| *of == split);
        let last = mine().map(|(at, ..)| *at).max().unwrap_or(0);
        if now - last >= timeout {
            continue;
        }
        let newest = mine().map(|(.., time)| *time).max();
        low = Some(low.map_or(newest, |low| low.min(newest)));
    }
    low.flatten()
}

proptest! {
    #[test]
    fn the_watermark_is_the_naive_one_and_never_goes_back(
        steps in proptest::collection::vec(any_step(), 0..80),
        lateness in 0_u64..50,
    ) {
        let mut watermarks = Watermarks::new(Duration::from_micros(lateness), Some(seconds(10)));
        watermarks.set_splits(4, seconds(0));
        let (mut now, mut history, mut expected, mut told) = (0, Vec::new(), i64::MIN, i64::MIN);
        for step in steps {
            match step {
                Step::Wait(more) => now += more,
                Step::Record { split, time } => {
                    watermarks.observe(split, Some(EventTime(time)), seconds(now));
                    history.push((now, split, time));
                }
            }
            if let Some(time) = naive(&history, 4, now, 10) {
                expected = expected.max(time - i64::try_from(lateness).unwrap());
            }
            if let Some(Progress::Watermark(time)) = watermarks.advance(seconds(now)) {
                prop_assert!(time.0 >= told);
                told = time.0;
            }
            prop_assert_eq!(told, expected);
        }
    }
}
