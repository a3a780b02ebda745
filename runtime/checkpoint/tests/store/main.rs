//! The chain on real stores: directories, MinIO, HDFS, a store that breaks the rule, and a network that
//! loses replies.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "what tests share fails as they do"
)]

mod chain;
mod copies;
mod crash;
mod deployments;
mod disposal;
mod faults;
mod files;
mod garbage;
mod hdfs;
mod inspect;
mod proxy;
mod race;
mod s3;
mod sample;
mod uploads;
mod versions;
