//! Runs tasks: the part of a job that touches records.
//!
//! A worker is told by its coordinator which tasks to run. Each task is one operating-system
//! thread that pulls records from one source (or from the tasks before it) and pushes them, batch
//! by batch and depth first, through a tree of operators into sinks and other tasks. tokio is used
//! for the conversation with the coordinator only; it meets the task threads at a bounded inbox and
//! a bounded channel of events.
//!
//! Invariants:
//! - A barrier splits a task's stream at one place: the source positions, counters and prepared
//!   transactions of a snapshot all speak of the records before it and of none behind it.
//! - A barrier is forwarded into every output channel before the task acknowledges it. What operators
//!   and outputs hold back, to emit less and to send larger batches, goes before every control
//!   element, whenever the task has nothing to read, and after a tenth of a second at the latest.
//! - A task with several channels takes its snapshot when the barrier has come over all of them;
//!   what lies behind the barrier waits until then. Or the barrier overtakes, if it may: then the records
//!   before it are persisted, and the task acknowledges when it knows and has written all of them.
//! - A task never waits within a step for room in what it writes, so that barriers pass it at any time.
//! - State is frozen at the barrier and written beside the task, one checkpoint after the other; the
//!   task acknowledges when it is durable, and declines when it cannot be written.
//! - A prepared transaction is listed in every snapshot until the coordinator has said that a
//!   checkpoint that listed it is committed.
//! - Nothing about an attempt is done or said once a newer attempt is known.
//! - A cancelled task is never waited for by its neighbours: closing an inbox wakes all its ends.
//! - A panic fails its task, not the process.
//!
//! The worker knows neither job files nor connectors: the binary gives it a [`TaskFactory`].
//!
//! Reading order: [`plan`] is what a task is made of, [`chain`] pushes elements through it,
//! [`output`] and [`inbox`] join tasks, [`alignment`] and [`event_time`] are the rules for several channels and
//! [`gate`] applies them, [`in_flight`] restores what a barrier has overtaken, [`load`] measures for people, [`watermark`] finds a source's watermark, [`task`] is the loop, [`snapshots`]
//! writes state beside it, [`service`] is the conversation with the coordinator.
//!
//! # Crash points
//! With the feature `fail/failpoints` these names can be armed; each ends the process at once:
//!
//! | name | where |
//! |---|---|
//! | `worker::after-poll` | records were polled and not yet pushed |
//! | `worker::before-prepare` | a barrier has come, no sink is prepared |
//! | `worker::after-prepare` | all sinks are prepared, the snapshot is not sent |
//! | `worker::before-ack` | the snapshot is made and the barrier forwarded, nothing is acknowledged |
//! | `worker::after-ack` | the acknowledgement is on its way |
//! | `worker::after-completed` | the coordinator's word that a checkpoint is committed has come |

mod affinity;
pub mod alignment;
pub mod chain;
pub mod event_time;
pub mod gate;
mod in_flight;
pub mod inbox;
pub mod load;
pub mod output;
pub mod plan;
pub mod service;
pub mod snapshots;
pub mod task;
#[cfg(test)]
mod testing;
mod threads;
pub mod watermark;

pub use affinity::Pinning;
pub use plan::{
    JobTasks, Partitioning, PlannedNode, PlannedOutput, Port, Root, SourceRoot, Step, TaskEdge,
    TaskFactory, TaskPlan, WatermarkPlan,
};
pub use service::{Activity, CoordinatorConnection, Departure, Ended, Options, Worker};
#[cfg(feature = "simulation")]
pub use task::SteppedTask;
#[cfg(feature = "simulation")]
pub use threads::Stepped;
pub use threads::Threads;
