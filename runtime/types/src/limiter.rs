//! Saying something now and then, where saying it every time would be too much.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Says when it is time to say something again.
#[derive(Debug)]
pub struct Limiter {
    pause: Duration,
    /// Not before; at once if not given.
    next: Mutex<Option<Instant>>,
}

impl Limiter {
    /// At once, and then with this time between.
    pub const fn new(pause: Duration) -> Self {
        Self {
            pause,
            next: Mutex::new(None),
        }
    }

    /// The same, but not before this.
    #[must_use]
    pub const fn beginning_at(self, first: Instant) -> Self {
        Self {
            pause: self.pause,
            next: Mutex::new(Some(first)),
        }
    }

    /// Whether it is time; whoever is told so says it.
    pub fn is_time(&self, now: Instant) -> bool {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = next.is_none_or(|next| now >= next);
        if is_time {
            *next = Some(now + self.pause);
        }
        is_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_time_once_in_each_pause() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let limiter = Limiter::new(Duration::from_secs(5));
        let times: Vec<u64> = (0..12)
            .filter(|second| limiter.is_time(at(*second)))
            .collect();
        assert_eq!(times, [0, 5, 10]);
        let limiter = Limiter::new(Duration::from_secs(5)).beginning_at(at(3));
        let times: Vec<u64> = (0..12)
            .filter(|second| limiter.is_time(at(*second)))
            .collect();
        assert_eq!(times, [3, 8]);
    }
}
