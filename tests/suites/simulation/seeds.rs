//! Runs of many seeds, and what is said of those that fail.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use millstream_types::Bug;

use crate::coverage::Coverage;
use crate::scenario::{Scenario, Variant};
use crate::simulation::{Report, run};

/// Lines of a trace that a failure shows; a replay shows all.
const LINES: usize = 60;

/// What came of many seeds.
#[derive(Debug, Default)]
pub(crate) struct Campaign {
    pub(crate) seeds: u64,
    pub(crate) failed: BTreeMap<u64, Vec<String>>,
    pub(crate) coverage: Coverage,
    seconds: f64,
    scenario: Option<Make>,
}

/// What a seed stands for.
pub(crate) type Make = fn(u64) -> Scenario;

impl Campaign {
    /// Runs so many seeds from one on, or until so many have failed.
    pub(crate) fn run(scenario: Make, from: u64, count: u64, failures_max: usize) -> Self {
        let begin = Instant::now();
        let mut campaign = Self {
            scenario: Some(scenario),
            ..Self::default()
        };
        for seed in (0..count).map(|number| from.wrapping_add(number)) {
            let report = run_caught(scenario(seed), None, false);
            campaign.seeds += 1;
            campaign.coverage.add(&report.coverage);
            if !report.violations.is_empty() {
                campaign.failed.insert(seed, report.violations);
                if campaign.failed.len() >= failures_max {
                    break;
                }
            }
        }
        campaign.seconds = begin.elapsed().as_secs_f64();
        campaign
    }

    /// Runs so many seeds from one on, one on each core at a time.
    pub(crate) fn run_on_all_cores(scenario: Make, from: u64, count: u64) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let cores = u64::try_from(cores).unwrap_or(1);
        let share = count.div_ceil(cores);
        let begin = Instant::now();
        let mut all = Self {
            scenario: Some(scenario),
            ..Self::default()
        };
        std::thread::scope(|scope| {
            let share_of = |core| move || Self::run(scenario, from + core * share, share, 10);
            let running: Vec<_> = (0..cores).map(|core| scope.spawn(share_of(core))).collect();
            for thread in running {
                let part = thread.join().expect("a panic of a run is its failure");
                all.seeds += part.seeds;
                all.failed.extend(part.failed);
                all.coverage.add(&part.coverage);
            }
        });
        all.seconds = begin.elapsed().as_secs_f64();
        all
    }

    /// What there is to be said of it.
    pub(crate) fn summary(&self) -> String {
        let rate = self.seeds as f64 / self.seconds.max(0.001);
        format!(
            "{} seeds, {:.1} a second, {} failed\n{}",
            self.seeds,
            rate,
            self.failed.len(),
            self.coverage
        )
    }

    /// Fails if something was never met that such runs are for.
    pub(crate) fn assert_met(&self, faults: &[&str], places: &[&str]) {
        let counts = [
            (&self.coverage.faults, faults),
            (&self.coverage.places, places),
        ];
        for (counts, wanted) in counts {
            for name in wanted {
                assert!(counts.contains_key(*name), "{name}: never met");
            }
        }
    }

    /// Fails with the first seed that has failed, and what is wrong with each.
    pub(crate) fn assert_passed(&self) {
        for (seed, violations) in &self.failed {
            println!("seed {seed}: {}", violations.join("; "));
        }
        if let Some((seed, violations)) = self.failed.first_key_value() {
            let scenario = self.scenario.unwrap_or(Scenario::new);
            panic!("{}", explain(scenario, *seed, violations));
        }
    }
}

/// Runs a scenario; a panic is its failure.
pub(crate) fn run_caught(scenario: Scenario, bug: Option<Bug>, keeps_trace: bool) -> Report {
    let caught = catch_unwind(AssertUnwindSafe(|| run(scenario, bug, keeps_trace)));
    caught.unwrap_or_else(|panic| {
        Bug::seed(None);
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Report {
            violations: vec![format!("panicked: {}", text.unwrap_or_default())],
            hash: 0,
            trace: Vec::new(),
            coverage: Coverage::default(),
            took: 0,
        }
    })
}

/// A failing seed for a person: what is wrong, with as few faults as it takes, and how to see more.
pub(crate) fn explain(make: Make, seed: u64, violations: &[String]) -> String {
    let keep = shrink(make, seed);
    let scenario = make(seed);
    let kept: Vec<String> = keep.iter().map(ToString::to_string).collect();
    let report = run_caught(scenario.clone().keeping(&keep), None, true);
    let mut lines = vec![format!(
        "with the faults {} of {} it fails: {}",
        kept.join(","),
        scenario.faults.len(),
        report.violations.join("; ")
    )];
    let faults = keep.iter();
    lines.extend(faults.map(|number| format!("  {number}: {:?}", scenario.faults[*number])));
    let from = report.trace.len().saturating_sub(LINES);
    lines.extend_from_slice(&report.trace[from..]);
    lines.push(format!(
        "replay: MILLSTREAM_SIMULATION_SEED={seed} MILLSTREAM_SIMULATION_FAULTS={} {}tools/test.sh \
         --test simulation -- replay",
        kept.join(","),
        match scenario.variant {
            Variant::Any => "",
            Variant::Keyed => "MILLSTREAM_SIMULATION_KEYED=1 ",
            Variant::Unaligned => "MILLSTREAM_SIMULATION_UNALIGNED=1 ",
        }
    ));
    format!(
        "seed {seed} fails: {}\n{}",
        violations.join("; "),
        lines.join("\n")
    )
}

/// The faults of a failing seed without which it does not fail, or not for long.
fn shrink(make: Make, seed: u64) -> Vec<usize> {
    let scenario = make(seed);
    let mut keep: Vec<usize> = (0..scenario.faults.len()).collect();
    for number in 0..scenario.faults.len() {
        let fewer: Vec<usize> = keep.iter().copied().filter(|it| *it != number).collect();
        let report = run_caught(scenario.clone().keeping(&fewer), None, false);
        if !report.violations.is_empty() {
            keep = fewer;
        }
    }
    keep
}
