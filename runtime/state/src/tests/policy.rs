//! What checkpoints write and leave behind, over many of them.

use std::ops::Range;

use millstream_types::{FileRef, Run};

use crate::breakage::Breakage;
use crate::coverage::{Held, Needed, Sequence};
use crate::policy::{Limits, Situation, plan};

const KEYS: usize = 20_000;
const GROUPS: u32 = 1_024;

/// A table without keys and values, only with what has changed when.
struct World {
    changed: Vec<Sequence>,
    row_bytes: u64,
    runs: Vec<Held>,
    sequence: Sequence,
    random: u64,
    /// Bytes of each checkpoint.
    written: Vec<u64>,
    most_runs: usize,
    /// Bytes of all files that are named, in hundredths of the state.
    most_named: u64,
}

impl World {
    /// A state of so many bytes, all of it in one run.
    fn new(bytes: u64) -> Self {
        let mut world = Self {
            changed: vec![1; KEYS],
            row_bytes: bytes / KEYS as u64,
            runs: Vec::new(),
            sequence: 1,
            random: 88_172_645_463_325_252,
            written: Vec::new(),
            most_runs: 0,
            most_named: 0,
        };
        world.checkpoint();
        world.written.clear();
        world
    }

    const fn next(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn group(key: usize) -> u32 {
        u32::try_from(key * GROUPS as usize / KEYS).unwrap()
    }

    fn live(&self) -> u64 {
        self.row_bytes * KEYS as u64
    }

    /// Changes as many keys, of the first `of`.
    fn change(&mut self, count: usize, of: usize) {
        for _ in 0..count {
            let key = usize::try_from(self.next() % of as u64).unwrap();
            self.changed[key] = self.sequence;
        }
    }

    fn checkpoint(&mut self) {
        let changed = &self.changed;
        let coverage = plan(&Situation {
            limits: Limits::default(),
            groups: 0..GROUPS,
            keys: KEYS as u64,
            settled: self.sequence - 1,
            runs: &self.runs,
            changed_since: &|since| changed.iter().filter(|it| **it >= since).count() as u64,
        });
        let Some(coverage) = coverage else {
            self.written.push(0);
            self.sequence += 1;
            return;
        };
        let is_in = |key: &usize| {
            self.changed[*key] >= coverage.since || coverage.complete.contains(&Self::group(*key))
        };
        let rows = (0..KEYS).filter(is_in).count() as u64;
        for held in &mut self.runs {
            held.needed.replace(&coverage);
        }
        self.runs.retain(|held| !held.needed.is_empty());
        let bytes = rows * self.row_bytes;
        // As it is divided into files.
        let parts = if coverage.is_complete() {
            u32::try_from((bytes >> 20).clamp(1, 8)).unwrap()
        } else {
            1
        };
        for part in 0..parts {
            let range = GROUPS * part / parts..GROUPS * (part + 1) / parts;
            let share = u64::from(parts);
            let coverage = coverage.within(&range);
            let held = held(bytes / share, rows / share, self.sequence, coverage);
            self.runs.push(held);
        }
        self.written.push(bytes);
        self.most_runs = self.most_runs.max(self.runs.len());
        let named: u64 = self.runs.iter().map(|held| held.run.file.bytes).sum();
        self.most_named = self.most_named.max(named * 100 / self.live());
        self.sequence += 1;
    }

    /// Bytes of a checkpoint in ten-thousandths of the state: on average, at the median, the most.
    fn written(&self) -> (u64, u64, u64) {
        let mut sorted: Vec<u64> = self.written.clone();
        sorted.sort_unstable();
        let part = |bytes: u64| bytes * 10_000 / self.live();
        let average = sorted.iter().sum::<u64>() / sorted.len() as u64;
        let (median, most) = (sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
        (part(average), part(median), part(most))
    }
}

fn held(bytes: u64, rows: u64, sequence: Sequence, coverage: crate::coverage::Coverage) -> Held {
    let range: Range<u32> = coverage.range.clone();
    Held {
        run: Run {
            state: String::new(),
            file: FileRef {
                path: sequence.to_string(),
                bytes,
                crc32c: 0,
            },
            range: range.into(),
            sequence: sequence.into(),
        },
        sequence,
        needed: Needed::new(&coverage),
        coverage,
        rows,
    }
}

/// After many checkpoints in which so many keys have changed, of the first `of`.
fn after(bytes: u64, changes: usize, of: usize) -> World {
    let mut world = World::new(bytes);
    for _ in 0..250 {
        world.change(changes, of);
        world.checkpoint();
    }
    let (average, median, most) = world.written();
    println!(
        "{} MiB, {changes} of {of}: average {average} median {median} most {most}, \
         {} runs, {} % named",
        bytes >> 20,
        world.most_runs,
        world.most_named
    );
    world
}

const MIB: u64 = 1 << 20;

/// Whether `value` is at most `limit`.
fn at_most(value: u64, limit: u64, what: &str) -> Result<(), String> {
    let fault = || format!("{value} {what}, at most {limit}");
    (value <= limit).then_some(()).ok_or_else(fault)
}

/// What holds when a hundredth of the keys changes between two checkpoints.
fn hundredth(bytes: u64, runs: u64) -> Result<(), String> {
    let world = after(bytes, KEYS / 100, KEYS);
    let (average, median, most) = world.written();
    at_most(average, 300, "ten-thousandths on average")?;
    at_most(world.most_runs as u64, runs, "runs")?;
    at_most(world.most_named, 205, "% named")?;
    let nobody_notices = 12 * MIB * 10_000 / bytes;
    at_most(
        most,
        nobody_notices.max(2 * median),
        "ten-thousandths at most",
    )
}

/// What holds when so many keys change, of the first `of`.
fn any(bytes: u64, changes: usize, of: usize) -> Result<(), String> {
    let world = after(bytes, changes, of);
    at_most(world.most_runs as u64, 64, "runs")?;
    at_most(world.most_named, 205, "% named")?;
    let (average, _, most) = world.written();
    let changed = (changes.min(of) * 10_000 / KEYS) as u64;
    at_most(average, 5 * changed + 20, "ten-thousandths on average")?;
    if bytes > MIB {
        at_most(most, 3 * changed + 400, "ten-thousandths at most")?;
    }
    Ok(())
}

#[test]
fn a_hundredth_of_the_keys_costs_less_than_three_hundredths_of_the_state() {
    for (bytes, runs) in [
        (MIB, 24),
        (10 * MIB, 24),
        (40 * MIB, 24),
        (64 * MIB, 24),
        (1_024 * MIB, 48),
        (20_480 * MIB, 48),
    ] {
        assert_eq!(hundredth(bytes, runs), Ok(()), "{bytes} bytes");
    }
}

#[test]
fn many_changes_and_few_changes_leave_few_runs() {
    for (bytes, changes, of) in [
        // A thousandth, a tenth, all, hardly any.
        (1_024 * MIB, KEYS / 1_000, KEYS),
        (1_024 * MIB, KEYS / 10, KEYS),
        (1_024 * MIB, KEYS, KEYS),
        (1_024 * MIB, KEYS / 10_000, KEYS),
        // Always the same.
        (1_024 * MIB, KEYS / 100, KEYS / 100),
        (1_024 * MIB, KEYS / 10, KEYS / 10),
        (MIB, KEYS / 100, KEYS),
        (MIB, KEYS, KEYS),
    ] {
        assert_eq!(
            any(bytes, changes, of),
            Ok(()),
            "{changes} of {of}, {bytes} bytes"
        );
    }
}

#[test]
fn runs_that_are_never_merged_or_renewed_are_seen() {
    for breakage in [Breakage::SmallRunsStay, Breakage::NothingIsRenewed] {
        let found = Breakage::with(Some(breakage), || {
            hundredth(1_024 * MIB, 48).and_then(|()| any(1_024 * MIB, KEYS / 10_000, KEYS))
        });
        assert!(found.is_err(), "{breakage:?} is not found");
    }
}

#[test]
fn nothing_is_written_if_nothing_has_changed() {
    let mut world = World::new(64 * MIB);
    let runs = world.runs.len();
    world.checkpoint();
    assert_eq!(world.written, [0]);
    assert_eq!(world.runs.len(), runs);
}
