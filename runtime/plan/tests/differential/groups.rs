//! Groups here and in PostgreSQL: the results that running aggregates come to, whatever batches their
//! records share, and those of one query over all records.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use arrow_array::{Array as _, ArrayRef, RecordBatch, StringArray};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_cast::{CastOptions, cast_with_options};
use millstream_operators::Operator;
use millstream_operators::aggregate::{self, StateParameters};
use millstream_operators::harness::batches;
use millstream_operators::sql::{Expression, SqlOperator};
use millstream_plan::{Computed, JobGraph, Node, NodeIndex, NodeKind};
use millstream_tests::Postgres;
use millstream_types::change::changes;
use millstream_types::clock::SystemClock;
use millstream_types::schema::{Column, arrow_schema};
use millstream_types::{Batch, Change};

use crate::alike::alike;
use crate::ours::Outcome;

/// Name, type here, type there.
const COLUMNS: [(&str, &str, &str); 10] = [
    ("seq", "int64", "bigint"),
    ("k", "string", "text"),
    ("i", "int64", "bigint"),
    ("s", "int32", "int"),
    ("p", "decimal(12,2)", "numeric(12,2)"),
    ("f", "float64", "float8"),
    ("b", "boolean", "boolean"),
    ("t", "string", "text"),
    ("ts", "timestamp", "timestamp"),
    ("d", "date", "date"),
];

/// Of floats only those whose sums are exact in any order.
const POOLS: [&[&str]; 9] = [
    &["a", "b", "c", "d", "anna", ""],
    &["0", "1", "-1", "7", "7", "1000000007", "-99"],
    &["0", "1", "-1", "2147483647", "-2147483648", "12"],
    &["0.00", "0.01", "-0.01", "9999999999.99", "19.90", "-5.00"],
    &["0", "0.5", "-0.25", "1024", "-3"],
    &["true", "false"],
    &["", "x", "X", "héllo", "abc", "日本"],
    &[
        "1999-12-31T23:59:59.999999",
        "2024-02-29T12:00:00",
        "1970-01-01T00:00:00",
    ],
    &["1999-12-31", "2024-02-29", "1970-01-01"],
];

/// A query: FROM `input` here; there, where it is written otherwise. The first columns are the key.
struct Query {
    keys: usize,
    ours: &'static str,
    theirs: &'static str,
    /// Over the results of the query, as `t`.
    then: Option<(usize, &'static str)>,
}

const fn query(keys: usize, sql: &'static str) -> Query {
    Query {
        keys,
        ours: sql,
        theirs: sql,
        then: None,
    }
}

impl Query {
    const fn there(self, theirs: &'static str) -> Self {
        Self { theirs, ..self }
    }

    const fn then(self, keys: usize, sql: &'static str) -> Self {
        Self {
            then: Some((keys, sql)),
            ..self
        }
    }

