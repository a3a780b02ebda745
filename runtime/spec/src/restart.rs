//! The `restart` section.

use std::time::Duration;

use millstream_types::duration::KubeDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What happens after a failure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum RestartStrategy {
    /// Wait longer after each failure, and forget failures after a healthy time.
    ExponentialDelay(ExponentialDelay),
    /// Wait the same time after each failure, a limited number of times.
    FixedDelay(FixedDelay),
    /// Restart until failures come too often.
    FailureRate(FailureRate),
    /// Never restart.
    None(NoRestart),
}

impl Default for RestartStrategy {
    fn default() -> Self {
        Self::ExponentialDelay(ExponentialDelay::default())
    }
}

impl RestartStrategy {
    /// The longest time that the strategy waits before a restart; 0 if it allows none.
    pub fn largest_delay(&self) -> KubeDuration {
        match self {
            Self::ExponentialDelay(options) => {
                let factor = 1.0 + options.jitter.clamp(0.0, 1.0);
                let longest = Duration::try_from_secs_f64(options.max.0.as_secs_f64() * factor);
                let millis = longest.map_or(u128::MAX, |longest| longest.as_millis());
                KubeDuration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
            }
            Self::FixedDelay(options) => options.delay,
            Self::FailureRate(options) => options.delay,
            Self::None(_) => KubeDuration::default(),
        }
    }
}

/// Wait longer after each failure, and forget failures after a healthy time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExponentialDelay {
    /// Delay after the first failure. Default: 1s.
    pub initial: KubeDuration,
    /// Largest delay. Default: 1m.
    pub max: KubeDuration,
    /// Factor from one delay to the next. Default: 1.5.
    #[schemars(range(min = 1.0, max = 10.0))]
    pub multiplier: f64,
    /// Part of the delay that is random, from 0 to 1. Default: 0.1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub jitter: f64,
    /// Healthy time after which the delay starts from `initial` again. Default: 1h.
    pub reset_after: KubeDuration,
    /// Most restarts without a healthy time between them; unlimited if not given.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_attempts: Option<u32>,
}

impl Default for ExponentialDelay {
    fn default() -> Self {
        Self {
            initial: KubeDuration::from_secs(1),
            max: KubeDuration::from_secs(60),
            multiplier: 1.5,
            jitter: 0.1,
            reset_after: KubeDuration::from_secs(3600),
            max_attempts: None,
        }
    }
}

/// Wait the same time after each failure, a limited number of times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FixedDelay {
    /// Delay after each failure. Default: 1s.
    pub delay: KubeDuration,
    /// Most restarts. Default: 10.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub attempts: u32,
}

impl Default for FixedDelay {
    fn default() -> Self {
        Self {
            delay: KubeDuration::from_secs(1),
            attempts: 10,
        }
    }
}

/// Restart until failures come too often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FailureRate {
    /// Most failures within `interval`. Default: 3.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_failures: u32,
    /// Length of the window. Default: 5m.
    pub interval: KubeDuration,
    /// Delay after each failure. Default: 1s.
    pub delay: KubeDuration,
}

impl Default for FailureRate {
    fn default() -> Self {
        Self {
            max_failures: 3,
            interval: KubeDuration::from_secs(300),
            delay: KubeDuration::from_secs(1),
        }
    }
}

/// Never restart. No options.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoRestart {}
