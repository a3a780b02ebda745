//! Processes: each has an executor and a clock of its own, runs only when it is told to, and is gone
//! with everything in it when it crashes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millstream::job::LoadedJob;
use millstream::registry::state::StateStorage;
use millstream::registry::{Connectors, Substituted};
use millstream_checkpoint::StorageOptions;
use millstream_checkpoint::storage::simulated::install;
use millstream_connect::{SinkConnector, SourceConnector};
use millstream_coordinator::{
    CONNECTIONS_CAPACITY, Coordinator, Handle, Options, Outcome, Overrides, Progress, Restore,
    WorkerConnection,
};
use millstream_types::protocol::{Deploy, Heartbeat};
use millstream_types::{Clock, ErrorCode, ErrorKind, Failure, OperatorUid, Timestamp, WorkerId};
use millstream_worker::{
    CoordinatorConnection, Departure, Ended, JobTasks, Pinning, Stepped, SteppedTask, TaskFactory,
    Threads, Worker,
};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::network::{WorkerEnd, pass_up};
use crate::scenario::{EPOCH, Scenario};
use crate::sink::Sink;
use crate::source::Source;
use crate::store::StoreOf;
use crate::world::{Happening, Millis, ProcessId, What, World};

/// Bytes in a channel between two tasks from which on its writer waits: a few batches.
const CHANNEL_BYTES: usize = 4_000;

/// What runs in a process, and how it is reached.
pub(crate) enum Role {
    Coordinator(CoordinatorRole),
    Worker(WorkerRole),
}

pub(crate) struct CoordinatorRole {
    pub(crate) handle: Handle,
    pub(crate) workers: mpsc::Sender<WorkerConnection>,
    pub(crate) news: broadcast::Receiver<Progress>,
    outcome: Told<Outcome>,
}

pub(crate) struct WorkerRole {
    pub(crate) departure: Departure,
    pub(crate) tasks: BTreeMap<u64, SteppedTask>,
    stepped: Stepped,
    ended: Told<Ended>,
}

/// How a process has ended by itself.
pub(crate) enum Exit {
    Coordinator(Outcome),
    Worker(Ended),
}

/// What is told once, across the border of an executor.
type Told<T> = Arc<Mutex<Option<T>>>;

pub(crate) struct Process {
    pub(crate) id: ProcessId,
    pub(crate) role: Role,
    /// What has come while it was frozen.
    pub(crate) held: Option<Vec<Happening>>,
    runtime: Runtime,
    clock: ProcessClock,
}

/// The clock of a process: that of its executor.
#[derive(Debug, Clone)]
struct ProcessClock {
    base: Instant,
    started: Millis,
    skew: Millis,
}

impl Clock for ProcessClock {
    fn now(&self) -> Timestamp {
        let elapsed = u64::try_from(self.base.elapsed().as_millis()).unwrap_or(u64::MAX);
        Timestamp(EPOCH + self.started + self.skew + elapsed)
    }

    fn monotonic(&self) -> Duration {
        self.base.elapsed()
    }
}

/// What a process is made of.
pub(crate) struct Start<'a> {
    pub(crate) world: &'a Arc<World>,
    pub(crate) scenario: &'a Scenario,
    pub(crate) id: ProcessId,
    pub(crate) skew: Millis,
}

