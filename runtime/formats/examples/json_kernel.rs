//! Speed of the JSON decoder and encoder by themselves, on one thread.
//!
//! `cargo run --release -p millstream-formats --example json_kernel [seconds per line]` prints one
//! JSON line per kernel: best and median of the repetitions in nanoseconds of CPU time per row,
//! rows and megabytes per CPU-second, and the part of the records that missed the shape cache.
//! Where the kernel does not count CPU time per thread, wall time is used and `clock` says so.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_schema::SchemaRef;
use millstream_formats::{JsonDecoder, JsonEncoder};
use millstream_types::schema::{Column, ColumnType, arrow_schema};

const RECORDS: usize = 4_096;
/// Passes over the corpus that are timed as one: the kernel counts CPU time in scheduler ticks.
const PASSES: usize = 100;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seconds = std::env::args()
        .nth(1)
        .map_or(Ok(1.0), |text| text.parse())?;
    let budget = Duration::from_secs_f64(seconds);
    let mut out = std::io::stdout().lock();
    for corpus in [orders(0), bids(0), bids(1), bids(100)] {
        writeln!(
            out,
            "{}",
            decode(&corpus, &corpus.schema, "decode", budget)?
        )?;
    }
    let corpus = bids(0);
    let narrow = Arc::new(corpus.schema.project(&[0, 2, 4])?);
    writeln!(
        out,
        "{}",
        decode(&corpus, &narrow, "decode 3 columns", budget)?
    )?;
    for corpus in [orders(0), bids(0)] {
        writeln!(out, "{}", encode(&corpus, budget)?)?;
    }
    Ok(())
}

/// Records to decode, and the columns in them.
struct Corpus {
    name: String,
    schema: SchemaRef,
    records: Vec<Vec<u8>>,
}

impl Corpus {
    fn bytes(&self) -> usize {
        self.records.iter().map(Vec::len).sum()
    }
}

/// About 95 bytes: a string, a string, an integer, a decimal and a timestamp.
fn orders(missing_percent: usize) -> Corpus {
    let records = (0..RECORDS).map(|index| {
        let fields = [
            format!("\"order_id\":\"o-{index:010}\""),
            format!("\"customer_id\":\"c-{:05}\"", index * 7919 % 10_000),
            format!("\"quantity\":{}", index * 31 % 12),
            format!("\"price\":{}.{:02}", index * 17 % 500, index * 13 % 100),
            format!("\"ts\":{}", 1_767_225_600_000_u64 + index as u64),
        ];
        object(&fields, index, missing_percent)
    });
    Corpus {
        name: format!("orders, {missing_percent} % shape misses"),
        schema: schema(&[
            ("order_id", ColumnType::String),
            ("customer_id", ColumnType::String),
            ("quantity", ColumnType::Int64),
            ("price", ColumnType::Decimal(12, 2)),
            ("ts", ColumnType::Timestamp),
        ]),
        records: records.collect(),
    }
}

/// About 193 bytes: four integers and three strings.
fn bids(missing_percent: usize) -> Corpus {
    let records = (0..RECORDS).map(|index| {
        let fields = [
            format!("\"auction\":{}", 1_000 + index * 37 % 100_000),
            format!("\"bidder\":{}", 5_000 + index * 91 % 100_000),
            format!("\"price\":{}", 100 + index * 7_919 % 10_000_000),
            format!("\"channel\":\"channel-{}\"", index * 3 % 10_000),
            format!(
                "\"url\":\"https://www.nexmark.com/item-{}/page.html?query=1\"",
                index * 57
            ),
            format!("\"date_time\":{}", 1_767_225_600_000_u64 + index as u64),
            format!("\"extra\":\"{:0>44}\"", index * 12_345),
        ];
        object(&fields, index, missing_percent)
    });
    let (number, text) = (ColumnType::Int64, ColumnType::String);
    Corpus {
        name: format!("bids, {missing_percent} % shape misses"),
        schema: schema(&[
            ("auction", number),
            ("bidder", number),
            ("price", number),
            ("channel", text),
            ("url", text),
            ("date_time", number),
            ("extra", text),
        ]),
        records: records.collect(),
    }
}

