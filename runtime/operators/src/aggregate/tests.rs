//! What aggregates do, and that they do what a list of all rows would.

mod edges;
mod job;
mod model;
mod partial;
mod state;
mod types;
