use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use millstream_connect::Result;
use millstream_exchange::{Exchange, Settings};
use millstream_operators::InputIndex;
use millstream_state::StateFiles;
use millstream_transport::Transport;
use millstream_types::clock::SystemClock;
use millstream_types::protocol::{Peer, TaskDeployment};
use millstream_types::{
    Attempt, Barrier, CheckpointId, CheckpointKind, Clock, Element, EventTime, Timestamp,
};

use super::*;
use crate::affinity::Pinning;
use crate::chain::Stop;
use crate::inbox::{Read, Received};
use crate::plan::{TaskFactory, TaskPlan};
use crate::testing::batch;

const SOON: Duration = Duration::from_secs(20);
const ALL: Read<'_> = Read::Channels { held: &[] };
const SUBTASKS: u32 = 4;
const BARRIER: Element = Element::Barrier(Barrier {
    checkpoint: CheckpointId(1),
    kind: CheckpointKind::Checkpoint,
    triggered_at: Timestamp(0),
    aligned_timeout_ms: None,
});

/// Two vertices, joined by one edge.
#[derive(Clone)]
struct Job(Partitioning);

impl JobTasks for Job {
    fn edges(&self) -> Vec<TaskEdge> {
        vec![TaskEdge {
            id: EdgeId(3),
            from: VertexId(0),
            to: VertexId(1),
            input: InputIndex(0),
            partitioning: self.0.clone(),
        }]
    }

    fn parallelism(&self, _: VertexId) -> u32 {
        SUBTASKS
    }

    fn task(&self, _: TaskId, _: &Arc<dyn Clock>) -> Result<TaskPlan> {
        unreachable!("only channels are made")
    }

    fn state_memory(&self) -> Option<u64> {
        None
    }

    fn state_directory(&self) -> Option<std::path::PathBuf> {
        None
    }

    fn state_files(&self, _: TaskId) -> Arc<dyn StateFiles> {
        unreachable!("only channels are made")
    }
}

impl TaskFactory for Job {
    fn job(&self, _: &Deploy) -> Result<Box<dyn JobTasks>> {
        Ok(Box::new(self.clone()))
    }
}

const fn task(vertex: u32, subtask: u32) -> TaskId {
    TaskId {
        vertex: VertexId(vertex),
        subtask: SubtaskIndex(subtask),
    }
}

fn hash() -> Partitioning {
    Partitioning::Hash {
        columns: vec![0],
        max_parallelism: 1_024,
    }
}

struct Side {
    options: Options,
    tasks: Vec<TaskId>,
}

impl Side {
    /// A worker with two of the four subtasks of both vertices.
    async fn new(name: &str, job: &Job, first: u32) -> Self {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let exchange = Exchange::listen(any, Transport::plain(), Settings::default())
            .await
            .unwrap();
        Self {
            options: Options {
                worker: WorkerId::from(name),
                slots: 2,
                build: String::from("test"),
                factory: Arc::new(job.clone()),
                clock: Arc::new(SystemClock::default()),
                state_memory: u64::MAX,
                state_directory: std::env::temp_dir(),
                pinning: Pinning::Off,
                threads: Threads::Own,
                exchange: Some(Arc::new(exchange)),
                cancel_timeout: SOON,
            },
            tasks: (0..2)
                .flat_map(|vertex| (first..first + 2).map(move |subtask| task(vertex, subtask)))
                .collect(),
        }
    }

    fn peer(&self) -> Peer {
        let exchange = self.options.exchange.as_ref().unwrap();
        Peer {
            worker: self.options.worker.clone(),
            exchange: Some(exchange.address().to_string()),
            tasks: self.tasks.clone(),
        }
    }

    fn deploy(&self, peers: Vec<Peer>) -> Deploy {
        let deployment = |task: &TaskId| TaskDeployment {
            task: *task,
            restore: Vec::new(),
        };
        Deploy {
            attempt: Attempt(1),
            lineage: None,
            job: String::new(),
            fingerprint: String::from("the same"),
            parallelism: SUBTASKS,
            bounded: BTreeSet::new(),
            peers,
            tasks: self.tasks.iter().map(deployment).collect(),
        }
    }
}

