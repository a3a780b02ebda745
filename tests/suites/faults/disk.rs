//! Disks that are full for a while.

use std::path::Path;
use std::time::Duration;

use millstream_tests::cluster::Cluster;
use millstream_tests::disk::{SmallDisk, as_root};
use millstream_tests::tools;
use millstream_tests::wait::{pause, wait_until};
use millstream_tests::{Broker, BrokerOptions};

use crate::job::{DEADLINE, Job, Place, Storage, plain, unchanged};

/// For so long nothing can be written: several checkpoints, and restarts.
const FULL: Duration = Duration::from_secs(8);
/// What `examples/orders-local` writes.
const ORDERS: usize = 899_926;

/// Checkpoints are files on a disk that is full twice, once while the coordinator is killed.
#[test]
fn a_full_disk_below_the_checkpoints_costs_no_record() {
    as_root(
        "disk::a_full_disk_below_the_checkpoints_costs_no_record",
        fill_below_checkpoints,
    );
}

fn fill_below_checkpoints() {
    let broker = Broker::start(BrokerOptions::default());
    let disk = SmallDisk::of_mebibytes(8);
    let place = Place {
        name: "full",
        broker: &broker,
        bootstrap: broker.bootstrap(),
        storage: Storage::Directory(disk.path().display().to_string()),
        change: unchanged,
    };
    let mut job = Job::start(&place, [&plain; 3]);
    job.wait_for_output();
    for is_killed in [false, true] {
        disk.fill();
        wait_until("nothing can be written", DEADLINE, || {
            job.tend();
            job.cluster.log_lines("No space left on device") > 0
        });
        pause(FULL / 2);
        if is_killed {
            job.restart_coordinator();
        }
        pause(FULL / 2);
        disk.make_room();
        job.wait_for_output();
    }
    job.finish(&broker);
}

/// Output and checkpoints are files on a disk that is full for a while: the same output as ever.
#[test]
fn a_full_disk_below_the_output_costs_no_record() {
    as_root(
        "disk::a_full_disk_below_the_output_costs_no_record",
        fill_below_output,
    );
}

fn fill_below_output() {
    let disk = SmallDisk::of_mebibytes(512);
    let here = disk.path().display().to_string();
    let example = tools::root().join("examples/orders-local/streamjob.yaml");
    let text = std::fs::read_to_string(example).expect("the example is there");
    let text = text
        .replace("file://./.run/orders-local", &format!("file://{here}"))
        .replace(".run/orders-local", &here)
        .replace("rowsPerSecond: 200000", "rowsPerSecond: 50000")
        .replace(
            "  dataflow:\n",
            "  restart: {fixedDelay: {delay: 200ms, attempts: 1000}}\n  dataflow:\n",
        );
    let mut cluster = Cluster::new("full-output", &text);
    let file = cluster.directory().join("streamjob.yaml");
    let launch = cluster
        .millstream("run")
        .arg(file)
        .args(["--progress", "lines"]);
    let mut run = cluster.start("run", &launch);
    let output = disk.path().join("processed-orders");
    wait_until("output is committed", DEADLINE, || lines(&output) > 0);
    disk.fill();
    wait_until("nothing can be written", DEADLINE, || {
        assert!(run.is_running(), "it ended early:\n{}", run.output());
        run.output().contains("No space left on device")
    });
    pause(FULL);
    assert!(run.is_running(), "it ended early:\n{}", run.output());
    disk.make_room();
    let status = run.wait(DEADLINE);
    assert!(status.success(), "{}", run.output());
    assert_eq!(lines(&output), ORDERS);
}

/// Lines of the files that readers of the output see.
fn lines(directory: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    let paths = entries.flatten().map(|entry| entry.path());
    let visible = paths.filter(|path| {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        path.is_file() && name.is_some_and(|name| !name.starts_with(['.', '_']))
    });
    visible
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("an output file is text");
            text.lines().count()
        })
        .sum()
}
