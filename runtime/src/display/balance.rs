//! Whether every record is accounted for: on the way from a source to a sink, what came in was
//! written, filtered, a dead letter or skipped. Pure.

use std::collections::BTreeMap;

use millstream_plan::{JobGraph, NodeInput, NodeKind};
use millstream_types::OperatorUid;
use millstream_types::snapshot::Counters;

/// The ways of a job from its sources to its sinks.
#[derive(Debug, Clone, Default)]
pub(super) struct Flow {
    sources: Vec<OperatorUid>,
    ways: Vec<Way>,
}

/// The way from a source to one sink.
#[derive(Debug, Clone)]
struct Way {
    source: OperatorUid,
    /// Whether it carries the records that the source could not decode.
    dead_letters: bool,
    operators: Vec<OperatorUid>,
    sink: OperatorUid,
}

/// What became of a source's records on the way to one sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Balance {
    /// Where they came from.
    pub(super) source: OperatorUid,
    /// Whether they are those that the source could not decode.
    pub(super) dead_letters: bool,
    /// Where they went.
    pub(super) sink: OperatorUid,
    /// Records that went in.
    pub(super) came: u64,
    /// Records that the sink wrote.
    pub(super) written: u64,
    /// Records that operators dropped.
    pub(super) filtered: u64,
    /// The source's totals.
    pub(super) totals: Counters,
}

impl Balance {
    /// Whether the two sides of the equation are equal.
    pub(super) const fn holds(&self) -> bool {
        let lost_before = if self.dead_letters {
            0
        } else {
            self.totals.dead_letters + self.totals.skipped
        };
        self.came == self.written + self.filtered + lost_before
    }

    /// What has come since an earlier balance of the same way.
    pub(super) fn since(&self, before: &Self) -> Self {
        let Counters {
            dead_letters,
            skipped,
            ..
        } = before.totals;
        Self {
            came: self.came.saturating_sub(before.came),
            written: self.written.saturating_sub(before.written),
            filtered: self.filtered.saturating_sub(before.filtered),
            totals: Counters {
                dead_letters: self.totals.dead_letters.saturating_sub(dead_letters),
                skipped: self.totals.skipped.saturating_sub(skipped),
                ..self.totals
            },
            ..self.clone()
        }
    }
}

impl Flow {
    /// The ways of a graph.
    pub(super) fn of(graph: &JobGraph) -> Self {
        let mut flow = Self::default();
        for node in &graph.nodes {
            match &node.kind {
                NodeKind::Source(_) => flow.sources.push(node.uid.clone()),
                NodeKind::Sink(_) => flow.ways.extend(way(graph, node.input, &node.uid)),
                NodeKind::Sql(_) => {}
            }
        }
        flow
    }

    pub(super) fn sources(&self) -> impl Iterator<Item = &OperatorUid> {
        self.sources.iter()
    }

    pub(super) fn sinks(&self) -> impl Iterator<Item = &OperatorUid> {
        self.ways.iter().map(|way| &way.sink)
    }

    /// What became of every source's records, by totals of one checkpoint.
    pub(super) fn balances(&self, totals: &BTreeMap<OperatorUid, Counters>) -> Vec<Balance> {
        self.ways.iter().map(|way| way.balance(totals)).collect()
    }
}

fn way(graph: &JobGraph, input: Option<NodeInput>, sink: &OperatorUid) -> Option<Way> {
    let mut operators = Vec::new();
    let mut input = input?;
    loop {
        let node = graph.nodes.get(input.node().0)?;
        match (&node.kind, node.input) {
            (NodeKind::Source(_), _) => {
                operators.reverse();
                return Some(Way {
                    source: node.uid.clone(),
                    dead_letters: matches!(input, NodeInput::DeadLetters(_)),
                    operators,
                    sink: sink.clone(),
                });
            }
            (_, Some(before)) => {
                operators.push(node.uid.clone());
                input = before;
            }
            (_, None) => return None,
        }
    }
}

impl Way {
    fn balance(&self, totals: &BTreeMap<OperatorUid, Counters>) -> Balance {
        let of = |uid: &OperatorUid| totals.get(uid).copied().unwrap_or_default();
        let source = of(&self.source);
        let dropped = |uid: &OperatorUid| {
            let operator = of(uid);
            operator.records_in.saturating_sub(operator.records_out)
        };
        Balance {
            source: self.source.clone(),
            dead_letters: self.dead_letters,
            sink: self.sink.clone(),
            came: if self.dead_letters {
                source.dead_letters
            } else {
                source.records_in
            },
            written: of(&self.sink).records_out,
            filtered: self.operators.iter().map(dropped).sum(),
            totals: source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(records_in: u64, records_out: u64) -> Counters {
        Counters {
            records_in,
            records_out,
            ..Counters::default()
        }
    }

    fn totals(written: u64) -> BTreeMap<OperatorUid, Counters> {
        let orders = Counters {
            skipped: 1,
            dead_letters: 2,
            ..counters(103, 100)
        };
        BTreeMap::from([
            ("orders".into(), orders),
            ("valid".into(), counters(100, 90)),
            ("processed".into(), counters(written, written)),
            ("broken".into(), counters(2, 2)),
        ])
    }

    fn flow() -> Flow {
        let way = |dead_letters, operators: &[&str], sink: &str| Way {
            source: "orders".into(),
            dead_letters,
            operators: operators
                .iter()
                .map(|uid| OperatorUid::from(*uid))
                .collect(),
            sink: sink.into(),
        };
        Flow {
            sources: vec!["orders".into()],
            ways: vec![
                way(false, &["valid"], "processed"),
                way(true, &[], "broken"),
            ],
        }
    }

    #[test]
    fn records_that_are_all_accounted_for_balance() {
        let balances = flow().balances(&totals(90));
        assert_eq!((balances[0].came, balances[0].filtered), (103, 10));
        assert_eq!((balances[1].came, balances[1].written), (2, 2));
        assert!(balances.iter().all(Balance::holds), "{balances:?}");
    }

    #[test]
    fn a_way_with_a_new_node_balances_from_where_it_is_new() {
        let way = flow().balances(&totals(90)).remove(0);
        let mut renamed = totals(90);
        renamed.remove(&OperatorUid::from("processed"));
        let before = flow().balances(&renamed).remove(0);
        assert!(!before.holds());
        assert!(
            !way.since(&before).holds(),
            "what was written before counts twice"
        );
        let mut later = renamed.clone();
        later.insert(
            "orders".into(),
            Counters {
                skipped: 1,
                dead_letters: 2,
                ..counters(203, 200)
            },
        );
        later.insert("valid".into(), counters(200, 180));
        later.insert("processed".into(), counters(90, 90));
        let later = flow().balances(&later).remove(0);
        assert!(!later.holds());
        let since = later.since(&before);
        assert!(since.holds(), "{since:?}");
        assert_eq!((since.came, since.written, since.filtered), (100, 90, 10));
    }

    #[test]
    fn a_record_too_few_or_too_many_is_noticed() {
        assert!(!flow().balances(&totals(89))[0].holds());
        assert!(!flow().balances(&totals(91))[0].holds());
    }
}
