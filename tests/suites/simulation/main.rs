//! Simulation: coordinators, workers and their tasks as they are, on one thread, with a store, a
//! broker and a network that follow their rules and a seed.
//!
//! A seed stands for a job, its input, and everything that goes wrong; a run of it is the same every
//! time. [`audit`] judges what committed readers see. How it works and how to read a failure:
//! `docs/testing.md`.
//!
//! Reading order: [`scenario`] is what a seed stands for, [`keyed`] the job of it that keeps state, [`world`] is what is outside of processes,
//! with [`store`], [`broker`] and [`network`] in it; [`source`] and [`sink`] are connectors to the
//! broker; [`process`] holds what is real; [`simulation`] is the run, [`seeds`] runs many.

mod audit;
mod broker;
mod bugs;
mod coverage;
mod keyed;
mod network;
mod process;
mod random;
mod scenario;
mod seeds;
mod simulation;
mod sink;
mod source;
mod store;
mod world;

use std::hash::{BuildHasher, RandomState};

use scenario::Scenario;
use seeds::{Campaign, Make, explain, run_caught};

/// What three hundred seeds meet, each at least ten times if fortune is fair.
const FAULTS: &[&str] = &[
    "BrokerDown",
    "CutWorker",
    "HalfCutWorker",
    "StoreDown",
    "StoreSlow",
    "broker: answer lost",
    "broker: carried out late",
    "broker: request lost",
    "coordinator crashes",
    "coordinator freezes",
    "message lost",
    "message twice",
    "rescale",
    "savepoint asked for",
    "second coordinator",
    "store: answer lost",
    "store: carried out late",
    "store: request lost",
    "store: sender crashes",
    "worker crashes",
    "worker freezes",
    "worker leaves",
];
const PLACES: &[&str] = &[
    "broker: a commit is repeated",
    "broker: a writer is fenced",
    "broker: an older attempt's transaction is aborted",
    "complete: Savepoint",
    "failed: Checkpoint",
    "outcome: completed",
    "outcome: fenced",
    "outcome: stopped",
    "outcome: stopped with a savepoint",
    "restart: WorkerLost",
    "store: a conditional write met a taken name",
];

const MAKES: [Make; 3] = [Scenario::new, Scenario::keyed, Scenario::unaligned];

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Fresh seeds, so that every run of the suite looks at others.
#[test]
fn jobs_are_exactly_once_under_fresh_seeds() {
    let count = number("MILLSTREAM_SIMULATION_SEEDS").unwrap_or(300);
    let from = number("MILLSTREAM_SIMULATION_FROM")
        .unwrap_or_else(|| RandomState::new().hash_one("seeds") >> 16);
    let campaign = Campaign::run(Scenario::new, from, count, 1);
    println!("from seed {from}: {}", campaign.summary());
    campaign.assert_passed();
    if count >= 300 {
        campaign.assert_met(FAULTS, PLACES);
    }
}

/// 3000652: a worker of the attempt before the last wakes up behind the first sweeps, and the job has fewer
/// subtasks by then than that attempt had: nobody looked for what the others had opened.
#[test]
fn seeds_that_have_found_something_pass() {
    let seeds: [(Make, u64); 5] = [
        (Scenario::new, 3_000_652),
        (Scenario::new, 25_180),
        (Scenario::new, 73_234),
        (Scenario::keyed, 9_453),
        (Scenario::unaligned, 1_164),
    ];
    for (make, seed) in seeds {
        let report = run_caught(make(seed), None, false);
        assert!(
            report.violations.is_empty(),
            "{}",
            explain(make, seed, &report.violations)
        );
    }
}

/// Fresh seeds of a job that keeps state by key.
#[test]
fn keyed_state_is_exact_under_fresh_seeds() {
    fresh_keyed_seeds(
        Scenario::keyed,
        "keys",
        &["failed: Checkpoint", "outcome: completed"],
    );
}

