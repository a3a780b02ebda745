//! What a seed stands for: a job, its input, who runs it, and what goes wrong.

use std::collections::BTreeMap;

use crate::keyed::{AGGREGATES, COUNTS, SPREAD, of_sink};
use crate::random::Random;
use crate::source::{Split, Topic};
use crate::world::Millis;

/// The wall clock, milliseconds, when a simulation begins.
pub(crate) const EPOCH: Millis = 1_800_000_000_000;
/// How long the broker keeps a transaction open.
pub(crate) const TRANSACTION_TIMEOUT: Millis = 40_000;
/// How long faults may happen.
const FAULTS_UNTIL: Millis = 9_000;
/// How long after that a job may take to be done. Longer than transactions may be open.
pub(crate) const PATIENCE: Millis = 150_000;

/// How often requests and messages fare badly, in ten thousand.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rates {
    pub(crate) request_lost: u64,
    pub(crate) answer_lost: u64,
    pub(crate) late: u64,
    pub(crate) crash: u64,
    pub(crate) message_lost: u64,
    pub(crate) message_twice: u64,
    pub(crate) message_slow: u64,
}

/// Something that goes wrong, or that somebody does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    CrashCoordinator,
    CrashWorker,
    FreezeCoordinator,
    FreezeWorker,
    CutWorker,
    HalfCutWorker,
    WorkerApart,
    CoordinatorApart,
    StoreDown,
    StoreSlow,
    BrokerDown,
    BrokerSlow,
    /// Longer than transactions may be open.
    BrokerAway,
    Leave,
    Savepoint,
    Rescale,
    SecondCoordinator,
    StopWithSavepoint,
}

const KINDS: &[Kind] = &[
    Kind::CrashCoordinator,
    Kind::CrashCoordinator,
    Kind::CrashWorker,
    Kind::CrashWorker,
    Kind::FreezeCoordinator,
    Kind::FreezeCoordinator,
    Kind::FreezeWorker,
    Kind::FreezeWorker,
    Kind::CutWorker,
    Kind::HalfCutWorker,
    Kind::WorkerApart,
    Kind::CoordinatorApart,
    Kind::StoreDown,
    Kind::StoreSlow,
    Kind::BrokerDown,
    Kind::BrokerSlow,
    Kind::Leave,
    Kind::Savepoint,
    Kind::Rescale,
    Kind::SecondCoordinator,
    Kind::StopWithSavepoint,
];

#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) at: Millis,
    pub(crate) kind: Kind,
    pub(crate) lasts: Millis,
    /// Which of several.
    pub(crate) pick: u64,
}

/// How records flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A source and a sink in one task.
    Straight,
    /// A transform in between, each in a task of its own.
    Unchained,
    /// Two sinks.
    Fork,
    /// Two sources whose records come together in a task of its own.
    Union,
    /// The same, and all records of a split go to one of several subtasks.
    Keyed,
    /// The same, counted and summed by [`key`](crate::keyed), and the counts counted.
    Counts,
}

#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) variant: Variant,
    pub(crate) shape: Shape,
    /// Before and after a rescale.
    pub(crate) parallelism: [u32; 2],
    pub(crate) workers: u32,
    pub(crate) slots: u32,
    pub(crate) is_bounded: bool,
    splits: u64,
    checkpoint: &'static str,
    pub(crate) rates: Rates,
    pub(crate) crashes: u32,
    pub(crate) faults: Vec<Fault>,
    pub(crate) healed_at: Millis,
    /// Most that a worker's clock is wrong.
    pub(crate) skew: Millis,
    /// How many steps of tasks take long, in ten thousand.
    pub(crate) slow_steps: u64,
}

const SHAPES: &[Shape] = &[
    Shape::Straight,
    Shape::Unchained,
    Shape::Fork,
    Shape::Union,
    Shape::Keyed,
];

const CHECKPOINTS: &[&str] = &[
    "interval: 300ms, timeout: 3s, tolerableFailures: 3, minPause: 0s",
    "interval: 500ms, timeout: 2s, tolerableFailures: 0, minPause: 100ms",
    "interval: 200ms, timeout: 4s, tolerableFailures: 10, minPause: 0s, maxConcurrent: 3",
];

/// Barriers overtake at once, soon, and only where a task is slow.
const UNALIGNED: &[&str] = &[
    "interval: 300ms, timeout: 3s, tolerableFailures: 3, minPause: 0s, alignedTimeout: 0s",
    "interval: 400ms, timeout: 2s, tolerableFailures: 2, minPause: 50ms, alignedTimeout: 20ms",
    "interval: 200ms, timeout: 4s, tolerableFailures: 10, minPause: 0s, alignedTimeout: 150ms",
];

