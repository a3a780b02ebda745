//! Tells of tries that bring no answer. The SDK makes the next one without a word, and all of them
//! together may take a minute.

use std::time::{Duration, Instant};

use aws_sdk_s3::config::interceptors::FinalizerInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use millstream_types::error::chain;
use millstream_types::limiter::Limiter;

/// Between two lines about one service.
const PAUSE: Duration = Duration::from_secs(5);

/// Sees every try of every request of one client.
#[derive(Debug)]
pub(super) struct Attempts {
    service: String,
    limiter: Limiter,
}

impl Attempts {
    /// For a service; its name is for people.
    pub(super) const fn new(service: String) -> Self {
        Self {
            service,
            limiter: Limiter::new(PAUSE),
        }
    }

    /// Whether nothing was told of late.
    fn is_time(&self) -> bool {
        self.limiter.is_time(Instant::now())
    }
}

impl Intercept for Attempts {
    fn name(&self) -> &'static str {
        "Attempts"
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(Err(error)) = context.output_or_error() else {
            return Ok(());
        };
        let answer = context.response().map(|answer| answer.status().as_u16());
        let service = &self.service;
        match answer {
            None if self.is_time() => {
                let reason = chain(error);
                tracing::warn!("{service} does not answer a request for checkpoints: {reason}");
            }
            Some(status @ 500..) if self.is_time() => {
                tracing::warn!("{service} answers a request for checkpoints with HTTP {status}");
            }
            _ => {}
        }
        Ok(())
    }
}
