//! Owns a job's truth: claims its chain, decides and commits its checkpoints, places its tasks,
//! and answers those who ask.
//!
//! ```text
//!  workers ──WorkerConnection──┐                       ┌──Handle── REST, progress displays
//!                              ▼                       ▼
//!                        ┌──────────── service ────────────┐
//!                        │ facts ─→ job (pure) ─→ commands │
//!                        └───┬──────────────────────────┬──┘
//!                   chain and committers          split enumerators
//! ```
//!
//! Invariants:
//! - The chain decides. Whatever a coordinator believes, what its next write says holds: a
//!   coordinator that meets a newer claim stops at once, touches nothing more, and never claims
//!   again.
//! - Claim → read → commit → abort → deploy. No task of an attempt runs before everything that
//!   older attempts have decided is committed and everything else of theirs is aborted.
//! - Where a job begins is itself a checkpoint: starting options such as `latest` are resolved
//!   once, and every later attempt begins there or later.
//! - A checkpoint is decided only with the snapshot of every task, and only if every split that
//!   was given out is in exactly one of them, and only while what it lists lives. Workers hear of
//!   it only when it is committed.
//! - A job goes back a checkpoint by itself only where nothing of the newest one is committed, or
//!   can be. A lost transaction fails the job otherwise. It is never skipped, and never taken for
//!   lost by a coordinator that does not hold the chain.
//! - A savepoint lists no transactions: it is written when a later checkpoint has committed them.
//!
//! Reading order: [`restart`], [`placement`], [`fitting`] and [`opened`] are pure rules, [`topology`] is
//! what they know of a job graph; [`job`] is the pure state machine, with the life of checkpoints and
//! savepoints in rooms of its own; [`preflight`] asks before a start; [`service`] drives the job;
//! [`handle`], [`rest`] and [`metrics`] show it; [`connection`] and [`options`] are what the process
//! that runs a coordinator deals with.
//!
//! # Crash points
//! With the feature `fail/failpoints` these names can be armed; each ends the process at once:
//!
//! | name | where |
//! |---|---|
//! | `coordinator::before-claim`, `coordinator::after-claim` | around the claim of an attempt |
//! | `coordinator::before-commit`, `coordinator::after-commit` | around the commits of one checkpoint, on a normal checkpoint and in recovery |
//! | `coordinator::before-abort`, `coordinator::after-abort` | around the aborting of what older attempts have left open |
//! | `coordinator::before-begin`, `coordinator::after-begin` | around the checkpoint that pins where the job begins, or that imports a savepoint |
//! | `coordinator::before-deploy`, `coordinator::after-deploy` | around each `Deploy` message |
//! | `coordinator::before-trigger`, `coordinator::after-trigger` | around each `Trigger` message |
//! | `coordinator::before-ack`, `coordinator::after-ack` | around the handling of each acknowledgement |
//! | `coordinator::before-decide`, `coordinator::after-decide` | around the write of a manifest into the chain |
//! | `coordinator::before-committed`, `coordinator::after-committed` | around the slot that confirms the commits |
//! | `coordinator::before-completed`, `coordinator::after-completed` | around each `Completed` message |
//! | `coordinator::before-savepoint`, `coordinator::after-savepoint` | around the write of a savepoint |
//! | `coordinator::before-release`, `coordinator::after-release` | around the release of the chain |

pub mod connection;
pub mod fitting;
pub mod handle;
pub mod job;
mod manifest;
pub mod metrics;
pub mod opened;
pub mod options;
pub mod placement;
pub mod preflight;
mod random;
pub mod rest;
pub mod restart;
pub mod service;
pub mod topology;

pub use connection::{CONNECTIONS_CAPACITY, OUTGOING_CAPACITY, WorkerConnection};
pub use handle::Handle;
pub use job::news::Progress;
pub use job::outcome::Outcome;
pub use job::requests::RequestError;
pub use job::status::Snapshot;
pub use metrics::Metrics;
pub use options::{DEFAULT_CANCEL_TIMEOUT, DEFAULT_HEARTBEAT, Options, Overrides, Restore};
pub use service::Coordinator;
pub use service::rehearsal::{Rehearsal, rehearse};
