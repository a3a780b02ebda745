//! Moves records between tasks: which task a record goes to, and how it gets there if that task runs in
//! another worker.
//!
//! Invariants:
//! - Records of one key leave a [`Partitioner`] in the order in which they came, towards one
//!   destination.
//! - Nothing waits for a timer: what a partitioner holds is given away when it is full, or when it is
//!   asked.
//! - What was sent into a channel and not yet read is less than its window and what one step of its
//!   sender adds to that, wherever it lies; a channel that is full stops its sender and no other channel.
//!   Nothing waits within a step, and control elements need no room.
//! - Elements of a channel arrive once, in order and unchanged, or the connection is lost.
//! - A connection that is lost is seen within a bound, and names the *other* worker on both sides.
//! - Nothing of another attempt is delivered.
//!
//! Reading order: [`partition`] shares batches out to destinations; [`frame`] is what travels,
//! [`outbox`] what waits to be sent, [`inbound`] what is done with what has come, [`hello`] how two
//! workers begin to talk and [`connection`] how they go on; [`network`] connects the workers of a job;
//! [`in_flight`] is a file of records that a barrier has overtaken.

mod connection;
pub mod frame;
mod hello;
pub mod in_flight;
mod inbound;
mod network;
mod outbox;
pub mod partition;
#[cfg(test)]
mod testing;

pub use connection::Liveness;
pub use frame::ChannelId;
pub use in_flight::InFlight;
pub use inbound::{Credit, Deliver, Gone};
pub use network::{AttemptPlan, Exchange, Incoming, LinkFailure, Links, Outgoing, Settings};
pub use outbox::{RemoteSender, SendError};
pub use partition::Partitioner;
