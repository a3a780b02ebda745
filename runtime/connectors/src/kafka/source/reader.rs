//! Reads partitions, on the task's thread.
//!
//! librdkafka's threads fetch ahead, bounded in bytes; the task takes what has arrived, and
//! payloads are decoded where they lie in the fetched buffers. Not polling is back-pressure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use millstream_connect::{Polled, ReaderContext, Result, SourceReader};
use millstream_spec::ValidSource;
use millstream_spec::connector::KafkaSource;
use millstream_types::batch::MAX_BATCH_ROWS;
use millstream_types::snapshot::Counters;
use millstream_types::{CheckpointId, ErrorKind, Failure, SplitState};

use super::options::consumer_options;
use super::position::Split;
use crate::decoding::{Beside, Place, RecordDecoder, Wanted};
use crate::kafka::access::Access;
use crate::kafka::failure;
use crate::kafka::ffi::{
    self, Consumer, Content, ErrorCode, Events, Message, Messages, NativeError, Problem,
};
use crate::kafka::headers;

/// How long the last question before giving up may take.
const PROBE: Duration = Duration::from_secs(1);
/// How long to ask for the range of a partition whose offset is gone.
const RANGE: Duration = Duration::from_secs(5);

/// Reader of one subtask.
pub(super) struct KafkaReader {
    source: String,
    // Messages before the consumer: they must be freed first.
    messages: Messages,
    consumer: Consumer,
    decoder: RecordDecoder,
    wanted: Wanted,
    /// Text of the last record's headers, kept for its memory.
    headers: String,
    splits: Vec<Split>,
    index: BTreeMap<String, BTreeMap<i32, usize>>,
    /// Split of the last message: messages of one partition come in runs.
    last: Option<LastSplit>,
    /// A broker has sent something since the last look.
    has_heard: bool,
    commits: Commits,
    access: Access,
    failed: Option<Failure>,
    /// How long it has waited for messages.
    waited: Duration,
}

#[derive(Debug, Clone, Copy)]
struct LastSplit {
    topic_key: usize,
    partition: i32,
    split: usize,
}

/// Offsets to commit to the group when their checkpoint completes.
#[derive(Debug, Default)]
struct Commits {
    is_wanted: bool,
    by_checkpoint: BTreeMap<CheckpointId, Vec<(usize, i64)>>,
}

impl KafkaReader {
    pub(super) fn new(
        spec: &ValidSource,
        options: &KafkaSource,
        access: Access,
        cx: &ReaderContext,
    ) -> Result<Self> {
        let fallback_group = format!("millstream.{}.{}.{}", cx.job.namespace, cx.job.name, cx.uid);
        let config = consumer_options(&access, options, &fallback_group)?;
        let events = Events::new(format!("source `{}` subtask {}", spec.name, cx.subtask));
        let consumer = Consumer::new(&config, events).map_err(|reason| Failure {
            kind: ErrorKind::InvalidJob,
            ..failure::broker(format!(
                "source `{}`: librdkafka refuses its options: {reason}. Check `properties`",
                spec.name
            ))
        })?;
        let decoder = RecordDecoder::new(spec, &cx.schema)?;
        Ok(Self {
            source: spec.name.clone(),
            waited: Duration::ZERO,
            messages: Messages::with_capacity(MAX_BATCH_ROWS),
            consumer,
            wanted: decoder.wanted(),
            headers: String::new(),
            decoder,
            splits: Vec::new(),
            index: BTreeMap::new(),
            last: None,
            has_heard: false,
            commits: Commits {
                is_wanted: options.group_id.is_some(),
                by_checkpoint: BTreeMap::new(),
            },
            access,
            failed: None,
        })
    }

    fn try_add(&mut self, states: &[SplitState]) -> Result<()> {
        let first_new = self.splits.len();
        for state in states {
            let split = Split::read(state)?;
            let partitions = self.index.entry(split.partition.topic.clone()).or_default();
            let before = partitions.insert(split.partition.partition, self.splits.len());
            if before.is_some() {
                return Err(failure::broker(format!(
                    "source `{}`: {} is assigned twice",
                    self.source, state.split
                )));
            }
            self.splits.push(split);
        }
        let unfinished: Vec<ffi::Place<'_>> = self.splits[first_new..]
            .iter()
            .filter(|split| !split.position.is_finished())
            .map(place_of)
            .collect();
        if unfinished.is_empty() {
            return Ok(());
        }
        self.consumer
            .assign(unfinished.into_iter())
            .map_err(|error| self.broken(&error))
    }

