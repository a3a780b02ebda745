//! Makes prepared transactions visible, from the coordinator: after every decided checkpoint and
//! after every restart, by the same code.
//!
//! A prepared transaction outlives the producer that wrote it. Its checkpoint keeps the
//! transactional id, producer id and epoch, and a raw `EndTxn` commits it.
//!
//! Invariants:
//! - Nothing here calls `InitProducerId` on an id that a checkpoint may still commit.
//! - A transaction counts as lost only if its coordinator says that it was aborted, or knows
//!   nothing of it. A missing answer is never a loss.
//!
//! Reading order: [`resolve`] judges answers, [`limits`] judges timeouts; both are pure.

#[cfg(test)]
mod conformance;
mod limits;
mod resolve;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::temporal_conversions::timestamp_ms_to_datetime;
use futures::future::{BoxFuture, FutureExt, join_all};
use millstream_operators::{CommitOutcome, Lingering, Result, SinkCommitter};
use millstream_spec::connector::{DeliveryGuarantee, KafkaSink};
use millstream_spec::restart::NoRestart;
use millstream_spec::{RestartStrategy, TransactionBudget, ValidSink};
use millstream_types::{Committable, Failure, JobId, OperatorUid, Timestamp};
use tokio::time::Instant;

use super::access::Access;
use super::client::{
    Answer, Backoff, Client, ClientError, Described, Phase, Transaction, code, describe_code,
};
use super::failure;
use super::transaction::{Prepared, TransactionNames};
use resolve::{AfterEnd, Fate, after_end, fate};

/// `transaction.timeout.ms` of the incarnation that fences an id: it never writes, so any value
/// that every broker allows will do.
const FENCE_TIMEOUT_MS: i32 = 10_000;
/// How long to look for all coordinators at once before each commit looks for its own.
const LOOK_UP: Duration = Duration::from_secs(2);
/// The broker's setting that bounds `transactionTimeout`.
const TIMEOUT_MAX_SETTING: &str = "transaction.max.timeout.ms";

