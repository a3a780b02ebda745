//! The shared words of Millstream: plain data, no I/O.
//!
//! A type enters here only when two crates need it. Nothing here opens a file or a socket,
//! reads a clock or knows tokio.
//!
//! Reading order: [`ids`] name things, [`time`], [`duration`] and [`zone`] measure them, [`schema`]
//! and [`batch`] describe records, [`change`] what a row does to a result, [`keys`] say which belong
//! together, [`aggregate`] what is computed of them, [`element`] is what travels along an edge, [`snapshot`] is what a checkpoint keeps, [`load`] is how busy a task is,
//! [`protocol`] is what coordinator and worker say to each other, [`api`] is what the coordinator's
//! REST interface answers, [`told`] are values that a newer version may have more of, [`error`] is
//! how things go wrong, [`limiter`] how often they are said, [`text`] is how people read numbers.
//! [`bug`] is for tests.

pub mod advice;
pub mod aggregate;
pub mod api;
pub mod batch;
pub mod bug;
pub mod change;
pub mod clock;
pub mod duration;
pub mod element;
pub mod error;
pub mod ids;
pub mod keys;
pub mod limiter;
pub mod load;
pub mod protocol;
pub mod schema;
pub mod snapshot;
pub mod text;
pub mod time;
pub mod told;
pub mod zone;

pub use batch::Batch;
pub use bug::Bug;
pub use change::{Change, Changelog};
pub use clock::Clock;
pub use element::{Barrier, CheckpointKind, Element};
pub use error::{ErrorCode, ErrorKind, Failure};
pub use ids::{
    Attempt, CheckpointId, Deployment, EdgeId, JobId, Lineage, OperatorUid, SubtaskIndex, VertexId,
    WorkerId,
};
pub use snapshot::{
    Committable, FileRef, KeyGroupRange, Opaque, OperatorSnapshot, Run, SplitState,
    StateDeclaration, StateSnapshot, TaskSnapshot,
};
pub use time::{EventTime, Timestamp};
pub use zone::Zone;
