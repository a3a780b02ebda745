//! A sink connector for the broker, with the rules of the real one: an id of its own for every
//! transaction that is open or listed, named by the attempt; commits by whoever has the list.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use futures::FutureExt;
use futures::future::BoxFuture;
use millstream_connect::{
    CommitOutcome, Lingering, Result, SinkCommitter, SinkConnector, SinkWriter, Standing,
    WriterContext,
};
use millstream_connectors::kafka::SimulatedSlots;
use millstream_types::{
    Attempt, Batch, CheckpointId, Committable, ErrorCode, ErrorKind, Failure, JobId, Opaque,
    OperatorUid, Timestamp,
};

use crate::broker::{Done, Producer, Record, Stand};
use crate::keyed;
use crate::scenario::{EPOCH, TRANSACTION_TIMEOUT};
use crate::source::unreachable;
use crate::world::{Millis, ProcessId, Service, State, World};

/// Ids that a subtask may use in one attempt.
const SLOTS: u32 = 16;

/// A sink as one process has it.
#[derive(Debug, Clone)]
pub(crate) struct Sink {
    pub(crate) world: Arc<World>,
    pub(crate) process: ProcessId,
    pub(crate) topic: String,
    pub(crate) partitions: u32,
}

impl SinkConnector for Sink {
    fn writer(&self, cx: WriterContext) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(Writer {
            sink: self.clone(),
            stem: format!("{}-{}-{}", cx.uid, cx.attempt, cx.subtask),
            slots: SimulatedSlots::new(SLOTS),
            open: None,
            updates: cx.changelog.updates(),
        }))
    }

    fn committer(&self, _: &JobId, _: &OperatorUid) -> Result<Option<Arc<dyn SinkCommitter>>> {
        Ok(Some(Arc::new(self.clone())))
    }
}

struct Open {
    slot: u32,
    producer: Producer,
    began: Millis,
    records: u64,
}

struct Writer {
    sink: Sink,
    stem: String,
    slots: SimulatedSlots,
    open: Option<Open>,
    /// Whether the newest record of a key is what holds.
    updates: bool,
}

/// The records of a batch that has nothing else.
fn appended(batch: &Batch) -> Vec<Record> {
    let column = |name: &str| {
        let column = batch.records().column_by_name(name);
        column.map(|column| column.as_primitive::<Int64Type>().values().to_vec())
    };
    let splits = column("split").unwrap_or_default();
    let sequences = column("seq").unwrap_or_default();
    let places = splits.into_iter().zip(sequences);
    places
        .map(|(split, sequence)| Record { split, sequence })
        .collect()
}

impl Writer {
    fn begin(&mut self, state: &mut State) -> Result<&mut Open> {
        if self.open.is_none() {
            let free = self.slots.take();
            let slot = free.ok_or_else(|| unreachable("no transactional id is free".to_owned()))?;
            let id = format!("{}-{slot}", self.stem);
            self.open = Some(Open {
                slot,
                producer: state.broker.init(&id, TRANSACTION_TIMEOUT),
                began: state.now,
                records: 0,
            });
        }
        self.open.as_mut().ok_or_else(|| unreachable(String::new()))
    }
}

impl SinkWriter for Writer {
    fn write(&mut self, batch: &Batch) -> Result<u64> {
        let world = Arc::clone(&self.sink.world);
        let mut state = world.lock();
        let (topic, partitions) = (self.sink.topic.clone(), self.sink.partitions);
        if !state.reaches(self.sink.process, Service::Broker) {
            return Err(unreachable("records cannot be delivered".to_owned()));
        }
        let records = if self.updates {
            keyed::upserts(batch.records())
        } else {
            appended(batch)
        };
        let now = state.now;
        let open = self.begin(&mut state)?;
        let count = records.len();
        for record in records {
            let partition = u32::try_from(record.split).unwrap_or_default() % partitions;
            let written = state
                .broker
                .write(&open.producer, (&topic, partition), record, now);
            if let Err(refusal) = written {
                state.coverage.reached("broker: a writer is fenced");
                return Err(unreachable(format!("{}: {refusal:?}", open.producer.id)));
            }
            open.records += 1;
        }
        Ok(u64::try_from(count).unwrap_or(u64::MAX))
    }

