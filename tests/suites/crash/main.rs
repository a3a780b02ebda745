//! An order job whose processes end at named places of the exactly-once protocol.
//!
//! [`points`] is the table: one process aborts at one place, is started again, and the audit says
//! whether every order arrived exactly once. [`tour`] visits all other places, [`pairs`] ends two
//! processes together. What is more than that has a scenario of its own: [`broker`], [`zombie`],
//! [`savepoint`], [`rewind`], [`rescale`], [`rights`], [`prefix`], [`lost`], [`late`],
//! [`transactions`]. [`records`] is about whole records, [`lag`] about what is not read yet, [`topics`] about what a job that is started again reads. [`visible`] and
//! [`left`] tamper with a job to show what the audit sees. [`job`] is the order job.
//!
//! The numbers are those of the table in `docs/testing.md`.

mod broker;
mod job;
mod lag;
mod late;
mod left;
mod lost;
mod pairs;
mod points;
mod prefix;
mod records;
mod rescale;
mod rewind;
mod rights;
mod savepoint;
mod topics;
mod tour;
mod transactions;
mod visible;
mod zombie;
