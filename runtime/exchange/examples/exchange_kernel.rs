//! Speed of partitioning and of a connection between two workers, by themselves.
//!
//! `cargo run --release -p millstream-exchange --example exchange_kernel [seconds per line]` prints one
//! JSON line per figure. Partitioning stands beside its kernel: the same rows, hashed and scattered into
//! vectors that are there already, without batches, nulls or types. Connections go over the loopback
//! interface within one process; CPU time is that of both sides and of the kernel's network.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use millstream_exchange::{
    AttemptPlan, ChannelId, Credit, Deliver, Exchange, Gone, Incoming, Links, Outgoing,
    Partitioner, RemoteSender, Settings,
};
use millstream_transport::Transport;
use millstream_types::keys::DEFAULT_MAX_PARALLELISM;
use millstream_types::{Attempt, Batch, Element, WorkerId};

type Error = Box<dyn std::error::Error>;

/// Wakes a thread that waits for room.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

const ROWS: usize = 4_096;
const WINDOW: usize = 2 * 1_024 * 1_024;

fn main() -> Result<(), Error> {
    let seconds = std::env::args()
        .nth(1)
        .map_or(Ok(1.0), |text| text.parse())?;
    let budget = Duration::from_secs_f64(seconds);
    let mut out = std::io::stdout().lock();
    let (numbers, orders) = (numbers()?, orders()?);
    for destinations in [1, 2, 4, 8] {
        let kernel = scatter(&numbers, destinations, budget)?;
        let rate = partition(&numbers, destinations, budget)?;
        writeln!(
            out,
            r#"{{"figure":"partition","columns":"4 int64","destinations":{destinations},"million_rows_per_cpu_second":{rate:.1},"kernel":{kernel:.1},"of_kernel":{:.2}}}"#,
            rate / kernel
        )?;
        let rate = partition(&orders, destinations, budget)?;
        writeln!(
            out,
            r#"{{"figure":"partition","columns":"2 string, int64, decimal, timestamp of an order","destinations":{destinations},"million_rows_per_cpu_second":{rate:.1}}}"#
        )?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    for (columns, batch) in [("4 int64", &numbers), ("an order", &orders)] {
        for channels in [1, 2, 4, 8] {
            let rate = runtime.block_on(loopback(batch, channels, budget))?;
            writeln!(
                out,
                r#"{{"figure":"loopback","columns":"{columns}","channels":{channels},"gigabytes_per_cpu_second":{:.2},"gigabytes_per_second":{:.2}}}"#,
                rate.0, rate.1
            )?;
        }
    }
    Ok(())
}

/// CPU time of all threads of the process.
fn cpu() -> Result<Duration, Error> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat
        .rsplit_once(')')
        .ok_or("/proc/self/stat has another form")?;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u32 = ticks.map(str::parse::<u32>).sum::<Result<_, _>>()?;
    Ok(Duration::from_secs_f64(f64::from(ticks) / TICKS_PER_SECOND))
}

/// Runs `pass` until the budget is used; gives how often per CPU-second.
fn rate(budget: Duration, mut pass: impl FnMut() -> Result<(), Error>) -> Result<f64, Error> {
    pass()?;
    let (began, before) = (Instant::now(), cpu()?);
    let mut passes = 0_u32;
    while began.elapsed() < budget {
        for _ in 0..50 {
            pass()?;
        }
        passes += 50;
    }
    Ok(f64::from(passes) / cpu()?.saturating_sub(before).as_secs_f64())
}

fn numbers() -> Result<Batch, Error> {
    let column = |number: i64| -> ArrayRef {
        let value = move |row: i64| (row * 2_654_435_761 + number) % 1_000_003;
        Arc::new(Int64Array::from_iter_values((0..4_096).map(value)))
    };
    let columns = (0..4).map(|number| (format!("c{number}"), column(number)));
    Ok(Batch::new(RecordBatch::try_from_iter(columns)?))
}

fn orders() -> Result<Batch, Error> {
    let text = |text: fn(i64) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values((0..4_096).map(text)))
    };
    let prices = arrow_array::Decimal128Array::from_iter_values((0..4_096).map(i128::from));
    let times = (0..4_096).map(|row| 1_767_225_600_000_000 + row * 1_000);
    let times = arrow_array::TimestampMicrosecondArray::from_iter_values(times);
    let columns: [(&str, ArrayRef); 5] = [
        (
            "customer",
            text(|row| format!("customer-{}", row * 7_919 % 5_003)),
        ),
        ("order", text(|row| format!("00000000-0000-{row:012}"))),
        ("quantity", Arc::new(Int64Array::from_iter_values(0..4_096))),
        ("price", Arc::new(prices.with_precision_and_scale(12, 2)?)),
        ("at", Arc::new(times.with_timezone("+00:00"))),
    ];
    Ok(Batch::new(RecordBatch::try_from_iter(columns)?))
}

