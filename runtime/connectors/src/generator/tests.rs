//! The generator as a task sees it.

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Int64Type, TimestampMicrosecondType};
use arrow_select::concat::concat_batches;
use millstream_spec::valid::SourceConnector as SourceOptions;
use millstream_spec::{Format, OnError};
use millstream_types::schema::arrow_schema;
use millstream_types::{JobId, SubtaskIndex};

use super::*;

fn connector(options: &GeneratorSource) -> Arc<dyn SourceConnector> {
    let spec = Arc::new(ValidSource {
        parallelism: None,
        name: "orders".to_owned(),
        connector: SourceOptions::Generator(options.clone()),
        format: Format::Json(millstream_spec::dataflow::JsonFormat::default()),
        schema: GeneratorSource::columns(),
        metadata: Vec::new(),
        watermark: None,
        on_error: OnError::Fail,
    });
    crate::source(&spec).unwrap()
}

fn context(columns: &[usize]) -> ReaderContext {
    let schema = arrow_schema(&GeneratorSource::columns());
    ReaderContext {
        job: JobId {
            namespace: "default".to_owned(),
            name: "test".to_owned(),
        },
        uid: "orders".into(),
        subtask: SubtaskIndex(0),
        parallelism: 1,
        schema: Arc::new(schema.project(columns).unwrap()),
    }
}

fn discover(connector: &dyn SourceConnector) -> Discovery {
    let mut enumerator = connector.enumerator().unwrap();
    let discovery = enumerator.discover(&BTreeSet::new(), true).now_or_never();
    discovery.unwrap().unwrap()
}

/// Everything that a reader of these splits makes, at most `polls` polls of it.
fn read(
    connector: &dyn SourceConnector,
    splits: Vec<SplitState>,
    polls: usize,
) -> (Vec<RecordBatch>, Vec<SplitState>) {
    let mut reader = connector.reader(context(&[0, 1, 2, 3, 4])).unwrap();
    reader.add_splits(splits).unwrap();
    let mut batches = Vec::new();
    for _ in 0..polls {
        match reader.poll(Duration::ZERO).unwrap() {
            Polled::Records(output) => {
                let batch = output.batch.unwrap();
                let rows: usize = output.runs.iter().map(|run| run.rows).sum();
                assert_eq!(rows, batch.rows());
                assert!(rows <= MAX_BATCH_ROWS);
                batches.push(batch.into_records());
            }
            Polled::Nothing => panic!("an unlimited generator always has something"),
            Polled::End => break,
        }
    }
    (batches, reader.snapshot())
}

fn sorted(batches: &[RecordBatch]) -> Vec<(String, String, i64, i128, i64)> {
    let schema = arrow_schema(&GeneratorSource::columns());
    let all = concat_batches(&schema, batches).unwrap();
    let mut rows: Vec<_> = (0..all.num_rows())
        .map(|row| {
            (
                all.column(0).as_string::<i32>().value(row).to_owned(),
                all.column(1).as_string::<i32>().value(row).to_owned(),
                all.column(2).as_primitive::<Int64Type>().value(row),
                all.column(3).as_primitive::<Decimal128Type>().value(row),
                all.column(4)
                    .as_primitive::<TimestampMicrosecondType>()
                    .value(row),
            )
        })
        .collect();
    rows.sort();
    rows
}

fn bounded(rows: u64) -> GeneratorSource {
    GeneratorSource {
        rows: Some(rows),
        ..GeneratorSource::default()
    }
}

#[test]
fn all_splits_together_make_every_order_once_however_they_are_dealt() {
    let options = bounded(50_001);
    let connector = connector(&options);
    let splits = discover(connector.as_ref()).splits;
    assert_eq!(splits.len(), 4);
    let (together, _) = read(connector.as_ref(), splits.clone(), usize::MAX);
    let (left, right) = splits.split_at(1);
    let (mut apart, _) = read(connector.as_ref(), left.to_vec(), usize::MAX);
    apart.extend(read(connector.as_ref(), right.to_vec(), usize::MAX).0);
    let orders = sorted(&together);
    assert_eq!(orders, sorted(&apart));
    assert_eq!(orders.len(), 50_001);
    for (index, order) in orders.iter().enumerate() {
        assert_eq!(order.0, format!("o-{index:012}"));
    }
}

#[test]
fn a_reader_goes_on_exactly_where_the_snapshot_says() {
    let options = GeneratorSource {
        splits: 3,
        ..bounded(40_000)
    };
    let connector = connector(&options);
    let splits = discover(connector.as_ref()).splits;
    let (whole, end) = read(connector.as_ref(), splits.clone(), usize::MAX);
    let (mut parts, middle) = read(connector.as_ref(), splits, 4);
    assert!(middle.iter().any(|split| !split.finished));
    let (rest, same_end) = read(connector.as_ref(), middle, usize::MAX);
    parts.extend(rest);
    assert_eq!(sorted(&parts), sorted(&whole));
    assert_eq!(same_end, end);
    assert!(end.iter().all(|split| split.finished));
    assert_eq!(end.iter().map(|split| split.records).sum::<u64>(), 40_000);
}

