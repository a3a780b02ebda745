//! Coordinator and worker in different processes: one bidirectional gRPC stream per worker.
//!
//! The messages are those of [`millstream_types::protocol`], as JSON; there is no schema file and
//! no generated code. The end of the stream is the news that the other side is gone; HTTP/2 pings
//! find connections that are dead without having been closed.

pub(crate) mod client;
mod codec;
pub(crate) mod server;

use std::time::Duration;

/// Name of the service, as in the request's path.
const SERVICE: &str = "millstream.v1.Coordinator";

/// Path of its one method.
const CONNECT: &str = "/millstream.v1.Coordinator/Connect";

/// Most bytes of one message. The largest are deployments and acknowledgements, with about 200
/// bytes per split and per prepared transaction of one worker: enough for 100,000 of each.
const MESSAGE_BYTES_MAX: usize = 64 * 1_024 * 1_024;

/// Messages between a connection and the part that it serves; both sides keep up with a handful
/// per checkpoint and second.
const QUEUE: usize = 256;

/// How often a quiet connection is probed, and how long the answer may take.
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
