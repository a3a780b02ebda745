//! Writes records to a topic: exactly once in transactions that outlive their producer, or at
//! least once.
//!
//! Records are produced as they come, into an open transaction. At a barrier everything is flushed
//! and the transaction is *prepared*: its id, producer id and epoch go into the checkpoint, and its
//! producer is ended, which leaves the transaction as it is. The committer commits it when the
//! checkpoint is decided, with or without a restart in between.
//!
//! Invariants:
//! - A producer carries one transaction. Its successor, with another transactional id, has been
//!   made in the background.
//! - A record that was not delivered fails the writer for good, so it fails the checkpoint.
//! - A transaction begins with its first record: one without records does not exist for the broker
//!   and has no committable.
//!
//! Reading order: [`slots`] chooses ids, [`maker`] makes producers, [`delivery`] waits for brokers,
//! [`records`] makes records of rows, with [`keys`], [`upserts`] and what is written [`beside`] a
//! value; [`options`] are details.

mod beside;
mod delivery;
mod keys;
mod maker;
mod options;
mod records;
mod slots;
mod upserts;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_connect::{Result, SinkCommitter, SinkConnector, SinkWriter, WriterContext};
use millstream_spec::connector::{DeliveryGuarantee, KafkaPartitioner, KafkaSink};
use millstream_spec::{SinkMetadata, ValidSink, WritableMetadata};
use millstream_types::clock::SystemClock;
use millstream_types::{
    Batch, CheckpointId, Clock, Committable, Failure, JobId, OperatorUid, Timestamp,
};

use super::access::Access;
use super::committer::KafkaCommitter;
use super::failure::{self, Sizes};
use super::ffi::{Enqueue, Producer};
use super::transaction::{Prepared, SLOTS, TransactionNames};
use delivery::{Destination, Wait};
use maker::{Made, Maker, SlotName};
use records::Rows;
#[cfg(feature = "simulation")]
pub use slots::SimulatedSlots;
use slots::Slots;

/// How often a writer that keeps its producer looks for new partitions.
const PARTITIONS_REFRESH: Duration = Duration::from_mins(5);

/// One configured Kafka sink.
#[derive(Debug)]
pub(super) struct KafkaSinkConnector {
    pub(super) spec: Arc<ValidSink>,
    pub(super) options: KafkaSink,
    pub(super) access: Access,
}

impl SinkConnector for KafkaSinkConnector {
    fn writer(&self, cx: WriterContext) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(KafkaWriter::new(self, &cx)?))
    }

    fn committer(&self, job: &JobId, uid: &OperatorUid) -> Result<Option<Arc<dyn SinkCommitter>>> {
        let access = self.access.clone();
        let committer = KafkaCommitter::new(&self.spec, &self.options, access, job, uid)?;
        Ok(Some(Arc::new(committer)))
    }
}

/// Writer of one subtask.
struct KafkaWriter {
    destination: Destination,
    rows: Rows,
    partitioning: Partitioning,
    maker: Maker,
    is_ordered: bool,
    current: Option<Current>,
    transactions: Option<Transactions>,
    failed: Option<Failure>,
    bytes: u64,
    /// How long it has waited for brokers.
    waited: Duration,
    clock: SystemClock,
}

/// The producer in use.
struct Current {
    made: Made,
    /// What was written since it was made or last flushed.
    written: Option<Written>,
}

struct Written {
    since: Timestamp,
    records: u64,
}

/// What a writer that is exactly-once knows of its transactions.
struct Transactions {
    names: TransactionNames,
    cx: WriterContext,
    timeout_ms: u64,
    slots: Slots,
    /// Slots by transactional id.
    ids: BTreeMap<String, u32>,
}

/// How partitions are chosen.
struct Partitioning {
    /// librdkafka chooses for every record; else each batch goes to the next partition, which
    /// costs nothing per record.
    is_per_record: bool,
    turn: usize,
    refreshed_at: Duration,
}

