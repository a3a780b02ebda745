//! Connects the workers of a job with each other, anew in every attempt.
//!
//! A worker listens once, for all its attempts. In an attempt it connects to every worker that one of
//! its tasks sends to, and expects a connection from every worker that sends to one of its tasks. Over
//! a connection go all channels from one to the other, and back what they may send.
//!
//! Nobody waits for ever: a worker that cannot be reached, that does not connect, that says nothing or
//! something wrong is a failure that names it.

mod accept;
mod dial;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millstream_transport::Transport;
use millstream_types::{Attempt, ErrorCode, ErrorKind, Failure, WorkerId};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::connection::{Liveness, Lost};
use crate::frame::ChannelId;
use crate::inbound::{Deliver, Receiving};
use crate::outbox::{Outbox, RemoteSender};

/// Settings of a worker's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// When a connection counts as lost.
    pub liveness: Liveness,
    /// How long workers may take to be connected in a new attempt.
    pub connect: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            liveness: Liveness {
                interval: Duration::from_secs(1),
                timeout: Duration::from_secs(10),
            },
            connect: Duration::from_secs(20),
        }
    }
}

/// A channel that leads to another worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Which.
    pub channel: ChannelId,
    /// The worker where it is read.
    pub to: WorkerId,
    /// Bytes of records that may be on their way or unread: what the receiver grants.
    pub window: usize,
}

/// A channel that comes from another worker.
pub struct Incoming {
    /// Which.
    pub channel: ChannelId,
    /// The worker where it is written.
    pub from: WorkerId,
    /// Bytes of records that may be on their way or unread, as the sender knows it.
    pub window: usize,
    /// Where its elements go.
    pub deliver: Box<dyn Deliver>,
}

/// What connects a worker with others in one attempt.
pub struct AttemptPlan {
    /// Which job: a text that workers of other jobs do not know.
    pub job: String,
    /// Which attempt.
    pub attempt: Attempt,
    /// The worker itself.
    pub worker: WorkerId,
    /// Where the others listen, as `host:port`.
    pub peers: BTreeMap<WorkerId, String>,
    /// Channels from here.
    pub outgoing: Vec<Outgoing>,
    /// Channels to here.
    pub incoming: Vec<Incoming>,
}

/// A connection between two workers that was lost, or could not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkFailure {
    /// The other worker.
    pub peer: WorkerId,
    /// The channels that went over it.
    pub channels: Vec<ChannelId>,
    /// Why; names both workers.
    pub failure: Failure,
}

/// The connections of one attempt. They end when it is dropped.
#[derive(Debug)]
pub struct Links {
    /// The writing ends of the channels from here. Given away to the tasks.
    pub senders: BTreeMap<ChannelId, RemoteSender>,
    /// How many connections are not there yet.
    missing: watch::Receiver<usize>,
    failures: mpsc::Receiver<LinkFailure>,
    _done: DropGuard,
}

impl Links {
    /// Waits until every connection of the attempt is there.
    ///
    /// # Errors
    /// One cannot be made, or was lost again.
    ///
    /// # Cancel safety
    /// It may be called again.
    pub async fn connected(&mut self) -> Result<(), LinkFailure> {
        let missing = &mut self.missing;
        let all = async { missing.wait_for(|missing| *missing == 0).await.is_ok() };
        tokio::select! {
            biased;
            Some(failure) = self.failures.recv() => Err(failure),
            true = all => Ok(()),
            // Nothing is left that could connect: the failure was told before.
            else => std::future::pending().await,
        }
    }

    /// The next connection that was lost; waits for ever if none is.
    ///
    /// # Cancel safety
    /// No failure is lost.
    pub async fn failed(&mut self) -> LinkFailure {
        match self.failures.recv().await {
            Some(failure) => failure,
            None => std::future::pending().await,
        }
    }

    /// Ends the connections and wakes everybody who waits to send.
    pub fn close(self) {
        drop(self);
    }
}

/// A worker's end of the connections between workers. One per process.
#[derive(Debug)]
pub struct Exchange {
    address: SocketAddr,
    transport: Transport,
    settings: Settings,
    current: watch::Sender<Option<Arc<Expecting>>>,
    /// Each ends with its attempt, or with this.
    tasks: TaskTracker,
    _listening: DropGuard,
}

/// The connections that others are to make in the current attempt.
#[derive(Debug)]
struct Expecting {
    job: String,
    attempt: u64,
    worker: WorkerId,
    done: CancellationToken,
    /// By the worker that connects; taken out when it has.
    inbound: Mutex<BTreeMap<WorkerId, Expected>>,
    link: Link,
}

struct Expected {
    outbox: Arc<Outbox>,
    channels: BTreeMap<ChannelId, Receiving>,
}

impl std::fmt::Debug for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.channels.keys()).finish()
    }
}

