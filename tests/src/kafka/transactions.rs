//! Which transactions a broker knows, by its own word (`ListTransactions`).

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use kafka_protocol::messages::{
    FindCoordinatorRequest, FindCoordinatorResponse, ListTransactionsRequest,
    ListTransactionsResponse, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use millstream_types::OperatorSnapshot;
use rdkafka::producer::{BaseProducer, Producer};
use serde::Deserialize;
use serde_json::Value;

use super::Broker;
use crate::wait::wait_for;

/// `FindCoordinator` in Kafka's protocol.
const FIND_COORDINATOR: i16 = 10;
/// `ListTransactions` in Kafka's protocol.
const LIST_TRANSACTIONS: i16 = 66;
/// The answer of a broker that still reads a partition of its transaction log: a new one, or one
/// that has just started.
const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
const TIMEOUT: Duration = Duration::from_secs(30);
/// A broker of one node answers with far less.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// One transactional id that a broker knows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Transaction {
    /// Its id.
    pub transactional_id: String,
    /// Its producer.
    pub producer_id: i64,
    /// As in `Ongoing`, `CompleteCommit`.
    pub state: String,
}

/// A transaction that a checkpoint lists to be committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// Its id.
    pub transactional_id: String,
    /// Records in it.
    pub records: u64,
}

#[derive(Debug, Deserialize)]
struct ListingManifest {
    operators: BTreeMap<String, BTreeMap<String, OperatorSnapshot>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListedTransaction {
    transactional_id: String,
}

impl Prepared {
    /// What a manifest lists, where all sinks write to Kafka.
    #[track_caller]
    pub fn listed_in(manifest: &Value) -> Vec<Self> {
        let manifest = ListingManifest::deserialize(manifest).expect("a manifest has operators");
        let snapshots = manifest.operators.values().flat_map(BTreeMap::values);
        let committables = snapshots.flat_map(|snapshot| &snapshot.committables);
        let named = committables.map(|committable| {
            let listed: ListedTransaction = serde_json::from_str(&committable.transaction.0)
                .expect("a transaction of Kafka has an id");
            Self {
                transactional_id: listed.transactional_id,
                records: committable.records,
            }
        });
        named.collect()
    }
}

impl Broker {
    /// Uses a transactional id as another program would: what it has open is aborted.
    #[track_caller]
    pub fn take_transactional_id(&self, id: &str) {
        let mut client = self.client();
        client.set("transactional.id", id);
        let producer: BaseProducer = client.create().expect("the settings are valid");
        let begun = producer.init_transactions(TIMEOUT);
        begun.expect("the broker aborts what the id has open");
    }

    /// Transactions that are neither committed nor aborted.
    #[track_caller]
    pub fn open_transactions(&self) -> Vec<Transaction> {
        let mut open = self.transactions();
        open.retain(|transaction| {
            !matches!(
                transaction.state.as_str(),
                "Empty" | "CompleteCommit" | "CompleteAbort" | "Dead"
            )
        });
        open
    }

    /// All transactional ids that the broker has not forgotten, sorted.
    #[track_caller]
    pub fn transactions(&self) -> Vec<Transaction> {
        let answer = wait_for("the broker has read its transactions", TIMEOUT, || {
            let answer = ask(&self.bootstrap()).unwrap_or_else(|error| {
                panic!(
                    "cannot list the transactions of {}: {error}",
                    self.bootstrap()
                )
            });
            (answer.error_code != COORDINATOR_LOAD_IN_PROGRESS).then_some(answer)
        });
        assert_eq!(answer.error_code, 0, "ListTransactions was refused");
        let mut transactions: Vec<Transaction> = answer
            .transaction_states
            .into_iter()
            .map(|state| Transaction {
                transactional_id: state.transactional_id.to_string(),
                producer_id: state.producer_id.0,
                state: state.transaction_state.to_string(),
            })
            .collect();
        transactions.sort();
        transactions
    }
}

/// Which broker coordinates a transactional id, as the broker at `broker` sees it: its node id.
/// `None` while there is none.
pub(super) fn coordinator_of(id: &str, broker: &str) -> Option<i32> {
    const TRANSACTION: i8 = 1;
    let request = FindCoordinatorRequest::default()
        .with_key_type(TRANSACTION)
        .with_coordinator_keys(vec![StrBytes::from_string(id.to_owned())]);
    let answer: FindCoordinatorResponse = call(broker, (FIND_COORDINATOR, 4), &request).ok()?;
    let coordinator = answer.coordinators.first()?;
    (coordinator.error_code == 0).then_some(coordinator.node_id.0)
}

fn ask(broker: &str) -> Result<ListTransactionsResponse, Box<dyn std::error::Error>> {
    let request = ListTransactionsRequest::default();
    call(broker, (LIST_TRANSACTIONS, 0), &request)
}

/// One request in one version to one broker.
fn call<Q, A>(
    broker: &str,
    (key, version): (i16, i16),
    request: &Q,
) -> Result<A, Box<dyn std::error::Error>>
where
    Q: Encodable + HeaderVersion,
    A: Decodable + HeaderVersion,
{
    let mut stream = TcpStream::connect(broker)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let header = RequestHeader::default()
        .with_request_api_key(key)
        .with_request_api_version(version)
        .with_client_id(Some(StrBytes::from_static_str("tests")));
    let mut message = Vec::new();
    header.encode(&mut message, Q::header_version(version))?;
    request.encode(&mut message, version)?;
    let mut framed = u32::try_from(message.len())?.to_be_bytes().to_vec();
    framed.append(&mut message);
    stream.write_all(&framed)?;

    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length))?;
    if length > MAX_ANSWER_BYTES {
        return Err(format!("an answer of {length} bytes").into());
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer)?;
    let mut answer = answer.as_slice();
    ResponseHeader::decode(&mut answer, A::header_version(version))?;
    Ok(A::decode(&mut answer, version)?)
}
