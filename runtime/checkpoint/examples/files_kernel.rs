//! Throughput of files of state: megabytes per CPU-second of this process.
//!
//! ```text
//! cargo run --release -p millstream-checkpoint --example files_kernel -- file:///tmp/x 1024
//! ```
//! The store's own CPU time, and for S3 that of its service, is not in the figures.

use std::error::Error;
use std::io::Write as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{TryStreamExt, stream};
use millstream_checkpoint::{Files, Storage, StorageOptions};
use millstream_types::{Attempt, CheckpointId, JobId, OperatorUid, SubtaskIndex};

const CHUNK: usize = 256 * 1024;

/// CPU time of this process: its kernel counts in hundredths of a second.
fn cpu() -> Result<Duration, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no process name")?;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let store = arguments
        .next()
        .ok_or("the address of a storage is missing")?;
    let megabytes: usize = arguments
        .next()
        .unwrap_or_else(|| "256".to_owned())
        .parse()?;
    let storage = Storage::open(&store, &StorageOptions::from_env()).await?;
    let job = JobId {
        namespace: "kernel".to_owned(),
        name: "files".to_owned(),
    };
    let files = Files::new(storage, &job, Attempt(1), SubtaskIndex(0));
    let operator = OperatorUid::from("state");
    let name = std::process::id().to_string();
    let chunk: Bytes = (0..CHUNK)
        .map(|byte| u8::try_from(byte % 251).unwrap_or(0))
        .collect();
    let chunks = std::iter::repeat_n(chunk, megabytes * 1_000_000 / CHUNK);
    let chunks = stream::iter(chunks.map(Ok));

    let (wall, begun) = (Instant::now(), cpu()?);
    let file = files.put(CheckpointId(1), &operator, &name, chunks).await?;
    report("put", file.bytes, wall, cpu()?.saturating_sub(begun))?;
    let (wall, begun) = (Instant::now(), cpu()?);
    let mut read = files.open(&file).await?;
    while read.try_next().await?.is_some() {}
    report("get", file.bytes, wall, cpu()?.saturating_sub(begun))
}

fn report(what: &str, bytes: u64, wall: Instant, cpu: Duration) -> Result<(), Box<dyn Error>> {
    let megabytes = bytes as f64 / 1e6;
    let (wall, cpu) = (wall.elapsed().as_secs_f64(), cpu.as_secs_f64());
    writeln!(
        std::io::stdout(),
        "{what}: {megabytes:.0} MB, {:.0} MB per CPU-second, {:.0} MB/s",
        megabytes / cpu,
        megabytes / wall
    )?;
    Ok(())
}
