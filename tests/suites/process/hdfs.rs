//! The order job, with totals that it keeps by key, and its checkpoints in HDFS: its processes are killed,
//! and so are NameNode and DataNode.

use std::sync::Arc;
use std::time::Duration;

use millstream_tests::wait::pause;
use millstream_tests::workload::Workload;

use crate::faults::{Random, seed};
use crate::fixture::{OrderJob, Setup, feed};
use crate::keyed::{TOTALS, check, with_totals};
use crate::machine;
use crate::store::Kind;

const WORKERS: usize = 2;
const RECORDS: u64 = 400_000;
const FEED: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy)]
enum Fault {
    Worker,
    Coordinator,
    /// The NameNode ends, and its successor begins in safe mode.
    NameNode,
    DataNode,
}

const PLAN: [Fault; 9] = [
    Fault::Worker,
    Fault::Coordinator,
    Fault::NameNode,
    Fault::Worker,
    Fault::Coordinator,
    Fault::DataNode,
    Fault::Coordinator,
    Fault::Worker,
    Fault::NameNode,
];

#[test]
fn every_order_arrives_exactly_once_with_checkpoints_in_hdfs_under_kills() {
    let _machine = machine();
    let seed = seed();
    println!("MILLSTREAM_SEED={seed}");
    let workload = Workload::new(seed, RECORDS);
    let setup = Setup {
        change: with_totals::<2>,
        more_topics: &[TOTALS],
        store_kind: Kind::Hdfs,
        ..Setup::new("hdfs", WORKERS)
    };
    let mut job = OrderJob::start(setup);
    let brokers = Arc::clone(&job.brokers);
    std::thread::scope(|scope| {
        scope.spawn(|| feed(&brokers, workload, FEED));
        kill(&mut job, &mut Random::new(seed));
        look(&mut job);
    });
    let finished = job.finish(workload);
    finished.check(workload);
    check(&brokers, workload);
    assert!(finished.attempts > 3, "attempts");
    assert!(finished.checkpoints > 8, "checkpoints");
}

/// What the commands say of the job's checkpoints beside it; `show` and `verify` are part of the audit.
#[track_caller]
fn look(job: &mut OrderJob) {
    job.tend();
    let storage = job.checkpoints.storage();
    let listed = told(job, "list", &storage);
    assert!(listed.contains("order-processor"), "{listed}");
    let chain = job.checkpoints.chain();
    let state = told(job, "state", &chain);
    assert!(state.contains(TOTALS), "{state}");
}

#[track_caller]
fn told(job: &mut OrderJob, what: &str, address: &str) -> String {
    let launch = job.cluster.millstream("checkpoints");
    let launch = launch.args([what, address]);
    let mut process = job.cluster.start(what, &launch);
    let status = process.wait(Duration::from_mins(1));
    assert!(status.success(), "{what}: {}", process.output());
    process.output()
}

fn kill(job: &mut OrderJob, random: &mut Random) {
    let mut plan = PLAN.to_vec();
    random.shuffle(&mut plan);
    for fault in plan {
        pause(random.between(Duration::from_millis(500), Duration::from_secs(6)));
        job.tend();
        println!("{fault:?} after {} records", job.seen());
        match fault {
            Fault::Worker => job.kill_worker(usize::try_from(random.below(2)).expect("two")),
            Fault::Coordinator => job.kill_coordinator(),
            Fault::NameNode => {
                let hdfs = job.checkpoints.hdfs();
                hdfs.restart_name_node(0);
                hdfs.wait_until_ready(0);
            }
            Fault::DataNode => {
                let hdfs = job.checkpoints.hdfs();
                hdfs.restart_data_node();
                hdfs.wait_until_ready(0);
            }
        }
    }
}
