//! The PostgreSQL sinks through their doors, on a real server.

#![cfg(test)]

mod bad_input;
mod conformance;
mod fixture;
mod security;
mod types;
mod upserts;
