//! Behaviour of the planner, from a valid job to its graph or its faults.

mod explained;
mod faults;
mod jobs;
mod projection;
mod restored;
mod values;
