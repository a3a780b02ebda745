//! The chain on real stores: directories, MinIO, a store that breaks the rule, and a network that
//! loses replies.

mod chain;
mod faults;
mod garbage;
mod inspect;
mod proxy;
mod race;
mod s3;
mod sample;
