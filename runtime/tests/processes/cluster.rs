//! `millstream coordinator` and `millstream worker`.

use millstream_tests::ports::free_port;
use rustix::process::Signal;

use crate::job::Job;
use crate::process::{Process, wait_for, wait_for_port};

struct Cluster {
    job: Job,
    port: u16,
}

impl Cluster {
    fn new(rows_per_second: Option<u64>) -> Self {
        Self {
            job: Job::new(rows_per_second),
            port: free_port(),
        }
    }

    fn coordinator(&self) -> Process {
        let file = self.job.file().display().to_string();
        let listen = format!("127.0.0.1:{}", self.port);
        let arguments = ["coordinator", "--job", &file, "--listen", &listen];
        let process = Process::start(self.job.path(), &arguments);
        wait_for_port(self.port);
        process
    }

    fn worker(&self) -> Process {
        let address = format!("127.0.0.1:{}", self.port);
        let arguments = ["worker", "--coordinator", &address, "--slots", "1"];
        Process::start(self.job.path(), &arguments)
    }

    /// Waits until more is committed than was.
    fn progress(&self) {
        let before = self.job.files().len();
        wait_for("a checkpoint is committed", || {
            (self.job.files().len() > before).then_some(())
        });
    }
}

#[test]
fn a_coordinator_and_two_workers_complete_a_job() {
    let cluster = Cluster::new(None);
    let coordinator = cluster.coordinator();
    let workers = [cluster.worker(), cluster.worker()];
    coordinator.succeeds();
    for worker in workers {
        worker.succeeds();
    }
    cluster.job.assert_exact();
}

#[test]
fn workers_and_the_coordinator_may_be_killed() {
    let cluster = Cluster::new(Some(15_000));
    let mut coordinator = cluster.coordinator();
    let mut workers = vec![cluster.worker(), cluster.worker()];
    for round in 0..4 {
        cluster.progress();
        if round % 2 == 0 {
            workers.remove(0).kill();
            workers.push(cluster.worker());
        } else {
            coordinator.kill();
            coordinator = cluster.coordinator();
        }
    }
    coordinator.succeeds();
    for worker in workers {
        worker.succeeds();
    }
    cluster.job.assert_exact();
}

#[test]
fn a_coordinator_that_was_replaced_is_fenced() {
    let cluster = Cluster::new(Some(5_000));
    let old = cluster.coordinator();
    let worker = cluster.worker();
    let other_worker = cluster.worker();
    cluster.progress();
    old.signal(Signal::STOP);
    worker.kill();
    other_worker.kill();
    let successor = Cluster {
        port: free_port(),
        job: cluster.job,
    };
    let new = successor.coordinator();
    let workers = [successor.worker(), successor.worker()];
    successor.progress();
    old.signal(Signal::CONT);
    let (status, _, log) = old.end();
    assert_eq!(status.code(), Some(3), "{log}");
    assert!(log.contains("MS0304"), "{log}");
    new.succeeds();
    for worker in workers {
        worker.succeeds();
    }
    successor.job.assert_exact();
}

#[test]
fn a_worker_without_a_coordinator_gives_up_and_names_the_address() {
    let directory = tempfile::tempdir().unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let arguments = [
        "worker",
        "--coordinator",
        &address,
        "--connect-timeout",
        "300ms",
    ];
    let (status, _, log) = Process::start(directory.path(), &arguments).end();
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("MS0506") && log.contains(&address), "{log}");
}

#[test]
fn two_coordinators_do_not_share_an_address() {
    let cluster = Cluster::new(Some(1_000));
    let _first = cluster.coordinator();
    let file = cluster.job.file().display().to_string();
    let listen = format!("127.0.0.1:{}", cluster.port);
    let arguments = ["coordinator", "--job", &file, "--listen", &listen];
    let (status, _, log) = Process::start(cluster.job.path(), &arguments).end();
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("MS0509") && log.contains(&listen), "{log}");
}