    fn prepare(&mut self, checkpoint: CheckpointId) -> Result<Vec<Committable>> {
        let world = Arc::clone(&self.sink.world);
        let mut state = world.lock();
        self.slots
            .snapshot(self.open.as_ref().map(|open| open.slot));
        let Some(open) = self.open.take() else {
            return Ok(Vec::new());
        };
        if !state.reaches(self.sink.process, Service::Broker) {
            return Err(unreachable(
                "the last records cannot be delivered".to_owned(),
            ));
        }
        let named = name_of(&open.producer, open.began);
        state.note(format_args!(
            "prepared for {checkpoint}: {named}, {} records",
            open.records
        ));
        Ok(vec![Committable {
            checkpoint,
            transaction: Opaque(named),
            records: open.records,
        }])
    }

    fn committed(&mut self, committables: &[Committable]) {
        let slot = |committable: &Committable| {
            let (producer, _) = producer_of(committable)?;
            let number = producer.id.strip_prefix(&self.stem)?.strip_prefix('-')?;
            number.parse().ok()
        };
        let slots: Vec<u32> = committables.iter().filter_map(slot).collect();
        self.slots.committed(&slots);
    }

    fn bytes(&self) -> u64 {
        0
    }
}

fn name_of(producer: &Producer, began: Millis) -> String {
    let Producer { id, number, epoch } = producer;
    format!("{id}|{number}|{epoch}|{began}")
}

/// Who has prepared a committable, and when it was begun.
fn producer_of(committable: &Committable) -> Option<(Producer, Millis)> {
    let mut parts = committable.transaction.0.split('|');
    let id = parts.next()?.to_owned();
    let number = parts.next()?.parse().ok()?;
    let epoch = parts.next()?.parse().ok()?;
    let began = parts.next()?.parse().ok()?;
    Some((Producer { id, number, epoch }, began))
}

impl Sink {
    async fn commit_one(&self, committable: &Committable) -> CommitOutcome {
        let Some((producer, _)) = producer_of(committable) else {
            return CommitOutcome::Lost(lost("it cannot be read"));
        };
        let name = format!("commit {}", committable.transaction.0);
        let named = committable.transaction.0.clone();
        let asked = self
            .world
            .ask(self.process, Service::Broker, name, move |state| {
                commit(state, &producer, &named)
            });
        match asked.await {
            Ok(outcome) => outcome,
            Err(why) => CommitOutcome::Retry(unreachable(why)),
        }
    }

    async fn look_up_one(&self, committable: &Committable) -> Standing {
        let Some((producer, _)) = producer_of(committable) else {
            return Standing::Unknown(lost("it cannot be read"));
        };
        let name = format!("look up {}", committable.transaction.0);
        let asked = self
            .world
            .ask(self.process, Service::Broker, name, move |state| {
                stands(state, &producer)
            });
        asked
            .await
            .unwrap_or_else(|why| Standing::Unknown(unreachable(why)))
    }
}

fn commit(state: &mut State, producer: &Producer, named: &str) -> CommitOutcome {
    match state.broker.end(producer, true) {
        Ok(Done::Now) => {
            if !state.store.decided_names(named) {
                let fault = format!("{named} is committed and no decided checkpoint lists it");
                state.violations.push(fault);
            }
            CommitOutcome::Committed
        }
        Ok(Done::Before) => {
            state.coverage.reached("broker: a commit is repeated");
            CommitOutcome::Committed
        }
        Err(_) => {
            state.coverage.reached("broker: a commit comes too late");
            match stands(state, producer) {
                Standing::Committed => CommitOutcome::Committed,
                Standing::Aborted(failure) => CommitOutcome::Aborted(failure),
                Standing::Open | Standing::Unknown(_) => {
                    CommitOutcome::Lost(lost("its id is another's"))
                }
            }
        }
    }
}

