//! The tasks of one attempt in this worker.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use millstream_state::Memory;
use millstream_types::ids::TaskId;
use millstream_types::protocol::{Deploy, TaskDeployment};
use millstream_types::{Attempt, ErrorCode, ErrorKind, Failure};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::task::TaskTracker;

use super::Options;
use super::fetching::fetch;
use super::wiring::{Connections, Wiring};
use crate::chain::Contents;
use crate::plan::JobTasks;
use crate::snapshots::Writer;
use crate::task::{Event, Start, TaskHandle};

/// Events that tasks may have said and nobody has heard yet; a task that says more waits.
const EVENTS: usize = 256;

pub(super) struct RunningAttempt {
    attempt: Attempt,
    tasks: BTreeMap<TaskId, TaskHandle>,
    tracker: TaskTracker,
    events: mpsc::Receiver<(TaskId, Event)>,
    /// To other workers, if any of the tasks has a channel there.
    connections: Option<Connections>,
    /// Write the tasks' snapshots.
    writers: JoinSet<()>,
}

/// A deployment whose job is being planned, and then connected with the other workers, beside the
/// session's loop.
pub(super) struct Planning {
    deploy: Deploy,
    stage: Stage,
}

enum Stage {
    Planning(JoinHandle<Result<Box<dyn JobTasks>, Failure>>),
    /// The state is read while others connect.
    Fetching(Ready, BoxFuture<'static, Result<Contents, Failure>>),
    Connecting(Ready),
    Over,
}

/// Tasks that can be started: their job, the channels between them and to other workers, and the
/// state that they go on from.
pub(super) struct Ready {
    job: Arc<dyn JobTasks>,
    wiring: Wiring,
    memory: Memory,
    contents: Contents,
}

/// A deployment, and what can be started of it.
pub(super) struct Planned {
    pub(super) deploy: Deploy,
    pub(super) ready: Result<Ready, Failure>,
}

impl Planning {
    pub(super) fn begin(options: &Options, deploy: Deploy) -> Self {
        let factory = Arc::clone(&options.factory);
        let for_plan = deploy.clone();
        let planning = options.threads.work(move || factory.job(&for_plan));
        Self {
            deploy,
            stage: Stage::Planning(planning),
        }
    }

    pub(super) const fn attempt(&self) -> Attempt {
        self.deploy.attempt
    }

