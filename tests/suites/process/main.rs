//! The order job as real processes on a real broker and a real object store, under faults.
//!
//! [`fixture`] is the job and everything around it, [`faults`] the seeded plan of what is done to
//! it; [`kill`], [`freeze`], [`outage`], [`exchange`], [`keyed`], [`postgres`], [`backpressure`] and
//! [`hdfs`] are the scenarios, [`store`] is where checkpoints lie; [`drill`] is what users do.

mod backpressure;
mod drill;
mod exchange;
mod faults;
mod fixture;
mod freeze;
mod hdfs;
mod keyed;
mod kill;
mod outage;
mod postgres;
mod store;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Each test needs the whole machine: one at a time.
fn machine() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::new(());
    // A test that failed while it held the machine has given it back.
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}
