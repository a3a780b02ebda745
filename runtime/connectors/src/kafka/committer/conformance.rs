//! The table of [`resolve`](super::resolve) on live brokers: what `EndTxn(commit)` answers in
//! every state that a dead writer's transaction can be in, and what the committer makes of it.

use std::time::Duration;

use millstream_tests::kafka::topics::Isolation;
use millstream_tests::wait::{wait_for, wait_until};
use millstream_tests::{Broker, BrokerOptions, KafkaVersion};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::resolve::{AfterEnd, Fate, after_end, fate};
use crate::kafka::access::Access;
use crate::kafka::client::{Client, Phase, Transaction, code};

const TOPIC: &str = "out";
const PATIENCE: Duration = Duration::from_secs(30);

/// A broker, and our client of it.
struct Bench {
    broker: Broker,
    client: Client,
    runtime: tokio::runtime::Runtime,
}

/// What is to be seen of a transaction.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    code: i16,
    outcome: Outcome,
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Committed,
    Aborted,
    Gone,
    Stale,
}

fn seen(code: i16, outcome: Outcome) -> Seen {
    Seen { code, outcome }
}

impl Bench {
    fn start(version: KafkaVersion, transaction_version: Option<u8>) -> Self {
        let broker = Broker::start(BrokerOptions {
            version,
            transaction_version,
            ..BrokerOptions::default()
        });
        broker.create_topic(TOPIC, 2);
        let access = Access::new("out", &broker.bootstrap(), (None, None), PATIENCE).unwrap();
        Self {
            broker,
            client: Client::new(access).unwrap(),
            runtime: tokio::runtime::Runtime::new().unwrap(),
        }
    }

    fn writer(&self, id: &str, timeout: Duration) -> BaseProducer {
        let producer: BaseProducer = self
            .broker
            .client()
            .set("transactional.id", id)
            .set("transaction.timeout.ms", timeout.as_millis().to_string())
            .create()
            .unwrap();
        producer.init_transactions(PATIENCE).unwrap();
        producer
    }

    /// What the broker calls the newest incarnation of an id.
    fn transaction(&self, id: &str) -> Transaction {
        let described = self.runtime.block_on(self.client.describe_transaction(id));
        let described = described.unwrap().unwrap();
        Transaction {
            id: id.to_owned(),
            producer_id: described.producer_id,
            epoch: described.epoch,
        }
    }

    fn phase(&self, id: &str) -> Option<Phase> {
        let described = self.runtime.block_on(self.client.describe_transaction(id));
        described.unwrap().map(|described| described.phase)
    }

    /// A transaction with a record in it whose writer is gone.
    fn open(&self, id: &str, timeout: Duration) -> Transaction {
        let writer = self.writer(id, timeout);
        write(&writer, id);
        let transaction = self.transaction(id);
        drop(writer);
        transaction
    }

    /// Commits as the committer does, until the answer decides something.
    fn commit(&self, transaction: &Transaction) -> Seen {
        let answered = wait_for("an answer that decides", PATIENCE, || {
            let end = self.client.end_transaction(transaction, true);
            let code = self.runtime.block_on(end).unwrap();
            (after_end(code) != AfterEnd::Again).then_some(code)
        });
        let outcome = match after_end(answered) {
            AfterEnd::Committed => Outcome::Committed,
            AfterEnd::Describe => {
                let describe = self.client.describe_transaction(&transaction.id);
                let described = self.runtime.block_on(describe).unwrap();
                // Its timeout has passed, as far as the rule is concerned.
                match fate(transaction, described.as_ref(), false) {
                    Fate::Committed => Outcome::Committed,
                    Fate::Gone(gone) if gone.is_aborted => Outcome::Aborted,
                    Fate::Gone(_) => Outcome::Gone,
                    Fate::Stale(_) => Outcome::Stale,
                    Fate::Open => panic!("{transaction:?} is {described:?}"),
                }
            }
            other => panic!("{answered} is {other:?}"),
        };
        seen(answered, outcome)
    }

    fn fence(&self, id: &str) {
        wait_until("the id is initialised", PATIENCE, || {
            self.runtime
                .block_on(self.client.init_producer_id(id, 10_000))
                .is_ok()
        });
    }

    /// Values in the topic that a `read_committed` reader sees.
    fn visible(&self) -> Vec<String> {
        let records = self.broker.read_to_end(TOPIC, Isolation::Committed);
        let values = records
            .into_iter()
            .map(|record| String::from_utf8(record.value).unwrap());
        values.collect()
    }

    fn is_visible(&self, id: &str) -> bool {
        self.visible().iter().any(|value| value == id)
    }
}

fn write(writer: &BaseProducer, id: &str) {
    writer.begin_transaction().unwrap();
    writer
        .send(BaseRecord::<(), _>::to(TOPIC).payload(id))
        .unwrap();
    writer.flush(PATIENCE).unwrap();
}

const LONG: Duration = Duration::from_mins(1);

fn open_transactions_are_committed_and_stay_so(bench: &Bench) {
    let transaction = bench.open("open", LONG);
    assert!(!bench.is_visible("open"));
    for _ in 0..3 {
        assert_eq!(
            bench.commit(&transaction),
            seen(code::NONE, Outcome::Committed)
        );
    }
    wait_until("the records are visible", PATIENCE, || {
        bench.is_visible("open")
    });
    assert_eq!(bench.phase("open"), Some(Phase::CompleteCommit));
}

fn a_transaction_that_its_writer_aborted_is_lost(bench: &Bench) {
    let writer = bench.writer("aborted", LONG);
    write(&writer, "aborted");
    let transaction = bench.transaction("aborted");
    writer.abort_transaction(PATIENCE).unwrap();
    assert_eq!(
        bench.commit(&transaction),
        seen(code::INVALID_TXN_STATE, Outcome::Aborted)
    );
}

