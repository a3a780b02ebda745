//! What runs tasks: threads, or a simulator.

use std::io;
#[cfg(feature = "simulation")]
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinHandle;

use crate::inbox::channel_bytes;
#[cfg(feature = "simulation")]
use crate::task::SteppedTask;
use crate::task::{Start, TaskHandle, spawn};

/// What runs tasks.
#[derive(Clone, Default)]
pub enum Threads {
    /// A thread for each.
    #[default]
    Own,
    /// Nothing but who takes them from there and steps them.
    #[cfg(feature = "simulation")]
    Stepped(Stepped),
}

/// Tasks that were started and that nobody has taken yet.
#[cfg(feature = "simulation")]
#[derive(Clone)]
pub struct Stepped {
    started: Arc<Mutex<Vec<SteppedTask>>>,
    bound: usize,
}

#[cfg(feature = "simulation")]
impl Stepped {
    /// None are started. A channel has room for so many bytes.
    pub fn new(bound: usize) -> Self {
        Self {
            started: Arc::default(),
            bound,
        }
    }

    /// Takes those that were started since the last call.
    pub fn take(&self) -> Vec<SteppedTask> {
        std::mem::take(&mut *self.started.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn start(&self, start: Start) -> TaskHandle {
        let (task, handle) = SteppedTask::new(start);
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        started.push(task);
        handle
    }
}

impl Threads {
    pub(crate) fn spawn(&self, start: Start) -> io::Result<TaskHandle> {
        match self {
            Self::Own => spawn(start),
            #[cfg(feature = "simulation")]
            Self::Stepped(stepped) => Ok(stepped.start(start)),
        }
    }

    /// Bytes that each of a task's channels has room for.
    pub(crate) fn channel_bytes(&self, channels: usize) -> usize {
        match self {
            Self::Own => channel_bytes(channels),
            #[cfg(feature = "simulation")]
            Self::Stepped(stepped) => stepped.bound,
        }
    }

    /// Does what takes its time beside the loop that asks for it.
    pub(crate) fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        match self {
            Self::Own => tokio::task::spawn_blocking(work),
            #[cfg(feature = "simulation")]
            #[expect(clippy::disallowed_methods, reason = "who asks for it owns the handle")]
            Self::Stepped(_) => tokio::spawn(async move { work() }),
        }
    }
}
