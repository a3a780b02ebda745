//! Whether every record arrived exactly once.
//!
//! Each way in which it may not have is counted separately ([`Anomalies`]). [`ledger`] judges what
//! a reader sees after the faults against what an oracle expects, [`sightings`] compares it with
//! what a reader saw while they happened, [`early`] compares what readers see with what is decided
//! while the job runs, [`store`] is about the checkpoints. All are pure where they judge, and tests
//! show for each counter what makes it count: a changed stream, or real components that were
//! tampered with.

pub mod dead_letters;
pub mod early;
pub mod ledger;
pub mod observer;
pub mod sightings;
pub mod store;

use std::fmt;
use std::time::Duration;

use crate::chain::Manifest;
use crate::kafka::Broker;
use crate::kafka::topics::Isolation;
use crate::oracle::Expected;
use crate::wait::poll_until;
use dead_letters::DeadLetterLedger;
use early::Looks;
use ledger::OrderLedger;
use sightings::Sightings;
use store::Store;

/// The order job's source.
const SOURCE: &str = "orders";
/// How long markers of transactions that are being ended may take to appear.
const SETTLE: Duration = Duration::from_secs(10);

/// Counts of what must never happen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Anomalies {
    /// Expected and not there.
    pub lost: u64,
    /// There more than once.
    pub duplicate: u64,
    /// There and not expected.
    pub phantom: u64,
    /// There with other content, or with content that cannot be read.
    pub corrupt: u64,
    /// Behind a later record of the same key, or in another partition than that.
    pub reordered: u64,
    /// A part of what had been committed was visible without the rest: a record was seen while an
    /// earlier one of the same key was not there yet, or a confirmed checkpoint's record was not
    /// there, in whatever partition or sink.
    pub torn: u64,
    /// Seen before a checkpoint that holds it was decided.
    pub early: u64,
    /// Seen during the faults and not there, or changed, afterwards. A log does not do so by
    /// itself: brokers that lose what they had acknowledged do, and people who delete records.
    pub retracted: u64,
    /// Partitions whose end a `read_committed` reader cannot reach.
    pub stuck: u64,
    /// Transactions that the broker still holds open.
    pub dangling: u64,
    /// Objects of the checkpoint store that nothing names.
    pub orphan_objects: u64,
    /// Objects that a checkpoint names and that are not there.
    pub missing_objects: u64,
    /// Operators whose counters in the last checkpoint contradict the output.
    pub divergent: u64,
}

impl Anomalies {
    /// Every counter with its name.
    pub fn counters(&self) -> [(&'static str, u64); 13] {
        [
            ("lost", self.lost),
            ("duplicate", self.duplicate),
            ("phantom", self.phantom),
            ("corrupt", self.corrupt),
            ("reordered", self.reordered),
            ("torn", self.torn),
            ("early", self.early),
            ("retracted", self.retracted),
            ("stuck", self.stuck),
            ("dangling", self.dangling),
            ("orphan objects", self.orphan_objects),
            ("missing objects", self.missing_objects),
            ("divergent", self.divergent),
        ]
    }

    /// Whether nothing happened that must not.
    pub fn is_clean(&self) -> bool {
        self.counters().iter().all(|(_, count)| *count == 0)
    }

    /// Adds the counts of another part of the audit.
    pub fn add(&mut self, other: &Self) {
        self.lost += other.lost;
        self.duplicate += other.duplicate;
        self.phantom += other.phantom;
        self.corrupt += other.corrupt;
        self.reordered += other.reordered;
        self.torn += other.torn;
        self.early += other.early;
        self.retracted += other.retracted;
        self.stuck += other.stuck;
        self.dangling += other.dangling;
        self.orphan_objects += other.orphan_objects;
        self.missing_objects += other.missing_objects;
        self.divergent += other.divergent;
    }
}

impl fmt::Display for Anomalies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, count)) in self.counters().into_iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{name} {count}")?;
        }
        Ok(())
    }
}

/// Topics of an order job.
#[derive(Debug, Clone, Copy)]
pub struct Topics<'a> {
    /// What it reads.
    pub input: &'a str,
    /// Another one that it reads beside that.
    pub other_input: Option<&'a str>,
    /// Processed orders.
    pub output: &'a str,
    /// Records that were not JSON.
    pub dead_letters: &'a str,
    /// What its transactional ids begin with; empty where no other job uses the broker.
    pub ids: &'a str,
}