    /// Waits until the tasks can be started: no task runs before all its inputs are connected.
    ///
    /// # Cancel safety
    /// It goes on where it was.
    pub(super) async fn end(&mut self, options: &Options) -> Planned {
        let ready = loop {
            match &mut self.stage {
                Stage::Planning(planning) => {
                    let panicked = |error| internal(format!("planning the job panicked: {error}"));
                    let job = planning.await.map_err(panicked).flatten();
                    self.stage = Stage::Over;
                    match job.and_then(|job| Ready::new(options, Arc::from(job), &self.deploy)) {
                        Ok(ready) => {
                            let to = (&ready.memory, &options.threads);
                            let contents = fetch(ready.job.as_ref(), &self.deploy, to);
                            self.stage = Stage::Fetching(ready, contents);
                        }
                        Err(failure) => break Err(failure),
                    }
                }
                Stage::Fetching(_, contents) => {
                    let contents = contents.await;
                    let stage = std::mem::replace(&mut self.stage, Stage::Over);
                    match (stage, contents) {
                        (Stage::Fetching(ready, _), Ok(contents)) => {
                            self.stage = Stage::Connecting(Ready { contents, ..ready });
                        }
                        (_, Err(failure)) => break Err(failure),
                        (_, Ok(_)) => {}
                    }
                }
                Stage::Connecting(ready) => {
                    if let Some(connections) = &mut ready.wiring.connections
                        && let Err(failure) = connections.connected().await
                    {
                        break Err(failure);
                    }
                    if let Stage::Connecting(ready) =
                        std::mem::replace(&mut self.stage, Stage::Over)
                    {
                        break Ok(ready);
                    }
                }
                Stage::Over => break Err(internal(String::from("the job is planned already"))),
            }
        };
        Planned {
            deploy: self.deploy.clone(),
            ready,
        }
    }
}

impl Ready {
    fn new(options: &Options, job: Arc<dyn JobTasks>, deploy: &Deploy) -> Result<Self, Failure> {
        let wiring = Wiring::new(options, job.as_ref(), deploy)?;
        let limit = job.state_memory().unwrap_or(options.state_memory);
        let own = job.state_directory();
        let is_own = own.is_some();
        let directory = own.unwrap_or_else(|| options.state_directory.clone());
        let memory = Memory::with_directory(limit, Some(directory));
        if is_own {
            // Better said now than when memory is full.
            memory.directory()?;
        }
        Ok(Self {
            job,
            wiring,
            memory,
            contents: Contents::new(),
        })
    }
}

impl RunningAttempt {
    /// Starts a thread for each task.
    pub(super) fn start(options: &Options, deploy: Deploy, ready: Ready) -> Result<Self, Failure> {
        let Ready {
            job,
            wiring,
            memory,
            contents,
        } = ready;
        let contents = Arc::new(contents);
        let mut writers = JoinSet::new();
        let mut ends = wiring.ends;
        let bounded = Arc::new(deploy.bounded);
        let (sender, events) = mpsc::channel(EVENTS);
        let tracker = TaskTracker::new();
        let mut tasks = BTreeMap::new();
        for (index, TaskDeployment { task: id, restore }) in deploy.tasks.into_iter().enumerate() {
            let Some(end) = ends.remove(&id) else {
                continue;
            };
            let files = job.state_files(id);
            let (writer, snapshots) =
                Writer::new(files, options.threads.clone(), end.handle.clone());
            writers.spawn(writer.run());
            let handle = options
                .threads
                .spawn(Start {
                    id,
                    job: Arc::clone(&job),
                    restore: restore.into_iter().collect(),
                    contents: Arc::clone(&contents),
                    memory: memory.clone(),
                    snapshots,
                    inbox: end.inbox,
                    inputs: end.inputs,
                    handle: end.handle,
                    outputs: end.outputs,
                    bounded: Arc::clone(&bounded),
                    core: options.pinning.core(options.slots, index),
                    clock: Arc::clone(&options.clock),
                    events: sender.clone(),
                    token: tracker.token(),
                })
                .map_err(|error| no_thread(id, &error))?;
            tasks.insert(id, handle);
        }
        tracker.close();
        Ok(Self {
            attempt: deploy.attempt,
            tasks,
            tracker,
            events,
            connections: wiring.connections,
            writers,
        })
    }

    pub(super) const fn attempt(&self) -> Attempt {
        self.attempt
    }

    pub(super) const fn tasks(&self) -> &BTreeMap<TaskId, TaskHandle> {
        &self.tasks
    }

    /// What the tasks say, the connections to other workers, and the tracker that is empty when all
    /// tasks have stopped.
    pub(super) const fn watch(
        &mut self,
    ) -> (
        &mut mpsc::Receiver<(TaskId, Event)>,
        Option<&mut Connections>,
        &TaskTracker,
    ) {
        (&mut self.events, self.connections.as_mut(), &self.tracker)
    }

    /// Asks every task to stop and wakes those that wait for a neighbour or to be heard.
    pub(super) fn cancel(&mut self) {
        for handle in self.tasks.values() {
            handle.cancel();
        }
        self.writers.abort_all();
        // Wakes those that wait to send to another worker, and tells it that the attempt is over.
        self.connections = None;
        self.events.close();
        while self.events.try_recv().is_ok() {}
    }
}

impl Drop for RunningAttempt {
    fn drop(&mut self) {
        self.cancel();
    }
}

fn no_thread(task: TaskId, error: &std::io::Error) -> Failure {
    Failure::new(
        ErrorCode::OperatingSystem,
        ErrorKind::Retryable,
        format!("no thread for task {task}: {error}"),
    )
}

fn internal(message: String) -> Failure {
    Failure::new(ErrorCode::TaskPanicked, ErrorKind::Internal, message)
}