#[test]
fn about_the_asked_part_of_the_orders_is_invalid() {
    for (ratio, least, most) in [(0.0, 0, 0), (0.1, 4_700, 5_300), (1.0, 50_000, 50_000)] {
        let options = GeneratorSource {
            invalid_ratio: ratio,
            ..bounded(50_000)
        };
        let connector = connector(&options);
        let splits = discover(connector.as_ref()).splits;
        let orders = sorted(&read(connector.as_ref(), splits, usize::MAX).0);
        let invalid = orders.iter().filter(|order| order.2 <= 0).count();
        assert!((least..=most).contains(&invalid), "{invalid} of {ratio}");
        assert!(orders.iter().all(|order| order.3 > 0 && order.3 <= 100_000));
        let customers: BTreeSet<_> = orders.iter().map(|order| &order.1).collect();
        assert!((9_800..=10_000).contains(&customers.len()));
    }
}

#[test]
fn another_seed_makes_other_orders_and_the_same_seed_the_same() {
    let orders = |seed| {
        let connector = connector(&GeneratorSource {
            seed,
            ..bounded(100)
        });
        let splits = discover(connector.as_ref()).splits;
        sorted(&read(connector.as_ref(), splits, usize::MAX).0)
    };
    assert_eq!(orders(1), orders(1));
    assert_ne!(orders(1), orders(2));
    // Pinned: a restored job must go on making the orders that it began with.
    let (id, customer, quantity, cents, micros) = orders(1).swap_remove(7);
    assert_eq!(
        (id.as_str(), micros),
        ("o-000000000007", 1_767_225_600_007_000)
    );
    assert_eq!(
        (customer.as_str(), quantity, cents),
        ("c-007163", 7, 84_830)
    );
}

#[test]
fn only_the_asked_columns_are_made() {
    let connector = connector(&bounded(10));
    let mut reader = connector.reader(context(&[3, 0])).unwrap();
    reader
        .add_splits(discover(connector.as_ref()).splits)
        .unwrap();
    let Polled::Records(output) = reader.poll(Duration::ZERO).unwrap() else {
        panic!("ten orders are there");
    };
    let schema = output.batch.unwrap().schema();
    let names: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .collect();
    assert_eq!(names, ["price", "order_id"]);
}

#[test]
fn a_limited_rate_waits_and_is_not_exceeded() {
    let options = GeneratorSource {
        rows_per_second: Some(2_000),
        ..GeneratorSource::default()
    };
    let connector = connector(&options);
    let mut reader = connector.reader(context(&[0])).unwrap();
    let started = Instant::now();
    reader
        .add_splits(discover(connector.as_ref()).splits)
        .unwrap();
    while reader.counters().records_out < 200 {
        reader.poll(Duration::from_millis(20)).unwrap();
    }
    let least = Duration::from_secs_f64(200.0 / 2_000.0);
    // Up to one grain of rows more than 200 is made.
    assert!(
        started.elapsed() >= least.mul_f64(0.9),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn without_splits_there_is_nothing_and_no_end() {
    let connector = connector(&bounded(10));
    let mut reader = connector.reader(context(&[0])).unwrap();
    assert_eq!(reader.poll(Duration::ZERO).unwrap(), Polled::Nothing);
    // More splits than orders: those beyond are finished from the beginning.
    let few = self::connector(&bounded(2));
    let splits = discover(few.as_ref()).splits;
    let finished: Vec<_> = splits.iter().map(|split| split.finished).collect();
    assert_eq!(finished, [false, false, true, true]);
}

#[test]
fn other_options_than_the_checkpoints_are_refused() {
    let before = discover(connector(&bounded(10)).as_ref()).identity.unwrap();
    let verify = |options: &GeneratorSource| {
        let mut enumerator = connector(options).enumerator().unwrap();
        enumerator.verify(&before).now_or_never().unwrap()
    };
    let faster = GeneratorSource {
        rows_per_second: Some(7),
        ..bounded(10)
    };
    assert_eq!(verify(&faster), Ok(()));
    for other in [
        bounded(11),
        GeneratorSource {
            seed: 2,
            ..bounded(10)
        },
        GeneratorSource {
            splits: 5,
            ..bounded(10)
        },
    ] {
        let failure = verify(&other).unwrap_err();
        assert_eq!(failure.kind, ErrorKind::InvalidJob);
        assert!(failure.message.contains("--restore fresh"), "{failure}");
    }
}

#[test]
fn a_position_of_another_connector_is_refused() {
    let connector = connector(&bounded(10));
    let mut reader = connector.reader(context(&[0])).unwrap();
    for position in ["{\"offset\":3}", "", "{\"next\":0,\"splits\":0}"] {
        let split = SplitState {
            split: "0".to_owned(),
            position: Opaque(position.to_owned()),
            records: 0,
            finished: false,
        };
        let failure = reader.add_splits(vec![split]).unwrap_err();
        assert_eq!(failure.code, ErrorCode::IncompatibleState);
    }
}
