//! Transactions of producers that may be gone: find, end, describe, fence.

use std::collections::BTreeMap;

use kafka_protocol::messages::describe_transactions_response::TransactionState;
use kafka_protocol::messages::{
    DescribeTransactionsRequest, EndTxnRequest, FindCoordinatorRequest, InitProducerIdRequest,
    ProducerId, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;

use super::error::{ClientError, code};
use super::{Answer, Client, lock};
use crate::kafka::access::Endpoint;

/// `EndTxn` up to version 4 takes the classic path on every broker. Version 5 bumps the epoch, and
/// repeating a version-4 commit with version 5 is answered wrongly; librdkafka speaks version 1.
const END_TXN: std::ops::RangeInclusive<i16> = 1..=4;
/// Version 4 brought several keys per request.
const FIND_COORDINATOR: std::ops::RangeInclusive<i16> = 4..=6;
const INIT_PRODUCER_ID: std::ops::RangeInclusive<i16> = 1..=4;
const COORDINATOR_OF_TRANSACTION: i8 = 1;
/// Most transactional ids in one request.
pub(crate) const IDS_PER_REQUEST: usize = 500;

/// One transaction, as everybody can name it: the id, and which incarnation of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Transaction {
    /// `transactional.id`.
    pub(crate) id: String,
    /// Producer id that the broker gave.
    pub(crate) producer_id: i64,
    /// Epoch of the producer id.
    pub(crate) epoch: i16,
}

/// What the coordinator knows about a transactional id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Described {
    /// How far its newest transaction is.
    pub(crate) phase: Phase,
    /// Producer id of the newest incarnation.
    pub(crate) producer_id: i64,
    /// Epoch of the newest incarnation.
    pub(crate) epoch: i16,
    /// When the open transaction began, milliseconds since 1970; −1 if there is none.
    pub(crate) started_at_ms: i64,
    /// Where the open transaction has written to: `topic/partition`.
    pub(crate) partitions: Vec<String>,
    /// `transaction.timeout.ms` of its producer.
    pub(crate) timeout_ms: i32,
}

/// How far a transaction is. Source: Kafka's `TransactionState`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing was ever added since the producer id was initialised.
    Empty,
    /// Open.
    Ongoing,
    /// The commit is decided; markers are being written.
    PrepareCommit,
    /// The abort is decided; markers are being written.
    PrepareAbort,
    /// Committed.
    CompleteCommit,
    /// Aborted.
    CompleteAbort,
    /// A newer incarnation is pushing this one out.
    PrepareEpochFence,
    /// Forgotten soon.
    Dead,
    /// A word that we do not know.
    Other(String),
}

