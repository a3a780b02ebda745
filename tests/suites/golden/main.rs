//! The examples that need nothing but this machine, run to their end: interrupted, killed and
//! resumed at another parallelism, they leave the same output as without any of it.

mod edges;
mod keyed;
mod messages;
mod store;

use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream_tests::cluster::Cluster;
use millstream_tests::server::Server;
use millstream_tests::tools;
use millstream_tests::wait::wait_until;

const DEADLINE: Duration = Duration::from_mins(2);
/// Exit status of a process that has aborted.
const ABORTED: i32 = 128 + 6;

/// What `examples/orders-local` writes, as a multiset of lines. It changes only when the
/// generator, the transforms or the encoding do, and then on purpose.
const ORDERS_LOCAL: Golden = Golden {
    lines: 899_926,
    checksum: 2_625_405_378,
};

#[derive(Debug, PartialEq, Eq)]
struct Golden {
    lines: usize,
    /// CRC-32C of all lines, sorted, each with its line feed.
    checksum: u32,
}

/// The job of `examples/orders-local` in a directory of its own.
struct OrdersLocal {
    cluster: Cluster,
    text: String,
}

impl OrdersLocal {
    fn new(name: &str) -> Self {
        let path = tools::root().join("examples/orders-local/streamjob.yaml");
        let text = std::fs::read_to_string(path).expect("the example is there");
        let cluster = Cluster::new(name, &text);
        let here = cluster.directory().to_string_lossy().into_owned();
        assert!(text.contains("file://./.run/orders-local"));
        let text = text
            .replace("file://./.run/orders-local", &format!("file://{here}"))
            .replace(".run/orders-local", &here);
        Self { cluster, text }
    }

    /// Starts the job, or goes on with it, at a parallelism.
    fn run(&mut self, parallelism: u32) -> Server {
        self.run_with(parallelism, "")
    }

    /// As [`run`](Self::run), armed (the syntax of `FAILPOINTS`).
    fn run_with(&mut self, parallelism: u32, points: &str) -> Server {
        assert!(self.text.contains("parallelism: 2"));
        let text = self
            .text
            .replace("parallelism: 2", &format!("parallelism: {parallelism}"));
        let file = self.cluster.directory().join("streamjob.yaml");
        std::fs::write(&file, text).expect("a file in the scratch directory");
        let run = self
            .cluster
            .millstream("run")
            .arg(&file)
            .args(["--progress", "lines"])
            .env("FAILPOINTS", points);
        self.cluster.start("run", &run)
    }

    /// Files that readers of the output see.
    fn files(&self) -> Vec<PathBuf> {
        let directory = self.cluster.directory().join("processed-orders");
        let Ok(entries) = std::fs::read_dir(directory) else {
            return Vec::new();
        };
        let paths = entries.flatten().map(|entry| entry.path());
        let is_visible = |path: &PathBuf| {
            path.file_name()
                .is_some_and(|name| !name.to_string_lossy().starts_with(['.', '_']))
        };
        paths
            .filter(|path| path.is_file() && is_visible(path))
            .collect()
    }

    fn output(&self) -> Golden {
        let files = self.files();
        let mut lines: Vec<String> = files.iter().flat_map(|file| lines(file)).collect();
        lines.sort_unstable();
        let checksum = lines.iter().fold(0, |checksum, line| {
            crc32c::crc32c_append(crc32c::crc32c_append(checksum, line.as_bytes()), b"\n")
        });
        Golden {
            lines: lines.len(),
            checksum,
        }
    }

    /// Waits until more output is visible than before, while the job still runs.
    #[track_caller]
    fn wait_for_more(&self, server: &mut Server, files: usize) -> usize {
        wait_until("more output is committed", DEADLINE, || {
            assert!(server.is_running(), "it ended early:\n{}", server.output());
            self.files().len() > files
        });
        self.files().len()
    }
}

fn lines(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).expect("an output file is text");
    assert!(text.ends_with('\n'), "{} is complete", file.display());
    text.lines().map(str::to_owned).collect()
}

#[test]
fn the_local_orders_job_ends_with_its_golden_output_and_then_has_nothing_to_do() {
    let mut job = OrdersLocal::new("golden");
    let mut run = job.run(2);
    let status = run.wait(DEADLINE);
    assert!(status.success(), "{}", run.output());
    assert_eq!(job.output(), ORDERS_LOCAL);

    assert!(!run.output().contains("nothing ran"), "{}", run.output());

    let mut again = job.run(2);
    let status = again.wait(DEADLINE);
    assert!(status.success(), "{}", again.output());
    let said = again.output();
    assert!(said.contains("nothing ran"), "{said}");
    assert!(said.contains("--restore fresh"), "{said}");
    assert_eq!(job.output(), ORDERS_LOCAL);
}

#[test]
fn killed_interrupted_and_resumed_at_another_parallelism_it_leaves_the_same_output() {
    let mut job = OrdersLocal::new("golden");

    let mut run = job.run(2);
    let files = job.wait_for_more(&mut run, 0);
    assert!(run.kill());

    let mut run = job.run(4);
    let files = job.wait_for_more(&mut run, files);
    run.interrupt();
    let status = run.wait(DEADLINE);
    assert!(status.success(), "Ctrl-C stops it:\n{}", run.output());
    let stopped = job.output();
    assert!(stopped.lines < ORDERS_LOCAL.lines);

    let mut run = job.run(1);
    job.wait_for_more(&mut run, files);
    let status = run.wait(DEADLINE);
    assert!(status.success(), "{}", run.output());
    assert_eq!(job.output(), ORDERS_LOCAL);
}

#[test]
fn ended_at_each_place_of_the_files_sink_it_leaves_the_same_output() {
    let mut job = OrdersLocal::new("golden");
    for place in [
        "files-sink::prepared=2*off->return",
        "files-sink::before-rename=1*off->return",
        "files-sink::linked=1*off->return",
        "files-sink::after-rename=1*off->return",
    ] {
        let mut run = job.run_with(2, place);
        let status = run.wait(DEADLINE);
        assert_eq!(status.code(), Some(ABORTED), "{place}: {}", run.output());
    }
    let mut run = job.run(2);
    let status = run.wait(DEADLINE);
    assert!(status.success(), "{}", run.output());
    assert_eq!(job.output(), ORDERS_LOCAL);
}
