//! Whether and when a failed attempt is followed by another. Pure: time and randomness are passed
//! in.
//!
//! Source: Flink's restart strategies (`ExponentialDelayRestartBackoffTimeStrategy`,
//! `FailureRateRestartBackoffTimeStrategy`, `FixedDelayRestartBackoffTimeStrategy`), except that
//! `maxFailures` failures within the interval are allowed, where Flink allows one fewer.

use std::collections::VecDeque;
use std::time::Duration;

use millstream_spec::RestartStrategy;
use millstream_spec::restart::{ExponentialDelay, FailureRate, FixedDelay};

/// What follows a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// A new attempt, after this delay.
    Restart(Duration),
    /// None. Says which rule forbids it.
    GiveUp(String),
}

/// A restart strategy and the failures it has seen.
#[derive(Debug, Clone, PartialEq)]
pub struct RestartPolicy {
    strategy: RestartStrategy,
    /// Failures that count towards the limit or the delay.
    streak: u32,
    /// When the last failure was, and the delay that followed it without its random part.
    last: Option<(Duration, Duration)>,
    /// Failures within the window of `failureRate`, oldest first; at most `maxFailures` + 1.
    window: VecDeque<Duration>,
}

impl RestartPolicy {
    /// A policy that has seen no failure.
    pub const fn new(strategy: RestartStrategy) -> Self {
        Self {
            strategy,
            streak: 0,
            last: None,
            window: VecDeque::new(),
        }
    }

    /// Takes note of a failure at monotonic time `now` and decides what follows. `random` is
    /// uniform in [0, 1).
    pub fn on_failure(&mut self, now: Duration, random: f64) -> Decision {
        let strategy = self.strategy.clone();
        match &strategy {
            RestartStrategy::ExponentialDelay(options) => self.exponential(options, now, random),
            RestartStrategy::FixedDelay(options) => self.fixed(options),
            RestartStrategy::FailureRate(options) => self.rate(options, now),
            RestartStrategy::None(_) => {
                Decision::GiveUp("the restart strategy is `none`".to_owned())
            }
        }
    }

    fn exponential(&mut self, options: &ExponentialDelay, now: Duration, random: f64) -> Decision {
        if let Some((failed, delay)) = self.last
            && now.saturating_sub(failed) >= options.reset_after.0.saturating_add(delay)
        {
            self.streak = 0;
        }
        self.streak = self.streak.saturating_add(1);
        if let Some(most) = options.max_attempts
            && self.streak > most
        {
            return Decision::GiveUp(format!(
                "`restart.exponentialDelay.maxAttempts` allows {most} restarts without {} of \
                 health between them",
                options.reset_after
            ));
        }
        let delay = nominal_delay(options, self.streak);
        self.last = Some((now, delay));
        let factor = 1.0 + options.jitter * (2.0 * random - 1.0);
        Decision::Restart(scale(delay, factor).min(options.max.0))
    }

    fn fixed(&mut self, options: &FixedDelay) -> Decision {
        self.streak = self.streak.saturating_add(1);
        if self.streak > options.attempts {
            return Decision::GiveUp(format!(
                "`restart.fixedDelay.attempts` allows {} restarts",
                options.attempts
            ));
        }
        Decision::Restart(options.delay.0)
    }

    fn rate(&mut self, options: &FailureRate, now: Duration) -> Decision {
        while self
            .window
            .front()
            .is_some_and(|failed| now.saturating_sub(*failed) >= options.interval.0)
        {
            self.window.pop_front();
        }
        self.window.push_back(now);
        let most = usize::try_from(options.max_failures).unwrap_or(usize::MAX);
        if self.window.len() > most {
            return Decision::GiveUp(format!(
                "`restart.failureRate` allows {} failures within {}",
                options.max_failures, options.interval
            ));
        }
        Decision::Restart(options.delay.0)
    }
}

/// `min(initial × multiplier^(failures − 1), max)`.
fn nominal_delay(options: &ExponentialDelay, failures: u32) -> Duration {
    let exponent = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
    scale(options.initial.0, options.multiplier.powi(exponent)).min(options.max.0)
}

/// `duration × factor`; the largest duration where that is not a duration.
fn scale(duration: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor.max(0.0)).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests;
