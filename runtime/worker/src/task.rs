//! One task: an operating-system thread with an inbox.
//!
//! The thread builds its readers and writers, then runs the loop of [`run`] until it is cancelled
//! or fails. It is spoken to through its [inbox](crate::inbox), and cancelled by closing that; it
//! speaks through a bounded channel of [`Event`]s.

mod barriers;
mod root;
mod run;
#[cfg(feature = "simulation")]
mod stepped;

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use millstream_state::Memory;
use millstream_types::ids::TaskId;
use millstream_types::load::TaskLoad;
use millstream_types::protocol::Passage;
use millstream_types::{
    CheckpointId, Clock, EdgeId, ErrorCode, ErrorKind, Failure, OperatorSnapshot, OperatorUid,
    TaskSnapshot,
};
use tokio::sync::mpsc;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::affinity;
use crate::chain::{Contents, Stop};
use crate::inbox::{Command, Inbox, InboxHandle, Unreachable};
use crate::load::InputChannel;
use crate::output::Output;
use crate::plan::JobTasks;
use crate::snapshots::Snapshots;
use run::Task;
#[cfg(feature = "simulation")]
pub use stepped::SteppedTask;

/// What a task says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It has built its readers and writers and runs.
    Running,
    /// It has passed the barrier; everything that the snapshot names is durable.
    Acknowledged(CheckpointId, TaskSnapshot, Passage),
    /// It cannot take this checkpoint, and goes on.
    Declined(CheckpointId, Failure),
    /// Its input has ended and everything that follows from it is emitted.
    Ended,
    /// It has failed and stopped.
    Failed(Failure),
}

/// How a task is reached from outside its thread.
#[derive(Debug)]
pub struct TaskHandle {
    inbox: InboxHandle,
    shared: Arc<Shared>,
}

/// What task and handle share besides the inbox.
#[derive(Debug, Default)]
struct Shared {
    cancelled: AtomicBool,
    progress: Mutex<TaskSnapshot>,
    load: Mutex<Option<TaskLoad>>,
}

impl TaskHandle {
    /// Puts a command into the inbox.
    ///
    /// # Errors
    /// The task has stopped or is stuck.
    pub fn send(&self, command: Command) -> Result<(), Unreachable> {
        self.inbox.send(command)
    }

    /// Asks the task to stop, and wakes whoever waits to send to it. It does so after the batch at
    /// hand.
    pub fn cancel(&self) {
        self.shared.cancelled.store(true, Ordering::Release);
        self.inbox.close();
    }