impl Phase {
    /// Kafka's own word.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
            Self::PrepareEpochFence => "PrepareEpochFence",
            Self::Dead => "Dead",
            Self::Other(name) => name,
        }
    }

    fn from_name(name: &str) -> Self {
        match name {
            "Empty" => Self::Empty,
            "Ongoing" => Self::Ongoing,
            "PrepareCommit" => Self::PrepareCommit,
            "PrepareAbort" => Self::PrepareAbort,
            "CompleteCommit" => Self::CompleteCommit,
            "CompleteAbort" => Self::CompleteAbort,
            "PrepareEpochFence" => Self::PrepareEpochFence,
            "Dead" => Self::Dead,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl Client {
    /// Ends a transaction. `Ok` is Kafka's error code, whatever it is.
    ///
    /// # Errors
    /// There is no answer, or no coordinator to ask.
    pub(crate) async fn end_transaction(
        &self,
        transaction: &Transaction,
        commit: bool,
    ) -> Answer<i16> {
        let request = EndTxnRequest::default()
            .with_transactional_id(transactional_id(&transaction.id))
            .with_producer_id(ProducerId(transaction.producer_id))
            .with_producer_epoch(transaction.epoch)
            .with_committed(commit);
        let endpoint = self.coordinator(&transaction.id).await?;
        let answer = self.at(&endpoint, &request, END_TXN).await;
        let code = self.forget_on_error(&transaction.id, answer, |answer| answer.error_code)?;
        Ok(code.error_code)
    }

    /// What the coordinator knows about one id; `None` if nothing.
    ///
    /// # Errors
    /// There is no answer, or a refusal.
    pub(crate) async fn describe_transaction(&self, id: &str) -> Answer<Option<Described>> {
        let endpoint = self.coordinator(id).await?;
        let mut described = self.describe_at(&endpoint, &[id.to_owned()]).await?;
        described.remove(id).unwrap_or(Ok(None))
    }

    /// What coordinators know about at most [`IDS_PER_REQUEST`] ids. An id that nobody knows is left
    /// out. Who coordinates them is not remembered.
    ///
    /// # Errors
    /// There is no answer for one of them, or a refusal.
    pub(crate) async fn describe_transactions(
        &self,
        ids: &[String],
    ) -> Answer<BTreeMap<String, Described>> {
        let mut known = BTreeMap::new();
        for (endpoint, ids) in self.find_coordinators(ids, None).await? {
            for (id, described) in self.describe_at(&endpoint, &ids).await? {
                if let Some(described) = described? {
                    known.insert(id, described);
                }
            }
        }
        Ok(known)
    }

    /// Makes a new incarnation of `id`: aborts what an older one has open, and fences it. Returns
    /// the new producer id and epoch.
    ///
    /// # Errors
    /// There is no answer, or a refusal; `CONCURRENT_TRANSACTIONS` while the abort is under way.
    pub(crate) async fn init_producer_id(&self, id: &str, timeout_ms: i32) -> Answer<(i64, i16)> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(transactional_id(id)))
            .with_transaction_timeout_ms(timeout_ms)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        let endpoint = self.coordinator(id).await?;
        let answer = self.at(&endpoint, &request, INIT_PRODUCER_ID).await;
        let response = self.forget_on_error(id, answer, |answer| answer.error_code)?;
        if response.error_code != code::NONE {
            return Err(refused(&endpoint, "InitProducerId", response.error_code));
        }
        Ok((*response.producer_id, response.producer_epoch))
    }

    async fn describe_at(
        &self,
        endpoint: &Endpoint,
        ids: &[String],
    ) -> Answer<BTreeMap<String, Answer<Option<Described>>>> {
        let request = DescribeTransactionsRequest::default()
            .with_transactional_ids(ids.iter().map(|id| transactional_id(id)).collect());
        let answer = self.at(endpoint, &request, 0..=0).await;
        if answer.is_err() {
            self.forget_coordinators(ids);
        }
        let states = answer?.transaction_states;
        let described = states.into_iter().map(|state| {
            let id = state.transactional_id.to_string();
            let described = read_state(endpoint, &state);
            if described.is_err() {
                self.forget_coordinators(std::slice::from_ref(&id));
            }
            (id, described)
        });
        Ok(described.collect())
    }

    /// The broker that coordinates `id`, as last heard, or else asked.
    async fn coordinator(&self, id: &str) -> Answer<Endpoint> {
        let known = lock(&self.coordinators).get(id).cloned();
        if let Some(endpoint) = known {
            return Ok(endpoint);
        }
        let ids = [id.to_owned()];
        let mut found = self.find_coordinators(&ids, None).await?;
        let (endpoint, ids) = found.pop_first().ok_or_else(|| ClientError::Transport {
            broker: self.access().bootstrap(),
            reason: format!("it names no coordinator for `{id}`"),
        })?;
        self.remember(&endpoint, &ids);
        Ok(endpoint)
    }

    /// Asks who coordinates each id: any server, or first the one with a number. At most
    /// [`IDS_PER_REQUEST`] ids.
    async fn find_coordinators(
        &self,
        ids: &[String],
        server: Option<usize>,
    ) -> Answer<BTreeMap<Endpoint, Vec<String>>> {
        let request = FindCoordinatorRequest::default()
            .with_key_type(COORDINATOR_OF_TRANSACTION)
            .with_coordinator_keys(ids.iter().cloned().map(StrBytes::from_string).collect());
        let response = match server {
            None => self.anywhere(&request, FIND_COORDINATOR).await?,
            Some(server) => {
                self.ask_beginning_with(server, &request, FIND_COORDINATOR)
                    .await?
            }
        };
        let mut found: BTreeMap<Endpoint, Vec<String>> = BTreeMap::new();
        for coordinator in response.coordinators {
            if coordinator.error_code != code::NONE {
                return Err(ClientError::Refused {
                    broker: self.access().bootstrap(),
                    request: "FindCoordinator",
                    code: coordinator.error_code,
                });
            }
            let endpoint = Endpoint {
                host: coordinator.host.to_string(),
                port: u16::try_from(coordinator.port).unwrap_or_default(),
            };
            let id = coordinator.key.to_string();
            found.entry(endpoint).or_default().push(id);
        }
        Ok(found)
    }

    /// Asks who coordinates each id, whatever is remembered, so that later calls need not. With
    /// another `round`, another bootstrap server is asked first.
    ///
    /// # Errors
    /// There is no answer, or a coordinator is not available yet.
    pub(crate) async fn refresh_coordinators(&self, ids: &[String], round: usize) -> Answer<()> {
        self.forget_coordinators(ids);
        for chunk in ids.chunks(IDS_PER_REQUEST) {
            for (endpoint, ids) in self.find_coordinators(chunk, Some(round)).await? {
                self.remember(&endpoint, &ids);
            }
        }
        Ok(())
    }

    fn remember(&self, endpoint: &Endpoint, ids: &[String]) {
        let mut coordinators = lock(&self.coordinators);
        coordinators.extend(ids.iter().map(|id| (id.clone(), endpoint.clone())));
    }

    fn forget_coordinators(&self, ids: &[String]) {
        let mut coordinators = lock(&self.coordinators);
        for id in ids {
            coordinators.remove(id);
        }
    }

    /// Passes an answer on; asks for the coordinator again next time unless it was a good one.
    fn forget_on_error<T>(
        &self,
        id: &str,
        answer: Answer<T>,
        error_code: impl Fn(&T) -> i16,
    ) -> Answer<T> {
        let is_good = answer
            .as_ref()
            .is_ok_and(|answer| error_code(answer) == code::NONE);
        if !is_good {
            lock(&self.coordinators).remove(id);
        }
        answer
    }
}

fn partitions(state: &TransactionState) -> Vec<String> {
    let topics = state.topics.iter();
    topics
        .flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(|partition| format!("{}/{partition}", topic.topic.as_str()))
        })
        .collect()
}

fn read_state(endpoint: &Endpoint, state: &TransactionState) -> Answer<Option<Described>> {
    match state.error_code {
        code::NONE => Ok(Some(Described {
            phase: Phase::from_name(&state.transaction_state),
            producer_id: *state.producer_id,
            epoch: state.producer_epoch,
            started_at_ms: state.transaction_start_time_ms,
            partitions: partitions(state),
            timeout_ms: state.transaction_timeout_ms,
        })),
        code::TRANSACTIONAL_ID_NOT_FOUND => Ok(None),
        code => Err(refused(endpoint, "DescribeTransactions", code)),
    }
}

fn transactional_id(id: &str) -> TransactionalId {
    TransactionalId(StrBytes::from_string(id.to_owned()))
}

fn refused(endpoint: &Endpoint, request: &'static str, code: i16) -> ClientError {
    ClientError::Refused {
        broker: endpoint.to_string(),
        request,
        code,
    }
}
