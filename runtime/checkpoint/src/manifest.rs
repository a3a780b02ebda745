//! What a job is restored from.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use millstream_types::snapshot::Counters;
use millstream_types::{
    Attempt, CheckpointId, CheckpointKind, Committable, FileRef, JobId, Opaque, OperatorSnapshot,
    OperatorUid, SubtaskIndex, Timestamp,
};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::error::{Error, Result};
use crate::protocol::kinship::{Descent, Kinship, kinship};

/// Version of [`Manifest`] that this build writes.
///
/// | version | new in it |
/// |---|---|
/// | 1 | |
/// | 2 | names the files of keyed state; the number of key groups |
/// | 3 | names the files of records in flight; what the inputs are that they are for |
pub const MANIFEST_VERSION: u32 = 3;

/// Versions that this build reads.
pub(crate) const READ_VERSIONS: RangeInclusive<u32> = 1..=MANIFEST_VERSION;

/// Everything that one checkpoint or savepoint knows. Whoever holds one can run the job on from
/// there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// [`MANIFEST_VERSION`] of the build that wrote it.
    pub version: u32,
    /// The job that took it.
    pub job: JobId,
    /// Its number.
    pub checkpoint: CheckpointId,
    /// The attempt that took it.
    pub attempt: Attempt,
    /// What it is for.
    pub kind: CheckpointKind,
    /// Fingerprint of the job graph.
    pub fingerprint: String,
    /// Parallelism of the attempt that took it.
    pub parallelism: u32,
    /// Number of key groups, once there is keyed state. It stays as long as the state: keys would
    /// be looked for in other files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_parallelism: Option<u32>,
    /// When the coordinator triggered it.
    pub triggered_at: Timestamp,
    /// When all tasks had acknowledged it.
    pub decided_at: Timestamp,
    /// What each source and sink is pinned to, such as a Kafka cluster and topic id.
    pub identities: BTreeMap<OperatorUid, Opaque>,
    /// Kind of every source's and sink's connector, such as `kafka`: positions and prepared
    /// transactions mean nothing to another kind.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub connectors: BTreeMap<OperatorUid, String>,
    /// State by operator uid and subtask.
    pub operators: BTreeMap<OperatorUid, BTreeMap<SubtaskIndex, OperatorSnapshot>>,
    /// What the inputs of the operators are that have records in flight, as the plan writes them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<OperatorUid, Vec<String>>,
    /// Transactions of attempts up to this one are all resolved: committed, aborted or listed
    /// here. [`decide`](crate::ClaimedChain::decide) raises it to what the chain knows.
    #[serde(default)]
    pub swept_through: Attempt,
    /// Path of the savepoint or checkpoint whose state this is, where the job was started from
    /// one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported_from: Option<String>,
    /// Set where an attempt began and nothing has run since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beginning: Option<Began>,
    /// All that the chain was ever started from, oldest first, as far as it is remembered.
    /// [`decide`](crate::ClaimedChain::decide) fills in what is known of earlier starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<Origin>,
    /// SHA-256 of the slot of the checkpoint before it on the chain, which seals their order.
    /// [`decide`](crate::ClaimedChain::decide) fills it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// All sources were bounded and had ended: there is nothing to run any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
}

/// What a chain had come to before an attempt began anew in it: from a restore point, or from
/// nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Began {
    /// The newest checkpoint before it that is more than such a beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Taken>,
}

/// A savepoint or checkpoint that a chain was started from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// Its address, as it was given.
    pub path: String,
    /// The checkpoint that it is.
    #[serde(flatten)]
    pub taken: Taken,
    /// Identity (`metadata.uid`) of the job that was started from it, where it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
}

/// Which checkpoint it is, in whatever chain or savepoint it lies. Attempts and checkpoints of
/// two chains of one name may have the same numbers; they were not taken at the same time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Taken {
    /// The job that took it.
    pub job: JobId,
    /// The attempt that took it.
    pub attempt: Attempt,
    /// Its number.
    pub checkpoint: CheckpointId,
    /// When all tasks had acknowledged it.
    pub decided_at: Timestamp,
}

impl Manifest {
    /// Which checkpoint it is.
    pub fn taken(&self) -> Taken {
        Taken {
            job: self.job.clone(),
            attempt: self.attempt,
            checkpoint: self.checkpoint,
            decided_at: self.decided_at,
        }
    }

    /// How a restore point is related to this one, the newest checkpoint of a chain. `is_own` says
    /// that the restore point lies in the folder of that chain.
    pub fn kinship_of(&self, point: &Self, is_own: bool) -> Kinship {
        let (newest, point_taken) = (self.taken(), point.taken());
        let (ours, theirs) = (self.starts(), point.starts());
        let reached = self.reached();
        kinship(
            reached.as_ref(),
            Descent {
                taken: &newest,
                origins: &ours,
            },
            Descent {
                taken: &point_taken,
                origins: &theirs,
            },
            is_own,
        )
    }

