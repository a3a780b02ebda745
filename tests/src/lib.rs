//! The harness of the suites: real brokers, real object stores, real processes, and the audit
//! that says whether every record arrived exactly once.
//!
//! It panics where it cannot go on, with what was tried and where the logs lie: a test has no
//! better answer. Everything that runs is owned by a value and ends with it, and with the test
//! process however that ends ([`server`]). Nothing here depends on the crates under test, so
//! their own tests may use it.
//!
//! Reading order: [`wait`] for conditions, [`scratch`] directories, [`server`] processes, their
//! [`ports`], [`kafka`], [`minio`] and [`hdfs`], [`cluster`] and its [`rest`] interface; then
//! [`order_job`] is the job file, [`workload`] makes orders, [`feed`] writes them, [`oracle`] says what
//! must become of them, [`keyed`] of running aggregates; [`audit`] says what did, [`chain`] reads what the job has decided.
//! [`kubernetes`] is all of it on a cluster, [`proxy`] and [`link`] what stands in the way,
//! [`disk`] and [`clock`] what a machine has too little of. [`postgres`] says what SQL means, and is written
//! to; [`prometheus`] what alerts see. [`certificates`] are what servers show over TLS.

pub mod audit;
pub mod certificates;
pub mod chain;
pub mod clock;
pub mod cluster;
pub mod disk;
pub mod feed;
pub mod hdfs;
pub mod kafka;
pub mod keyed;
pub mod kubernetes;
pub mod link;
pub mod minio;
pub mod oracle;
pub mod order_job;
pub mod ports;
pub mod postgres;
pub mod prometheus;
pub mod proxy;
pub mod rest;
pub mod scratch;
pub mod server;
pub mod tools;
pub mod wait;
pub mod workload;

pub use hdfs::Hdfs;
pub use kafka::{Broker, BrokerOptions, KafkaVersion};
pub use minio::Minio;
pub use postgres::{Postgres, PostgresOptions};
pub use scratch::Scratch;
pub use wait::wait_until;
