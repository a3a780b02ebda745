//! The order job among things that misbehave: networks, brokers, stores, clocks, disks.
//!
//! [`job`] is the order job and everything around it. [`network`] stands between its processes and
//! what they talk to, [`brokers`] is three brokers of which one at a time is down, [`store`] answers
//! badly or not at all, [`clock`] is wrong, [`disk`] is full.
//!
//! Tests whose name begins with `extended_` are left to `make test-faults`.

mod brokers;
mod clock;
mod disk;
mod job;
mod network;
mod store;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Each test counts on the time that its faults take: one at a time.
fn machine() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::new(());
    // A test that failed while it held the machine has given it back.
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}
