//! Where a job's past lies: the chain of its checkpoints, who owns it, and the stores it lies in.
//!
//! Below a storage address every job has a folder:
//!
//! ```text
//! <storage>/<namespace>/<job>/
//!   chain/00000000000000000042.json   one slot: a claim, a checkpoint, a confirmation or a release
//!   chain-start.json                  hint: where a listing of the chain may begin
//!   collected/<attempt>-<slot>.json   below which slot the attempt deletes its own
//!   data/<attempt>/<checkpoint>/…     files that checkpoints name, such as a large manifest
//!   savepoints/<name>/manifest.json   self-contained and movable
//! <storage>/reservations/<name>.json  names that only one job may use
//! ```
//!
//! Invariants:
//! - A slot is written by one conditional request and by nothing else. Whoever writes the next
//!   slot has seen all slots before it, so a claim fences everybody older, and the slot of a
//!   checkpoint *is* the decision that it happened.
//! - An error of the store never means that a write did not happen. Unknown outcomes are read.
//! - Every object carries its version and checksum; what fails them is named, never skipped.
//! - Claims and releases are never deleted.
//! - Pointers before files: a file goes after the last slot that names it, and is uploaded before
//!   the first.
//!
//! Reading order: [`protocol`] has the rules, without I/O; [`chain`] carries them out;
//! [`manifest`] is what is kept; [`storage`] is where; [`files`] is how tasks write state; [`savepoint`] and [`reservation`] lie
//! beside the chain; [`inspect`] looks at it all from outside, and [`disposal`] deletes it;
//! [`error`] is what goes wrong.
//!
//! # Crash points
//! With the feature `fail/failpoints` these names can be armed; each ends the process at once:
//!
//! | name | where |
//! |---|---|
//! | `checkpoint::before-decision` | a manifest is stored where it is too large for a slot, the slot is not written |
//! | `checkpoint::after-decision` | the slot of a checkpoint is written |
//! | `checkpoint::file-uploaded` | a file is complete and durable, and nothing names it |
//! | `checkpoint::savepoint-copied` | the files of a savepoint are copied, its manifest is not written |
//! | `checkpoint::before-collection` | what is about to be deleted is marked, and all of it is there |
//! | `checkpoint::slots-collected` | the slots of old checkpoints are deleted, and their files are not |

pub mod chain;
pub mod disposal;
mod envelope;
pub mod error;
mod files;
pub mod inspect;
mod key;
pub mod manifest;
mod nonce;
mod protocol;
mod release;
mod reservation;
mod savepoint;
mod slot;
pub mod storage;
mod stored;

pub use chain::{
    Chain, ChainState, CheckpointEntry, Claim, ClaimedChain, Collected, CommitPermit, Place,
};
pub use error::{Error, Result};
pub use files::{Files, MAX_FILE_BYTES, check_files};
pub use manifest::{Began, MANIFEST_VERSION, Manifest, Origin, Taken};
pub use protocol::claim::{Admission, admit};
pub use protocol::kinship::Kinship;
pub use release::{Release, ReleaseReason};
pub use reservation::{ensure_not_reserved, reserve};
pub use savepoint::{PendingSavepoints, RestorePoint, Saved, read_restore_point, read_savepoint};
pub use slot::{DecidedCheckpoint, EARLIER_MAX, EarlierAttempt, Holder, SlotNumber};
#[cfg(feature = "hdfs")]
pub use storage::HdfsOptions;
pub use storage::{
    Chunks, S3Credentials, S3Options, Storage, StorageOptions, WRITE_DELAY_VARIABLE,
};
