//! The Kafka connector through its doors, on real brokers.

#![cfg(test)]

mod bad_input;
mod beside;
mod brokers;
mod conformance;
mod fixture;
mod lag;
mod outage;
mod security;
mod sink;
mod source;
mod upserts;