    /// Counters and positions, at most a fraction of a second old.
    pub fn progress(&self) -> TaskSnapshot {
        let progress = self.shared.progress.lock();
        progress.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How busy it is, at most a fraction of a second old; `None` in its first second.
    pub fn load(&self) -> Option<TaskLoad> {
        let load = self.shared.load.lock();
        load.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Shared {
    fn publish(&self, snapshot: TaskSnapshot, load: Option<TaskLoad>) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
        *self.load.lock().unwrap_or_else(PoisonError::into_inner) = load;
    }
}

/// Everything that a task needs to start.
pub struct Start {
    /// Which task.
    pub id: TaskId,
    /// Makes its readers and writers.
    pub job: Arc<dyn JobTasks>,
    /// What it goes on from.
    pub restore: BTreeMap<OperatorUid, OperatorSnapshot>,
    /// The bytes of all files that `restore` names.
    pub contents: Arc<Contents>,
    /// What its state may take, with that of all other tasks here.
    pub memory: Memory,
    /// Writes its snapshots.
    pub snapshots: Snapshots,
    /// What reaches it.
    pub inbox: Inbox,
    /// The channels that lead to its inbox.
    pub inputs: Vec<InputChannel>,
    /// Reaches it.
    pub handle: InboxHandle,
    /// The edges that it writes.
    pub outputs: Vec<(EdgeId, Output)>,
    /// Sources that will find no more splits.
    pub bounded: Arc<BTreeSet<OperatorUid>>,
    /// The core to run on, if it is bound to one.
    pub core: Option<usize>,
    /// Time for idleness and progress.
    pub clock: Arc<dyn Clock>,
    /// Where its events go. Closed when nobody wants them any more.
    pub events: mpsc::Sender<(TaskId, Event)>,
    /// Dropped when the thread is at its end.
    pub token: TaskTrackerToken,
}

/// Starts the thread of a task.
///
/// # Errors
/// The operating system gives no thread.
pub fn spawn(start: Start) -> io::Result<TaskHandle> {
    let core = start.core;
    let (life, handle) = Life::new(start);
    std::thread::Builder::new()
        .name(format!("task-{}", life.id))
        .spawn(move || life.live(core))?;
    Ok(handle)
}

/// The life of a task: build, run, report.
pub(crate) struct Life {
    id: TaskId,
    events: mpsc::Sender<(TaskId, Event)>,
    shared: Arc<Shared>,
    stage: Stage,
    // Dropped after everything above.
    _token: TaskTrackerToken,
}

enum Stage {
    ToBuild(Box<Start>),
    Built(Box<Task>),
    Over,
}

impl Life {
    /// A task that is not built yet, and what reaches it.
    pub(crate) fn new(start: Start) -> (Self, TaskHandle) {
        let shared = Arc::new(Shared::default());
        let handle = TaskHandle {
            inbox: start.handle.clone(),
            shared: Arc::clone(&shared),
        };
        let life = Self {
            id: start.id,
            events: start.events.clone(),
            shared,
            _token: start.token.clone(),
            stage: Stage::ToBuild(Box::new(start)),
        };
        (life, handle)
    }

    fn live(mut self, core: Option<usize>) {
        let ended = self.build().and_then(|()| {
            if let Some(core) = core {
                affinity::pin(core);
            }
            self.caught(Task::run)
        });
        self.report(ended);
    }

    fn build(&mut self) -> Result<(), Stop> {
        let Stage::ToBuild(start) = std::mem::replace(&mut self.stage, Stage::Over) else {
            return Ok(());
        };
        let shared = Arc::clone(&self.shared);
        match catch_unwind(AssertUnwindSafe(|| Task::build(*start, shared))) {
            Ok(task) => {
                self.stage = Stage::Built(Box::new(task?));
                tracing::debug!(task = %self.id, "task runs");
                Ok(())
            }
            Err(panic) => {
                let failure = panicked(self.id, panic.as_ref(), "while it was starting");
                Err(Stop::Failed(failure))
            }
        }
    }

    /// Has the task do something; a panic is its failure.
    fn caught(&mut self, work: impl FnOnce(&mut Task) -> Result<(), Stop>) -> Result<(), Stop> {
        let Stage::Built(task) = &mut self.stage else {
            return Err(Stop::Cancelled);
        };
        let worked = catch_unwind(AssertUnwindSafe(|| work(task)));
        worked.unwrap_or_else(|panic| {
            // The reader itself may be what is broken.
            let place = catch_unwind(AssertUnwindSafe(|| task.place()))
                .unwrap_or_else(|_| String::from("at an unknown position"));
            Err(Stop::Failed(panicked(self.id, panic.as_ref(), &place)))
        })
    }

    fn report(&mut self, ended: Result<(), Stop>) {
        self.stage = Stage::Over;
        match ended {
            Err(Stop::Failed(failure)) if !self.shared.cancelled.load(Ordering::Acquire) => {
                // Nobody listens when the attempt is over; then nobody needs to know.
                drop(self.events.blocking_send((self.id, Event::Failed(failure))));
            }
            Err(Stop::Failed(failure)) => {
                tracing::debug!(task = %self.id, %failure, "cancelled task failed on its way out");
            }
            Err(Stop::Cancelled) | Ok(()) => {}
        }
    }
}

fn panicked(id: TaskId, panic: &(dyn Any + Send), place: &str) -> Failure {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    Failure::new(
        ErrorCode::TaskPanicked,
        ErrorKind::Internal,
        format!("task {id} panicked {place}: {text}"),
    )
}
