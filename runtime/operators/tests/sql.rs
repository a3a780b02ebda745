//! What a SQL operator does with records.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test that fails should fail the test"
)]

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, Decimal128Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use arrow_select::concat::concat_batches;
use datafusion_expr::Operator as Op;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{CaseExpr, binary, cast, col, lit};
use millstream_operators::harness::{batches, drive};
use millstream_operators::sql::SqlOperator;
use millstream_types::{Batch, Element, ErrorCode, ErrorKind, EventTime};
use proptest::prelude::*;

type Expression = Arc<dyn PhysicalExpr>;

fn input() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("a", DataType::Int64, true),
        Field::new("b", DataType::Int64, true),
        Field::new("s", DataType::Utf8, true),
    ]))
}

fn a() -> Expression {
    col("a", &input()).unwrap()
}

fn b() -> Expression {
    col("b", &input()).unwrap()
}

fn s() -> Expression {
    col("s", &input()).unwrap()
}

fn op(left: Expression, op: Op, right: Expression) -> Expression {
    binary(left, op, right, &input()).unwrap()
}

/// `a / b`
fn quotient() -> Expression {
    op(a(), Op::Divide, b())
}

fn records(rows: &[(Option<i64>, Option<i64>)]) -> RecordBatch {
    let text = (0..rows.len()).map(|row| Some(format!("row {row}")));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>()),
        Arc::new(text.collect::<StringArray>()),
    ];
    RecordBatch::try_new(input(), columns).unwrap()
}

fn pairs(rows: &[(i64, i64)]) -> RecordBatch {
    let rows: Vec<_> = rows.iter().map(|(a, b)| (Some(*a), Some(*b))).collect();
    records(&rows)
}

fn operator(filter: Option<Expression>, outputs: &[(&str, Expression)]) -> SqlOperator {
    let fields: Vec<Field> = outputs
        .iter()
        .map(|(name, output)| Field::new(*name, output.data_type(&input()).unwrap(), true))
        .collect();
    let projection = outputs.iter().map(|(_, output)| Arc::clone(output).into());
    let schema = Arc::new(Schema::new(fields));
    let filter = filter.into_iter().map(Into::into).collect();
    SqlOperator::new("t".into(), filter, projection.collect(), schema).unwrap()
}

fn run(operator: &mut SqlOperator, records: RecordBatch) -> Option<RecordBatch> {
    let mut out = batches(operator, [Batch::new(records)]).unwrap();
    assert!(out.len() <= 1);
    out.pop().map(Batch::into_records)
}

fn numbers(records: &RecordBatch, column: usize) -> Vec<Option<i64>> {
    let column = records.column(column).as_any();
    column
        .downcast_ref::<Int64Array>()
        .unwrap()
        .iter()
        .collect()
}

fn refusal(operator: &mut SqlOperator, records: RecordBatch) -> String {
    let failure = batches(operator, [Batch::new(records)]).unwrap_err();
    assert_eq!(failure.code, ErrorCode::ExpressionFailed);
    assert_eq!(failure.kind, ErrorKind::InvalidJob);
    failure.message
}

#[test]
fn a_filter_keeps_what_is_true_and_neither_false_nor_null() {
    let positive = op(a(), Op::Gt, lit(0_i64));
    let mut sql = operator(Some(positive), &[("a", a()), ("s", s())]);
    let rows = records(&[
        (Some(1), None),
        (Some(-1), None),
        (None, None),
        (Some(2), None),
    ]);
    let out = run(&mut sql, rows).unwrap();
    assert_eq!(numbers(&out, 0), [Some(1), Some(2)]);
    assert_eq!(out.num_columns(), 2);
}

#[test]
fn nothing_is_emitted_for_a_batch_of_which_nothing_is_kept() {
    let mut sql = operator(Some(lit(false)), &[("a", a())]);
    assert_eq!(run(&mut sql, pairs(&[(1, 1), (2, 2)])), None);
}

#[test]
fn a_projection_never_sees_what_the_filter_drops() {
    let divisible = op(b(), Op::NotEq, lit(0_i64));
    let mut sql = operator(Some(divisible), &[("q", quotient())]);
    let out = run(&mut sql, pairs(&[(6, 3), (1, 0), (8, 2)])).unwrap();
    assert_eq!(numbers(&out, 0), [Some(2), Some(4)]);
}

