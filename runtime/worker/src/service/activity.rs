//! What a worker is doing, for those who watch it.

use millstream_types::Attempt;

/// What a worker is doing. Nothing, without a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Activity {
    /// Whether a coordinator has accepted it.
    pub registered: bool,
    /// Whether it has asked for leave.
    pub leaving: bool,
    /// The attempt whose tasks it runs.
    pub attempt: Option<Attempt>,
    /// How many tasks it runs.
    pub tasks: usize,
}
