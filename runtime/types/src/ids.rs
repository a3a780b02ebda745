//! Names and numbers of things. Each is its own type, so that an attempt is never passed where a
//! checkpoint id is meant.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize,
            Deserialize, JsonSchema,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl $name {
            /// The next number.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }
    };
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
        )]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl $name {
            /// The text of the name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    };
}

number! {
    /// One life of a job between two restores. The first is 1. Every restart takes the next one
    /// by claiming a slot of the job's chain, so attempts also order coordinators.
    Attempt(u64)
}
number! {
    /// Number of a checkpoint or savepoint, increasing along a job's chain. A number that was
    /// never decided may be taken again by a later attempt: attempt and number together are
    /// unique, and everything written for a checkpoint carries both.
    CheckpointId(u64)
}
number! {
    /// One deployment of a job by an operator. Grows with each; a restart of the same pods is the
    /// same deployment. An older one never takes a job over from a newer one.
    Deployment(u64)
}
number! {
    /// Position of a subtask among the parallel copies of its vertex, from 0.
    SubtaskIndex(u32)
}
number! {
    /// Position of a vertex in its job graph, from 0.
    VertexId(u32)
}
number! {
    /// Position of an edge in its job graph, from 0.
    EdgeId(u32)
}
name! {
    /// Which chain of checkpoints: two chains of one job name differ in it.
    Lineage
}

name! {
    /// Name of a node of the dataflow. State is found by it.
    OperatorUid
}
name! {
    /// Name of one worker process, unique per process start.
    WorkerId
}

/// Identity of a job: where its chain lies below the checkpoint storage.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct JobId {
    /// Kubernetes namespace; `default` outside a cluster.
    pub namespace: String,
    /// `metadata.name` of the `StreamJob`.
    pub name: String,
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// One parallel copy of one vertex: the unit that is deployed, acknowledges and fails.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct TaskId {
    /// Which vertex of the job graph.
    pub vertex: VertexId,
    /// Which copy of it.
    pub subtask: SubtaskIndex,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.vertex, self.subtask)
    }
}