    fn postgres(&self, rows: &[Vec<Option<&str>>]) -> String {
        let given = format!("(SELECT * FROM {}) AS input", values(rows));
        let inner = self.theirs.replace("FROM input", &format!("FROM {given}"));
        let query = match self.then {
            None => inner,
            Some((_, outer)) => outer.replace("FROM t", &format!("FROM ({inner}) AS t")),
        };
        let array = "(SELECT jsonb_agg(value ORDER BY ordinal) FROM jsonb_each_text(to_jsonb(q)) \
                     WITH ORDINALITY AS e(key, value, ordinal))";
        // Columns are named so that the order of their names is theirs.
        format!("(SELECT jsonb_agg({array})::text FROM ({query}) AS q)")
    }
}

fn values(rows: &[Vec<Option<&str>>]) -> String {
    let mut text = String::from("(VALUES ");
    for (number, row) in rows.iter().enumerate() {
        let comma = if number == 0 { "" } else { ", " };
        write!(text, "{comma}({number}::bigint").unwrap();
        for (value, (_, _, theirs)) in row.iter().zip(&COLUMNS[1..]) {
            match value {
                Some(value) => write!(text, ", '{value}'::{theirs}").unwrap(),
                None => write!(text, ", NULL::{theirs}").unwrap(),
            }
        }
        text.push(')');
    }
    let names: Vec<&str> = COLUMNS.iter().map(|(name, ..)| *name).collect();
    write!(text, ") AS v({})", names.join(", ")).unwrap();
    text
}

/// Names of columns are in the order of the alphabet.
fn queries() -> Vec<Query> {
    vec![
        query(1, "SELECT k AS a, count(*) AS b, sum(i) AS c, sum(p) AS d, sum(f) AS e FROM input GROUP BY k"),
        query(1, "SELECT k AS a, count(i) AS b, avg(i) AS c, avg(s) AS d, avg(p) AS e, avg(f) AS g FROM input GROUP BY k"),
        query(1, "SELECT k AS a, min(i) AS b, max(i) AS c, min(p) AS d, max(p) AS e, min(f) AS g, max(f) AS h FROM input GROUP BY k"),
        query(1, "SELECT k AS a, min(t) AS b, max(t) AS c, min(ts) AS d, max(ts) AS e, min(d) AS g, max(d) AS h FROM input GROUP BY k"),
        query(1, "SELECT k AS a, bool_and(b) AS b, bool_or(b) AS c, every(i > 0) AS d, sum(s) AS e FROM input GROUP BY k"),
        query(1, "SELECT k AS a, count(DISTINCT i) AS b, count(DISTINCT t) AS c, sum(DISTINCT i) AS d, avg(DISTINCT p) AS e, count(DISTINCT b) AS g FROM input GROUP BY k"),
        query(1, "SELECT k AS a, count(*) FILTER (WHERE b) AS b, sum(i) FILTER (WHERE i > 0) AS c, max(p) FILTER (WHERE f IS NULL) AS d, count(DISTINCT i) FILTER (WHERE NOT b) AS e FROM input GROUP BY k"),
        query(1, "SELECT k AS a, count(*) AS b FROM input WHERE i > 0 AND b IS NOT TRUE GROUP BY k"),
        query(1, "SELECT k AS a, sum(i) AS b FROM input GROUP BY k HAVING count(*) > 3 AND sum(i) IS NOT NULL"),
        query(1, "SELECT k AS a FROM input GROUP BY k HAVING bool_or(b)"),
        query(1, "SELECT upper(k) AS a, count(*) AS b, max(t) AS c FROM input GROUP BY upper(k)"),
        query(2, "SELECT k AS a, i % 3 AS b, count(*) AS c, sum(s) AS d FROM input GROUP BY 1, i % 3"),
        query(2, "SELECT k AS a, d AS b, count(*) AS c FROM input GROUP BY d, k"),
        query(1, "SELECT b AS a, count(*) AS b, avg(p * 2) AS c FROM input GROUP BY b"),
        query(1, "SELECT s AS a, sum(i * p) AS b, count(coalesce(t, k)) AS c FROM input GROUP BY s"),
        query(1, "SELECT k AS a, sum(i) + count(*) AS b, sum(f) / count(*) AS c, CASE WHEN count(*) > 2 THEN k ELSE 'few' END AS d FROM input GROUP BY k"),
        query(1, "SELECT a AS a, sum(x) AS b FROM (SELECT k AS a, i AS x FROM input WHERE b) AS y GROUP BY a"),
        query(0, "SELECT count(*) AS a, sum(i) AS b, min(t) AS c, max(d) AS d FROM input"),
        query(0, "SELECT count(DISTINCT k) AS a, count(DISTINCT p) AS b FROM input WHERE s > 0"),
        query(0, "SELECT avg(i) AS a FROM input HAVING count(*) > 10"),
        query(1, "SELECT DISTINCT k AS a FROM input"),
        query(3, "SELECT DISTINCT k AS a, i AS b, d AS c FROM input WHERE b"),
        query(1, "SELECT k AS a, first_value(i) AS b, last_value(p) AS c, last_value(t) FILTER (WHERE t IS NOT NULL) AS d FROM input GROUP BY k")
            .there("SELECT k AS a, (array_agg(i ORDER BY seq))[1] AS b, (array_agg(p ORDER BY seq DESC))[1] AS c, (array_agg(t ORDER BY seq DESC) FILTER (WHERE t IS NOT NULL))[1] AS d FROM input GROUP BY k"),
        query(1, "SELECT DISTINCT ON (k) k AS a, i AS b, t || '!' AS c, s + i AS d FROM input WHERE b")
            .there("SELECT DISTINCT ON (k) k AS a, i AS b, t || '!' AS c, s + i AS d FROM input WHERE b ORDER BY k, seq"),
        query(2, "SELECT DISTINCT ON (d, k) k AS a, d AS b, p AS c, f AS e FROM input")
            .there("SELECT DISTINCT ON (d, k) k AS a, d AS b, p AS c, f AS e FROM input ORDER BY d, k, seq")
            .then(1, "SELECT a AS a, sum(c) AS b, max(e) AS c FROM t GROUP BY a"),
        query(1, "SELECT k AS a, count(*) AS n FROM input GROUP BY k")
            .then(1, "SELECT n AS a, count(*) AS b, min(a) AS c, max(a) AS d FROM t GROUP BY n"),
        query(2, "SELECT k AS a, s AS b, sum(i) AS x, max(p) AS y, count(*) AS n FROM input GROUP BY k, s")
            .then(1, "SELECT a AS a, sum(x) AS b, avg(y) AS c, count(DISTINCT n) AS d, min(y) AS e, bool_and(x > 0) AS g FROM t GROUP BY a"),
        query(1, "SELECT k AS a, max(i) AS x FROM input GROUP BY k")
            .then(0, "SELECT count(*) AS a, sum(x) AS b, count(DISTINCT x) AS c FROM t WHERE x > 0"),
        query(1, "SELECT k AS a, last_value(i) AS x FROM input GROUP BY k")
            .there("SELECT k AS a, (array_agg(i ORDER BY seq DESC))[1] AS x FROM input GROUP BY k")
            .then(1, "SELECT DISTINCT x AS a FROM t"),
        query(1, "SELECT k AS a, sum(f) AS x, count(*) AS n FROM input GROUP BY k HAVING count(*) % 2 = 0")
            .then(1, "SELECT n AS a, max(x) AS b, sum(x) AS c FROM t GROUP BY n HAVING count(*) > 1"),
    ]
}

/// Numbers that look like chance and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

fn rows(dice: &mut Dice, count: usize) -> Vec<Vec<Option<&'static str>>> {
    let mut value = |pool: &'static [&'static str]| {
        let is_null = dice.roll(6) == 0;
        let value = pool[dice.roll(pool.len())];
        (!is_null).then_some(value)
    };
    (0..count)
        .map(|_| POOLS.iter().map(|pool| value(pool)).collect())
        .collect()
}