impl KafkaWriter {
    fn new(connector: &KafkaSinkConnector, cx: &WriterContext) -> Result<Self> {
        let options = &connector.options;
        let sink = &connector.spec.name;
        let owner = format!("sink `{sink}` subtask {}", cx.subtask);
        let is_exactly_once = options.guarantee() == DeliveryGuarantee::ExactlyOnce;
        let transactions = is_exactly_once.then(|| Transactions::new(options, cx));
        let access = connector.access.clone();
        let mut writer = Self {
            destination: Destination {
                topic: options.topic.clone(),
                servers: access.bootstrap(),
                patience: access.connect_timeout,
                sizes: Sizes::default(),
                writes_timestamps: connector.spec.metadata.iter().any(is_timestamp),
            },
            rows: Rows::new(&connector.spec, options, cx)?,
            partitioning: Partitioning {
                is_per_record: options.has_key() || options.partitioner == KafkaPartitioner::Random,
                turn: usize::try_from(cx.subtask.0).unwrap_or(0),
                refreshed_at: Duration::ZERO,
            },
            maker: Maker::start(owner, access, options.clone())?,
            is_ordered: false,
            current: None,
            transactions,
            failed: None,
            bytes: 0,
            waited: Duration::ZERO,
            clock: SystemClock::default(),
        };
        writer.order();
        Ok(writer)
    }

    /// Orders the next producer, unless every id is taken; then it is tried again when a producer
    /// is needed.
    fn order(&mut self) {
        if self.is_ordered {
            return;
        }
        let name = match &mut self.transactions {
            None => None,
            Some(transactions) => match transactions.next_name() {
                None => return,
                name => name,
            },
        };
        self.maker.order(name);
        self.is_ordered = true;
    }

    /// Makes sure that there is a producer.
    fn open(&mut self) -> Result<()> {
        if self.current.is_some() {
            return Ok(());
        }
        self.order();
        if !self.is_ordered {
            return Err(self.no_slot());
        }
        self.is_ordered = false;
        let made = self.maker.take()?;
        self.destination.sizes = Sizes {
            largest: 0,
            topic: made.limits.topic,
            client: made.limits.record,
        };
        self.current = Some(Current {
            made,
            written: None,
        });
        if self.transactions.is_some() {
            self.order();
        }
        Ok(())
    }

    fn no_slot(&self) -> Failure {
        let in_use = self
            .transactions
            .as_ref()
            .map_or(0, |transactions| transactions.slots.in_use());
        failure::broker(format!(
            "topic `{}`: all {in_use} transactional ids of this subtask hold transactions that no \
             completed checkpoint has committed yet; too many checkpoints or savepoints were taken \
             since the last completed checkpoint",
            self.destination.topic
        ))
    }

    fn try_write(&mut self, batch: &Batch) -> Result<u64> {
        self.open()?;
        let Some(Current { made, written }) = &mut self.current else {
            return Err(failure::broker("there is no producer"));
        };
        let written = begin(made, written, &self.clock)?;
        let records = self.rows.of(batch.records())?;
        self.destination.note_written(records.largest());
        let partition = self.partitioning.next(&made.partitions);
        let mut wait = Wait::new(&self.destination);
        let producer = &mut made.producer;
        let wait_for_room = |producer: &Producer| wait.for_room(producer);
        let produced = if records.has_beside() {
            producer.produce_each(partition, records.iter_full(), wait_for_room)
        } else {
            producer.produce(partition, records.iter(), wait_for_room)
        };
        self.waited += wait.waited();
        produced.map_err(|error| match error {
            Enqueue::GaveUp(failure) => failure,
            Enqueue::Refused(error) => {
                // Why an instance takes no records is in its news.
                let reason = self.destination.check(producer);
                reason
                    .err()
                    .unwrap_or_else(|| self.destination.refused(error.code, &error.text))
            }
        })?;
        let count = u64::try_from(records.len()).unwrap_or(0);
        written.records += count;
        self.bytes += u64::try_from(records.bytes()).unwrap_or(0);
        producer.poll(Duration::ZERO);
        self.destination.check(producer)?;
        Ok(count)
    }

    fn try_prepare(&mut self, checkpoint: CheckpointId) -> Result<Vec<Committable>> {
        let written = self
            .current
            .as_mut()
            .and_then(|current| current.written.take());
        let (Some(written), Some(current)) = (written, self.current.as_mut()) else {
            self.note_snapshot(None);
            return Ok(Vec::new());
        };
        let mut wait = Wait::new(&self.destination);
        wait.for_delivery(&current.made.producer)?;
        self.waited += wait.waited();
        fail::fail_point!("kafka-sink::flushed", |_| std::process::abort());
        let Some(identity) = current.made.identity.clone() else {
            self.refresh_partitions();
            return Ok(Vec::new());
        };
        self.note_snapshot(Some(identity.name.slot));
        if let Some(current) = self.current.take() {
            self.maker.end(current.made.producer);
        }
        let timeout_ms = self
            .transactions
            .as_ref()
            .map_or(0, |transactions| transactions.timeout_ms);
        let prepared = Prepared {
            transactional_id: identity.name.id,
            producer_id: identity.producer_id,
            epoch: identity.epoch,
            topic: self.destination.topic.clone(),
            topic_id: identity.topic_id,
            started_at: written.since,
            timeout_ms,
            cluster: Some(identity.cluster).filter(|id| !id.is_empty()),
        };
        Ok(vec![prepared.committable(checkpoint, written.records)])
    }