impl Start<'_> {
    fn executor(&self) -> (Runtime, ProcessClock) {
        let mut builder = Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build();
        let runtime = runtime.expect("an executor without I/O needs nothing");
        let base = {
            let _entered = runtime.enter();
            Instant::now()
        };
        let clock = ProcessClock {
            base,
            started: self.world.lock().now,
            skew: self.skew,
        };
        (runtime, clock)
    }

    fn connectors(&self) -> Connectors {
        let mut connectors = Connectors::default();
        for source in self.scenario.sources() {
            let connector: Arc<dyn SourceConnector> = Arc::new(Source {
                world: Arc::clone(self.world),
                process: self.id,
                topic: (*source).to_owned(),
            });
            let uid = OperatorUid::from(*source);
            connectors.sources.insert(uid, connector);
        }
        for sink in self.scenario.sinks() {
            let connector: Arc<dyn SinkConnector> = Arc::new(Sink {
                world: Arc::clone(self.world),
                process: self.id,
                topic: (*sink).to_owned(),
                partitions: 2,
            });
            let uid = OperatorUid::from(*sink);
            connectors.sinks.insert(uid, connector);
        }
        connectors
    }

    pub(crate) fn coordinator(&self, parallelism: u32) -> Process {
        let (runtime, clock) = self.executor();
        let LoadedJob { text, job, graph } = load(&self.scenario.job(parallelism));
        let connectors = self.connectors();
        let options = Options {
            job,
            job_text: text,
            graph,
            sources: connectors.sources,
            sinks: connectors.sinks,
            storage: StorageOptions::default(),
            restore: Restore::Latest,
            unless_advanced: false,
            expect_state: false,
            overrides: Overrides::default(),
            allow_dropped_state: false,
            accept_lost_output: None,
            resource_uid: None,
            deployment: None,
            heartbeat: Heartbeat {
                interval_ms: 250,
                timeout_ms: 1_800,
            },
            cancel_timeout: Duration::from_secs(2),
            clock: Arc::new(clock.clone()),
            seed: self.scenario.seed ^ self.id.0,
            holder: self.id.to_string(),
            host: None,
            build: "simulated".to_owned(),
        };
        let (workers, connections) = mpsc::channel(CONNECTIONS_CAPACITY);
        let (coordinator, handle) = Coordinator::new(options, connections);
        let news = handle.progress();
        let outcome = Told::default();
        let told = Arc::clone(&outcome);
        drop(runtime.spawn(async move {
            let outcome = coordinator.run(CancellationToken::new()).await;
            *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        }));
        Process {
            id: self.id,
            role: Role::Coordinator(CoordinatorRole {
                handle,
                workers,
                news,
                outcome,
            }),
            held: None,
            runtime,
            clock,
        }
    }

    pub(crate) fn worker(&self) -> Process {
        let (runtime, clock) = self.executor();
        let stepped = Stepped::new(CHANNEL_BYTES);
        let jobs = self.scenario.parallelism.map(|parallelism| {
            let job = load(&self.scenario.job(parallelism));
            Substituted {
                storage: Arc::new(StateStorage::of(&job.job)),
                connectors: self.connectors(),
                job,
            }
        });
        let worker = Worker::new(millstream_worker::Options {
            worker: WorkerId(format!("worker-{}", self.id)),
            slots: self.scenario.slots,
            build: "simulated".to_owned(),
            factory: Arc::new(Factory(jobs.to_vec())),
            clock: Arc::new(clock.clone()),
            threads: Threads::Stepped(stepped.clone()),
            exchange: None,
            state_memory: u64::MAX,
            state_directory: std::env::temp_dir(),
            pinning: Pinning::Off,
            cancel_timeout: Duration::from_secs(2),
        });
        let departure = Departure::default();
        let ended = Told::default();
        let told = Arc::clone(&ended);
        let life = live(Arc::clone(self.world), self.id, worker, departure.clone());
        drop(runtime.spawn(async move {
            let ended = life.await;
            *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended);
        }));
        Process {
            id: self.id,
            role: Role::Worker(WorkerRole {
                departure,
                tasks: BTreeMap::new(),
                stepped,
                ended,
            }),
            held: None,
            runtime,
            clock,
        }
    }
}

/// The life of a worker: it connects, serves, and connects again.
async fn live(world: Arc<World>, id: ProcessId, worker: Worker, departure: Departure) -> Ended {
    loop {
        let (answer, connected) = oneshot::channel();
        world.lock().after(2, Some(id), What::Connect(answer));
        if let Ok(Some(WorkerEnd { link, incoming })) = connected.await {
            let (outgoing, said) = mpsc::channel(64);
            let mut passing = JoinSet::new();
            passing.spawn(pass_up(Arc::clone(&world), link, said));
            let connection = CoordinatorConnection {
                outgoing,
                incoming,
                exchange: None,
            };
            let ended = worker.run(connection, departure.clone()).await;
            passing.join_next().await;
            if ended != Ended::ConnectionLost {
                return ended;
            }
        }
        // By the clock of this process, which passes when nothing else is to be done.
        tokio::time::sleep_until(Instant::now() + Duration::from_millis(80)).await;
    }
}

