//! The tasks of one attempt in this worker.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_types::ids::TaskId;
use millstream_types::protocol::{Deploy, TaskDeployment};
use millstream_types::{Attempt, ErrorCode, ErrorKind, Failure, VertexId};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::Options;
use crate::plan::{ForwardEdge, JobTasks};
use crate::queue::{QUEUE_BYTES, QueueCloser, QueueReceiver, QueueSender, queue};
use crate::task::{Event, Start, TaskHandle, spawn};

/// Events that tasks may have said and nobody has heard yet; a task that says more waits.
const EVENTS: usize = 256;

pub(super) struct RunningAttempt {
    attempt: Attempt,
    tasks: BTreeMap<TaskId, TaskHandle>,
    closers: Vec<QueueCloser>,
    tracker: TaskTracker,
    events: mpsc::Receiver<(TaskId, Event)>,
}

/// A deployment whose job is being planned on a thread for such work.
pub(super) struct Planning {
    deploy: Deploy,
    job: JoinHandle<Result<Box<dyn JobTasks>, Failure>>,
}

/// A deployment and its planned job.
pub(super) struct Planned {
    pub(super) deploy: Deploy,
    pub(super) job: Result<Arc<dyn JobTasks>, Failure>,
}

impl Planning {
    pub(super) fn begin(options: &Options, deploy: Deploy) -> Self {
        let factory = Arc::clone(&options.factory);
        let for_plan = deploy.clone();
        Self {
            deploy,
            job: tokio::task::spawn_blocking(move || factory.job(&for_plan)),
        }
    }

    pub(super) const fn attempt(&self) -> Attempt {
        self.deploy.attempt
    }

    /// Waits for the plan. To be called again only if it was cancelled.
    pub(super) async fn end(&mut self) -> Planned {
        let planned = (&mut self.job).await;
        let panicked = |error| internal(format!("planning the job panicked: {error}"));
        Planned {
            deploy: self.deploy.clone(),
            job: planned.map_err(panicked).flatten().map(Arc::from),
        }
    }
}

impl RunningAttempt {
    /// Starts a thread for each task.
    pub(super) fn start(
        options: &Options,
        deploy: Deploy,
        job: &Arc<dyn JobTasks>,
    ) -> Result<Self, Failure> {
        let mut queues = Queues::join(&job.edges(), &deploy.tasks);
        let (sender, events) = mpsc::channel(EVENTS);
        let tracker = TaskTracker::new();
        let mut tasks = BTreeMap::new();
        for (index, TaskDeployment { task: id, restore }) in deploy.tasks.into_iter().enumerate() {
            let handle = spawn(Start {
                id,
                job: Arc::clone(job),
                restore: restore.into_iter().collect(),
                input: queues.inputs.remove(&id),
                outputs: queues.outputs.remove(&id).unwrap_or_default(),
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
            closers: queues.closers,
            tracker,
            events,
        })
    }

    pub(super) const fn attempt(&self) -> Attempt {
        self.attempt
    }

    pub(super) const fn tasks(&self) -> &BTreeMap<TaskId, TaskHandle> {
        &self.tasks
    }

    /// What the tasks say, and the tracker that is empty when all of them have stopped.
    pub(super) const fn watch(&mut self) -> (&mut mpsc::Receiver<(TaskId, Event)>, &TaskTracker) {
        (&mut self.events, &self.tracker)
    }

    /// Asks every task to stop and wakes those that wait for a neighbour or to be heard.
    pub(super) fn cancel(&mut self) {
        for handle in self.tasks.values() {
            handle.cancel();
        }
        for closer in &self.closers {
            closer.close();
        }
        self.events.close();
        while self.events.try_recv().is_ok() {}
    }
}

impl Drop for RunningAttempt {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// The queues between the tasks of one worker.
#[derive(Default)]
struct Queues {
    inputs: BTreeMap<TaskId, QueueReceiver>,
    outputs: BTreeMap<TaskId, Vec<(VertexId, QueueSender)>>,
    closers: Vec<QueueCloser>,
}

impl Queues {
    fn join(edges: &[ForwardEdge], deployments: &[TaskDeployment]) -> Self {
        let mut queues = Self::default();
        for edge in edges {
            let readers = deployments
                .iter()
                .map(|deployment| deployment.task)
                .filter(|task| task.vertex == edge.to);
            for reader in readers {
                let writer = TaskId {
                    vertex: edge.from,
                    subtask: reader.subtask,
                };
                let (sender, receiver, closer) = queue(QUEUE_BYTES);
                queues.inputs.insert(reader, receiver);
                queues.closers.push(closer);
                let ends = queues.outputs.entry(writer).or_default();
                ends.push((edge.to, sender));
            }
        }
        queues
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