    fn try_poll(&mut self, timeout: Duration) -> Result<Polled> {
        if self.is_finished() {
            return Ok(Polled::End);
        }
        let deadline = Instant::now() + timeout;
        loop {
            if self.messages.is_empty() {
                let before = Instant::now();
                let left = deadline.saturating_duration_since(before);
                let fetched = self.consumer.fetch(&mut self.messages, left);
                self.waited += before.elapsed();
                self.check_connection()?;
                if fetched == 0 && left.is_zero() {
                    return Ok(Polled::Nothing);
                }
            }
            self.consume()?;
            if let Some(output) = self.decoder.take()? {
                return Ok(Polled::Records(output));
            }
            // What came was no row: the end of a partition, say, or records that were skipped.
            if self.is_finished() {
                return Ok(Polled::End);
            }
            if Instant::now() >= deadline {
                return Ok(Polled::Nothing);
            }
        }
    }

    /// Takes in fetched messages until there are no more or a batch is full.
    fn consume(&mut self) -> Result<()> {
        while !self.decoder.is_full() {
            let Some(message) = self.messages.next() else {
                return Ok(());
            };
            let Some(split) = find_split(&self.index, &mut self.last, &message) else {
                // Errors without a partition, and the rest of a partition that is finished.
                if let Content::Error(error) = message.content() {
                    drop(message);
                    self.tolerate(&error)?;
                }
                continue;
            };
            let state = &mut self.splits[split];
            match message.content() {
                Content::Record(payload) => {
                    self.has_heard = true;
                    let offset = message.offset();
                    // A record that is ahead of the stop or, after a hiccup, behind the position.
                    if state.position.is_finished() || offset < state.position.offset {
                        continue;
                    }
                    if state.position.stop.is_some_and(|stop| offset >= stop) {
                        state.position.offset = offset;
                        drop(message);
                        self.finish(split)?;
                        continue;
                    }
                    let place = Place {
                        split,
                        topic: &state.partition.topic,
                        partition: state.partition.partition,
                        offset,
                    };
                    let beside = beside(self.wanted, &message, &mut self.headers);
                    self.decoder.push(payload, place, beside)?;
                    state.records += 1;
                    state.position.offset = offset + 1;
                    if state.position.is_finished() {
                        drop(message);
                        self.finish(split)?;
                    }
                }
                Content::End => {
                    // The position passes what no reader sees: aborted records and markers.
                    let end = message.offset();
                    drop(message);
                    self.has_heard = true;
                    if end > state.position.offset {
                        state.position.offset = end;
                        if state.position.is_finished() {
                            self.finish(split)?;
                        }
                    }
                }
                Content::Error(error) => {
                    drop(message);
                    self.partition_error(split, &error)?;
                }
            }
        }
        Ok(())
    }

    /// Stops fetching a partition that has been read to its stop.
    fn finish(&mut self, split: usize) -> Result<()> {
        self.last = None;
        let place = place_of(&self.splits[split]);
        self.consumer
            .unassign(std::iter::once(place))
            .map_err(|error| self.broken(&error))
    }

    fn partition_error(&self, split: usize, error: &NativeError) -> Result<()> {
        let split = &self.splits[split];
        match error.code {
            ErrorCode::AutoOffsetReset | ErrorCode::OffsetOutOfRange => {
                Err(self.out_of_range(split))
            }
            ErrorCode::UnknownTopicOrPartition
            | ErrorCode::UnknownTopic
            | ErrorCode::UnknownPartition
            | ErrorCode::TopicAuthorizationFailed => Err(failure::topic_gone(
                &split.partition.topic,
                &self.access.bootstrap(),
                &error.to_string(),
            )),
            _ => self.tolerate(error),
        }
    }

    fn out_of_range(&self, split: &Split) -> Failure {
        let name = Split::name(&split.partition);
        let wanted = split.position.offset;
        let range = self
            .consumer
            .range(&split.partition.topic, split.partition.partition, RANGE);
        let available = match range {
            Ok((low, high)) => format!("the broker has offsets {low} to {high}"),
            Err(error) => format!("the broker does not say what it has: {error}"),
        };
        failure::offset_out_of_range(format!(
            "source `{}`: {name} is to be read from offset {wanted}, but {available}. Records \
             between are gone (deleted by retention or with the topic) and the job would skip them \
             or read others. Start the job afresh, or from a checkpoint whose offsets exist",
            self.source
        ))
    }