fn partition(batch: &Batch, destinations: usize, budget: Duration) -> Result<f64, Error> {
    let mut partitioner = Partitioner::hash(vec![0], DEFAULT_MAX_PARALLELISM, destinations);
    let mut out = Vec::new();
    let passes = rate(budget, || {
        partitioner.push(batch, &mut out)?;
        out.clear();
        Ok(())
    })?;
    Ok(passes * ROWS as f64 / 1e6)
}

/// The kernel: what partitioning numbers must do in any case.
fn scatter(batch: &Batch, destinations: usize, budget: Duration) -> Result<f64, Error> {
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    let columns = batch.records().columns().iter();
    let columns: Vec<&[i64]> = columns
        .map(|column| column.as_primitive::<Int64Type>().values().as_ref())
        .collect();
    let mut targets = vec![0_usize; ROWS];
    let mut scattered = vec![vec![0_i64; ROWS]; columns.len()];
    let passes = rate(budget, || {
        let mut starts = vec![0_usize; destinations + 1];
        for (target, value) in targets.iter_mut().zip(columns[0]) {
            let hash = mix(value.cast_unsigned());
            *target = usize::try_from((u128::from(hash) * destinations as u128) >> 64)?;
            starts[*target + 1] += 1;
        }
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        for (column, scattered) in columns.iter().zip(&mut scattered) {
            let mut next = starts.clone();
            for (value, target) in column.iter().zip(&targets) {
                scattered[next[*target]] = *value;
                next[*target] += 1;
            }
        }
        std::hint::black_box(&scattered);
        Ok(())
    })?;
    Ok(passes * ROWS as f64 / 1e6)
}

const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Takes everything at once.
struct Counting(Arc<AtomicU64>);

impl Deliver for Counting {
    fn deliver(&mut self, element: Element, _: Option<Credit>) -> Result<(), Gone> {
        if let Element::Batch(batch) = element {
            self.0.fetch_add(batch.bytes() as u64, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Gigabytes per CPU-second and per second.
async fn loopback(batch: &Batch, channels: u32, budget: Duration) -> Result<(f64, f64), Error> {
    let any: SocketAddr = "127.0.0.1:0".parse()?;
    let (a, b) = (
        Exchange::listen(any, Transport::plain(), Settings::default()),
        Exchange::listen(any, Transport::plain(), Settings::default()),
    );
    let (a, b) = (a.await?, b.await?);
    let received = Arc::new(AtomicU64::new(0));
    let plan = |worker: &str| AttemptPlan {
        job: String::from("kernel"),
        attempt: Attempt(1),
        worker: WorkerId::from(worker),
        peers: BTreeMap::from([(WorkerId::from("b"), b.address().to_string())]),
        outgoing: Vec::new(),
        incoming: Vec::new(),
    };
    let (mut from, mut to) = (plan("a"), plan("b"));
    for number in 0..channels {
        let channel = ChannelId {
            edge: 0,
            from: number,
            to: number,
        };
        from.outgoing.push(Outgoing {
            channel,
            to: WorkerId::from("b"),
            window: WINDOW,
        });
        to.incoming.push(Incoming {
            channel,
            from: WorkerId::from("a"),
            window: WINDOW,
            deliver: Box::new(Counting(Arc::clone(&received))),
        });
    }
    let (mut sending, mut receiving): (Links, Links) = (a.attempt(from), b.attempt(to));
    sending
        .connected()
        .await
        .map_err(|failure| failure.failure)?;
    receiving
        .connected()
        .await
        .map_err(|failure| failure.failure)?;
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = std::mem::take(&mut sending.senders)
        .into_values()
        .map(|sender| {
            let (stop, batch) = (Arc::clone(&stop), batch.clone());
            std::thread::spawn(move || send_all(&sender, &batch, &stop))
        })
        .collect();
    let (began, before, bytes) = (Instant::now(), cpu()?, received.load(Ordering::Relaxed));
    tokio::time::sleep(budget).await;
    let bytes = (received.load(Ordering::Relaxed) - bytes) as f64 / 1e9;
    let result = (
        bytes / cpu()?.saturating_sub(before).as_secs_f64(),
        bytes / began.elapsed().as_secs_f64(),
    );
    stop.store(true, Ordering::Relaxed);
    sending.close();
    for thread in threads {
        thread.join().map_err(|_| "a sender panicked")?;
    }
    Ok(result)
}

/// Sends as a task does: looks for room first, and waits for it.
fn send_all(sender: &RemoteSender, batch: &Batch, stop: &AtomicBool) {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    while !stop.load(Ordering::Relaxed) {
        if !sender.has_room(&waker) {
            std::thread::park();
        } else if sender.send(&Element::Batch(batch.clone())).is_err() {
            break;
        }
    }
}
