//! A job graph for people: as a text tree, and as Graphviz.

mod describe;
mod dot;
mod text;

pub use dot::dot;
pub use text::text;
