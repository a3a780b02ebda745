//! A topic to read from, and a source connector for it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::SchemaRef;
use futures::FutureExt;
use futures::future::BoxFuture;
use millstream_connect::{
    Discovery, Polled, ReaderContext, Result, SourceConnector, SourceOutput, SourceReader,
    SplitEnumerator, SplitRun,
};
use millstream_types::snapshot::Counters;
use millstream_types::{Batch, ErrorCode, ErrorKind, Failure, Opaque, SplitState};

use crate::world::{Millis, ProcessId, Service, World};

/// Records that one poll returns, at most.
const ROWS: i64 = 6;

/// A partition that records come into, one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Split {
    pub(crate) topic: &'static str,
    /// No other topic has it.
    pub(crate) number: i64,
    pub(crate) records: i64,
    /// When it can be found, and when its first record is there.
    pub(crate) appears: Millis,
    /// Between two records.
    pub(crate) gap: Millis,
}

impl Split {
    fn name(&self) -> String {
        format!("{}/{}", self.topic, self.number)
    }

    /// How many of its records are there.
    fn end(&self, now: Millis) -> i64 {
        let Some(since) = now.checked_sub(self.appears) else {
            return 0;
        };
        let come = i64::try_from(since / self.gap.max(1)).unwrap_or(i64::MAX);
        come.saturating_add(1).min(self.records)
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Topic {
    pub(crate) splits: Vec<Split>,
    /// No splits come later, and all end.
    pub(crate) is_bounded: bool,
}

/// A source as one process has it.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) world: Arc<World>,
    pub(crate) process: ProcessId,
    pub(crate) topic: String,
}

impl SourceConnector for Source {
    fn enumerator(&self) -> Result<Box<dyn SplitEnumerator>> {
        Ok(Box::new(self.clone()))
    }

    fn reader(&self, cx: ReaderContext) -> Result<Box<dyn SourceReader>> {
        Ok(Box::new(Reader {
            source: self.clone(),
            schema: cx.schema,
            splits: Vec::new(),
            turn: 0,
            read: 0,
        }))
    }
}

impl SplitEnumerator for Source {
    fn discover<'a>(
        &'a mut self,
        known: &'a BTreeSet<String>,
        _: bool,
    ) -> BoxFuture<'a, Result<Discovery>> {
        let topic = self.topic.clone();
        let name = format!("discover {topic}");
        let found = self
            .world
            .ask(self.process, Service::Broker, name, move |state| {
                let splits = state.topics.get(&topic).map(|topic| topic.splits.clone());
                let mut splits = splits.unwrap_or_default();
                splits.retain(|split| split.appears <= state.now);
                splits
            });
        async move {
            let found = found.await.map_err(unreachable)?;
            let names = found.iter().map(Split::name);
            let new = names.filter(|name| !known.contains(name));
            let splits = new.map(|split| SplitState {
                split,
                position: Opaque("0".to_owned()),
                records: 0,
                finished: false,
            });
            Ok(Discovery {
                splits: splits.collect(),
                identity: Some(Opaque(format!("identity of {}", self.topic))),
            })
        }
        .boxed()
    }

    fn verify<'a>(&'a mut self, identity: &'a Opaque) -> BoxFuture<'a, Result<()>> {
        assert_eq!(identity.0, format!("identity of {}", self.topic));
        async { Ok(()) }.boxed()
    }

    fn interval(&self) -> Option<Duration> {
        let state = self.world.lock();
        let is_bounded = state
            .topics
            .get(&self.topic)
            .is_some_and(|it| it.is_bounded);
        (!is_bounded).then_some(Duration::from_millis(700))
    }
}

struct Reader {
    source: Source,
    schema: SchemaRef,
    /// Each with the place of its next record.
    splits: Vec<(Split, i64)>,
    turn: usize,
    read: u64,
}

impl SourceReader for Reader {
    fn add_splits(&mut self, splits: Vec<SplitState>) -> Result<()> {
        let state = self.source.world.lock();
        let topic = state.topics.get(&self.source.topic).cloned();
        drop(state);
        let known = topic.unwrap_or_default().splits;
        for added in splits {
            let split = known.iter().find(|split| split.name() == added.split);
            let position = added.position.0.parse();
            let (Some(split), Ok(position)) = (split.cloned(), position) else {
                return Err(unreachable(format!("no such split: {}", added.split)));
            };
            self.splits.push((split, position));
        }
        Ok(())
    }

    fn poll(&mut self, _: Duration) -> Result<Polled> {
        let state = self.source.world.lock();
        let (now, reaches) = (
            state.now,
            state.reaches(self.source.process, Service::Broker),
        );
        let is_bounded = state
            .topics
            .get(&self.source.topic)
            .is_some_and(|it| it.is_bounded);
        drop(state);
        if self.splits.is_empty() || !reaches {
            return Ok(Polled::Nothing);
        }
        for _ in 0..self.splits.len() {
            self.turn = (self.turn + 1) % self.splits.len();
            let (split, position) = &mut self.splits[self.turn];
            let end = split.end(now).min(*position + ROWS);
            if end > *position {
                let rows = *position..end;
                *position = end;
                return Ok(Polled::Records(self.output(self.turn, rows)));
            }
        }
        let are_over = self.splits.iter().all(|(split, at)| *at == split.records);
        Ok(if is_bounded && are_over {
            Polled::End
        } else {
            Polled::Nothing
        })
    }

    fn snapshot(&mut self) -> Vec<SplitState> {
        let state = |(split, position): &(Split, i64)| SplitState {
            split: split.name(),
            position: Opaque(position.to_string()),
            records: u64::try_from(*position).unwrap_or_default(),
            finished: *position == split.records && self.is_bounded(),
        };
        self.splits.iter().map(state).collect()
    }

    fn counters(&self) -> Counters {
        Counters {
            records_in: self.read,
            records_out: self.read,
            ..Counters::default()
        }
    }
}

impl Reader {
    fn is_bounded(&self) -> bool {
        let state = self.source.world.lock();
        state
            .topics
            .get(&self.source.topic)
            .is_some_and(|it| it.is_bounded)
    }

    fn output(&mut self, turn: usize, rows: std::ops::Range<i64>) -> SourceOutput {
        let number = self.splits[turn].0.number;
        let count = usize::try_from(rows.end - rows.start).unwrap_or_default();
        self.read += u64::try_from(count).unwrap_or_default();
        let columns = self.schema.fields().iter().map(|field| -> ArrayRef {
            Arc::new(match field.name().as_str() {
                "split" => Int64Array::from(vec![number; count]),
                _ => rows.clone().collect(),
            })
        });
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns.collect());
        SourceOutput {
            batch: Some(Batch::new(batch.expect("the columns fit the schema"))),
            runs: vec![SplitRun {
                split: turn,
                rows: count,
            }],
            dead_letters: None,
        }
    }
}

pub(crate) fn unreachable(why: String) -> Failure {
    Failure::new(ErrorCode::KafkaUnreachable, ErrorKind::Retryable, why)
}
