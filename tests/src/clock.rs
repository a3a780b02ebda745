//! A process whose wall clock is wrong, and jumps. Time that only passes (timeouts, pauses) is
//! right. By `libfaketime`, which stands between the process and the system's clock.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::scratch::Scratch;
use crate::server::Launch;
use crate::tools;

/// Seconds since 1970 by the right clock.
#[expect(
    clippy::disallowed_methods,
    reason = "what a wrong clock is compared with"
)]
pub fn right_time() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since.expect("it is after 1970").as_secs();
    i64::try_from(seconds).expect("it is before the year 10000")
}

/// How far a clock is wrong. Processes that were launched with it follow when it is changed.
#[derive(Debug)]
pub struct Clock {
    scratch: Scratch,
    /// Paths, as `LD_PRELOAD` has them.
    libraries: String,
}

impl Clock {
    /// A clock that is ahead of the right time by so many seconds, or behind it.
    #[track_caller]
    pub fn ahead_by(seconds: i64) -> Self {
        let libraries = tools::install("faketime.sh", &[]).trim_end().to_owned();
        let clock = Self {
            scratch: Scratch::new("clock"),
            libraries,
        };
        clock.jump(seconds);
        clock
    }

    /// From now on it is ahead by so much.
    #[track_caller]
    pub fn jump(&self, seconds: i64) {
        // A reader must never see half of it.
        let new = self.scratch.join("new");
        std::fs::write(&new, format!("{seconds:+}\n")).expect("a file in the scratch directory");
        std::fs::rename(new, self.file()).expect("a file in the scratch directory");
    }

    /// Gives a process this clock.
    pub fn give(&self, launch: Launch) -> Launch {
        launch
            .env("LD_PRELOAD", &self.libraries)
            .env("FAKETIME_TIMESTAMP_FILE", self.file())
            .env("FAKETIME_CACHE_DURATION", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("FAKETIME_DONT_RESET", "1")
    }

    fn file(&self) -> std::path::PathBuf {
        self.scratch.join("ahead")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wait::wait_until;

    const HOUR: i64 = 3_600;

    /// How far ahead of this process the time is that a process with the clock prints.
    fn ahead(clock: &Clock, scratch: &Scratch) -> i64 {
        let launch = Launch::new("date").arg("+%s");
        let mut date = clock.give(launch).start(&scratch.join("log"));
        assert!(
            date.wait(Duration::from_secs(10)).success(),
            "{}",
            date.output()
        );
        let printed: i64 = date.output().lines().last().unwrap().parse().unwrap();
        printed - right_time()
    }

    #[test]
    fn a_process_sees_another_time_than_this_one() {
        let scratch = Scratch::new("date");
        let clock = Clock::ahead_by(HOUR);
        assert!((HOUR - 5..=HOUR + 5).contains(&ahead(&clock, &scratch)));
        clock.jump(-HOUR);
        wait_until("the clock has jumped", Duration::from_secs(10), || {
            (-HOUR - 5..=-HOUR + 5).contains(&ahead(&clock, &scratch))
        });
    }

    /// Waits for a second of the wall clock as librdkafka does, and prints how many milliseconds passed.
    const WAIT: &str = "
import ctypes, time
library = ctypes.CDLL(None)
class Time(ctypes.Structure):
    _fields_ = [('seconds', ctypes.c_long), ('nanoseconds', ctypes.c_long)]
mutex, condition = ctypes.create_string_buffer(64), ctypes.create_string_buffer(64)
library.mtx_init(mutex, 0)
library.cnd_init(condition)
library.mtx_lock(mutex)
deadline = Time()
library.timespec_get(ctypes.byref(deadline), 1)
deadline.seconds += 1
began = time.monotonic()
library.cnd_timedwait(condition, mutex, ctypes.byref(deadline))
print(int((time.monotonic() - began) * 1000))
";

    #[test]
    fn a_wait_for_a_time_of_a_wrong_clock_takes_as_long_as_it_should() {
        let scratch = Scratch::new("wait");
        for ahead in [-HOUR, HOUR] {
            let clock = Clock::ahead_by(ahead);
            let launch = Launch::new("python3").args(["-c", WAIT]);
            let mut wait = clock.give(launch).start(&scratch.join("log"));
            let status = wait.wait(Duration::from_secs(30));
            assert!(status.success(), "{}", wait.output());
            let printed = wait.output();
            let took: u64 = printed.lines().last().unwrap().parse().unwrap();
            assert!((900..20_000).contains(&took), "{ahead} s ahead: {took} ms");
        }
    }
}
