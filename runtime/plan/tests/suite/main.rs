//! Behaviour of the planner, from a valid job to its graph or its faults.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    reason = "a helper of a test that fails should fail the test"
)]

mod advice;
mod aggregates;
mod changes;
mod documents;
mod edges;
mod expected;
mod explained;
mod faults;
mod hostile;
mod jobs;
mod meaning;
mod projection;
mod restored;
mod running;
mod table;
mod values;
