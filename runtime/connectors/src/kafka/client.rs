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
//! [`transactions`], [`cluster`] and [`offsets`] are what is asked.

mod api;
mod backoff;
mod cluster;
mod connection;
mod error;
mod offsets;
mod sasl;
mod scram;
mod tls;
mod transactions;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millstream_operators::Result;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

pub(crate) use backoff::Backoff;
pub(crate) use cluster::Cluster;
pub(crate) use error::{ClientError, code, describe_code, is_transient};
pub(crate) use offsets::{OffsetAt, PartitionId};
pub(crate) use transactions::{Described, Phase, Transaction};

use super::access::{Access, Endpoint};
use api::Call;
use connection::Connection;

/// The answer of a broker, or why there is none.
pub(crate) type Answer<T> = std::result::Result<T, ClientError>;

/// A slot holds the connection to one broker while nobody uses it.
type Slot = Arc<tokio::sync::Mutex<Option<Connection>>>;

/// Client of one cluster. Connections are made when they are needed.
pub(crate) struct Client {
    access: Access,
    tls: Option<TlsConnector>,
    slots: Mutex<BTreeMap<Endpoint, Slot>>,
    /// Which broker coordinates a transactional id, as last heard.
    coordinators: Mutex<BTreeMap<String, Endpoint>>,
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
            slots: Mutex::default(),
            coordinators: Mutex::default(),
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
        let slot = Arc::clone(lock(&self.slots).entry(endpoint.clone()).or_default());
        let mut slot = slot.lock().await;
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

    /// Sends a request to any of the bootstrap servers, each in turn, until one answers or
    /// `connect_timeout` has passed.
    async fn anywhere<R: Call>(
        &self,
        request: &R,
        versions: RangeInclusive<i16>,
    ) -> Answer<R::Response> {
        let deadline = Instant::now() + self.access.connect_timeout;
        let mut backoff = Backoff::default();
        loop {
            let mut last = None;
            for server in &self.access.servers {
                match self
                    .at_until(deadline, server, request, versions.clone())
                    .await
                {
                    Ok(response) => return Ok(response),
                    Err(error) if error.is_transient() => last = Some(error),
                    Err(error) => return Err(error),
                }
            }
            let wait = backoff.next();
            if let Some(error) = last
                && Instant::now() + wait >= deadline
            {
                return Err(error);
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn at_until<R: Call>(
        &self,
        deadline: Instant,
        server: &Endpoint,
        request: &R,
        versions: RangeInclusive<i16>,
    ) -> Answer<R::Response> {
        // The first attempt at each server is given a moment even if the deadline is shorter.
        let deadline = deadline.max(Instant::now() + Duration::from_millis(500));
        tokio::time::timeout_at(deadline, self.at(server, request, versions))
            .await
            .unwrap_or_else(|_| {
                Err(ClientError::Transport {
                    broker: server.to_string(),
                    reason: "it did not answer in time".to_owned(),
                })
            })
    }
}

/// Locks a mutex whose holders never panic half-way through a change.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