/// Finds the job by its text: coordinators run it at one parallelism or another.
struct Factory(Vec<Substituted>);

impl TaskFactory for Factory {
    fn job(&self, deploy: &Deploy) -> Result<Box<dyn JobTasks>, Failure> {
        let found = self.0.iter().find(|job| job.job.text == deploy.job);
        let found = found.ok_or_else(|| {
            let message = "the worker does not know this job";
            Failure::new(ErrorCode::PlanMismatch, ErrorKind::Internal, message)
        });
        found?.job(deploy)
    }
}

/// Plans a job, each only once.
fn load(text: &str) -> LoadedJob {
    static LOADED: Mutex<BTreeMap<String, LoadedJob>> = Mutex::new(BTreeMap::new());
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(job) = loaded.get(text) {
        return job.clone();
    }
    let job = LoadedJob::parse(text.to_owned(), "simulated.yaml").expect("the job can run");
    loaded.insert(text.to_owned(), job.clone());
    job
}

impl Process {
    /// Lets it do everything that it can do until now, and then all that is left to do at once.
    pub(crate) fn run(&self, world: &Arc<World>) {
        let now = world.lock().now.saturating_sub(self.clock.started);
        let until = self.clock.base + Duration::from_millis(now);
        self.block_on(world, async {
            // A timer is looked at when nothing else is left to do.
            let soon = Instant::now() + Duration::from_millis(1);
            tokio::time::sleep_until(until.max(soon)).await;
        });
    }

    /// Moves its clock to now, past everything that it would have been woken for.
    pub(crate) fn wake_up(&self, world: &Arc<World>) {
        let now = world.lock().now.saturating_sub(self.clock.started);
        self.block_on(world, async {
            let missed = Duration::from_millis(now).saturating_sub(self.clock.base.elapsed());
            tokio::time::advance(missed).await;
        });
    }

    /// Whatever it does meanwhile, the storage that it opens is that of the world.
    fn block_on(&self, world: &Arc<World>, future: impl Future<Output = ()>) {
        install(Some(Arc::new(StoreOf {
            world: Arc::clone(world),
            process: self.id,
        })));
        self.runtime.block_on(future);
        install(None);
    }

    /// Has a task do a step. Whether it is still there.
    pub(crate) fn step(&mut self, task: u64) -> bool {
        let _entered = self.runtime.enter();
        let Role::Worker(role) = &mut self.role else {
            return false;
        };
        let is_there = role.tasks.get_mut(&task).is_some_and(SteppedTask::step);
        if !is_there {
            role.tasks.remove(&task);
        }
        is_there
    }

    /// Tasks that it has started meanwhile, which get these numbers.
    pub(crate) fn new_tasks(&mut self, next: &mut u64) -> Vec<u64> {
        let Role::Worker(role) = &mut self.role else {
            return Vec::new();
        };
        let started = role.stepped.take().into_iter();
        started
            .map(|task| {
                *next += 1;
                role.tasks.insert(*next, task);
                *next
            })
            .collect()
    }

    /// How it has ended, if it has.
    pub(crate) fn exit(&self) -> Option<Exit> {
        match &self.role {
            Role::Coordinator(role) => {
                let mut outcome = role.outcome.lock().unwrap_or_else(PoisonError::into_inner);
                outcome.take().map(Exit::Coordinator)
            }
            Role::Worker(role) => {
                let mut ended = role.ended.lock().unwrap_or_else(PoisonError::into_inner);
                ended.take().map(Exit::Worker)
            }
        }
    }

    pub(crate) const fn is_coordinator(&self) -> bool {
        matches!(self.role, Role::Coordinator(_))
    }

    pub(crate) const fn is_frozen(&self) -> bool {
        self.held.is_some()
    }

    /// Does something beside everything else in it.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        drop(self.runtime.spawn(work));
    }
}