/// What was audited, and how it stands.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What must be zero.
    pub anomalies: Anomalies,
    /// Records of the input.
    pub input: u64,
    /// Processed orders that were expected.
    pub orders: u64,
    /// Dead letters that were expected.
    pub dead_letters: u64,
    /// Some of the anomalies, in words.
    pub examples: Vec<String>,
}

impl Report {
    /// Panics unless every record arrived exactly once, but so many that were given up.
    #[track_caller]
    pub fn assert_exactly_once_without(&self, given_up: u64) {
        assert!(self.orders > 0 && self.dead_letters > 0, "{self}");
        let mut expected = Anomalies::default();
        if given_up > 0 {
            expected.lost = given_up;
            // Later records of the same keys are seen without those, and counters have counted
            // them as written.
            expected.torn = self.anomalies.torn;
            expected.divergent = self.anomalies.divergent;
        }
        assert_eq!(self.anomalies, expected, "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} records in, {} orders and {} dead letters expected: {}",
            self.input, self.orders, self.dead_letters, self.anomalies
        )?;
        for example in &self.examples {
            write!(f, "\n  {example}")?;
        }
        Ok(())
    }
}

/// Audits an order job that has processed its whole input and ended. `seen` is what readers of the
/// output and of the dead letters saw meanwhile.
#[track_caller]
pub fn audit(
    broker: &Broker,
    topics: Topics<'_>,
    seen_orders: &Sightings,
    seen_dead_letters: &Sightings,
) -> Report {
    let mut expected = Expected::default();
    for input in std::iter::once(topics.input).chain(topics.other_input) {
        expected.read(broker, input);
    }
    let mut report = Report::of(&expected);
    let [orders, letters] = report.read(broker, topics, &expected);
    report.anomalies.retracted += seen_orders.retracted(&orders);
    report.anomalies.retracted += seen_dead_letters.retracted(&letters);

    for topic in [topics.output, topics.dead_letters] {
        report.anomalies.stuck += stuck(broker, topic, SETTLE);
    }
    for transaction in broker.open_transactions() {
        if transaction.transactional_id.starts_with(topics.ids) {
            report.anomalies.dangling += 1;
            report.examples.push(format!("open: {transaction:?}"));
        }
    }
    report
}

/// Judges what readers see while nobody can commit anything: exactly what `checkpoint` has written,
/// in all partitions of both sinks.
#[track_caller]
pub fn audit_checkpoint(broker: &Broker, topics: Topics<'_>, checkpoint: &Manifest) -> Report {
    let expected = Expected::read_before(broker, topics.input, &checkpoint.positions(SOURCE));
    let mut report = Report::of(&expected);
    report.read(broker, topics, &expected);
    // Here, what is not there is a part of something that is; and what nobody expects yet comes
    // from behind the checkpoint.
    let anomalies = &mut report.anomalies;
    anomalies.torn = std::mem::take(&mut anomalies.lost);
    anomalies.early = std::mem::take(&mut anomalies.phantom);
    report
}

impl Report {
    fn of(expected: &Expected) -> Self {
        Self {
            input: expected.input(),
            orders: u64::try_from(expected.orders.len()).unwrap_or(u64::MAX),
            dead_letters: u64::try_from(expected.dead_letters.len()).unwrap_or(u64::MAX),
            ..Self::default()
        }
    }

    /// Reads both outputs to their ends and judges them. What was there.
    #[track_caller]
    fn read(&mut self, broker: &Broker, topics: Topics<'_>, expected: &Expected) -> [Sightings; 2] {
        let mut orders = OrderLedger::new(expected);
        let mut letters = DeadLetterLedger::new(expected);
        let mut seen = [Sightings::default(), Sightings::default()];
        broker.for_each_to_end(topics.output, Isolation::Committed, |record| {
            seen[0].add(&record);
            orders.observe(&record);
        });
        broker.for_each_to_end(topics.dead_letters, Isolation::Committed, |record| {
            seen[1].add(&record);
            letters.observe(&record);
        });
        self.add(&orders.close());
        self.add(&letters.close());
        seen
    }

