//! What every manifest of a job says of the job itself: manifests are built here, and nowhere else.

use std::collections::BTreeMap;

use millstream_checkpoint::{MANIFEST_VERSION, Manifest};
use millstream_types::{Attempt, JobId, OperatorUid, Timestamp};

use crate::job::checkpoints::pending::Parts;

/// What a manifest says of the job.
#[derive(Debug)]
pub(crate) struct JobFacts<'a> {
    pub(crate) job: &'a JobId,
    /// Fingerprint of its graph.
    pub(crate) fingerprint: &'a str,
    /// Kind of every source's and sink's connector.
    pub(crate) connectors: BTreeMap<OperatorUid, String>,
    pub(crate) parallelism: u32,
    /// Into how many groups keys are divided.
    pub(crate) max_parallelism: u32,
    /// Of operators whose inputs may be overtaken by barriers, what these inputs are.
    pub(crate) inputs: BTreeMap<OperatorUid, Vec<String>>,
}

impl JobFacts<'_> {
    /// The manifest of a checkpoint.
    pub(crate) fn manifest(
        self,
        attempt: Attempt,
        parts: Parts,
        decided_at: Timestamp,
    ) -> Manifest {
        let mut manifest = Manifest {
            version: MANIFEST_VERSION,
            job: self.job.clone(),
            checkpoint: parts.id,
            attempt,
            kind: parts.kind,
            fingerprint: self.fingerprint.to_owned(),
            parallelism: self.parallelism,
            max_parallelism: None,
            triggered_at: parts.triggered_at,
            decided_at,
            identities: parts.identities,
            connectors: self.connectors,
            operators: parts.operators,
            inputs: BTreeMap::new(),
            // The chain knows; it raises this on the decision.
            swept_through: Attempt(0),
            imported_from: None,
            beginning: None,
            origins: Vec::new(),
            previous: None,
            ended: false,
        };
        // Keyed state is found by it. Without state it may change.
        if manifest.has_state() {
            manifest.max_parallelism = Some(self.max_parallelism);
        }
        for (uid, subtasks) in &manifest.operators {
            if subtasks.values().any(|it| !it.in_flight.is_empty()) {
                let inputs = self.inputs.get(uid).cloned().unwrap_or_default();
                manifest.inputs.insert(uid.clone(), inputs);
            }
        }
        manifest
    }
}
