//! Keys that are known and refused: a later version will do what they say, this one does not.
//!
//! A job file never has a key without effect. Whoever writes one of these, because a guide or
//! another product has it, is told which version brings it and what to do until then.

/// A key that a later version takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaterKey {
    /// Path of the mapping that it would stand in.
    pub within: &'static str,
    /// Its name.
    pub key: &'static str,
    /// What is said of it: which version brings it, and what to do until then.
    pub message: &'static str,
}

/// All of them.
pub const LATER_KEYS: [LaterKey; 1] = [LaterKey {
    within: "spec",
    key: "autoscaler",
    message: "comes with version 0.3.0. Until then set `parallelism`, in the file or by \
            `kubectl scale`. Remove it",
}];

/// What is said of a key that this version does not know, if a later one does.
pub(crate) fn message(within: &str, key: &str) -> Option<&'static str> {
    LATER_KEYS
        .iter()
        .find(|later| later.within == within && later.key == key)
        .map(|later| later.message)
}
