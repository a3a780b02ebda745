//! Makes prepared transactions visible, from the coordinator: after every decided checkpoint and
//! after every restart, by the same code.
//!
//! A prepared transaction outlives the producer that wrote it. Its checkpoint keeps the
//! transactional id, producer id and epoch, and a raw `EndTxn` commits it.
//!
//! Invariants:
//! - Nothing here calls `InitProducerId` on an id that a checkpoint may still commit.
//! - A transaction counts as lost only on proof: its coordinator, found anew through another
//!   server, says twice that it cannot be committed, a broker session apart. A missing answer, and
//!   one that is older than the transaction, is never a loss.
//! - Nothing is committed to a topic other than the one that was written to.
//! - Nothing is asked of a cluster other than the one in which a transaction was prepared.
//!
//! Reading order: [`resolve`] judges answers, [`limits`] judges timeouts; both are pure. [`topics`],
//! [`commit`], [`standing`], [`sweep`] and [`listing`] ask brokers.

mod commit;
#[cfg(test)]
mod conformance;
mod limits;
mod listing;
mod resolve;
mod standing;
mod sweep;
mod topics;

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use millstream_connect::{
    CommitOutcome, KnownTransaction, Lingering, Result, SinkCommitter, Standing,
};
use millstream_spec::connector::{DeliveryGuarantee, KafkaSink};
use millstream_spec::restart::NoRestart;
use millstream_spec::{RestartStrategy, TransactionBudget, ValidSink};
use millstream_types::clock::SystemClock;
use millstream_types::{Committable, JobId, Opaque, OperatorUid, Timestamp};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::access::Access;
use super::client::{Answer, Backoff, Client};
use super::transaction::{Prepared, TransactionNames};
use super::{failure, place};

/// The broker's setting that bounds `transactionTimeout`.
const TIMEOUT_MAX_SETTING: &str = "transaction.max.timeout.ms";

/// Committer of one Kafka sink.
#[derive(Debug)]
pub(crate) struct KafkaCommitter {
    spec: Arc<ValidSink>,
    options: KafkaSink,
    names: TransactionNames,
    client: Client,
    /// Id of the cluster, once it was asked for.
    cluster: OnceCell<String>,
    clock: SystemClock,
}

impl KafkaCommitter {
    /// Makes the committer of the sink `uid` of `job`.
    ///
    /// # Errors
    /// A file of the TLS options cannot be used.
    pub(crate) fn new(
        spec: &Arc<ValidSink>,
        options: &KafkaSink,
        access: Access,
        job: &JobId,
        uid: &OperatorUid,
    ) -> Result<Self> {
        let prefix = options.transactional_id_prefix.as_deref();
        Ok(Self {
            spec: Arc::clone(spec),
            options: options.clone(),
            names: TransactionNames::new(prefix, job, uid),
            client: Client::new(access)?,
            cluster: OnceCell::new(),
            clock: SystemClock::default(),
        })
    }

    fn is_exactly_once(&self) -> bool {
        self.options.guarantee() == DeliveryGuarantee::ExactlyOnce
    }

    fn patience(&self) -> Duration {
        self.client.access().connect_timeout
    }

    async fn check(&self, has_run: bool) -> Result<()> {
        let topics = [self.options.topic.clone()];
        let cluster = self.client.existing_topics(&topics, |_| has_run).await?;
        if !self.is_exactly_once() {
            return Ok(());
        }
        let setting = self
            .client
            .broker_setting(&cluster, TIMEOUT_MAX_SETTING)
            .await
            .map_err(|error| self.client.failure(error))?;
        let broker_max = setting
            .and_then(|text| text.parse().ok())
            .map(Duration::from_millis);
        limits::check_slots(&self.spec.name, &self.spec.checkpoint)?;
        // The restart strategy's delay is not known here; the job's own check has counted it.
        let budget =
            TransactionBudget::new(&self.spec.checkpoint, &RestartStrategy::None(NoRestart {}));
        let timeout = self.options.transaction_timeout;
        limits::check(&self.spec.name, timeout, &budget, broker_max)
    }

