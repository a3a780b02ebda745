//! The order job among things that misbehave: networks, brokers, stores, clocks, disks.
//!
//! [`job`] is the order job and everything around it. [`network`] stands between its processes and
//! what they talk to, [`brokers`] is three brokers of which one at a time is down, [`store`] answers
//! badly or not at all, [`clock`] is wrong, [`disk`] is full. [`alerts`] of a real Prometheus fire for them.
//!
//! Each test has brokers and stores of its own, and mostly waits: they run side by side. Those whose
//! name begins with `extended_` are left to `make test-faults`.

mod alerts;
mod brokers;
mod clock;
mod disk;
mod job;
mod network;
mod store;
