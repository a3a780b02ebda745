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
use super::wiring::join;
use crate::plan::JobTasks;
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
        let mut ends = join(job.as_ref(), &deploy.tasks, bound, &options.clock)?;
        let bounded = Arc::new(deploy.bounded);
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