/// Fresh seeds of one kind of keyed job, which all pass; so many of them reach these places.
fn fresh_keyed_seeds(make: fn(u64) -> Scenario, salt: &str, places: &[&str]) {
    let count = number("MILLSTREAM_SIMULATION_SEEDS").unwrap_or(300);
    let from = number("MILLSTREAM_SIMULATION_FROM")
        .unwrap_or_else(|| RandomState::new().hash_one(salt) >> 16);
    let campaign = Campaign::run(make, from, count, 1);
    println!("from seed {from}: {}", campaign.summary());
    campaign.assert_passed();
    if count >= 300 {
        let faults = [
            "StoreDown",
            "coordinator crashes",
            "rescale",
            "worker crashes",
        ];
        campaign.assert_met(&faults, places);
    }
}

/// Fresh seeds of keyed jobs whose barriers overtake records.
#[test]
fn jobs_with_unaligned_checkpoints_are_exactly_once_under_fresh_seeds() {
    let places = [
        "complete with records in flight",
        "failed: Checkpoint",
        "outcome: completed",
    ];
    fresh_keyed_seeds(Scenario::unaligned, "overtaken", &places);
}

/// Takes 40 minutes of two cores that have nothing else to do.
#[test]
fn extended_a_hundred_thousand_seeds() {
    let count = number("MILLSTREAM_SIMULATION_SEEDS").unwrap_or(100_000);
    let campaign = Campaign::run_on_all_cores(Scenario::new, 0, count);
    println!("{}", campaign.summary());
    campaign.assert_passed();
    campaign.assert_met(FAULTS, PLACES);
}

#[test]
fn extended_keyed_state_under_fifty_thousand_seeds() {
    let count = number("MILLSTREAM_SIMULATION_SEEDS").unwrap_or(50_000);
    let campaign = Campaign::run_on_all_cores(Scenario::keyed, 0, count);
    println!("{}", campaign.summary());
    campaign.assert_passed();
}

#[test]
fn extended_jobs_with_unaligned_checkpoints_under_fifty_thousand_seeds() {
    let count = number("MILLSTREAM_SIMULATION_SEEDS").unwrap_or(50_000);
    let campaign = Campaign::run_on_all_cores(Scenario::unaligned, 0, count);
    println!("{}", campaign.summary());
    campaign.assert_passed();
}

#[test]
fn a_seed_is_a_full_reproduction() {
    for (make, seed) in (0..10).flat_map(|seed| MAKES.map(|make| (make, seed))) {
        let first = run_caught(make(seed), None, false);
        let second = run_caught(make(seed), None, false);
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_eq!(first.took, second.took, "seed {seed}");
        assert_eq!(first.coverage, second.coverage, "seed {seed}");
    }
}

/// One seed with all that happens: `MILLSTREAM_SIMULATION_SEED`, and of its faults only those of
/// `MILLSTREAM_SIMULATION_FAULTS`; of the keyed job if `MILLSTREAM_SIMULATION_KEYED` is set, of one
/// whose barriers overtake if `MILLSTREAM_SIMULATION_UNALIGNED` is.
#[test]
fn replay() {
    let seed = number("MILLSTREAM_SIMULATION_SEED").unwrap_or(1);
    let is_set = |variable| number(variable).is_some();
    let make = if is_set("MILLSTREAM_SIMULATION_UNALIGNED") {
        MAKES[2]
    } else {
        MAKES[usize::from(is_set("MILLSTREAM_SIMULATION_KEYED"))]
    };
    let mut scenario = make(seed);
    if let Ok(keep) = std::env::var("MILLSTREAM_SIMULATION_FAULTS") {
        let keep = keep.split(',').filter_map(|number| number.parse().ok());
        scenario = scenario.keeping(&keep.collect::<Vec<_>>());
    }
    println!("{scenario:#?}");
    let report = run_caught(scenario, None, true);
    for line in &report.trace {
        println!("{line}");
    }
    println!("{}", report.coverage);
    assert!(
        report.violations.is_empty(),
        "{}",
        explain(make, seed, &report.violations)
    );
}
