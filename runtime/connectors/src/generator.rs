//! Orders made from a seed: a source without anything outside.
//!
//! Every order is a pure function of the seed and its index. The splits share the indices: split
//! `s` of `n` makes `s`, `s + n`, `s + 2n` …, and its position is the index it makes next. So what
//! all splits have made by some checkpoint is a set of orders that nothing else depends on.

mod orders;
mod pace;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_schema::SchemaRef;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use millstream_connect::{
    Discovery, Polled, ReaderContext, Result, SourceConnector, SourceOutput, SourceReader,
    SplitEnumerator, SplitRun,
};
use millstream_spec::ValidSource;
use millstream_spec::connector::GeneratorSource;
use millstream_types::batch::MAX_BATCH_ROWS;
use millstream_types::snapshot::Counters;
use millstream_types::{Batch, ErrorCode, ErrorKind, Failure, Opaque, SplitState};
use serde::{Deserialize, Serialize};

use orders::Orders;
use pace::Pace;

/// Fewest rows that a limited rate waits for, as a part of a second.
const RATE_GRAIN: u64 = 100;

/// The `generator` source.
pub fn source(spec: &Arc<ValidSource>, options: &GeneratorSource) -> Arc<dyn SourceConnector> {
    Arc::new(Generator {
        name: spec.name.clone(),
        options: options.clone(),
    })
}

#[derive(Debug)]
struct Generator {
    name: String,
    options: GeneratorSource,
}

impl SourceConnector for Generator {
    fn enumerator(&self) -> Result<Box<dyn SplitEnumerator>> {
        Ok(Box::new(Enumerator {
            name: self.name.clone(),
            options: self.options.clone(),
        }))
    }

    fn reader(&self, cx: ReaderContext) -> Result<Box<dyn SourceReader>> {
        Ok(Box::new(Reader::new(self, &cx.schema)?))
    }
}

/// Where a split stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Position {
    /// Index of the order that it makes next.
    next: u64,
    /// Number of splits that share the indices.
    splits: u32,
}

/// The options that decide which orders there are and who makes them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    seed: u64,
    rows: Option<u64>,
    invalid_ratio: f64,
    customers: u64,
    splits: u32,
}

impl From<&GeneratorSource> for Identity {
    fn from(options: &GeneratorSource) -> Self {
        Self {
            seed: options.seed,
            rows: options.rows,
            invalid_ratio: options.invalid_ratio,
            customers: options.customers,
            splits: options.splits,
        }
    }
}

#[derive(Debug)]
struct Enumerator {
    name: String,
    options: GeneratorSource,
}

impl SplitEnumerator for Enumerator {
    fn discover<'a>(
        &'a mut self,
        known: &'a BTreeSet<String>,
        _first: bool,
    ) -> BoxFuture<'a, Result<Discovery>> {
        let splits = self.options.splits;
        let names = (0..splits).map(|index| (index, index.to_string()));
        let found = names.filter(|(_, name)| !known.contains(name));
        let found = found.map(|(index, split)| {
            let next = u64::from(index);
            Ok(SplitState {
                split,
                position: opaque(&self.name, &Position { next, splits })?,
                records: 0,
                finished: self.options.rows.is_some_and(|rows| next >= rows),
            })
        });
        let discovery = found.collect::<Result<_>>().and_then(|splits| {
            let identity = opaque(&self.name, &Identity::from(&self.options))?;
            Ok(Discovery {
                splits,
                identity: Some(identity),
            })
        });
        std::future::ready(discovery).boxed()
    }

    fn verify<'a>(&'a mut self, identity: &'a Opaque) -> BoxFuture<'a, Result<()>> {
        std::future::ready(self.check(identity)).boxed()
    }

    fn interval(&self) -> Option<Duration> {
        None
    }

    fn is_local(&self) -> bool {
        true
    }
}

impl Enumerator {
    fn check(&self, identity: &Opaque) -> Result<()> {
        let now = opaque(&self.name, &Identity::from(&self.options))?;
        if identity.0 == now.0 {
            return Ok(());
        }
        let _: Identity = parse(&self.name, identity)?;
        let message = format!(
            "source `{}`: the checkpoint was taken with the generator options {}, and the job file \
             says {}; only `rowsPerSecond` may change between restarts: put the old options back, \
             or start with `--restore fresh`",
            self.name, identity.0, now.0
        );
        Err(Failure::new(
            ErrorCode::InvalidJob,
            ErrorKind::InvalidJob,
            message,
        ))
    }
}

#[derive(Debug)]
struct Split {
    name: String,
    position: Position,
    records: u64,
    finished: bool,
}

struct Reader {
    name: String,
    options: GeneratorSource,
    orders: Orders,
    splits: Vec<Split>,
    started: Instant,
    pace: Option<Pace>,
    made: u64,
    /// How long it has waited for its pace.
    waited: Duration,
}

impl Reader {
    fn new(generator: &Generator, schema: &SchemaRef) -> Result<Self> {
        Ok(Self {
            name: generator.name.clone(),
            orders: Orders::new(&generator.name, &generator.options, schema)?,
            options: generator.options.clone(),
            splits: Vec::new(),
            started: Instant::now(),
            pace: None,
            made: 0,
            waited: Duration::ZERO,
        })
    }

