//! What became of the records: totals of every manifest, checked against each other and against
//! those of the manifest before.
//!
//! At a barrier no record is between two operators but those that it has overtaken, which are counted:
//! what one emitted, the next has received or has in flight. Counters go on over restarts and rescales, so
//! this holds between any two manifests of a chain.

use std::collections::{BTreeMap, BTreeSet};

use millstream_types::api::AuditReport;
use millstream_types::snapshot::Counters;
use millstream_types::{CheckpointId, OperatorUid};

use crate::topology::{Edge, Topology};

/// Totals per operator over all subtasks, as a manifest holds them.
pub type Totals = BTreeMap<OperatorUid, Counters>;

/// What became of the records, by the newest manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// What is told of it.
    pub report: AuditReport,
    /// Totals of the manifest that the first attempt of this coordinator has started from.
    pub since: Option<Totals>,
    /// Totals of the newest manifest.
    pub totals: Totals,
}

/// Most gaps that are kept; more would say nothing new.
const GAPS_MAX: usize = 20;

impl Audit {
    /// Takes note of the manifest that an attempt starts from.
    pub fn restored(&mut self, checkpoint: CheckpointId, topology: &Topology, totals: Totals) {
        self.since.get_or_insert_with(|| totals.clone());
        self.show(checkpoint, topology, totals);
    }

    /// Takes note of the next manifest and checks it against the one before.
    pub fn follow(&mut self, checkpoint: CheckpointId, topology: &Topology, totals: Totals) {
        for gap in gaps(&topology.edges, &self.totals, &totals) {
            if self.report.gaps.len() < GAPS_MAX {
                let gap = format!("checkpoint {checkpoint}: {gap}");
                self.report.gaps.push(gap);
            }
        }
        self.show(checkpoint, topology, totals);
    }

    fn show(&mut self, checkpoint: CheckpointId, topology: &Topology, totals: Totals) {
        let of = |uid: &OperatorUid| {
            let total = totals.get(uid).copied().unwrap_or_default();
            (uid.clone(), total)
        };
        self.report.checkpoint = Some(checkpoint);
        self.report.sources = topology.sources.keys().map(of).collect();
        self.report.sinks = topology.sinks.iter().map(of).collect();
        self.totals = totals;
    }
}

/// What does not add up between two manifests.
pub fn gaps(edges: &[Edge], previous: &Totals, totals: &Totals) -> Vec<String> {
    let mut gaps = Vec::new();
    for (uid, before) in previous {
        if let Some(after) = totals.get(uid) {
            went_back(uid, *before, *after, &mut gaps);
        }
    }
    let grown = |uid: &OperatorUid, count: fn(&Counters) -> u64| {
        let after = totals.get(uid).map_or(0, count);
        let before = previous.get(uid).map_or(0, count);
        i128::from(after) - i128::from(before)
    };
    // A source that nobody reads emits nothing that could be missing.
    let known: BTreeSet<&OperatorUid> = totals.keys().collect();
    let receivers: BTreeSet<&OperatorUid> = edges.iter().map(|edge| &edge.to).collect();
    for to in receivers {
        let inputs: Vec<&Edge> = edges.iter().filter(|edge| edge.to == *to).collect();
        let mut both = inputs.iter().map(|edge| &edge.from).chain([to]);
        if !both.all(|uid| known.contains(uid)) {
            continue;
        }
        let emitted = inputs.iter().map(|edge| {
            if edge.dead_letters {
                grown(&edge.from, |counters| counters.dead_letters)
            } else {
                grown(&edge.from, |counters| counters.records_out)
            }
        });
        let emitted: Vec<i128> = emitted.collect();
        let received = grown(to, |counters| counters.records_in + counters.in_flight);
        if emitted.iter().sum::<i128>() != received {
            let emitted = inputs.iter().zip(emitted).map(|(edge, count)| {
                let what = if edge.dead_letters {
                    "dead letters"
                } else {
                    "records"
                };
                format!("{} emitted {count} {what}", edge.from)
            });
            let emitted: Vec<String> = emitted.collect();
            gaps.push(format!(
                "{} and {to} received {received}",
                emitted.join(", ")
            ));
        }
    }
    gaps
}