/// How jobs are made of seeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    Any,
    Keyed,
    Unaligned,
}

impl Scenario {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let shape = random.pick(SHAPES).unwrap_or(Shape::Straight);
        let parallelism = u32_of(random.between(1, 3));
        let workers = match shape {
            // Records go to other subtasks within a worker only.
            Shape::Keyed => 1,
            _ => u32_of(random.between(1, 3)),
        };
        let rescaled = u32_of(random.between(1, 3));
        let most = parallelism.max(rescaled);
        let faults = faults(&mut random.fork());
        let is_away = faults.iter().any(|fault| fault.kind == Kind::BrokerAway);
        Self {
            seed,
            shape,
            parallelism: [parallelism, rescaled],
            workers,
            slots: most.div_ceil(workers) + u32_of(random.below(2)),
            is_bounded: random.chance(6_000),
            splits: random.between(1, 4),
            checkpoint: random.pick(CHECKPOINTS).unwrap_or(CHECKPOINTS[0]),
            rates: rates(&mut random.fork()),
            crashes: u32_of(random.below(4)),
            faults,
            healed_at: if is_away {
                FAULTS_UNTIL + TRANSACTION_TIMEOUT + 20_000
            } else {
                FAULTS_UNTIL
            },
            skew: random.below(1_500),
            slow_steps: 100,
            variant: Variant::Any,
        }
    }

    /// A keyed job, which keeps state: as the other jobs of a seed, with more to be dealt out anew.
    pub(crate) fn keyed(seed: u64) -> Self {
        let mut scenario = Self::new(seed);
        let mut random = Random::new(seed ^ 0x6b65_7973);
        scenario.shape = Shape::Counts;
        scenario.variant = Variant::Keyed;
        scenario.workers = 1;
        let most = scenario.parallelism[0].max(scenario.parallelism[1]);
        scenario.slots = most + u32_of(random.below(2));
        for kind in [Kind::Rescale, Kind::StoreDown, Kind::CrashWorker] {
            if random.chance(5_000) {
                scenario.faults.push(Fault {
                    at: random.between(500, FAULTS_UNTIL - 500),
                    kind,
                    lasts: random.between(100, 1_500),
                    pick: random.next(),
                });
            }
        }
        scenario.faults.sort_by_key(|fault| fault.at);
        scenario
    }

    /// A keyed job whose barriers overtake, and whose tasks are slow at times, so that there is something to
    /// overtake. Half of these jobs count, the others only spread their records by key.
    pub(crate) fn unaligned(seed: u64) -> Self {
        let mut scenario = Self::keyed(seed);
        let mut random = Random::new(seed ^ 0x6f76_6572);
        scenario.variant = Variant::Unaligned;
        if random.chance(5_000) {
            scenario.shape = Shape::Keyed;
        }
        scenario.checkpoint = random.pick(UNALIGNED).unwrap_or(UNALIGNED[0]);
        scenario.slow_steps = random.between(100, 2_000);
        scenario
    }

    /// Whether all tasks must be in one worker.
    pub(crate) fn is_in_one_worker(&self) -> bool {
        matches!(self.shape, Shape::Keyed | Shape::Counts)
    }

    pub(crate) fn sinks(&self) -> &'static [&'static str] {
        match self.shape {
            Shape::Straight | Shape::Unchained | Shape::Union | Shape::Keyed => &["out"],
            Shape::Fork => &["out", "other"],
            Shape::Counts => &[COUNTS, SPREAD],
        }
    }

    pub(crate) fn sources(&self) -> &'static [&'static str] {
        match self.shape {
            Shape::Straight | Shape::Unchained | Shape::Fork => &["numbers"],
            Shape::Union | Shape::Keyed | Shape::Counts => &["numbers", "others"],
        }
    }

    pub(crate) fn topics(&self, random: &mut Random) -> BTreeMap<String, Topic> {
        let sources = (0..).zip(self.sources());
        sources
            .map(|(position, source)| {
                let splits = (0..self.splits).map(|number| {
                    let is_late = !self.is_bounded && number > 0 && random.chance(5_000);
                    let number = position * self.splits + number;
                    Split {
                        topic: source,
                        number: i64::try_from(number).unwrap_or_default(),
                        records: i64::try_from(random.between(5, 60)).unwrap_or_default(),
                        appears: if is_late {
                            random.between(500, 6_000)
                        } else {
                            0
                        },
                        gap: random.between(20, 200),
                    }
                });
                let topic = Topic {
                    splits: splits.collect(),
                    is_bounded: self.is_bounded,
                };
                ((*source).to_owned(), topic)
            })
            .collect()
    }

    /// The job file at one of its parallelisms.
    pub(crate) fn job(&self, parallelism: u32) -> String {
        let chaining = self.shape != Shape::Unchained;
        let source = |name: &&str| {
            format!(
                "{{name: {name}, kafka: {{bootstrapServers: 'broker:9092', topics: [{name}]}}, \
                 format: {{json: {{}}}}, schema: [{{name: split, type: int64, nullable: false}}, \
                 {{name: seq, type: int64, nullable: false}}]}}"
            )
        };
        let sources: Vec<String> = self.sources().iter().map(source).collect();
        let input = if self.shape == Shape::Straight {
            "numbers"
        } else {
            "even"
        };
        let input = |sink| {
            if self.shape == Shape::Counts {
                of_sink(sink)
            } else {
                input
            }
        };
        let sinks: Vec<String> = self
            .sinks()
            .iter()
            .map(|sink| format!("{{name: {sink}, input: {}, blackhole: {{}}}}", input(sink)))
            .collect();
        let union = "inputs: [numbers, others], sql: 'SELECT split, seq FROM numbers UNION ALL \
                     SELECT split, seq FROM others'";
        let filter = "input: numbers, sql: 'SELECT split, seq FROM numbers WHERE seq >= 0'";
        let transforms = match self.shape {
            Shape::Straight => String::new(),
            Shape::Unchained | Shape::Fork => format!("{{name: even, {filter}}}"),
            Shape::Union => format!("{{name: even, {union}}}"),
            Shape::Keyed => format!("{{name: even, partitionBy: [split], {union}}}"),
            Shape::Counts => format!("{{name: even, {union}}}, {AGGREGATES}"),
        };
        format!(
            "apiVersion: millstream.dev/v1alpha1\n\
             kind: StreamJob\n\
             metadata: {{name: simulated}}\n\
             spec:\n  \
             parallelism: {parallelism}\n  \
             {groups}operatorChaining: {chaining}\n  \
             checkpoint: {{storage: \"file:///simulated\", {checkpoint}}}\n  \
             restart: {{exponentialDelay: {{initial: 100ms, max: 400ms}}}}\n  \
             dataflow:\n    \
             sources: [{sources}]\n    \
             transforms: [{transforms}]\n    \
             sinks: [{sinks}]\n",
            // So few that each has keys.
            groups = if self.shape == Shape::Counts {
                "maxParallelism: 8\n  "
            } else {
                ""
            },
            checkpoint = self.checkpoint,
            sources = sources.join(", "),
            sinks = sinks.join(", "),
        )
    }

    /// Whether transactions may be open for longer than the broker allows.
    pub(crate) fn may_time_out(&self) -> bool {
        let mut kinds = self.faults.iter().map(|fault| fault.kind);
        kinds.any(|kind| kind == Kind::BrokerAway)
    }

    /// The same without some of its faults.
    pub(crate) fn keeping(mut self, keep: &[usize]) -> Self {
        let mut number = 0;
        self.faults.retain(|_| {
            number += 1;
            keep.contains(&(number - 1))
        });
        self
    }
}