fn records(rows: &[Vec<Option<&str>>]) -> RecordBatch {
    let columns = COLUMNS.iter().map(|(name, ours, _)| column(name, ours));
    let schema = arrow_schema(&columns.collect::<Vec<_>>());
    let arrays = schema.fields().iter().enumerate().map(|(index, field)| {
        let texts: StringArray = rows
            .iter()
            .enumerate()
            .map(|(number, row)| match index.checked_sub(1) {
                None => Some(number.to_string()),
                Some(index) => row[index].map(str::to_owned),
            })
            .collect();
        let options = CastOptions {
            safe: false,
            ..CastOptions::default()
        };
        cast_with_options(&texts, field.data_type(), &options).unwrap()
    });
    let arrays: Vec<ArrayRef> = arrays.collect();
    RecordBatch::try_new(schema, arrays).unwrap()
}

fn column(name: &str, column_type: &str) -> Column {
    serde_json::from_value(serde_json::json!({"name": name, "type": column_type})).unwrap()
}

fn planned(query: &Query) -> JobGraph {
    let columns: Vec<String> = COLUMNS
        .iter()
        .map(|(name, ours, _)| format!("{{name: {name}, type: \"{ours}\"}}"))
        .collect();
    let transform = |name: &str, from: &str, sql: &str| {
        let sql = serde_json::Value::from(sql);
        format!("    - {{name: {name}, input: {from}, sql: {sql}}}\n")
    };
    let mut transforms = transform("t", "input", query.ours);
    let mut last = "t";
    if let Some((_, sql)) = query.then {
        transforms.push_str(&transform("u", "t", sql));
        last = "u";
    }
    let yaml = format!(
        "apiVersion: millstream.dev/v1alpha1\nkind: StreamJob\nmetadata: {{name: test}}\nspec:\n  \
         checkpoint: {{storage: \"file:///checkpoints\"}}\n  dataflow:\n    sources:\n    - {{name: \
         input, files: {{path: /in}}, schema: [{}]}}\n    transforms:\n{transforms}    sinks:\n    - \
         {{name: out, input: {last}, blackhole: {{}}}}\n",
        columns.join(", ")
    );
    let job = millstream_spec::read(&yaml, "test").unwrap();
    millstream_plan::plan(&job).unwrap_or_else(|error| panic!("{error}"))
}