/// An object of these fields, in an order of its own if it is to miss the shape cache: there are
/// more orders than shapes that are remembered.
fn object(fields: &[String], index: usize, missing_percent: usize) -> Vec<u8> {
    let mut fields = fields.to_vec();
    if index % 100 < missing_percent {
        let by = 1 + index % (fields.len() - 1);
        fields.rotate_left(by);
        fields.swap(0, index / 7 % 3);
    }
    format!("{{{}}}", fields.join(",")).into_bytes()
}

fn schema(columns: &[(&str, ColumnType)]) -> SchemaRef {
    let columns = columns
        .iter()
        .map(|(name, column_type)| Column::new(*name, *column_type, true));
    arrow_schema(&columns.collect::<Vec<_>>())
}

fn decode(
    corpus: &Corpus,
    schema: &SchemaRef,
    kernel: &str,
    budget: Duration,
) -> Result<serde_json::Value, Box<dyn std::error::Error>> {
    let mut decoder = JsonDecoder::new(schema)?;
    let mut pass = || -> Result<(), Box<dyn std::error::Error>> {
        for (index, record) in corpus.records.iter().enumerate() {
            decoder.decode(record)?;
            if index % 1_024 == 1_023 {
                std::hint::black_box(decoder.finish()?);
            }
        }
        Ok(())
    };
    let times = repeat(&mut pass, budget)?;
    let misses = decoder.shape_misses() as f64 / (times.len() * PASSES + 1) as f64 / RECORDS as f64;
    Ok(line(kernel, corpus, corpus.bytes(), &times, misses))
}

fn encode(
    corpus: &Corpus,
    budget: Duration,
) -> Result<serde_json::Value, Box<dyn std::error::Error>> {
    let mut decoder = JsonDecoder::new(&corpus.schema)?;
    let mut batches = Vec::new();
    for records in corpus.records.chunks(1_024) {
        records
            .iter()
            .try_for_each(|record| decoder.decode(record))?;
        batches.push(decoder.finish()?);
    }
    let mut encoder = JsonEncoder::new(&corpus.schema)?;
    let mut bytes = 0;
    let mut pass = || -> Result<(), Box<dyn std::error::Error>> {
        bytes = 0;
        for batch in &batches {
            bytes += std::hint::black_box(encoder.encode(batch)?).bytes().len();
        }
        Ok(())
    };
    let times = repeat(&mut pass, budget)?;
    Ok(line("encode", corpus, bytes, &times, 0.0))
}

/// Runs a pass once to warm up and then until the budget is spent; nanoseconds per pass, ascending.
fn repeat(
    pass: &mut dyn FnMut() -> Result<(), Box<dyn std::error::Error>>,
    budget: Duration,
) -> Result<Vec<f64>, Box<dyn std::error::Error>> {
    pass()?;
    let started = Instant::now();
    let mut times = Vec::new();
    while started.elapsed() < budget || times.len() < 3 {
        let now = || cpu_nanos().unwrap_or_else(|| started.elapsed().as_nanos() as f64);
        let before = now();
        for _ in 0..PASSES {
            pass()?;
        }
        times.push((now() - before) / PASSES as f64);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// CPU time of this thread so far.
fn cpu_nanos() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanos: f64 = text.split(' ').next()?.parse().ok()?;
    (nanos > 0.0).then_some(nanos)
}

fn line(
    kernel: &str,
    corpus: &Corpus,
    bytes: usize,
    times: &[f64],
    misses: f64,
) -> serde_json::Value {
    let rows = RECORDS as f64;
    let round = |value: f64, places: f64| (value * places).round() / places;
    let best = times.first().copied().unwrap_or(f64::NAN);
    let median = times.get(times.len() / 2).copied().unwrap_or(f64::NAN);
    serde_json::json!({
        "kernel": kernel,
        "corpus": corpus.name,
        "bytes_per_row": round(bytes as f64 / rows, 10.0),
        "ns_per_row_best": round(best / rows, 10.0),
        "ns_per_row_median": round(median / rows, 10.0),
        "rows_per_cpu_second": (rows / median * 1e9).round(),
        "megabytes_per_cpu_second": (bytes as f64 / median * 1e3).round(),
        "shape_miss_ratio": round(misses, 1_000.0),
        "repetitions": times.len(),
        "clock": if cpu_nanos().is_some() { "thread CPU" } else { "wall" },
    })
}
