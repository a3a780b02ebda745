//! Which transactions a broker knows, by its own word (`ListTransactions`).

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_protocol::messages::{
    DescribeTransactionsRequest, EndTxnRequest, FindCoordinatorRequest, ListTransactionsRequest,
    TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use millstream_types::OperatorSnapshot;
use rdkafka::producer::{BaseProducer, Producer};
use serde::Deserialize;
use serde_json::Value;

use super::Broker;
use super::wire::call;
use crate::wait::wait_for;

/// Of `FindCoordinator`.
const FIND_VERSION: i16 = 4;
/// Of `ListTransactions`.
const LIST_VERSION: i16 = 0;
/// Of `DescribeTransactions`.
const DESCRIBE_VERSION: i16 = 0;
/// Of `EndTxn`; later ones end the producer's epoch as well.
const END_VERSION: i16 = 1;
/// The answer of a broker that still reads a partition of its transaction log: a new one, or one
/// that has just started.
const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
const TIMEOUT: Duration = Duration::from_secs(30);

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
    /// The topic that its records are for.
    pub topic: String,
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
    topic: String,
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
                topic: listed.topic,
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

    /// Commits what an id has open without asking anybody, as a process would that does not know
    /// that it was given up.
    #[track_caller]
    pub fn commit_as_a_zombie(&self, id: &str) {
        let id = TransactionalId(StrBytes::from_string(id.to_owned()));
        let describe =
            DescribeTransactionsRequest::default().with_transactional_ids(vec![id.clone()]);
        let answer = call(&self.bootstrap(), &describe, DESCRIBE_VERSION)
            .unwrap_or_else(|error| panic!("cannot describe {id:?}: {error}"));
        let known = answer.transaction_states.first();
        let known = known.unwrap_or_else(|| panic!("the broker does not know {id:?}"));
        let commit = EndTxnRequest::default()
            .with_transactional_id(id)
            .with_producer_id(known.producer_id)
            .with_producer_epoch(known.producer_epoch)
            .with_committed(true);
        let answer = call(&self.bootstrap(), &commit, END_VERSION)
            .unwrap_or_else(|error| panic!("cannot commit {known:?}: {error}"));
        assert_eq!(answer.error_code, 0, "EndTxn of {known:?} was refused");
    }

    /// Transactions that are neither committed nor aborted, as each broker of the cluster says of those
    /// that it coordinates.
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

    /// All transactional ids that the brokers of the cluster have not forgotten, sorted.
    #[track_caller]
    pub fn transactions(&self) -> Vec<Transaction> {
        let brokers = self.node.seeds.split(',');
        let mut transactions: Vec<Transaction> = brokers.flat_map(coordinated_by).collect();
        transactions.sort();
        transactions
    }
}

/// The transactional ids that the broker at `address` coordinates.
#[track_caller]
fn coordinated_by(address: &str) -> impl Iterator<Item = Transaction> + use<> {
    let answer = wait_for("the broker has read its transactions", TIMEOUT, || {
        let request = ListTransactionsRequest::default();
        let answer = call(address, &request, LIST_VERSION)
            .unwrap_or_else(|error| panic!("cannot list the transactions of {address}: {error}"));
        (answer.error_code != COORDINATOR_LOAD_IN_PROGRESS).then_some(answer)
    });
    assert_eq!(answer.error_code, 0, "ListTransactions was refused");
    let states = answer.transaction_states.into_iter();
    states.map(|state| Transaction {
        transactional_id: state.transactional_id.to_string(),
        producer_id: state.producer_id.0,
        state: state.transaction_state.to_string(),
    })
}

/// Which broker coordinates a transactional id, as the broker at `broker` sees it: its node id.
/// `None` while there is none.
pub(super) fn coordinator_of(id: &str, broker: &str) -> Option<i32> {
    const TRANSACTION: i8 = 1;
    let request = FindCoordinatorRequest::default()
        .with_key_type(TRANSACTION)
        .with_coordinator_keys(vec![StrBytes::from_string(id.to_owned())]);
    let answer = call(broker, &request, FIND_VERSION).ok()?;
    let coordinator = answer.coordinators.first()?;
    (coordinator.error_code == 0).then_some(coordinator.node_id.0)
}