/// A planned job in one subtask of each node.
struct Running {
    graph: JobGraph,
    operators: Vec<Option<Box<dyn Operator>>>,
}

impl Running {
    fn new(graph: JobGraph) -> Self {
        let nodes = graph.nodes.iter().enumerate();
        let operators = nodes.map(|(index, node)| operator(&graph, NodeIndex(index), node));
        Self {
            operators: operators.collect(),
            graph,
        }
    }

    /// What the sink is given for these records.
    fn round(&mut self, records: &RecordBatch) -> Vec<Batch> {
        let mut made: Vec<Vec<Batch>> = Vec::new();
        for (index, node) in self.graph.nodes.iter().enumerate() {
            let mut inputs = self.graph.inputs(NodeIndex(index));
            let input = inputs.next().map(|edge| made[edge.from.node().0].clone());
            made.push(match (input, &mut self.operators[index]) {
                (None, _) => {
                    let fields = node.schema.fields().iter();
                    let read = fields.map(|it| records.schema_ref().index_of(it.name()).unwrap());
                    let read: Vec<usize> = read.collect();
                    vec![Batch::new(records.project(&read).unwrap())]
                }
                (Some(input), Some(operator)) => {
                    batches(operator.as_mut(), input).unwrap_or_else(|error| panic!("{error}"))
                }
                (Some(input), None) => return input,
            });
        }
        panic!("there is no sink")
    }
}

fn operator(graph: &JobGraph, index: NodeIndex, node: &Node) -> Option<Box<dyn Operator>> {
    let expressions = |computed: &[Computed]| {
        let expression = |computed: &Computed| Expression {
            compute: Arc::clone(&computed.expression),
            text: computed.text.clone(),
        };
        computed.iter().map(expression).collect::<Vec<_>>()
    };
    let schema = Arc::clone(&node.schema);
    match &node.kind {
        NodeKind::Source(_) | NodeKind::Sink(_) => None,
        NodeKind::Sql(sql) => {
            let select = &sql.selects[0];
            let (filter, projection) = (&select.filter, &select.projection);
            let uid = node.uid.clone();
            let operator =
                SqlOperator::new(uid, expressions(filter), expressions(projection), schema);
            Some(Box::new(operator.unwrap()))
        }
        NodeKind::Aggregate(aggregation) => {
            let edge = graph.inputs(index).next().unwrap();
            let input = Arc::clone(&graph.node(edge.from.node()).unwrap().schema);
            let state = StateParameters {
                key_groups: 0..graph.max_parallelism,
                max_parallelism: graph.max_parallelism,
                clock: Arc::new(SystemClock::default()),
            };
            let uid = node.uid.clone();
            Some(aggregate::operator(uid, aggregation, &input, schema, state).unwrap())
        }
    }
}

type Row = Vec<Outcome>;

/// The rows that changes come to, by the texts of their keys.
#[derive(Default)]
struct Results(BTreeMap<Vec<String>, Row>);