async fn wired(job: &Job) -> [Wiring; 2] {
    let (a, b) = (Side::new("a", job, 0).await, Side::new("b", job, 2).await);
    let mut first = Wiring::new(&a.options, job, &a.deploy(vec![b.peer()])).unwrap();
    let mut second = Wiring::new(&b.options, job, &b.deploy(vec![a.peer()])).unwrap();
    for wiring in [&mut first, &mut second] {
        let connections = wiring.connections.as_mut().unwrap();
        let connected = tokio::time::timeout(SOON, connections.connected());
        connected.await.expect("in time").unwrap();
    }
    // Exchanges live as long as their attempt.
    std::mem::forget((a, b));
    [first, second]
}

/// What all readers of an attempt get until the end of every channel, by subtask.
fn read(wirings: &mut [Wiring]) -> BTreeMap<u32, Vec<(usize, Element)>> {
    let mut all = BTreeMap::new();
    for wiring in wirings {
        for (task, end) in &mut wiring.ends {
            if task.vertex == VertexId(0) {
                continue;
            }
            let (mut elements, mut ends) = (Vec::new(), 0);
            while ends < end.inputs.len() {
                match end.inbox.next(ALL, SOON).unwrap() {
                    Some(Received::Element(channel, element)) => {
                        ends += usize::from(element == Element::End);
                        elements.push((channel.0, element));
                    }
                    Some(Received::Announced(..)) => {}
                    other => panic!("{other:?}"),
                }
            }
            all.insert(task.subtask.0, elements);
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_task_of_two_workers_has_a_channel_to_every_other() {
    const ROWS: u64 = 5_000;
    let mut wirings = wired(&Job(hash())).await;
    for wiring in &mut wirings {
        for (task, end) in &mut wiring.ends {
            for (edge, output) in &mut end.outputs {
                assert_eq!((*edge, task.vertex), (EdgeId(3), VertexId(0)));
                for start in 0..10 {
                    output
                        .batch(&batch(start * 500..start * 500 + 500))
                        .unwrap();
                }
                output.control(&Element::Watermark(EventTime(7))).unwrap();
                output.control(&BARRIER).unwrap();
                output.control(&Element::End).unwrap();
            }
        }
    }
    let received = read(&mut wirings);
    assert_eq!(received.len(), 4);
    let mut rows = 0;
    for elements in received.values() {
        for writer in 0..4 {
            let own = elements.iter().filter(|(channel, _)| *channel == writer);
            let own: Vec<&Element> = own.map(|(_, element)| element).collect();
            let [records @ .., watermark, barrier, Element::End] = own.as_slice() else {
                panic!("{own:?}");
            };
            assert_eq!(**watermark, Element::Watermark(EventTime(7)));
            assert_eq!(**barrier, BARRIER);
            for element in records {
                match element {
                    Element::Batch(batch) => rows += batch.rows() as u64,
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    assert_eq!(rows, 4 * ROWS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forward_edges_need_no_connection() {
    let job = Job(Partitioning::Forward);
    let (a, b) = (Side::new("a", &job, 0).await, Side::new("b", &job, 2).await);
    let mut options = a.options.clone();
    options.exchange = None;
    let wiring = Wiring::new(&options, &job, &a.deploy(vec![b.peer()])).unwrap();
    assert!(wiring.connections.is_none());
    assert_eq!(wiring.ends[&task(1, 0)].inputs.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_runs_nowhere_and_a_worker_without_exchange_are_told() {
    let job = Job(hash());
    let (a, b) = (Side::new("a", &job, 0).await, Side::new("b", &job, 2).await);
    let failed = |options: &Options, peers| {
        let failure = Wiring::new(options, &job, &a.deploy(peers)).err();
        failure.unwrap().message
    };
    assert!(failed(&a.options, Vec::new()).contains("no worker runs it"));
    let mut alone = a.options.clone();
    alone.exchange = None;
    assert!(failed(&alone, vec![b.peer()]).contains("`a` has no exchange"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_ends_in_one_worker_closes_the_channels_of_the_other() {
    let [first, mut second] = wired(&Job(hash())).await;
    drop(first);
    let (_, end) = second.ends.iter_mut().next().unwrap();
    let (_, output) = end.outputs.first_mut().unwrap();
    // It is no failure of this worker: its tasks stop quietly.
    let stop = loop {
        if !output.has_room(Waker::noop()) {
            tokio::task::yield_now().await;
        } else if let Err(stop) = output.batch(&batch(0..500)) {
            break stop;
        }
    };
    assert_eq!(stop, Stop::Cancelled);
    let (_, end) = second.ends.iter_mut().next_back().unwrap();
    while end
        .inbox
        .next(ALL, SOON)
        .is_ok_and(|received| received.is_some())
    {}
}