#[test]
fn plain_columns_of_unfiltered_records_are_not_copied() {
    let everything = op(a(), Op::Gt, lit(0_i64));
    let mut sql = operator(Some(everything), &[("s", s()), ("renamed", a())]);
    let given = pairs(&[(1, 1), (2, 2)]);
    let out = run(&mut sql, given.clone()).unwrap();
    assert!(Arc::ptr_eq(given.column(2), out.column(0)));
    assert!(Arc::ptr_eq(given.column(0), out.column(1)));
    assert_eq!(out.schema().field(1).name(), "renamed");
}

#[test]
fn constants_need_no_column_of_the_input() {
    let mut sql = operator(None, &[("one", lit(1_i64))]);
    assert_eq!(
        numbers(&run(&mut sql, pairs(&[(5, 5), (6, 6)])).unwrap(), 0),
        [Some(1); 2]
    );
    let some = op(a(), Op::Eq, lit(6_i64));
    let mut sql = operator(Some(some), &[("one", lit(1_i64))]);
    assert_eq!(
        numbers(&run(&mut sql, pairs(&[(5, 5), (6, 6)])).unwrap(), 0),
        [Some(1)]
    );
}

#[test]
fn a_failure_names_the_expression_and_the_first_record() {
    let mut sql = operator(None, &[("a", a()), ("ratio", quotient())]);
    let mut rows = vec![(7, 1); 3_000];
    rows[1_234] = (41, 0);
    rows[2_000] = (42, 0);
    let message = refusal(&mut sql, pairs(&rows));
    assert_eq!(
        message,
        "node `t`, column `ratio`: `a / b` failed: division by zero; the first such record \
         has a = 41, b = 0"
    );
}

#[test]
fn a_failure_in_the_filter_says_so() {
    let wide = op(quotient(), Op::Gt, lit(1_i64));
    let mut sql = operator(Some(wide), &[("a", a())]);
    let message = refusal(
        &mut sql,
        records(&[(Some(1), Some(1)), (None, None), (Some(3), Some(0))]),
    );
    assert!(
        message.starts_with("node `t`, WHERE: `a / b > 1` failed"),
        "{message}"
    );
    assert!(message.ends_with("has a = 3, b = 0"), "{message}");
}

#[test]
fn a_text_that_does_not_fit_is_shown_cut_and_escaped() {
    let number = cast(s(), &input(), DataType::Int64).unwrap();
    let mut sql = operator(None, &[("n", number)]);
    let text: ArrayRef = Arc::new(StringArray::from(vec![format!(
        "\u{1b}[2J{}",
        "x".repeat(100)
    )]));
    let none: ArrayRef = Arc::new(Int64Array::from(vec![None]));
    let given = RecordBatch::try_new(input(), vec![Arc::clone(&none), none, text]).unwrap();
    let message = refusal(&mut sql, given);
    let shown = message.split("has s = ").last().unwrap();
    assert!(shown.starts_with("'\\u{1b}[2Jxxx"), "{message}");
    assert!(shown.ends_with("x…'"), "{message}");
    assert!(shown.len() < 90, "{message}");
}

#[test]
fn a_decimal_of_more_than_38_digits_is_a_failure() {
    let wide = DataType::Decimal128(38, 0);
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("d", wide.clone(), true)]));
    let sum = {
        let d = || col("d", &schema).unwrap();
        binary(d(), Op::Plus, d(), &schema).unwrap()
    };
    let fields = vec![Field::new("sum", wide, true)];
    let mut sql = SqlOperator::new(
        "t".into(),
        vec![],
        vec![sum.into()],
        Arc::new(Schema::new(fields)),
    )
    .unwrap();
    let batch = |values: Vec<i128>| {
        let values = Decimal128Array::from(values)
            .with_precision_and_scale(38, 0)
            .unwrap();
        RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(values)]).unwrap()
    };
    assert!(run(&mut sql, batch(vec![1, 2])).is_some());
    let message = refusal(&mut sql, batch(vec![1, 6 * 10_i128.pow(37)]));
    assert!(
        message.contains("d = 60000000000000000000000000000000000000"),
        "{message}"
    );
}

