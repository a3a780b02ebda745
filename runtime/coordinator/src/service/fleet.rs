//! The connections of all workers: who they are, when they were last heard of, and how they are
//! spoken to. Synchronous; the reading of each connection is a task that the service owns.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_types::protocol::{Heartbeat, PROTOCOL_VERSION, Register, ToCoordinator, ToWorker};
use millstream_types::{ErrorCode, ErrorKind, Failure, WorkerId};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::AbortHandle;

use crate::job::Event;

/// Number of a connection, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConnectionKey(u64);

/// All connected workers.
#[derive(Debug)]
pub(super) struct Fleet {
    heartbeat: Heartbeat,
    connections: BTreeMap<ConnectionKey, Connection>,
    registered: BTreeMap<WorkerId, ConnectionKey>,
    next: u64,
}

#[derive(Debug)]
struct Connection {
    outgoing: mpsc::Sender<ToWorker>,
    /// `None` until it has registered.
    worker: Option<WorkerId>,
    /// Where other workers reach it.
    exchange: Option<String>,
    last_heard: Duration,
    reader: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Fleet {
    pub(super) const fn new(heartbeat: Heartbeat) -> Self {
        Self {
            heartbeat,
            connections: BTreeMap::new(),
            registered: BTreeMap::new(),
            next: 0,
        }
    }

    /// The number of the next connection, for its reader.
    pub(super) const fn next_key(&mut self) -> ConnectionKey {
        self.next += 1;
        ConnectionKey(self.next)
    }

    /// A connection that has not registered yet.
    pub(super) fn connected(
        &mut self,
        key: ConnectionKey,
        outgoing: mpsc::Sender<ToWorker>,
        reader: AbortHandle,
        now: Duration,
    ) {
        self.connections.insert(
            key,
            Connection {
                outgoing,
                worker: None,
                exchange: None,
                last_heard: now,
                reader,
            },
        );
    }

    /// Something came over a connection.
    pub(super) fn heard(
        &mut self,
        key: ConnectionKey,
        message: ToCoordinator,
        now: Duration,
    ) -> Vec<Event> {
        let Some(connection) = self.connections.get_mut(&key) else {
            return Vec::new();
        };
        connection.last_heard = now;
        match (&connection.worker, message) {
            (None, ToCoordinator::Register(register)) => self.register(key, register),
            (None, _) => {
                self.refuse(key, "its first message must be `register`");
                Vec::new()
            }
            (Some(_), ToCoordinator::Register(_)) => {
                self.lose(key, "it registered twice over one connection")
            }
            (Some(worker), message) => vec![Event::Message {
                worker: worker.clone(),
                message,
            }],
        }
    }

    fn register(&mut self, key: ConnectionKey, register: Register) -> Vec<Event> {
        if register.protocol != PROTOCOL_VERSION {
            let reason = format!(
                "worker {} (build {}) speaks protocol version {} and the coordinator version \
                 {PROTOCOL_VERSION}; run both from the same build",
                register.worker, register.build, register.protocol
            );
            self.refuse(key, &reason);
            return Vec::new();
        }
        if register.slots == 0 {
            self.refuse(key, "it offers no slots; start it with at least one");
            return Vec::new();
        }
        let worker = register.worker;
        let mut events = Vec::new();
        if let Some(old) = self.registered.get(&worker).copied() {
            // The end of the old connection has not been noticed yet.
            events = self.lose(old, "it has connected anew");
        }
        if let Some(connection) = self.connections.get_mut(&key) {
            connection.worker = Some(worker.clone());
            connection.exchange = register.exchange;
            let answer = ToWorker::Registered {
                heartbeat: self.heartbeat,
            };
            if connection.outgoing.try_send(answer).is_err() {
                self.connections.remove(&key);
                return events;
            }
            self.registered.insert(worker.clone(), key);
            events.push(Event::WorkerJoined {
                worker,
                slots: register.slots,
            });
        }
        events
    }

    fn refuse(&mut self, key: ConnectionKey, reason: &str) {
        if let Some(connection) = self.connections.remove(&key) {
            tracing::warn!(reason, "worker refused");
            let failure = Failure::new(
                ErrorCode::CoordinatorUnavailable,
                ErrorKind::InvalidJob,
                format!("the coordinator refuses this worker: {reason}"),
            );
            // If there is no room, the end of the connection has to do.
            drop(connection.outgoing.try_send(ToWorker::Refused { failure }));
        }
    }

    /// A connection has ended.
    pub(super) fn closed(&mut self, key: ConnectionKey) -> Vec<Event> {
        self.lose(key, "its connection has ended")
    }

    /// Workers that have been silent for too long.
    pub(super) fn expire(&mut self, now: Duration) -> Vec<Event> {
        let timeout = Duration::from_millis(self.heartbeat.timeout_ms);
        let silent: Vec<ConnectionKey> = self
            .connections
            .iter()
            .filter(|(_, connection)| now.saturating_sub(connection.last_heard) >= timeout)
            .map(|(key, _)| *key)
            .collect();
        silent
            .into_iter()
            .flat_map(|key| {
                let reason = format!("no heartbeat for {timeout:?}");
                self.lose(key, &reason)
            })
            .collect()
    }

    /// When [`expire`](Self::expire) may find somebody.
    pub(super) fn wake_at(&self) -> Option<Duration> {
        let timeout = Duration::from_millis(self.heartbeat.timeout_ms);
        self.connections
            .values()
            .map(|connection| connection.last_heard.saturating_add(timeout))
            .min()
    }

    /// Sends a message without waiting; a worker that does not take it is lost. A deployment is told
    /// where the other workers are reached.
    pub(super) fn send(&mut self, worker: &WorkerId, mut message: ToWorker) -> Vec<Event> {
        if let ToWorker::Deploy(deploy) = &mut message {
            for peer in &mut deploy.peers {
                peer.exchange = self.exchange_of(&peer.worker);
            }
        }
        let Some(key) = self.registered.get(worker).copied() else {
            return Vec::new();
        };
        let Some(connection) = self.connections.get(&key) else {
            return Vec::new();
        };
        match connection.outgoing.try_send(message) {
            Ok(()) => Vec::new(),
            Err(TrySendError::Closed(_)) => self.lose(key, "its connection has ended"),
            Err(TrySendError::Full(_)) => self.lose(key, "it does not take messages any more"),
        }
    }

    fn exchange_of(&self, worker: &WorkerId) -> Option<String> {
        let connection = self.connections.get(self.registered.get(worker)?)?;
        connection.exchange.clone()
    }

    /// Ends a connection that nobody wants to hear of any more.
    pub(super) fn disconnect(&mut self, worker: &WorkerId) {
        if let Some(key) = self.registered.remove(worker) {
            self.connections.remove(&key);
        }
    }

    fn lose(&mut self, key: ConnectionKey, reason: &str) -> Vec<Event> {
        let Some(connection) = self.connections.remove(&key) else {
            return Vec::new();
        };
        let Some(worker) = connection.worker.clone() else {
            return Vec::new();
        };
        self.registered.remove(&worker);
        let failure = Failure::new(
            ErrorCode::WorkerLost,
            ErrorKind::Retryable,
            format!("worker {worker}: {reason}"),
        );
        vec![Event::WorkerLost { worker, failure }]
    }
}
