//! A small Kafka client for what librdkafka has no call for: ending, describing and fencing
//! transactions of producers that are gone, and asking where partitions stand.
//!
//! It speaks over `kafka-protocol`'s messages, one request at a time per broker. Every call ends
//! within its deadline. A response is read only if its length is within bounds and its number is
//! the request's; after any error the connection is thrown away.
//!
//! Invariant: an answer that is missing or unreadable is *unknown*, never taken for a failure:
//! [`ClientError::is_transient`] tells them apart.
//!
//! Reading order: [`api`] lists the requests, [`connection`] moves frames, [`tls`], [`sasl`] and [`scram`] log in,
//! [`transactions`], [`cluster`], [`offsets`] and [`producers`] are what is asked.

mod api;
mod backoff;
mod cluster;
mod connection;
mod error;
mod offsets;
mod producers;
mod sasl;
mod scram;
mod tls;
mod transactions;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use kafka_protocol::messages::MetadataRequest;
use millstream_connect::Result;
use millstream_types::limiter::Limiter;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

pub(crate) use backoff::Backoff;
pub(crate) use cluster::{Cluster, Topic};
pub(crate) use error::{ClientError, code, describe_code, is_transient};
pub(crate) use offsets::{OffsetAt, PartitionId};
pub(crate) use transactions::{Described, IDS_PER_REQUEST, Phase, Transaction};

use super::access::{Access, Endpoint};
use api::Call;
use connection::{CONNECT_TIMEOUT, Connection, REQUEST_TIMEOUT};

/// The answer of a broker, or why there is none.
pub(crate) type Answer<T> = std::result::Result<T, ClientError>;

/// How often somebody is told that no server answers.
const TELL_AGAIN: Duration = Duration::from_secs(5);
/// How long each of several servers is waited for while there are others to ask.
const ANSWERS_SOON: Duration = Duration::from_secs(3);

/// How long each of several servers is waited for that are asked at the same time.
const ANSWERS_AT_ONCE: Duration = Duration::from_secs(1);

/// What is kept of one broker.
#[derive(Default)]
struct Peer {
    /// The connection, while nobody uses it.
    connection: tokio::sync::Mutex<Option<Connection>>,
    /// The newest request that was not answered, and when that was known.
    unanswered: Mutex<Option<(Instant, ClientError)>>,
}

/// Client of one cluster. Connections are made when they are needed.
pub(crate) struct Client {
    access: Access,
    tls: Option<TlsConnector>,
    peers: Mutex<BTreeMap<Endpoint, Arc<Peer>>>,
    /// Which broker coordinates a transactional id, as last heard.
    coordinators: Mutex<BTreeMap<String, Endpoint>>,
    /// Number of the bootstrap server that answered last: where to ask first.
    answers: AtomicUsize,
    /// When somebody was told last that no server answers.
    told: Limiter,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("servers", &self.access.servers)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Makes a client. Does not connect.
    ///
    /// # Errors
    /// A file of the TLS options cannot be used.
    pub(crate) fn new(access: Access) -> Result<Self> {
        let tls = access.tls.as_ref().map(tls::connector).transpose()?;
        Ok(Self {
            access,
            tls,
            peers: Mutex::default(),
            coordinators: Mutex::default(),
            answers: AtomicUsize::new(0),
            told: Limiter::new(TELL_AGAIN),
        })
    }

    /// How the cluster is reached.
    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// Sends a request to one broker.
    async fn at<R: Call>(
        &self,
        endpoint: &Endpoint,
        request: &R,
        versions: RangeInclusive<i16>,
    ) -> Answer<R::Response> {
        let limit = CONNECT_TIMEOUT + REQUEST_TIMEOUT;
        self.at_within(limit, endpoint, request, versions).await
    }

    /// Sends a request to one broker. A broker that does not answer one request is not asked the
    /// others that wait behind it: each would take as long.
    async fn at_within<R: Call>(
        &self,
        limit: Duration,
        endpoint: &Endpoint,
        request: &R,
        versions: RangeInclusive<i16>,
    ) -> Answer<R::Response> {
        let peer = Arc::clone(lock(&self.peers).entry(endpoint.clone()).or_default());
        let began = Instant::now();
        let mut connection = peer.connection.lock().await;
        if let Some((at, error)) = lock(&peer.unanswered).clone()
            && at > began
        {
            return Err(error);
        }
        let exchange = self.exchange(endpoint, &mut connection, request, versions);
        let answer = tokio::time::timeout(limit, exchange)
            .await
            .unwrap_or_else(|_| {
                Err(ClientError::Timeout {
                    broker: endpoint.to_string(),
                    request: R::NAME,
                    after: limit,
                })
            });
        if let Err(error @ (ClientError::Transport { .. } | ClientError::Timeout { .. })) = &answer
        {
            *lock(&peer.unanswered) = Some((Instant::now(), error.clone()));
            // Another broker coordinates them soon, if not already.
            lock(&self.coordinators).retain(|_, coordinator| coordinator != endpoint);
        }
        answer
    }

