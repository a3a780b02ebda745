//! Waiting for conditions, with a deadline.

use std::time::{Duration, Instant};

/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(20);

/// Waits until `condition` has a value, at most `deadline`; `None` after that.
pub fn poll_until<T>(deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if started.elapsed() >= deadline {
            return None;
        }
        pause(PAUSE);
    }
}

/// Waits until `condition` has a value, at most `deadline`, and panics after that, saying `what`
/// was waited for.
#[track_caller]
pub fn wait_for<T>(what: &str, deadline: Duration, condition: impl FnMut() -> Option<T>) -> T {
    match poll_until(deadline, condition) {
        Some(value) => value,
        None => panic!("waited {deadline:?} in vain until {what}"),
    }
}

/// Waits until `condition` holds, at most `deadline`, and panics after that, saying `what` was
/// waited for.
#[track_caller]
pub fn wait_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, deadline, || condition().then_some(()));
}

/// Lets time pass between two steps of a fault plan. Not for waiting: nothing may depend on
/// something having happened afterwards.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that sleeps: between two looks at a condition, and between two faults"
)]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_comes_true_ends_the_wait() {
        let mut looks = 0;
        wait_until("the third look", Duration::from_secs(10), || {
            looks += 1;
            looks == 3
        });
        assert_eq!(looks, 3);
    }

    #[test]
    fn the_deadline_ends_the_wait() {
        assert_eq!(poll_until(Duration::ZERO, || None::<()>), None);
    }
}