    /// Adds what the job left in its store.
    pub fn add_store(&mut self, store: &Store) {
        for verdict in store.judge(self) {
            self.add(&verdict);
        }
    }

    /// Adds what was seen of it while it ran.
    pub fn add_looks(&mut self, looks: &Looks) {
        self.add(&looks.judge());
    }

    fn add(&mut self, verdict: &ledger::Verdict) {
        self.anomalies.add(&verdict.anomalies);
        self.examples.extend(verdict.examples.iter().cloned());
    }
}

/// Partitions whose last stable offset stays behind their high watermark for longer than `settle`.
fn stuck(broker: &Broker, topic: &str, settle: Duration) -> u64 {
    let behind = || {
        let stable = broker.ends(topic, Isolation::Committed);
        let high = broker.ends(topic, Isolation::Uncommitted);
        let pairs = stable.iter().zip(&high);
        pairs.filter(|(stable, high)| stable != high).count()
    };
    match poll_until(settle, || (behind() == 0).then_some(())) {
        Some(()) => 0,
        None => u64::try_from(behind()).unwrap_or(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

    use super::observer::Observer;
    use super::*;
    use crate::BrokerOptions;
    use crate::wait::wait_until;

    const TIMEOUT: Duration = Duration::from_secs(30);

    #[test]
    fn a_transaction_left_open_is_dangling_its_partition_stuck_and_its_records_unseen() {
        let broker = Broker::start(BrokerOptions::default());
        broker.create_topic("output", 2);
        let observer = Observer::start(&broker, "output");
        let producer: BaseProducer = broker
            .client()
            .set("transactional.id", "left-open")
            .create()
            .unwrap();
        producer.init_transactions(TIMEOUT).unwrap();
        let send = |value: &str| {
            let record = BaseRecord::<str, str>::to("output").partition(0);
            producer.send(record.payload(value)).unwrap();
            producer.flush(TIMEOUT).unwrap();
        };
        producer.begin_transaction().unwrap();
        send("committed");
        producer.commit_transaction(TIMEOUT).unwrap();
        producer.begin_transaction().unwrap();
        send("open");

        wait_until("the committed record is seen", TIMEOUT, || {
            observer.seen() == 1
        });
        assert_eq!(stuck(&broker, "output", Duration::ZERO), 1);
        let open = broker.open_transactions();
        assert_eq!(open.len(), 1, "{open:?}");
        assert_eq!(open[0].transactional_id, "left-open");

        producer.abort_transaction(TIMEOUT).unwrap();
        assert_eq!(stuck(&broker, "output", SETTLE), 0);
        assert_eq!(broker.open_transactions(), Vec::new());
        assert_eq!(observer.stop().len(), 1);
        // The end lies behind what was aborted.
        let records = broker.read_to_end("output", Isolation::Committed);
        assert_eq!(records.len(), 1);
        let records = broker.read_to_end("output", Isolation::Uncommitted);
        assert_eq!(records.len(), 2);
    }

    #[test]
    fn records_that_a_broker_no_longer_has_are_retracted() {
        let broker = Broker::start(BrokerOptions::default());
        broker.create_topic("output", 1);
        let observer = Observer::start(&broker, "output");
        let record = |number: u8| (vec![number], vec![number]);
        broker.produce("output", (0..5).map(record));
        wait_until("all are seen", TIMEOUT, || observer.seen() == 5);
        let seen = observer.stop();
        let retracted = || {
            let mut later = Sightings::default();
            broker.for_each_to_end("output", Isolation::Committed, |record| later.add(&record));
            seen.retracted(&later)
        };
        assert_eq!(retracted(), 0);
        broker.delete_records("output", 0, 3);
        assert_eq!(retracted(), 3);
    }

    #[test]
    fn what_is_there_twice_is_seen_twice_and_is_no_progress() {
        let broker = Broker::shared(crate::KafkaVersion::V4_4);
        broker.create_topic("twice", 1);
        let observer = Observer::start(broker, "twice");
        let record = |number: u8| (vec![1], vec![number]);
        broker.produce("twice", [1, 2, 1].map(record));
        wait_until("all are seen", TIMEOUT, || observer.seen() == 3);
        assert_eq!(observer.distinct(), 2);
    }
}
