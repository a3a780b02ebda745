//! The operator: from `StreamJob` and `StreamSavepoint` resources to coordinator and worker pods.
//!
//! Invariants:
//! - Intent first: what is going to be done stands in the status before anything is done, and
//!   every step may be repeated. A crash before or after any write converges.
//! - What decides is pure: [`controller::decide`] takes facts and the time, [`controller::build`]
//!   turns a revision into objects. Neither reads a clock or asks anybody.
//! - A running job is not touched for a change that cannot work.
//! - Nothing starts without state unless somebody has asked for it.
//! - `spec` belongs to the user: the operator never writes it.
//!
//! Reading order: [`controller`] is one reconcile of a `StreamJob`, read top to bottom;
//! [`savepoint`] the same for a `StreamSavepoint`; [`runtime_client`] how a coordinator is asked.
//! [`context`] is what every reconcile is given. Around them: [`run`] is the
//! life of one operator, [`cli`] its options, [`leader`] which of several acts, [`namespaces`] and
//! [`kinds`] what makes reconciles happen, [`server`], [`metrics`] and [`events`] what it tells.

pub mod cli;
pub mod context;
pub mod controller;
pub mod events;
#[cfg(test)]
mod fixtures;
pub mod kinds;
pub mod leader;
pub mod metrics;
pub mod namespaces;
pub mod run;
pub mod runtime_client;
pub mod savepoint;
pub mod server;
mod text;