impl Expecting {
    fn take(&self, peer: &WorkerId) -> Option<Expected> {
        let mut inbound = self.inbound.lock().unwrap_or_else(PoisonError::into_inner);
        inbound.remove(peer)
    }

    /// Takes those who have not connected.
    fn take_all(&self) -> BTreeMap<WorkerId, Expected> {
        let mut inbound = self.inbound.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut inbound)
    }
}

/// What every connection of an attempt knows.
#[derive(Debug, Clone)]
struct Link {
    worker: WorkerId,
    settings: Settings,
    done: CancellationToken,
    missing: Arc<watch::Sender<usize>>,
    failures: mpsc::Sender<LinkFailure>,
}

impl Link {
    fn connected(&self) {
        self.missing
            .send_modify(|missing| *missing = missing.saturating_sub(1));
    }

    /// Says that a connection is lost, unless the attempt is over.
    fn failed(&self, peer: &WorkerId, channels: Vec<ChannelId>, code: ErrorCode, message: String) {
        if self.done.is_cancelled() {
            return;
        }
        let failure = LinkFailure {
            peer: peer.clone(),
            channels,
            failure: Failure::new(code, ErrorKind::Retryable, message),
        };
        tracing::warn!(worker = %self.worker, failure = %failure.failure, "connection between workers");
        // There is room for one of each connection; nobody listens once the attempt is over.
        drop(self.failures.try_send(failure));
    }

    fn lost(&self, peer: &WorkerId, channels: Vec<ChannelId>, address: &str, lost: &Lost) {
        let Self { worker, .. } = self;
        let (code, what) = match lost {
            Lost::Frame(error) => {
                let what =
                    format!("worker `{worker}` received from worker `{peer}` ({address}) {error}");
                (ErrorCode::ExchangeFrame, what)
            }
            lost => {
                let what =
                    format!("worker `{worker}` has lost worker `{peer}` ({address}): {lost}");
                (ErrorCode::ExchangeLost, what)
            }
        };
        self.failed(peer, channels, code, what);
    }
}

impl Exchange {
    /// Listens for other workers.
    ///
    /// # Errors
    /// The address cannot be listened at.
    pub async fn listen(
        address: SocketAddr,
        transport: Transport,
        settings: Settings,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (current, expecting) = watch::channel(None);
        let stop = CancellationToken::new();
        let accepting = accept::serve(listener, transport.clone(), expecting, settings);
        let tasks = TaskTracker::new();
        tasks.spawn(stop.clone().run_until_cancelled_owned(accepting));
        Ok(Self {
            address,
            transport,
            settings,
            current,
            tasks,
            _listening: stop.drop_guard(),
        })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins an attempt: connects to others, and lets others connect. What is left of an earlier
    /// attempt is refused from now on.
    pub fn attempt(&self, plan: AttemptPlan) -> Links {
        let done = CancellationToken::new();
        let attempt = plan.attempt.0;
        let mut outbound: BTreeMap<WorkerId, dial::Outbound> = BTreeMap::new();
        let mut senders = BTreeMap::new();
        for Outgoing {
            channel,
            to,
            window,
        } in plan.outgoing
        {
            let outbound = outbound
                .entry(to)
                .or_insert_with(|| dial::Outbound::new(attempt));
            senders.insert(channel, outbound.add(channel, window));
        }
        let mut inbound: BTreeMap<WorkerId, Expected> = BTreeMap::new();
        for incoming in plan.incoming {
            let expected = inbound.entry(incoming.from).or_insert_with(|| Expected {
                outbox: Arc::new(Outbox::new(attempt)),
                channels: BTreeMap::new(),
            });
            let (channel, window) = (incoming.channel, incoming.window);
            let receiving = Receiving::new(channel, window, incoming.deliver, &expected.outbox);
            expected.channels.insert(channel, receiving);
        }
        let connections = outbound.len() + inbound.len();
        let (missing, all) = watch::channel(connections);
        let (failing, failures) = mpsc::channel(connections.max(1));
        let link = Link {
            worker: plan.worker.clone(),
            settings: self.settings,
            done: done.clone(),
            missing: Arc::new(missing),
            failures: failing,
        };
        let expecting = Arc::new(Expecting {
            job: plan.job.clone(),
            attempt,
            worker: plan.worker,
            done: done.clone(),
            inbound: Mutex::new(inbound),
            link: link.clone(),
        });
        for (peer, outbound) in outbound {
            let hello = dial::hello(&plan.job, attempt, &link.worker, &peer);
            let address = plan.peers.get(&peer).cloned();
            let transport = self.transport.clone();
            let link = link.clone();
            self.tasks
                .spawn(dial::run(link, transport, peer, address, hello, outbound));
        }
        self.tasks.spawn(accept::miss(Arc::clone(&expecting)));
        self.current.send_replace(Some(expecting));
        Links {
            senders,
            missing: all,
            failures,
            _done: done.drop_guard(),
        }
    }
}

#[cfg(test)]
mod tests;