    fn note_snapshot(&mut self, slot: Option<u32>) {
        if let Some(transactions) = &mut self.transactions {
            transactions.slots.snapshot(slot);
        }
    }

    /// A writer without transactions keeps its producer, so it must look for partitions itself.
    fn refresh_partitions(&mut self) {
        if let (Some(found), Some(current)) = (self.maker.partitions(), &mut self.current) {
            current.made.partitions = found;
        }
        let now = self.clock.monotonic();
        if now.saturating_sub(self.partitioning.refreshed_at) >= PARTITIONS_REFRESH {
            self.partitioning.refreshed_at = now;
            self.maker.find_partitions();
        }
    }

    /// Keeps a failure: what is lost now would be missing from every later checkpoint.
    fn keep<T>(&mut self, result: Result<T>) -> Result<T> {
        if let Err(failure) = &result {
            self.failed.get_or_insert_with(|| failure.clone());
        }
        result
    }

    fn check(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }
}

impl SinkWriter for KafkaWriter {
    fn write(&mut self, batch: &Batch) -> Result<u64> {
        self.check()?;
        if batch.rows() == 0 {
            return Ok(0);
        }
        let result = self.try_write(batch);
        self.keep(result)
    }

    fn prepare(&mut self, checkpoint: CheckpointId) -> Result<Vec<Committable>> {
        self.check()?;
        let result = self.try_prepare(checkpoint);
        self.keep(result)
    }

    fn committed(&mut self, committables: &[Committable]) {
        if let Some(transactions) = &mut self.transactions {
            transactions.committed(committables);
        }
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn waited(&self) -> Duration {
        self.waited
    }
}

/// Begins a transaction, if that is how it writes and none is open.
fn begin<'a>(
    made: &Made,
    written: &'a mut Option<Written>,
    clock: &SystemClock,
) -> Result<&'a mut Written> {
    if written.is_none() && made.identity.is_some() {
        made.producer
            .begin_transaction()
            .map_err(|error| failure::broker(format!("no transaction can begin: {error}")))?;
    }
    Ok(written.get_or_insert_with(|| Written {
        since: clock.now(),
        records: 0,
    }))
}

impl Transactions {
    fn new(options: &KafkaSink, cx: &WriterContext) -> Self {
        let prefix = options.transactional_id_prefix.as_deref();
        Self {
            names: TransactionNames::new(prefix, &cx.job, &cx.uid).in_chain(cx.lineage.as_ref()),
            cx: cx.clone(),
            timeout_ms: options.transaction_timeout.millis(),
            slots: Slots::new(SLOTS),
            ids: BTreeMap::new(),
        }
    }

    fn next_name(&mut self) -> Option<SlotName> {
        let slot = self.slots.take()?;
        let id = self.names.id(self.cx.attempt, self.cx.subtask, slot);
        self.ids.insert(id.clone(), slot);
        Some(SlotName { slot, id })
    }

    fn committed(&mut self, committables: &[Committable]) {
        // A committable of another attempt or subtask was resolved before this writer was made.
        let mut slots: Vec<u32> = Vec::new();
        for one in committables {
            match Prepared::read(one) {
                Ok(prepared) => slots.extend(self.ids.get(&prepared.transactional_id)),
                // It was committed, by whoever could read it; only its id cannot be used again.
                Err(failure) => tracing::warn!(
                    uid = %self.cx.uid,
                    %failure,
                    "a committed transaction cannot be read, so its transactional id stays taken"
                ),
            }
        }
        self.slots.committed(&slots);
    }
}

fn is_timestamp(column: &SinkMetadata) -> bool {
    column.to == WritableMetadata::Timestamp
}

impl Partitioning {
    /// The partition for the next batch; `None` if every record has its own.
    fn next(&mut self, partitions: &[i32]) -> Option<i32> {
        if self.is_per_record || partitions.is_empty() {
            return None;
        }
        let partition = partitions[self.turn % partitions.len()];
        self.turn = self.turn.wrapping_add(1);
        Some(partition)
    }
}
