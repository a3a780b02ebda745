//! What is not wrong and should be thought about.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One thing to think about: a pitfall with a heading in `docs/pitfalls.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Advice {
    /// Its name, which is the heading.
    pub name: String,
    /// Where in the job file; empty if it is not one place.
    #[serde(default)]
    pub path: String,
    /// What may happen, and what to do.
    #[serde(default)]
    pub message: String,
}

impl Advice {
    /// Something to think about.
    pub fn new(name: &str, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            path: path.into(),
            message: message.into(),
        }
    }

    /// Where it is explained.
    pub fn page(&self) -> String {
        format!("docs/pitfalls.md#{}", self.name)
    }
}
