//! How a worker is connected: two bounded queues of protocol messages.

use millstream_types::protocol::{ToCoordinator, ToWorker};
use tokio::sync::mpsc;

/// Least capacity of [`WorkerConnection::outgoing`]. The coordinator never waits for a worker: one
/// that has not taken this many messages counts as lost. A healthy worker is sent a handful per
/// checkpoint.
pub const OUTGOING_CAPACITY: usize = 1_024;

/// Capacity of the queue of new connections between a listener and the coordinator.
pub const CONNECTIONS_CAPACITY: usize = 64;

/// One connected worker, over gRPC or inside the process.
///
/// The end of `incoming` is the news that the worker is gone. The coordinator drops `outgoing`
/// when it wants the connection to end; whoever made the connection then closes it.
#[derive(Debug)]
pub struct WorkerConnection {
    /// To the worker, in order.
    pub outgoing: mpsc::Sender<ToWorker>,
    /// From the worker, in order. The first message is a `Register`.
    pub incoming: mpsc::Receiver<ToCoordinator>,
}