fn stands(state: &State, producer: &Producer) -> Standing {
    let Some((number, epoch, stand)) = state.broker.describe(&producer.id) else {
        return Standing::Unknown(lost("the broker does not know its id"));
    };
    let aborted = Standing::Aborted(lost("it was aborted"));
    match stand {
        _ if number != producer.number => Standing::Unknown(lost("its id is another's")),
        Some(Stand::Open) if epoch == producer.epoch => Standing::Open,
        Some(Stand::Committed) if epoch == producer.epoch => Standing::Committed,
        Some(Stand::Aborted) if epoch == producer.epoch => aborted,
        // The broker has given it up.
        Some(Stand::Aborted) if epoch == producer.epoch + 1 => aborted,
        _ => Standing::Unknown(lost("its id is used anew")),
    }
}

impl SinkCommitter for Sink {
    fn preflight(&self, _: bool) -> BoxFuture<'_, Result<()>> {
        async { Ok(()) }.boxed()
    }

    fn reservations(&self) -> BoxFuture<'_, Result<Vec<String>>> {
        async { Ok(vec![format!("kafka/{}", self.topic)]) }.boxed()
    }

    fn commit<'a>(&'a self, committables: &'a [Committable]) -> BoxFuture<'a, Vec<CommitOutcome>> {
        async move {
            let mut outcomes = Vec::new();
            for committable in committables {
                outcomes.push(self.commit_one(committable).await);
            }
            outcomes
        }
        .boxed()
    }

    fn at_risk(&self, committables: &[Committable], now: Timestamp) -> Vec<Committable> {
        let is_late = |committable: &&Committable| {
            let began = producer_of(committable).map_or(0, |(_, began)| began);
            now.0 > EPOCH + began + TRANSACTION_TIMEOUT / 2
        };
        committables.iter().filter(is_late).cloned().collect()
    }

    fn look_up<'a>(&'a self, committables: &'a [Committable]) -> BoxFuture<'a, Vec<Standing>> {
        async move {
            let mut standings = Vec::new();
            for committable in committables {
                standings.push(self.look_up_one(committable).await);
            }
            standings
        }
        .boxed()
    }

    fn family(&self) -> BoxFuture<'_, Result<Option<Opaque>>> {
        async { Ok(Some(Opaque(self.topic.clone()))) }.boxed()
    }

    fn reaches<'a>(&'a self, family: &'a Opaque) -> BoxFuture<'a, Result<bool>> {
        async { Ok(family.0 == self.topic) }.boxed()
    }

    fn abort_lingering<'a>(&'a self, lingering: &'a Lingering) -> BoxFuture<'a, Result<u64>> {
        async move {
            let mut aborted = 0;
            for (attempt, parallelism) in &lingering.attempts {
                for subtask in 0..*parallelism {
                    aborted += self.abort_of(*attempt, subtask, lingering).await?;
                }
            }
            Ok(aborted)
        }
        .boxed()
    }
}

impl Sink {
    /// Aborts what one subtask of an attempt has left open.
    async fn abort_of(&self, attempt: Attempt, subtask: u32, of: &Lingering) -> Result<u64> {
        let stem = format!("{}-{attempt}-{subtask}", self.topic);
        let kept = of.keep.iter().filter_map(producer_of);
        let kept: Vec<String> = kept.map(|(producer, _)| producer.id).collect();
        let only_open = of.only_open;
        let name = format!("abort what {stem} has left");
        let asked = self
            .world
            .ask(self.process, Service::Broker, name, move |state| {
                let mut aborted = 0;
                for slot in 0..SLOTS {
                    let id = format!("{stem}-{slot}");
                    let stand = state.broker.describe(&id).and_then(|(_, _, stand)| stand);
                    let is_open = stand == Some(Stand::Open);
                    if kept.contains(&id) || (only_open && !is_open) {
                        continue;
                    }
                    aborted += u64::from(is_open);
                    state.broker.init(&id, TRANSACTION_TIMEOUT);
                }
                if aborted > 0 {
                    state
                        .coverage
                        .reached("broker: an older attempt's transaction is aborted");
                }
                aborted
            });
        asked.await.map_err(unreachable)
    }
}

fn lost(why: &str) -> Failure {
    Failure::new(ErrorCode::KafkaTransactionLost, ErrorKind::DataLoss, why)
}