    async fn exchange<R: Call>(
        &self,
        endpoint: &Endpoint,
        slot: &mut Option<Connection>,
        request: &R,
        versions: RangeInclusive<i16>,
    ) -> Answer<R::Response> {
        // A connection that has been idle may have been closed by the broker. The request is
        // then sent again over a new one: everything that we send may be carried out twice.
        if let Some(mut idle) = slot.take() {
            match idle.call(request, versions.clone()).await {
                Err(ClientError::Transport { .. }) => {}
                answer => {
                    let response = answer?;
                    *slot = Some(idle);
                    return Ok(response);
                }
            }
        }
        let mut connection = Connection::open(endpoint, &self.access, self.tls.as_ref()).await?;
        let response = connection.call(request, versions).await?;
        *slot = Some(connection);
        Ok(response)
    }

    /// Sends a request to any of the bootstrap servers, each in turn and the one that answered last
    /// first, until one answers or `connect_timeout` has passed.
    async fn anywhere<R: Call>(
        &self,
        request: &R,
        versions: RangeInclusive<i16>,
    ) -> Answer<R::Response> {
        let deadline = Instant::now() + self.access.connect_timeout;
        let mut backoff = Backoff::default();
        let mut limit = ANSWERS_SOON;
        loop {
            let first = self.answers.load(Ordering::Relaxed);
            let round = self.each_in_turn(first, (deadline, limit), request, &versions);
            let error = match round.await {
                Err(error) if error.is_transient() => error,
                answer => return answer,
            };
            let wait = backoff.next();
            if Instant::now() + wait >= deadline {
                return Err(error);
            }
            self.tell(&error);
            tokio::time::sleep(wait).await;
            limit = REQUEST_TIMEOUT;
        }
    }

    /// Says that no server answers, now and then: whoever waits sees why.
    fn tell(&self, error: &ClientError) {
        if self.told.is_time(Instant::now().into_std()) {
            let patience = self.access.connect_timeout;
            tracing::warn!(
                "no Kafka broker of `{}` answers yet, tries for {patience:?}: {error}",
                self.access.bootstrap()
            );
        }
    }

    /// Sends a request to one bootstrap server after the other, once, beginning with one.
    async fn ask_beginning_with<R: Call>(
        &self,
        first: usize,
        request: &R,
        versions: RangeInclusive<i16>,
    ) -> Answer<R::Response> {
        let limits = (Instant::now() + self.access.connect_timeout, ANSWERS_SOON);
        self.each_in_turn(first, limits, request, &versions).await
    }

    /// The bootstrap servers that answer at once; all of them if none does.
    pub(crate) async fn answering_servers(&self) -> Vec<Endpoint> {
        let servers = &self.access.servers;
        if servers.len() == 1 {
            return servers.clone();
        }
        let request = MetadataRequest::default().with_topics(Some(Vec::new()));
        let asked = servers
            .iter()
            .map(|server| self.at_within(ANSWERS_AT_ONCE, server, &request, 10..=12));
        let answers = join_all(asked).await;
        let answering = servers.iter().zip(answers);
        let answering: Vec<Endpoint> = answering
            .filter(|(_, answer)| answer.is_ok())
            .map(|(server, _)| server.clone())
            .collect();
        if answering.is_empty() {
            servers.clone()
        } else {
            answering
        }
    }

    /// The number of the bootstrap server that answered last.
    pub(crate) fn answering_server(&self) -> usize {
        self.answers.load(Ordering::Relaxed)
    }

    /// Begins with another bootstrap server next time.
    pub(crate) fn ask_another_server(&self) {
        self.answers.fetch_add(1, Ordering::Relaxed);
    }

    /// Asks every bootstrap server once, from number `first` on, until one answers.
    async fn each_in_turn<R: Call>(
        &self,
        first: usize,
        (deadline, limit): (Instant, Duration),
        request: &R,
        versions: &RangeInclusive<i16>,
    ) -> Answer<R::Response> {
        let servers = &self.access.servers;
        let limit = if servers.len() > 1 {
            limit
        } else {
            REQUEST_TIMEOUT
        };
        let mut last = None;
        for number in (0..servers.len()).map(|turn| (first + turn) % servers.len()) {
            // The first attempt at each server is given a moment even if the deadline is shorter.
            let left = deadline.saturating_duration_since(Instant::now());
            let limit = limit.min(left.max(Duration::from_millis(500)));
            let server = &servers[number];
            match self
                .at_within(limit, server, request, versions.clone())
                .await
            {
                Err(error) if error.is_transient() => last = Some(error),
                answer => {
                    self.answers.store(number, Ordering::Relaxed);
                    return answer;
                }
            }
        }
        Err(last.unwrap_or_else(|| ClientError::Transport {
            broker: self.access.bootstrap(),
            reason: "there is no bootstrap server".to_owned(),
        }))
    }
}

/// Locks a mutex whose holders never panic half-way through a change.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