    /// Errors that librdkafka recovers from by itself. Those of the group concern commits only.
    fn tolerate(&self, error: &NativeError) -> Result<()> {
        if error.code == ErrorCode::Fatal {
            return Err(self.broken(error));
        }
        let is_connection = matches!(
            error.code,
            ErrorCode::BrokerTransportFailure
                | ErrorCode::AllBrokersDown
                | ErrorCode::OperationTimedOut
                | ErrorCode::Resolve
        );
        if is_connection {
            tracing::debug!(source = %self.source, %error, "fetching");
        } else {
            tracing::warn!(source = %self.source, %error, "fetching goes on after an error");
        }
        Ok(())
    }

    /// Fails when there has been no broker for too long.
    fn check_connection(&mut self) -> Result<()> {
        let events = self.consumer.events();
        if let Some(Problem::Fatal(error)) = events.problem() {
            return Err(self.broken(&error));
        }
        let Some(trouble) = events.trouble_for() else {
            return Ok(());
        };
        if std::mem::take(&mut self.has_heard) {
            events.heard();
            return Ok(());
        }
        let patience = self.access.connect_timeout;
        if trouble < patience {
            return Ok(());
        }
        if self.consumer.reaches_a_broker(PROBE) {
            events.answered();
            return Ok(());
        }
        Err(events.unreachable(&self.access.bootstrap(), patience))
    }

    fn broken(&self, error: &NativeError) -> Failure {
        failure::broker(format!(
            "source `{}`: reading cannot go on: {error}",
            self.source
        ))
    }

    fn is_finished(&self) -> bool {
        !self.splits.is_empty() && self.splits.iter().all(|split| split.position.is_finished())
    }

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

impl SourceReader for KafkaReader {
    fn add_splits(&mut self, splits: Vec<SplitState>) -> Result<()> {
        self.check()?;
        let result = self.try_add(&splits);
        self.keep(result)
    }

    fn poll(&mut self, timeout: Duration) -> Result<Polled> {
        self.check()?;
        let result = self.try_poll(timeout);
        self.keep(result)
    }

    fn snapshot(&mut self) -> Vec<SplitState> {
        self.splits.iter().map(Split::state).collect()
    }

    fn counters(&self) -> Counters {
        self.decoder.counters()
    }

    fn waited(&self) -> Duration {
        self.waited
    }

    fn snapshotted(&mut self, checkpoint: CheckpointId) {
        if self.commits.is_wanted {
            let offsets = self
                .splits
                .iter()
                .enumerate()
                .map(|(index, split)| (index, split.position.offset));
            self.commits
                .by_checkpoint
                .insert(checkpoint, offsets.collect());
        }
    }

    fn completed(&mut self, checkpoint: CheckpointId) {
        let later = self.commits.by_checkpoint.split_off(&checkpoint.next());
        let done = std::mem::replace(&mut self.commits.by_checkpoint, later);
        let Some(offsets) = done.get(&checkpoint) else {
            return;
        };
        let places: Vec<ffi::Place<'_>> = offsets
            .iter()
            .filter_map(|(index, offset)| {
                let split = self.splits.get(*index)?;
                Some(ffi::Place {
                    offset: *offset,
                    ..place_of(split)
                })
            })
            .collect();
        if !places.is_empty() {
            self.consumer.commit(places.into_iter());
        }
    }
}

/// What is wanted of what stands beside a record's value; `text` is where its headers are written.
fn beside<'a>(wanted: Wanted, message: &'a Message<'_>, text: &'a mut String) -> Beside<'a> {
    if !wanted.anything {
        return Beside::default();
    }
    if wanted.headers {
        headers::write(message.headers(), text);
    }
    Beside {
        key: message.key(),
        headers: text,
        timestamp_ms: message.timestamp_ms(),
    }
}

fn place_of(split: &Split) -> ffi::Place<'_> {
    ffi::Place {
        topic: &split.partition.topic,
        partition: split.partition.partition,
        offset: split.position.offset,
    }
}

fn find_split(
    index: &BTreeMap<String, BTreeMap<i32, usize>>,
    last: &mut Option<LastSplit>,
    message: &Message<'_>,
) -> Option<usize> {
    let (topic_key, partition) = (message.topic_key(), message.partition());
    if let Some(last) = last
        && last.topic_key == topic_key
        && last.partition == partition
    {
        return Some(last.split);
    }
    let split = *index.get(&message.topic())?.get(&partition)?;
    *last = Some(LastSplit {
        topic_key,
        partition,
        split,
    });
    Some(split)
}