/// Committer of one Kafka sink.
#[derive(Debug)]
pub(crate) struct KafkaCommitter {
    spec: Arc<ValidSink>,
    options: KafkaSink,
    names: TransactionNames,
    client: Client,
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
        })
    }

    fn is_exactly_once(&self) -> bool {
        self.options.delivery_guarantee == DeliveryGuarantee::ExactlyOnce
    }

    fn patience(&self) -> Duration {
        self.client.access().connect_timeout
    }

    async fn check(&self) -> Result<()> {
        let topics = [self.options.topic.clone()];
        let cluster = self.client.existing_topics(&topics).await?;
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

    async fn commit_all(&self, committables: &[Committable]) -> Vec<CommitOutcome> {
        self.find_coordinators_of(committables).await;
        join_all(committables.iter().map(|one| self.commit_one(one))).await
    }

    /// One request instead of one per transaction. Whatever goes wrong is met again, and handled,
    /// where the transaction is committed.
    async fn find_coordinators_of(&self, committables: &[Committable]) {
        let ids: Vec<String> = committables
            .iter()
            .filter_map(|one| Prepared::read(one).ok())
            .map(|prepared| prepared.transactional_id)
            .collect();
        if ids.len() > 1 {
            let asked = self.client.remember_coordinators(&ids);
            let outcome = tokio::time::timeout(LOOK_UP, asked).await;
            tracing::trace!(sink = %self.spec.name, ?outcome, "looked for coordinators");
        }
    }

    async fn commit_one(&self, committable: &Committable) -> CommitOutcome {
        let prepared = match Prepared::read(committable) {
            Ok(prepared) => prepared,
            Err(failure) => return CommitOutcome::Retry(failure),
        };
        let transaction = prepared.transaction();
        let deadline = Instant::now() + self.patience();
        let mut backoff = Backoff::default();
        loop {
            let last = match self.commit_once(&transaction).await {
                Ok(Fate::Committed) => return CommitOutcome::Committed,
                Ok(Fate::Lost(reason)) => {
                    let failure = lost(&self.spec.name, committable, &prepared, &reason);
                    return CommitOutcome::Lost(failure);
                }
                Ok(Fate::Undecided) => ClientError::Refused {
                    broker: self.client.access().bootstrap(),
                    request: "EndTxn",
                    code: code::CONCURRENT_TRANSACTIONS,
                },
                Err(error) => error,
            };
            let wait = backoff.next();
            let is_over = Instant::now() + wait >= deadline;
            if is_over || matches!(last, ClientError::Authentication { .. }) {
                return CommitOutcome::Retry(self.not_committed(&transaction, last));
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn commit_once(&self, transaction: &Transaction) -> Answer<Fate> {
        let error_code = self.client.end_transaction(transaction, true).await?;
        match after_end(error_code) {
            AfterEnd::Committed => Ok(Fate::Committed),
            AfterEnd::Describe => {
                let described = self.client.describe_transaction(&transaction.id).await?;
                tracing::debug!(
                    ?transaction,
                    answer = describe_code(error_code),
                    ?described,
                    "a commit was answered ambiguously"
                );
                Ok(fate(transaction, described.as_ref()))
            }
            AfterEnd::Again | AfterEnd::Forbidden => Err(ClientError::Refused {
                broker: self.client.access().bootstrap(),
                request: "EndTxn",
                code: error_code,
            }),
        }
    }

    fn not_committed(&self, transaction: &Transaction, last: ClientError) -> Failure {
        let mut failure = self.client.failure(last);
        failure.message = format!(
            "transaction `{}` of sink `{}` is prepared but could not be committed yet: {}",
            transaction.id, self.spec.name, failure.message
        );
        failure
    }

    async fn abort_all(&self, lingering: &Lingering) -> Result<u64> {
        let keep: BTreeSet<String> = lingering
            .keep
            .iter()
            .map(|one| Prepared::read(one).map(|prepared| prepared.transactional_id))
            .collect::<Result<_>>()?;
        let ids: Vec<String> = lingering
            .attempts
            .iter()
            .flat_map(|(attempt, parallelism)| self.names.ids_of(*attempt, *parallelism))
            .filter(|id| !keep.contains(id))
            .collect();
        let known = match self
            .until_answered(|| self.client.describe_transactions(&ids))
            .await
        {
            Ok(known) => known,
            Err(error) if self.has_no_transactions(&error) => return Ok(0),
            Err(error) => return Err(self.client.failure(error)),
        };
        let fenced = join_all(
            known
                .iter()
                .filter(|(_, described)| !lingering.only_open || described.phase == Phase::Ongoing)
                .map(|(id, described)| self.fence(id, described)),
        )
        .await;
        fenced.into_iter().try_fold(0, |sum, one| Ok(sum + one?))
    }

    /// A sink that is at-least-once needs no permission on transactional ids; without it, no
    /// earlier attempt can have been exactly-once.
    fn has_no_transactions(&self, error: &ClientError) -> bool {
        let is_forbidden = matches!(
            error,
            ClientError::Refused {
                code: code::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
                ..
            }
        );
        is_forbidden && !self.is_exactly_once()
    }

    /// Makes a new incarnation of an id, which aborts what is open and keeps an old writer from
    /// opening more. Returns how many transactions that aborted.
    async fn fence(&self, id: &str, described: &Described) -> Result<u64> {
        let is_open = described.phase == Phase::Ongoing;
        self.until_answered(|| self.client.init_producer_id(id, FENCE_TIMEOUT_MS))
            .await
            .map_err(|error| self.client.failure(error))?;
        if is_open {
            tracing::info!(sink = %self.spec.name, id, ?described, "aborted a lingering transaction");
        }
        Ok(u64::from(is_open))
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
    fn preflight(&self) -> BoxFuture<'_, Result<()>> {
        self.check().boxed()
    }

    fn reservations(&self) -> BoxFuture<'_, Result<Vec<String>>> {
        async {
            if !self.is_exactly_once() {
                return Ok(Vec::new());
            }
            let cluster = self
                .client
                .cluster(&[])
                .await
                .map_err(|error| self.client.failure(error))?;
            Ok(self.names.reservations(&cluster.id))
        }
        .boxed()
    }

    fn commit<'a>(&'a self, committables: &'a [Committable]) -> BoxFuture<'a, Vec<CommitOutcome>> {
        self.commit_all(committables).boxed()
    }

    fn abort_lingering<'a>(&'a self, lingering: &'a Lingering) -> BoxFuture<'a, Result<u64>> {
        self.abort_all(lingering).boxed()
    }
}

fn utc(time: Timestamp) -> String {
    let millis = i64::try_from(time.0).ok();
    let instant = millis.and_then(timestamp_ms_to_datetime);
    instant.map_or_else(|| format!("{} ms", time.0), |time| format!("{time} UTC"))
}

fn lost(sink: &str, committable: &Committable, prepared: &Prepared, reason: &str) -> Failure {
    failure::transaction_lost(format!(
        "sink `{sink}`: the transaction of checkpoint {} with {} records for topic `{}` is lost: \
         {reason}. Transactional id `{}`, producer id {}, epoch {}, first record at {}, \
         transactionTimeout {} ms. The checkpoint is complete, so these records will not be \
         written again by themselves",
        committable.checkpoint,
        committable.records,
        prepared.topic,
        prepared.transactional_id,
        prepared.producer_id,
        prepared.epoch,
        utc(prepared.started_at),
        prepared.timeout_ms,
    ))
}
