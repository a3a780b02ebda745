mod beliefs;
mod deletion;
mod lifecycle;
mod matrix;
mod property;
mod restore;
mod stopping;
mod upgrades;
pub(in crate::controller) mod world;
