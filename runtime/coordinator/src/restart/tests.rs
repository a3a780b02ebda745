use millstream_spec::restart::NoRestart;
use millstream_types::duration::KubeDuration;
use proptest::prelude::*;

use super::*;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn steady(max_attempts: Option<u32>) -> ExponentialDelay {
    ExponentialDelay {
        jitter: 0.0,
        max_attempts,
        ..ExponentialDelay::default()
    }
}

fn exponential(options: ExponentialDelay) -> RestartPolicy {
    RestartPolicy::new(RestartStrategy::ExponentialDelay(options))
}

#[test]
fn delays_grow_by_the_multiplier_up_to_the_largest() {
    let mut policy = exponential(steady(None));
    let delays: Vec<u128> = (0..13)
        .map(|failure| match policy.on_failure(secs(failure), 0.5) {
            Decision::Restart(delay) => delay.as_millis(),
            Decision::GiveUp(reason) => panic!("{reason}"),
        })
        .collect();
    assert_eq!(
        delays,
        [
            1_000, 1_500, 2_250, 3_375, 5_062, 7_593, 11_390, 17_085, 25_628, 38_443, 57_665,
            60_000, 60_000
        ]
    );
}

#[test]
fn every_option_of_exponential_delay_counts() {
    let mut policy = exponential(ExponentialDelay {
        initial: KubeDuration::from_secs(2),
        max: KubeDuration::from_secs(10),
        multiplier: 3.0,
        reset_after: KubeDuration::from_secs(5),
        ..steady(None)
    });
    for (failure, delay) in [(0, 2), (1, 6), (2, 10), (3, 10)] {
        let decision = policy.on_failure(secs(failure), 0.5);
        assert_eq!(decision, Decision::Restart(secs(delay)), "at {failure}");
    }
    let healthy = secs(3 + 10 + 5);
    assert_eq!(policy.on_failure(healthy, 0.5), Decision::Restart(secs(2)));
}

#[test]
fn a_healthy_time_after_the_restart_starts_again_from_the_initial_delay() {
    let mut policy = exponential(steady(None));
    policy.on_failure(secs(0), 0.5);
    policy.on_failure(secs(1), 0.5);
    let within = secs(1) + secs(3_600);
    assert_eq!(
        policy.clone().on_failure(within, 0.5),
        Decision::Restart(Duration::from_millis(2_250)),
        "the delay itself is not healthy time"
    );
    let after = within + Duration::from_millis(1_500);
    assert_eq!(policy.on_failure(after, 0.5), Decision::Restart(secs(1)));
}

#[test]
fn exponential_delay_gives_up_after_its_attempts() {
    let mut policy = exponential(steady(Some(2)));
    assert!(matches!(
        policy.on_failure(secs(0), 0.5),
        Decision::Restart(_)
    ));
    assert!(matches!(
        policy.on_failure(secs(9), 0.5),
        Decision::Restart(_)
    ));
    let Decision::GiveUp(reason) = policy.on_failure(secs(20), 0.5) else {
        panic!("a third restart");
    };
    assert!(reason.contains("maxAttempts"), "{reason}");
}

#[test]
fn fixed_delay_gives_up_after_its_attempts_however_long_they_lie_apart() {
    let mut policy = RestartPolicy::new(RestartStrategy::FixedDelay(FixedDelay {
        delay: KubeDuration::from_secs(7),
        attempts: 2,
    }));
    assert_eq!(policy.on_failure(secs(0), 0.9), Decision::Restart(secs(7)));
    assert_eq!(
        policy.on_failure(secs(99_999), 0.1),
        Decision::Restart(secs(7))
    );
    assert!(matches!(
        policy.on_failure(secs(999_999), 0.1),
        Decision::GiveUp(_)
    ));
}

#[test]
fn no_restart_gives_up_at_once() {
    let mut policy = RestartPolicy::new(RestartStrategy::None(NoRestart {}));
    assert!(matches!(
        policy.on_failure(secs(0), 0.0),
        Decision::GiveUp(_)
    ));
}

proptest! {
    #[test]
    fn failure_rate_gives_up_exactly_when_the_window_holds_too_many(
        gaps in prop::collection::vec(0_u64..400, 1..60),
        max_failures in 1_u32..6,
    ) {
        let interval = 300;
        let mut policy = RestartPolicy::new(RestartStrategy::FailureRate(FailureRate {
            max_failures,
            interval: KubeDuration::from_secs(interval),
            delay: KubeDuration::from_secs(1),
        }));
        let mut times: Vec<u64> = Vec::new();
        let mut now = 0;
        for gap in gaps {
            now += gap;
            times.push(now);
            let recent = times.iter().filter(|time| now - **time < interval).count();
            let expected = recent > usize::try_from(max_failures).unwrap();
            let decision = policy.on_failure(secs(now), 0.5);
            prop_assert_eq!(matches!(decision, Decision::GiveUp(_)), expected);
            if expected {
                break;
            }
        }
    }

    #[test]
    fn jitter_moves_a_delay_by_at_most_its_part(
        failures in 1_u64..40,
        jitter in 0.0_f64..=1.0,
        random in 0.0_f64..1.0,
    ) {
        let options = ExponentialDelay { jitter, ..ExponentialDelay::default() };
        let mut policy = exponential(options.clone());
        let mut steady = exponential(ExponentialDelay { jitter: 0.0, ..options });
        for failure in 0..failures {
            let at = secs(failure);
            let (Decision::Restart(delay), Decision::Restart(nominal)) =
                (policy.on_failure(at, random), steady.on_failure(at, random))
            else {
                return Err(TestCaseError::fail("gave up"));
            };
            let slack = nominal.as_secs_f64() * jitter + 1e-6;
            prop_assert!((delay.as_secs_f64() - nominal.as_secs_f64()).abs() <= slack);
            prop_assert!(delay <= secs(60));
        }
    }

    #[test]
    fn the_streak_is_what_a_walk_over_the_whole_history_finds(
        gaps in prop::collection::vec(prop_oneof![0_u64..100, 3_500_u64..3_800], 1..60),
    ) {
        let options = steady(None);
        let mut policy = exponential(options);
        let mut now = 0;
        let mut history: Vec<u64> = Vec::new();
        for gap in gaps {
            now += gap;
            history.push(now);
            let mut streak = 0;
            let mut previous: Option<u64> = None;
            for time in &history {
                if let Some(previous) = previous {
                    let delay = (1.5_f64.powi(streak - 1)).min(60.0);
                    if (time - previous) as f64 + 1e-9 >= 3_600.0 + delay {
                        streak = 0;
                    }
                }
                streak += 1;
                previous = Some(*time);
            }
            let expected = 1.5_f64.powi(streak - 1).min(60.0);
            let Decision::Restart(delay) = policy.on_failure(secs(now), 0.5) else {
                return Err(TestCaseError::fail("gave up"));
            };
            prop_assert!((delay.as_secs_f64() - expected).abs() < 1e-6);
        }
    }
}