fn went_back(uid: &OperatorUid, before: Counters, after: Counters, gaps: &mut Vec<String>) {
    let counts = [
        ("records in", before.records_in, after.records_in),
        ("records out", before.records_out, after.records_out),
        ("skipped records", before.skipped, after.skipped),
        ("dead letters", before.dead_letters, after.dead_letters),
    ];
    for (what, before, after) in counts {
        if after < before {
            gaps.push(format!("{uid} went back from {before} to {after} {what}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counters(records_in: u64, records_out: u64, dead_letters: u64) -> Counters {
        Counters {
            records_in,
            records_out,
            dead_letters,
            ..Counters::default()
        }
    }

    fn edge(from: &str, to: &str, dead_letters: bool) -> Edge {
        Edge {
            from: from.into(),
            dead_letters,
            to: to.into(),
        }
    }

    fn totals(of: &[(&str, Counters)]) -> Totals {
        of.iter()
            .map(|(uid, counters)| ((*uid).into(), *counters))
            .collect()
    }

    fn edges() -> Vec<Edge> {
        vec![
            edge("orders", "valid", false),
            edge("valid", "out", false),
            edge("orders", "rejects", true),
        ]
    }

    #[test]
    fn records_in_flight_have_been_emitted_and_come_later() {
        let edges = [edge("orders", "valid", false)];
        let at = |emitted, received, in_flight| {
            let valid = Counters {
                in_flight,
                ..counters(received, received, 0)
            };
            totals(&[("orders", counters(emitted, emitted, 0)), ("valid", valid)])
        };
        let all = [
            at(0, 0, 0),
            at(100, 70, 30),
            at(150, 130, 20),
            at(160, 160, 0),
        ];
        for pair in all.windows(2) {
            assert_eq!(gaps(&edges, &pair[0], &pair[1]), [""; 0]);
        }
        assert_eq!(gaps(&edges, &all[1], &at(150, 130, 19)).len(), 1);
        assert_eq!(gaps(&edges, &all[1], &at(150, 130, 50)).len(), 1);
    }

    #[test]
    fn totals_that_add_up_have_no_gap() {
        let before = totals(&[
            ("orders", counters(100, 90, 10)),
            ("valid", counters(90, 80, 0)),
            ("out", counters(80, 80, 0)),
            ("rejects", counters(10, 10, 0)),
        ]);
        let after = totals(&[
            ("orders", counters(200, 185, 15)),
            ("valid", counters(185, 170, 0)),
            ("out", counters(170, 170, 0)),
            ("rejects", counters(15, 15, 0)),
        ]);
        assert_eq!(
            gaps(&edges(), &Totals::new(), &before),
            Vec::<String>::new()
        );
        assert_eq!(gaps(&edges(), &before, &after), Vec::<String>::new());
    }

    #[test]
    fn an_operator_that_is_new_since_the_last_manifest_counts_from_nothing() {
        let before = totals(&[("orders", counters(100, 100, 0))]);
        let after = totals(&[
            ("orders", counters(130, 130, 0)),
            ("valid", counters(30, 30, 0)),
        ]);
        assert_eq!(gaps(&edges(), &before, &after), Vec::<String>::new());
    }

    #[test]
    fn a_counter_that_goes_back_is_a_gap() {
        let before = totals(&[("orders", counters(100, 100, 0))]);
        let after = totals(&[("orders", counters(99, 100, 0))]);
        let found = gaps(&[], &before, &after);
        assert_eq!(found, ["orders went back from 100 to 99 records in"]);
    }

    proptest! {
        #[test]
        fn one_record_more_or_less_on_any_edge_is_found(
            emitted in 1_u64..1_000_000,
            lost in prop_oneof![Just(-1_i64), Just(1)],
            dead_letters: bool,
        ) {
            let received = emitted.checked_add_signed(lost).unwrap();
            let from = if dead_letters {
                counters(emitted, 0, emitted)
            } else {
                counters(emitted, emitted, 0)
            };
            let after = totals(&[("a", from), ("b", counters(received, received, 0))]);
            let found = gaps(&[edge("a", "b", dead_letters)], &Totals::new(), &after);
            prop_assert_eq!(found.len(), 1);
        }
    }
}