#[test]
fn what_is_no_batch_passes() {
    let mut sql = operator(None, &[("a", a())]);
    let elements = [
        Element::Watermark(EventTime(7)),
        Element::Batch(Batch::new(pairs(&[(1, 1)]))),
        Element::Idle,
        Element::End,
    ];
    let out = drive(&mut sql, elements).unwrap();
    assert!(matches!(
        out.as_slice(),
        [
            Element::Watermark(EventTime(7)),
            Element::Batch(_),
            Element::Idle,
            Element::End
        ]
    ));
}

#[test]
fn more_expressions_than_columns_are_refused() {
    let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
    let failure =
        SqlOperator::new("t".into(), vec![], vec![a().into(), b().into()], schema).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::Internal);
}

/// Conditions and outputs of which some fail for some records, guarded in several ways.
fn guarded() -> Vec<(Option<Expression>, Expression)> {
    let nonzero = || op(b(), Op::NotEq, lit(0_i64));
    let zero = || op(b(), Op::Eq, lit(0_i64));
    let wide = || op(quotient(), Op::Gt, lit(1_i64));
    let case = CaseExpr::try_new(None, vec![(nonzero(), quotient())], Some(lit(-1_i64))).unwrap();
    vec![
        (Some(op(nonzero(), Op::And, wide())), quotient()),
        (Some(op(zero(), Op::Or, wide())), a()),
        (None, op(nonzero(), Op::And, wide())),
        (None, op(zero(), Op::Or, wide())),
        (None, Arc::new(case)),
        (
            Some(op(a(), Op::Gt, lit(90_i64))),
            op(nonzero(), Op::And, wide()),
        ),
        (
            Some(op(
                op(a(), Op::Gt, lit(90_i64)),
                Op::And,
                op(nonzero(), Op::And, wide()),
            )),
            quotient(),
        ),
    ]
}

/// Every record in a batch of its own: what a row engine would do.
fn one_by_one(operator: &mut SqlOperator, records: &RecordBatch) -> Vec<RecordBatch> {
    (0..records.num_rows())
        .filter_map(|row| run(operator, records.slice(row, 1)))
        .collect()
}

proptest! {
    #[test]
    fn a_record_gives_the_same_whatever_records_are_beside_it(
        rows in prop::collection::vec(
            (prop::option::weighted(0.9, 0_i64..100), prop::option::weighted(0.9, 0_i64..4)),
            1..60,
        ),
        which in 0_usize..7,
    ) {
        let (filter, output) = guarded().swap_remove(which);
        let mut sql = operator(filter, &[("a", a()), ("out", output), ("s", s())]);
        let given = records(&rows);
        let expected = one_by_one(&mut sql, &given);
        let together = run(&mut sql, given.clone());
        let schema = expected.first().map(RecordBatch::schema);
        prop_assert_eq!(together.is_some(), schema.is_some());
        if let (Some(together), Some(schema)) = (together, schema) {
            prop_assert_eq!(together, concat_batches(&schema, &expected).unwrap());
        }
    }

    #[test]
    fn a_batch_fails_exactly_if_one_of_its_records_does(
        rows in prop::collection::vec((0_i64..100, 0_i64..3), 1..60),
    ) {
        let mut sql = operator(None, &[("q", quotient())]);
        let failed = batches(&mut sql, [Batch::new(pairs(&rows))]).err();
        let first = rows.iter().find(|(_, b)| *b == 0);
        prop_assert_eq!(failed.is_some(), first.is_some());
        if let (Some(failed), Some((a, b))) = (failed, first) {
            let end = format!("has a = {a}, b = {b}");
            prop_assert!(failed.message.ends_with(&end), "{}", failed.message);
        }
    }
}

#[test]
fn a_batch_without_columns_keeps_its_number_of_rows() {
    let none = Arc::new(Schema::empty());
    let options = RecordBatchOptions::new().with_row_count(Some(3));
    let given = RecordBatch::try_new_with_options(none, Vec::new(), &options).unwrap();
    let mut sql = operator(None, &[("one", lit(1_i64))]);
    assert_eq!(run(&mut sql, given).unwrap().num_rows(), 3);
}