    /// Id of the cluster, asked for once in a process.
    async fn cluster_id(&self) -> Result<&str> {
        let ask = || async { self.client.cluster(&[]).await.map(|cluster| cluster.id) };
        let id = self.cluster.get_or_try_init(ask).await;
        id.map(String::as_str)
            .map_err(|error| self.client.failure(error))
    }

    /// Checks that the cluster is the one in which `prepared` was prepared.
    ///
    /// # Errors
    /// It is another one, or does not answer.
    async fn check_cluster(&self, prepared: &Prepared) -> Result<()> {
        let Some(before) = &prepared.cluster else {
            return Ok(());
        };
        let now = self.cluster_id().await?;
        if now == before {
            return Ok(());
        }
        Err(failure::identity_changed(format!(
            "sink `{}`: transaction `{}` was prepared in cluster `{before}`, but behind `{}` is \
             cluster `{now}`, which knows nothing of it. Correct bootstrapServers: what is prepared \
             can be committed there until transactionTimeout has passed",
            self.spec.name,
            prepared.transactional_id,
            self.client.access().bootstrap()
        )))
    }

    /// Asks again while the answer is unknown or says "later", up to the connector's patience.
    async fn until_answered<T, F>(&self, ask: impl Fn() -> F) -> Answer<T>
    where
        F: Future<Output = Answer<T>>,
    {
        let deadline = Instant::now() + self.patience();
        let mut backoff = Backoff::default();
        loop {
            let answer = ask().await;
            let wait = backoff.next();
            match answer {
                Err(error) if error.is_transient() && Instant::now() + wait < deadline => {
                    tokio::time::sleep(wait).await;
                }
                answer => return answer,
            }
        }
    }
}

impl SinkCommitter for KafkaCommitter {
    fn preflight(&self, has_run: bool) -> BoxFuture<'_, Result<()>> {
        self.check(has_run).boxed()
    }

    fn reservations(&self) -> BoxFuture<'_, Result<Vec<String>>> {
        async {
            if !self.is_exactly_once() {
                return Ok(Vec::new());
            }
            Ok(self.names.reservations(self.cluster_id().await?))
        }
        .boxed()
    }

    fn commit<'a>(&'a self, committables: &'a [Committable]) -> BoxFuture<'a, Vec<CommitOutcome>> {
        self.commit_all(committables).boxed()
    }

    fn at_risk(&self, committables: &[Committable], now: Timestamp) -> Vec<Committable> {
        Self::old_at(now, committables)
    }

    fn look_up<'a>(&'a self, committables: &'a [Committable]) -> BoxFuture<'a, Vec<Standing>> {
        self.look_up_all(committables).boxed()
    }

    fn writes(&self) -> BoxFuture<'_, Result<Option<String>>> {
        async { Ok(Some(place(self.cluster_id().await?, &self.options.topic))) }.boxed()
    }

    fn family(&self) -> BoxFuture<'_, Result<Option<Opaque>>> {
        async {
            if !self.is_exactly_once() {
                return Ok(None);
            }
            let cluster = self.cluster_id().await?.to_owned();
            Ok(Some(self.names.family(cluster)))
        }
        .boxed()
    }

    fn reaches<'a>(&'a self, family: &'a Opaque) -> BoxFuture<'a, Result<bool>> {
        async {
            let Some((cluster, _)) = TransactionNames::of_family(family) else {
                return Ok(false);
            };
            Ok(self.cluster_id().await? == cluster)
        }
        .boxed()
    }

    fn abort_lingering<'a>(&'a self, lingering: &'a Lingering) -> BoxFuture<'a, Result<u64>> {
        self.abort_all(lingering).boxed()
    }

    fn list<'a>(&'a self, of: &'a Lingering) -> BoxFuture<'a, Result<Vec<KnownTransaction>>> {
        self.list_known(of).boxed()
    }

    fn abort<'a>(&'a self, transaction: &'a KnownTransaction) -> BoxFuture<'a, Result<bool>> {
        self.abort_known(transaction).boxed()
    }
}
