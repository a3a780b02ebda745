//! Whether every record is accounted for: on the way from a source to a sink, what came in was
//! written, filtered, a dead letter or skipped. Pure.

use std::collections::BTreeMap;

use millstream_plan::{JobGraph, NodeIndex, NodeKind, Output};
use millstream_types::OperatorUid;
use millstream_types::snapshot::Counters;

/// The ways of a job from its sources to its sinks.
#[derive(Debug, Clone, Default)]
pub(super) struct Flow {
    sources: Vec<OperatorUid>,
    ways: Vec<Way>,
}

/// Everything between the sources and one sink.
#[derive(Debug, Clone)]
struct Way {
    /// What comes from sources.
    inputs: Vec<SourceOutput>,
    operators: Vec<OperatorUid>,
    /// Operators that make one record of several.
    aggregates: Vec<OperatorUid>,
    /// Outputs that are read by several nodes of the way, once for each time more than the first.
    copies: Vec<SourceOutput>,
    sink: OperatorUid,
}

/// An output of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SourceOutput {
    uid: OperatorUid,
    /// Whether it is of the records that a source could not decode.
    dead_letters: bool,
}

/// What became of sources' records on the way to one sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Balance {
    /// Where they came from, as the job file names it.
    pub(super) from: Vec<String>,
    /// Where they went.
    pub(super) sink: OperatorUid,
    /// Records that went in.
    pub(super) came: u64,
    /// Records that went on more than one path.
    pub(super) copied: u64,
    /// Records that the sink wrote.
    pub(super) written: u64,
    /// Records that operators dropped.
    pub(super) filtered: u64,
    /// Records that went into results of others, if operators do that.
    pub(super) combined: Option<u64>,
    /// Records that were overtaken by the barrier of the checkpoint.
    pub(super) in_flight: u64,
    /// Records that a source could not decode, if these are others than those that the sink is
    /// given.
    pub(super) undecoded: Option<Undecoded>,
}

/// Records that could not be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Undecoded {
    pub(super) dead_letters: u64,
    pub(super) skipped: u64,
}

impl Balance {
    /// Whether the two sides of the equation are equal.
    pub(super) fn holds(&self) -> bool {
        let lost = self.undecoded.map_or(0, |it| it.dead_letters + it.skipped);
        let combined = self.combined.unwrap_or_default();
        let gone = self.written + self.filtered + combined + self.in_flight + lost;
        self.came + self.copied == gone
    }

    /// What has come since an earlier balance of the same way.
    pub(super) fn since(&self, before: &Self) -> Self {
        let undecoded = self.undecoded.map(|now| {
            let before = before.undecoded;
            let dead_letters = before.map_or(0, |it| it.dead_letters);
            let skipped = before.map_or(0, |it| it.skipped);
            Undecoded {
                dead_letters: now.dead_letters.saturating_sub(dead_letters),
                skipped: now.skipped.saturating_sub(skipped),
            }
        });
        Self {
            came: self.came.saturating_sub(before.came),
            copied: self.copied.saturating_sub(before.copied),
            written: self.written.saturating_sub(before.written),
            filtered: self.filtered.saturating_sub(before.filtered),
            combined: self.combined.map(|now| {
                let before = before.combined.unwrap_or_default();
                now.saturating_sub(before)
            }),
            in_flight: self.in_flight.saturating_sub(before.in_flight),
            undecoded,
            ..self.clone()
        }
    }
}

