//! An order job whose processes end at named places of the exactly-once protocol.
//!
//! [`points`] is the table: one process aborts at one place, is started again, and the audit says
//! whether every order arrived exactly once. What is more than one process's end has a scenario of
//! its own: [`broker`], [`zombie`], [`savepoint`], [`prefix`], [`lost`]. [`job`] is the order job.
//!
//! The numbers are those of the table in `docs/testing.md`.

mod broker;
mod job;
mod lost;
mod points;
mod prefix;
mod savepoint;
mod zombie;