    fn take_over(&self, split: SplitState) -> Result<Split> {
        let position: Position = parse(&self.name, &split.position)?;
        if position.splits == 0 {
            return Err(not_understood(&self.name, &split.position));
        }
        Ok(Split {
            name: split.split,
            position,
            records: split.records,
            finished: split.finished,
        })
    }

    /// This reader's part of `rowsPerSecond`.
    fn new_pace(&self) -> Option<Pace> {
        let all = self.options.rows_per_second?;
        let own = u64::try_from(self.splits.len()).unwrap_or(u64::MAX);
        let rate = all as f64 * own as f64 / f64::from(self.options.splits);
        Some(Pace::new(rate, self.started.elapsed()))
    }

    /// The unfinished split that is furthest behind, so that all make the same times.
    fn next_split(&self) -> Option<usize> {
        let unfinished = self
            .splits
            .iter()
            .enumerate()
            .filter(|(_, split)| !split.finished);
        unfinished
            .min_by_key(|(_, split)| split.position.next)
            .map(|(index, _)| index)
    }

    /// How many rows may be made now, after waiting for at most `timeout`.
    fn allowance(&mut self, timeout: Duration) -> usize {
        let Some(pace) = &mut self.pace else {
            return MAX_BATCH_ROWS;
        };
        match pace.allowance(self.started.elapsed()) {
            Ok(rows) => rows.min(MAX_BATCH_ROWS),
            Err(wait) => {
                crate::pause(wait.min(timeout));
                self.waited += wait.min(timeout);
                let rows = pace.allowance(self.started.elapsed());
                rows.unwrap_or_default().min(MAX_BATCH_ROWS)
            }
        }
    }

    fn make(&mut self, index: usize, most: usize) -> Result<SourceOutput> {
        let Some(split) = self.splits.get_mut(index) else {
            return Ok(SourceOutput::default());
        };
        let step = u64::from(split.position.splits);
        let end = self.options.rows.unwrap_or(u64::MAX);
        let left = end.saturating_sub(split.position.next).div_ceil(step);
        let rows = usize::try_from(left).map_or(most, |left| left.min(most));
        let records = self.orders.batch(split.position.next, step, rows)?;
        let count = u64::try_from(rows).unwrap_or(u64::MAX);
        split.position.next = split
            .position
            .next
            .saturating_add(step.saturating_mul(count));
        split.records += count;
        split.finished = split.position.next >= end;
        self.made += count;
        if let Some(pace) = &mut self.pace {
            pace.made(rows);
        }
        Ok(SourceOutput {
            batch: Some(Batch::new(records)),
            runs: vec![SplitRun { split: index, rows }],
            dead_letters: None,
        })
    }
}

impl SourceReader for Reader {
    fn add_splits(&mut self, splits: Vec<SplitState>) -> Result<()> {
        for split in splits {
            let split = self.take_over(split)?;
            self.splits.push(split);
        }
        self.pace = self.new_pace();
        Ok(())
    }

    fn poll(&mut self, timeout: Duration) -> Result<Polled> {
        let Some(index) = self.next_split() else {
            if self.splits.is_empty() {
                crate::pause(timeout);
                return Ok(Polled::Nothing);
            }
            return Ok(Polled::End);
        };
        match self.allowance(timeout) {
            0 => Ok(Polled::Nothing),
            rows => self.make(index, rows).map(Polled::Records),
        }
    }

    fn snapshot(&mut self) -> Vec<SplitState> {
        let state = |split: &Split| SplitState {
            split: split.name.clone(),
            position: Opaque(position_text(split.position)),
            records: split.records,
            finished: split.finished,
        };
        self.splits.iter().map(state).collect()
    }

    fn counters(&self) -> Counters {
        Counters {
            records_in: self.made,
            records_out: self.made,
            ..Counters::default()
        }
    }

    fn waited(&self) -> Duration {
        self.waited
    }
}

/// The same text as its JSON, which cannot fail.
fn position_text(position: Position) -> String {
    format!(
        "{{\"next\":{},\"splits\":{}}}",
        position.next, position.splits
    )
}

fn opaque(name: &str, value: &impl Serialize) -> Result<Opaque> {
    serde_json::to_string(value).map(Opaque).map_err(|error| {
        let message = format!("source `{name}`: its state cannot be written: {error}");
        Failure::new(ErrorCode::InvalidJob, ErrorKind::Internal, message)
    })
}

fn parse<'a, T: Deserialize<'a>>(name: &str, text: &'a Opaque) -> Result<T> {
    serde_json::from_str(&text.0).map_err(|_| not_understood(name, text))
}

fn not_understood(name: &str, text: &Opaque) -> Failure {
    let message = format!(
        "source `{name}`: the checkpoint has {} for it, which is no state of a generator; was the \
         node of that name another connector before?",
        text.0
    );
    Failure::new(ErrorCode::IncompatibleState, ErrorKind::InvalidJob, message)
}

#[cfg(test)]
mod tests;