impl Flow {
    /// The ways of a graph.
    pub(super) fn of(graph: &JobGraph) -> Self {
        let mut flow = Self::default();
        for (index, node) in graph.nodes.iter().enumerate() {
            match &node.kind {
                NodeKind::Source(_) => flow.sources.push(node.uid.clone()),
                NodeKind::Sink(_) => flow.ways.push(way(graph, NodeIndex(index), &node.uid)),
                NodeKind::Sql(_) | NodeKind::Aggregate(_) => {}
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

/// Everything that leads to a sink.
fn way(graph: &JobGraph, sink: NodeIndex, uid: &OperatorUid) -> Way {
    let mut way = Way {
        inputs: Vec::new(),
        operators: Vec::new(),
        aggregates: Vec::new(),
        copies: Vec::new(),
        sink: uid.clone(),
    };
    let mut reached = Vec::new();
    let mut waiting = vec![sink];
    while let Some(reader) = waiting.pop() {
        for output in graph.inputs(reader).map(|edge| edge.from) {
            let Some(node) = graph.node(output.node()) else {
                continue;
            };
            let named = SourceOutput {
                uid: node.uid.clone(),
                dead_letters: matches!(output, Output::DeadLetters(_)),
            };
            if reached.contains(&output) {
                way.copies.push(named);
                continue;
            }
            reached.push(output);
            match node.kind {
                NodeKind::Source(_) => way.inputs.push(named),
                NodeKind::Aggregate(_) => {
                    way.aggregates.push(node.uid.clone());
                    waiting.push(output.node());
                }
                NodeKind::Sql(_) | NodeKind::Sink(_) => {
                    way.operators.push(node.uid.clone());
                    waiting.push(output.node());
                }
            }
        }
    }
    way
}

impl Way {
    fn balance(&self, totals: &BTreeMap<OperatorUid, Counters>) -> Balance {
        let of = |uid: &OperatorUid| totals.get(uid).copied().unwrap_or_default();
        let sent = |output: &SourceOutput| {
            let totals = of(&output.uid);
            if output.dead_letters {
                totals.dead_letters
            } else {
                totals.records_out
            }
        };
        let came = |output: &SourceOutput| {
            if output.dead_letters {
                sent(output)
            } else {
                of(&output.uid).records_in
            }
        };
        let main = self.inputs.iter().filter(|input| !input.dead_letters);
        let undecoded = main.map(|input| of(&input.uid)).fold(None, |sum, totals| {
            let sum: Undecoded = sum.unwrap_or(Undecoded {
                dead_letters: 0,
                skipped: 0,
            });
            Some(Undecoded {
                dead_letters: sum.dead_letters + totals.dead_letters,
                skipped: sum.skipped + totals.skipped,
            })
        });
        let less = |uid: &OperatorUid| {
            let totals = of(uid);
            totals.records_in.saturating_sub(totals.records_out)
        };
        // One that reads an input in several SELECTs may emit more than it gets, and so may one that
        // takes back what it has emitted.
        let all = self.operators.iter().chain(&self.aggregates).map(of);
        let added = all.map(|it| it.records_out.saturating_sub(it.records_in));
        let combined = self.aggregates.iter().map(less).sum();
        let readers = self.operators.iter().chain(&self.aggregates);
        let readers = readers.chain([&self.sink]);
        Balance {
            from: self.inputs.iter().map(SourceOutput::name).collect(),
            sink: self.sink.clone(),
            came: self.inputs.iter().map(came).sum(),
            copied: self.copies.iter().map(sent).chain(added).sum(),
            written: of(&self.sink).records_out,
            filtered: self.operators.iter().map(less).sum(),
            combined: (!self.aggregates.is_empty()).then_some(combined),
            in_flight: readers.map(|uid| of(uid).in_flight).sum(),
            undecoded,
        }
    }
}

impl SourceOutput {
    fn name(&self) -> String {
        if self.dead_letters {
            format!("{}.deadLetters", self.uid)
        } else {
            self.uid.to_string()
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
            inputs: vec![SourceOutput {
                uid: "orders".into(),
                dead_letters,
            }],
            copies: Vec::new(),
            aggregates: Vec::new(),
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
    fn ways_that_part_and_meet_again_balance() {
        let text = "
apiVersion: millstream.dev/v1alpha1
kind: StreamJob
metadata: {name: met}
spec:
  checkpoint: {storage: 'file:///tmp/met'}
  dataflow:
    sources: [{name: orders, generator: {}}, {name: more, generator: {}}]
    transforms:
      - {name: small, input: orders, sql: 'SELECT order_id FROM orders WHERE quantity < 3'}
      - name: all
        inputs: [small, orders, more]
        sql: SELECT order_id FROM small UNION ALL SELECT order_id FROM orders
          UNION ALL SELECT order_id FROM more
    sinks: [{name: out, inputs: [all, small], blackhole: {}}]
";
        let job = millstream_spec::read(text, "met.yaml").unwrap();
        let flow = Flow::of(&millstream_plan::plan(&job).unwrap());
        let totals = |written| {
            BTreeMap::from([
                ("orders".into(), counters(100, 100)),
                ("more".into(), counters(50, 50)),
                ("small".into(), counters(100, 30)),
                ("all".into(), counters(180, 180)),
                ("out".into(), counters(written, written)),
            ])
        };
        let balance = flow.balances(&totals(210)).remove(0);
        assert_eq!(balance.came, 150);
        assert_eq!((balance.copied, balance.filtered), (130, 70));
        assert!(balance.holds());
        assert!(!flow.balances(&totals(209))[0].holds());
    }

    #[test]
    fn records_that_went_into_results_are_no_filtered_ones() {
        let text = "
apiVersion: millstream.dev/v1alpha1
kind: StreamJob
metadata: {name: counted}
spec:
  checkpoint: {storage: 'file:///tmp/counted'}
  dataflow:
    sources: [{name: orders, generator: {}}]
    transforms:
      - name: sums
        input: orders
        sql: SELECT customer_id, count(*) AS n FROM orders WHERE quantity > 0 GROUP BY customer_id
    sinks: [{name: out, input: sums, blackhole: {}}]
";
        let job = millstream_spec::read(text, "counted.yaml").unwrap();
        let flow = Flow::of(&millstream_plan::plan(&job).unwrap());
        let totals = |written| {
            BTreeMap::from([
                ("orders".into(), counters(100, 100)),
                ("sums/input".into(), counters(100, 90)),
                ("sums/partial".into(), counters(90, 40)),
                ("sums/aggregate".into(), counters(40, 60)),
                ("sums".into(), counters(60, 60)),
                ("out".into(), counters(written, written)),
            ])
        };
        let balance = flow.balances(&totals(60)).remove(0);
        assert_eq!((balance.filtered, balance.combined), (10, Some(50)));
        assert_eq!(balance.copied, 20);
        assert!(balance.holds());
        assert!(!flow.balances(&totals(59))[0].holds());
    }

    #[test]
    fn a_record_too_few_or_too_many_is_noticed() {
        assert!(!flow().balances(&totals(89))[0].holds());
        assert!(!flow().balances(&totals(91))[0].holds());
    }
}