fn a_transaction_without_records_does_not_exist(bench: &Bench) {
    let writer = bench.writer("empty", LONG);
    writer.begin_transaction().unwrap();
    let transaction = bench.transaction("empty");
    drop(writer);
    assert_eq!(
        bench.commit(&transaction),
        seen(code::INVALID_TXN_STATE, Outcome::Gone)
    );
}

fn unknown_ids_and_other_producer_ids_are_lost(bench: &Bench) {
    let known = bench.open("known", LONG);
    let mut transaction = known.clone();
    transaction.producer_id += 1;
    let unmapped = seen(code::INVALID_PRODUCER_ID_MAPPING, Outcome::Gone);
    assert_eq!(bench.commit(&transaction), unmapped);
    transaction.id = "never-used".into();
    assert_eq!(bench.phase("never-used"), None);
    assert_eq!(bench.commit(&transaction), unmapped);
    assert_eq!(bench.commit(&known), seen(code::NONE, Outcome::Committed));
}

fn other_epochs_are_fenced_and_harm_nothing(bench: &Bench) {
    drop(bench.writer("epochs", LONG));
    let transaction = bench.open("epochs", LONG);
    // Asked for an epoch that it has not heard of, a broker is behind: it says nothing.
    for (other, outcome) in [(-1, Outcome::Gone), (1, Outcome::Stale)] {
        let other = Transaction {
            epoch: transaction.epoch + other,
            ..transaction.clone()
        };
        assert_eq!(bench.commit(&other), seen(code::PRODUCER_FENCED, outcome));
    }
    assert_eq!(
        bench.commit(&transaction),
        seen(code::NONE, Outcome::Committed)
    );
}

fn a_transaction_whose_id_was_initialised_again_is_lost(bench: &Bench) {
    let transaction = bench.open("fenced", LONG);
    bench.fence("fenced");
    let fenced = seen(code::PRODUCER_FENCED, Outcome::Gone);
    assert_eq!(bench.commit(&transaction), fenced);
    assert!(!bench.is_visible("fenced"));
}

/// Why an id must not be initialised again while a checkpoint names it: the answer is the same
/// whether the transaction was committed or not.
fn a_committed_transaction_whose_id_was_initialised_again_cannot_be_told(bench: &Bench) {
    let transaction = bench.open("reused", LONG);
    assert_eq!(
        bench.commit(&transaction),
        seen(code::NONE, Outcome::Committed)
    );
    bench.fence("reused");
    let fenced = seen(code::PRODUCER_FENCED, Outcome::Gone);
    assert_eq!(bench.commit(&transaction), fenced);
    wait_until("the records are visible", PATIENCE, || {
        bench.is_visible("reused")
    });
}

fn a_delayed_commit_of_an_older_incarnation_leaves_the_newer_one_alone(bench: &Bench) {
    let older = bench.open("delayed", LONG);
    assert_eq!(bench.commit(&older), seen(code::NONE, Outcome::Committed));
    let newer = bench.open("delayed", LONG);
    let fenced = seen(code::PRODUCER_FENCED, Outcome::Gone);
    assert_eq!(bench.commit(&older), fenced);
    assert_eq!(bench.phase("delayed"), Some(Phase::Ongoing));
    assert_eq!(bench.commit(&newer), seen(code::NONE, Outcome::Committed));
}

fn a_transaction_that_timed_out_is_lost(bench: &Bench) {
    let transaction = bench.open("late", Duration::from_secs(1));
    wait_until("the broker aborts it", PATIENCE, || {
        bench.phase("late") == Some(Phase::CompleteAbort)
    });
    assert_eq!(
        bench.commit(&transaction),
        seen(code::PRODUCER_FENCED, Outcome::Aborted)
    );
    assert!(!bench.is_visible("late"));
}

fn a_dead_writers_transaction_survives_a_crash_of_the_broker(bench: &mut Bench) {
    let transaction = bench.open("crash", LONG);
    bench.broker.server().kill();
    bench.broker.restart();
    assert_eq!(
        bench.commit(&transaction),
        seen(code::NONE, Outcome::Committed)
    );
    wait_until("the records are visible", PATIENCE, || {
        bench.is_visible("crash")
    });
}

fn the_whole_table(version: KafkaVersion, transaction_version: Option<u8>) {
    let mut bench = Bench::start(version, transaction_version);
    open_transactions_are_committed_and_stay_so(&bench);
    a_transaction_that_its_writer_aborted_is_lost(&bench);
    a_transaction_without_records_does_not_exist(&bench);
    unknown_ids_and_other_producer_ids_are_lost(&bench);
    other_epochs_are_fenced_and_harm_nothing(&bench);
    a_transaction_whose_id_was_initialised_again_is_lost(&bench);
    a_committed_transaction_whose_id_was_initialised_again_cannot_be_told(&bench);
    a_delayed_commit_of_an_older_incarnation_leaves_the_newer_one_alone(&bench);
    a_transaction_that_timed_out_is_lost(&bench);
    a_dead_writers_transaction_survives_a_crash_of_the_broker(&mut bench);
}

#[test]
fn kafka_3_9_answers_as_the_table_says() {
    the_whole_table(KafkaVersion::V3_9, None);
}

#[test]
fn kafka_4_4_answers_as_the_table_says() {
    the_whole_table(KafkaVersion::V4_4, None);
}

#[test]
fn kafka_4_4_with_transaction_version_0_answers_as_the_table_says() {
    the_whole_table(KafkaVersion::V4_4, Some(0));
}
