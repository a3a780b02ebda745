//! Restart strategies that contradict themselves.

use millstream_types::duration::KubeDuration;

use super::Report;
use super::checkpoint::between;
use crate::RestartStrategy;
use crate::restart::{ExponentialDelay, FailureRate};

const SHORTEST: KubeDuration = KubeDuration::from_millis(1);
const LONGEST_DELAY: KubeDuration = KubeDuration::from_secs(3_600);
const LONGEST: KubeDuration = KubeDuration::from_secs(7 * 24 * 3_600);

pub(super) fn check(strategy: &RestartStrategy, report: &mut Report<'_>) {
    match strategy {
        RestartStrategy::ExponentialDelay(options) => exponential_delay(options, report),
        RestartStrategy::FixedDelay(options) => {
            let path = "spec.restart.fixedDelay.delay";
            between(
                options.delay,
                KubeDuration::default(),
                LONGEST_DELAY,
                path,
                report,
            );
        }
        RestartStrategy::FailureRate(options) => failure_rate(options, report),
        RestartStrategy::None(_) => {}
    }
}

fn exponential_delay(options: &ExponentialDelay, report: &mut Report<'_>) {
    let path = |key: &str| format!("spec.restart.exponentialDelay.{key}");
    between(
        options.initial,
        SHORTEST,
        LONGEST_DELAY,
        &path("initial"),
        report,
    );
    between(options.max, SHORTEST, LONGEST_DELAY, &path("max"), report);
    between(
        options.reset_after,
        SHORTEST,
        LONGEST,
        &path("resetAfter"),
        report,
    );
    if options.initial > options.max {
        let (initial, max) = (options.initial, options.max);
        report.add(
            &path("initial"),
            format!("is {initial}, longer than max {max}. Choose at most {max}, or a larger max"),
        );
    }
}

fn failure_rate(options: &FailureRate, report: &mut Report<'_>) {
    let path = |key: &str| format!("spec.restart.failureRate.{key}");
    between(
        options.interval,
        SHORTEST,
        LONGEST,
        &path("interval"),
        report,
    );
    between(
        options.delay,
        KubeDuration::default(),
        LONGEST_DELAY,
        &path("delay"),
        report,
    );
    let (interval, delay) = (options.interval.millis(), options.delay.millis());
    // Failures are at least `delay` apart: so many of them fit into the window.
    let Some(fitting) = interval
        .checked_div(delay)
        .map(|whole| whole.saturating_add(1))
    else {
        return;
    };
    if fitting <= u64::from(options.max_failures) {
        report.add(
            &path("maxFailures"),
            format!(
                "is {} within interval {}, but with delay {} at most {fitting} failures fit into \
                 it, so the job would restart for ever. Choose less than {fitting}, a shorter \
                 delay or a longer interval",
                options.max_failures, options.interval, options.delay
            ),
        );
    }
}
