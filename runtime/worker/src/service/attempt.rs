//! The tasks of one attempt in this worker.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_types::ids::TaskId;
use millstream_types::protocol::{Deploy, TaskDeployment};
use millstream_types::{Attempt, ErrorCode, ErrorKind, Failure};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::Options;
use crate::inbox::{ChannelSender, Inbox, InboxHandle, inbox};
use crate::plan::{EdgeIndex, ForwardEdge, JobTasks};
use crate::task::{Event, Start, TaskHandle};

/// Events that tasks may have said and nobody has heard yet; a task that says more waits.
const EVENTS: usize = 256;

pub(super) struct RunningAttempt {
    attempt: Attempt,
    tasks: BTreeMap<TaskId, TaskHandle>,
    tracker: TaskTracker,
    events: mpsc::Receiver<(TaskId, Event)>,
}

/// A deployment whose job is being planned, beside the session's loop.
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
            job: options.threads.work(move || factory.job(&for_plan)),
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
        let bound = options.threads.channel_bytes();
        let mut ends = join(&job.edges(), &deploy.tasks, bound);
        let (sender, events) = mpsc::channel(EVENTS);
        let tracker = TaskTracker::new();
        let mut tasks = BTreeMap::new();
        for (index, TaskDeployment { task: id, restore }) in deploy.tasks.into_iter().enumerate() {
            let Some(end) = ends.remove(&id) else {
                continue;
            };
            let handle = options
                .threads
                .spawn(Start {
                    id,
                    job: Arc::clone(job),
                    restore: restore.into_iter().collect(),
                    inbox: end.inbox,
                    channels: end.channels,
                    handle: end.handle,
                    outputs: end.outputs,
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
        self.events.close();
        while self.events.try_recv().is_ok() {}
    }
}

impl Drop for RunningAttempt {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// The ends that a task has of the channels between the tasks of one worker.
struct Ends {
    inbox: Inbox,
    channels: usize,
    handle: InboxHandle,
    outputs: Vec<(EdgeIndex, ChannelSender)>,
}

/// Makes the inbox of every task, and gives the senders to the tasks before it.
fn join(
    edges: &[ForwardEdge],
    deployments: &[TaskDeployment],
    bound: usize,
) -> BTreeMap<TaskId, Ends> {
    let mut outputs: BTreeMap<TaskId, Vec<(EdgeIndex, ChannelSender)>> = BTreeMap::new();
    let mut ends = BTreeMap::new();
    for TaskDeployment { task: reader, .. } in deployments {
        let numbered = (0..).map(EdgeIndex).zip(edges);
        let inputs: Vec<_> = numbered
            .filter(|(_, edge)| edge.to == reader.vertex)
            .collect();
        let (inbox, senders, handle) = inbox(inputs.len(), bound);
        let channels = inputs.len();
        for ((number, edge), sender) in inputs.into_iter().zip(senders) {
            let writer = TaskId {
                vertex: edge.from,
                subtask: reader.subtask,
            };
            outputs.entry(writer).or_default().push((number, sender));
        }
        let outputs = Vec::new();
        let end = Ends {
            inbox,
            channels,
            handle,
            outputs,
        };
        ends.insert(*reader, end);
    }
    for (task, end) in &mut ends {
        end.outputs = outputs.remove(task).unwrap_or_default();
    }
    ends
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