fn rates(random: &mut Random) -> Rates {
    // Half of the kinds are left out of each run, so that the others meet what they would hide.
    let mut rate = |most: u64| {
        if random.chance(5_000) {
            random.between(1, most)
        } else {
            0
        }
    };
    Rates {
        request_lost: rate(300),
        answer_lost: rate(300),
        late: rate(300),
        crash: rate(100),
        message_lost: rate(200),
        message_twice: rate(500),
        message_slow: rate(500),
    }
}

fn faults(random: &mut Random) -> Vec<Fault> {
    let count = random.below(6);
    let kinds: Vec<Kind> = KINDS
        .iter()
        .copied()
        .filter(|_| random.chance(5_000))
        .collect();
    let mut faults: Vec<Fault> = (0..count)
        .filter_map(|_| {
            Some(Fault {
                at: random.between(100, FAULTS_UNTIL - 500),
                kind: random.pick(&kinds)?,
                lasts: random.between(50, 6_000),
                pick: random.next(),
            })
        })
        .collect();
    if random.chance(400) {
        faults.push(Fault {
            at: random.between(500, FAULTS_UNTIL),
            kind: Kind::BrokerAway,
            lasts: TRANSACTION_TIMEOUT + random.below(15_000),
            pick: random.next(),
        });
    }
    faults.sort_by_key(|fault| fault.at);
    faults
}

fn u32_of(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