impl Results {
    fn apply(&mut self, batch: &Batch, keys: usize) {
        let records = batch.records();
        let changes = changes(records);
        let columns = records.num_columns() - usize::from(changes.is_some());
        for number in 0..records.num_rows() {
            let row: Row = (0..columns)
                .map(|column| outcome(records.column(column), number))
                .collect();
            let key: Vec<String> = row.iter().take(keys).map(ToString::to_string).collect();
            let change = changes.map_or(Some(Change::Insert), |it| Change::of(it.value(number)));
            match change.unwrap() {
                Change::Insert => assert_eq!(self.0.insert(key, row), None, "it is new"),
                Change::UpdateAfter => drop(self.0.insert(key, row)),
                Change::UpdateBefore | Change::Delete => {
                    assert_eq!(
                        self.0.remove(&key),
                        Some(row),
                        "what is taken back was there"
                    );
                }
            }
        }
    }
}

fn outcome(column: &ArrayRef, row: usize) -> Outcome {
    if column.is_null(row) {
        return Outcome::Null;
    }
    let options = FormatOptions::new();
    let formatter = ArrayFormatter::try_new(column.as_ref(), &options).unwrap();
    Outcome::Value(column.data_type().clone(), formatter.value(row).to_string())
}

/// What a query comes to when its records come in batches, some of them together.
fn ours(query: &Query, records: &RecordBatch, dice: &mut Dice) -> Results {
    let keys = query.then.map_or(query.keys, |(keys, _)| keys);
    let mut running = Running::new(planned(query));
    let mut result = Results::default();
    let mut start = 0;
    while start < records.num_rows() {
        let length = (1 + dice.roll(40)).min(records.num_rows() - start);
        for batch in running.round(&records.slice(start, length)) {
            result.apply(&batch, keys);
        }
        start += length;
    }
    result
}

type Theirs = Vec<Vec<Option<String>>>;

fn theirs(text: Option<&str>, keys: usize) -> BTreeMap<Vec<String>, Vec<Option<String>>> {
    let rows: Theirs = text.map_or_else(Vec::new, |text| {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
    });
    let keyed = rows.into_iter().map(|row| {
        let key = row.iter().take(keys);
        let key = key.map(|value| value.clone().unwrap_or_else(|| "NULL".to_owned()));
        (key.collect(), row)
    });
    keyed.collect()
}

#[test]
fn running_aggregates_come_to_what_postgresql_gives_for_all_records() {
    let queries = queries();
    let mut dice = Dice(20_261_130);
    let mut cases = Vec::new();
    for size in [1, 3, 30, 200, 200] {
        for query in &queries {
            let rows = rows(&mut dice, size);
            let result = ours(query, &records(&rows), &mut dice);
            cases.push((query, query.postgres(&rows), result));
        }
    }
    let expressions: Vec<String> = cases.iter().map(|(_, sql, _)| sql.clone()).collect();
    let answers = Postgres::start().evaluate(&expressions);
    let mut compared = 0;
    for ((query, sql, result), answer) in cases.iter().zip(&answers) {
        let keys = query.then.map_or(query.keys, |(keys, _)| keys);
        let expected = theirs(answer.as_deref(), keys);
        let ours: Vec<&Vec<String>> = result.0.keys().collect();
        // Of no records there is no result yet; one query over them has one.
        if keys == 0 && result.0.is_empty() {
            continue;
        }
        let them: Vec<&Vec<String>> = expected.keys().collect();
        assert_eq!(ours, them, "{} {:?}\n{sql}", query.ours, query.then);
        for (key, row) in &result.0 {
            for (ours, theirs) in row.iter().zip(&expected[key]) {
                let same = alike(ours, theirs.as_deref());
                assert!(
                    same,
                    "{} {:?}, key {key:?}: {ours} here, {theirs:?} there\n{sql}",
                    query.ours, query.then
                );
                compared += 1;
            }
        }
    }
    assert!(compared > 2_000, "{compared}");
}