    /// The newest checkpoint that is more than a beginning, if this is the newest of a chain.
    pub fn reached(&self) -> Option<Taken> {
        match &self.beginning {
            Some(began) => began.after.clone(),
            None => Some(self.taken()),
        }
    }

    fn starts(&self) -> Vec<&Taken> {
        self.origins.iter().map(|origin| &origin.taken).collect()
    }

    /// Sums of the counters over all subtasks, by operator uid.
    pub fn totals(&self) -> BTreeMap<OperatorUid, Counters> {
        let mut totals = BTreeMap::new();
        for (uid, subtasks) in &self.operators {
            let total: &mut Counters = totals.entry(uid.clone()).or_default();
            for snapshot in subtasks.values() {
                total.add(snapshot.counters);
            }
        }
        totals
    }

    /// What a sink has prepared and must be committed now that this is decided, in order of
    /// subtasks.
    pub fn committables(&self, uid: &OperatorUid) -> Vec<Committable> {
        self.operators
            .get(uid)
            .into_iter()
            .flat_map(BTreeMap::values)
            .flat_map(|snapshot| snapshot.committables.iter().cloned())
            .collect()
    }

    /// Operators that have something to commit.
    pub fn committing_operators(&self) -> impl Iterator<Item = &OperatorUid> {
        self.operators
            .iter()
            .filter(|(_, subtasks)| {
                subtasks
                    .values()
                    .any(|snapshot| !snapshot.committables.is_empty())
            })
            .map(|(uid, _)| uid)
    }

    /// Whether an operator keeps anything by key.
    pub fn has_state(&self) -> bool {
        let mut snapshots = self.operators.values().flat_map(BTreeMap::values);
        snapshots.any(|snapshot| snapshot.state.is_some())
    }

    /// Every file that it names; one that several subtasks share comes several times.
    pub fn files(&self) -> impl Iterator<Item = &FileRef> {
        let snapshots = self.operators.values().flat_map(BTreeMap::values);
        snapshots.flat_map(OperatorSnapshot::files)
    }

    /// Bytes of the records that barriers have overtaken, of each file once.
    pub fn in_flight_bytes(&self) -> u64 {
        let snapshots = self.operators.values().flat_map(BTreeMap::values);
        let files: BTreeSet<&FileRef> = snapshots.flat_map(|it| &it.in_flight).collect();
        files.iter().map(|file| file.bytes).sum()
    }

    /// Bytes of all files that it names, each counted once.
    pub fn state_bytes(&self) -> u64 {
        self.state_bytes_besides(&BTreeSet::new())
    }

    /// Bytes of the files that it names and that are none of these paths.
    pub fn state_bytes_besides(&self, paths: &BTreeSet<String>) -> u64 {
        let others = self.files().filter(|file| !paths.contains(&file.path));
        let bytes: BTreeMap<&str, u64> = others
            .map(|file| (file.path.as_str(), file.bytes))
            .collect();
        bytes.values().sum()
    }

    /// As [`files`](Self::files), to be changed.
    pub(crate) fn files_mut(&mut self) -> impl Iterator<Item = &mut FileRef> {
        let snapshots = self.operators.values_mut().flat_map(BTreeMap::values_mut);
        snapshots.flat_map(OperatorSnapshot::files_mut)
    }

    /// The same state with nothing to commit: what an import puts into the chain after it has
    /// resolved the transactions of its origin.
    #[must_use]
    pub fn without_committables(mut self) -> Self {
        for subtasks in self.operators.values_mut() {
            for snapshot in subtasks.values_mut() {
                snapshot.committables.clear();
            }
        }
        self
    }
}

/// A manifest that is written as JSON once, wherever that JSON goes.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "Manifest")]
pub(crate) struct Encoded {
    manifest: Manifest,
    /// Its JSON; none if it was read.
    json: Option<Box<RawValue>>,
}

impl Encoded {
    /// Writes it as JSON.
    pub(crate) fn new(manifest: Manifest) -> Result<Self> {
        let json = serde_json::value::to_raw_value(&manifest)
            .map_err(|error| Error::Rule(format!("a manifest cannot be written: {error}")))?;
        Ok(Self {
            manifest,
            json: Some(json),
        })
    }

    pub(crate) const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub(crate) fn into_manifest(self) -> Manifest {
        self.manifest
    }

    /// Size of its JSON in bytes; 0 if it was read.
    pub(crate) fn bytes(&self) -> usize {
        self.json.as_ref().map_or(0, |json| json.get().len())
    }
}

impl From<Manifest> for Encoded {
    fn from(manifest: Manifest) -> Self {
        Self {
            manifest,
            json: None,
        }
    }
}

impl PartialEq for Encoded {
    fn eq(&self, other: &Self) -> bool {
        self.manifest == other.manifest
    }
}

impl Eq for Encoded {}

impl Serialize for Encoded {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match &self.json {
            Some(json) => json.serialize(serializer),
            None => self.manifest.serialize(serializer),
        }
    }
}
