//! What lies in one slot of a chain.

use std::collections::BTreeMap;
use std::fmt;

use millstream_types::{
    Attempt, CheckpointId, CheckpointKind, Deployment, JobId, Lineage, Opaque, OperatorUid,
    Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::manifest::{Encoded, MANIFEST_VERSION, Manifest, READ_VERSIONS};
use crate::protocol::files::File;
use crate::release::Release;

/// Position of a slot in its chain, from 1.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct SlotNumber(pub u64);

impl SlotNumber {
    /// The slot after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Its object's name: zero-padded, so that names sort like numbers.
    pub(crate) fn file_name(self) -> String {
        format!("{:020}.json", self.0)
    }

    /// Reads [`file_name`](Self::file_name) back; nothing else is a slot's name.
    pub(crate) fn from_file_name(name: &str) -> Option<Self> {
        let digits = name.strip_suffix(".json")?;
        let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = plain.then(|| digits.parse().ok())?;
        number.map(Self)
    }
}

impl fmt::Display for SlotNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Body of a slot's object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Slot {
    /// The job whose chain it is.
    pub(crate) job: JobId,
    /// Its own number: an object that lies under another name is not it.
    #[serde(rename = "slot")]
    pub(crate) number: SlotNumber,
    /// The attempt that wrote it.
    pub(crate) attempt: Attempt,
    /// The newest checkpoint before it. It must be there until a later slot names another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) newest: Option<SlotNumber>,
    /// No checkpoint before it has this number or a larger one.
    pub(crate) next_checkpoint: CheckpointId,
    /// The newest deployment of the job up to here, where an operator has named any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deployment: Option<Deployment>,
    /// The chain that it is of, as its first slot has named it. Older builds have not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lineage: Option<Lineage>,
    /// What it says.
    pub(crate) entry: Entry,
}

/// What a slot says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Entry {
    /// An attempt begins; all older ones are fenced.
    Claim(ClaimEntry),
    /// A checkpoint is decided.
    Checkpoint(Stored),
    /// Everything that a decided checkpoint lists is committed.
    Committed(CommittedEntry),
    /// The attempt has ended by itself; anybody may claim.
    Released(Release),
}

/// A claim as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClaimEntry {
    /// Random: tells the claims of two racing coordinators apart.
    pub(crate) nonce: String,
    /// Who.
    #[serde(flatten)]
    pub(crate) holder: Holder,
    /// When, by its own clock.
    pub(crate) time: Timestamp,
    /// Places whose processes have held the chain before, for the same deployment, newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) replaced: Vec<String>,
    /// The deployment that had ended by itself before, where a person runs the job since: it stays
    /// ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ended: Option<Deployment>,
    /// The newest attempts before, oldest first: their own claims may be deleted by the time that
    /// what they have left open must be found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) earlier: Vec<EarlierAttempt>,
}

/// What is remembered of an attempt whose claim may be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EarlierAttempt {
    /// The attempt.
    pub attempt: Attempt,
    /// Its parallelism.
    pub parallelism: u32,
}

/// How many earlier attempts a claim remembers.
pub const EARLIER_MAX: usize = 16;

/// Most places that a claim remembers.
const REPLACED_MAX: usize = 16;

impl ClaimEntry {
    /// What the claim that follows this one, of this attempt, remembers.
    pub(crate) fn earlier_for_next(&self, attempt: Attempt) -> Vec<EarlierAttempt> {
        let mut all = self.earlier.clone();
        all.push(EarlierAttempt {
            attempt,
            parallelism: self.holder.parallelism,
        });
        all.drain(..all.len().saturating_sub(EARLIER_MAX));
        all
    }

    /// The places that a claim of this holder replaces. A person's run in between changes nothing.
    pub(crate) fn replaced_by(&self, holder: &Holder) -> Vec<String> {
        let differs = |other: Option<Deployment>| {
            self.holder.deployment.is_some() && other.is_some() && other != self.holder.deployment
        };
        if differs(holder.deployment) {
            return Vec::new();
        }
        let mut all = self.replaced.clone();
        if let Some(host) = &self.holder.host {
            all.retain(|known| known != host);
            all.push(host.clone());
        }
        all.retain(|host| Some(host) != holder.host.as_ref());
        all.drain(..all.len().saturating_sub(REPLACED_MAX));
        all
    }
}

/// Who claims a chain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// Name of the process, for people.
    #[serde(rename = "holder")]
    pub name: String,
    /// Version of the build, for people.
    pub build: String,
    /// Identity of the job (`metadata.uid`), where it has one. Another identity is another job,
    /// even if its name is the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Parallelism of the attempt: with the attempt it says which transactional ids the attempt
    /// may open.
    pub parallelism: u32,
    /// The deployment of the job that it was started for, where an operator has started it. A
    /// chain that has a newer one refuses it, and so does a chain that this one has released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<Deployment>,
    /// Where the process runs, such as the name of its pod: the same after a restart there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// What the transactions of each sink of the attempt have in common, so that they are found
    /// also when the sink is configured otherwise later, or is gone. Empty in claims of builds that
    /// did not write it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sinks: BTreeMap<OperatorUid, Opaque>,
}

/// A confirmation as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CommittedEntry {
    /// The checkpoint whose transactions are committed; none if a recovery found no checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) checkpoint: Option<DecidedCheckpoint>,
    /// A checkpoint none of whose output was ever visible, or ever will be, because all of it was
    /// aborted: the attempt goes back to the one before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) given_up: Option<DecidedCheckpoint>,
    /// Transactions of attempts up to this one are all resolved.
    pub(crate) swept_through: Attempt,
}

/// A decided checkpoint by its full name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DecidedCheckpoint {
    /// Its number.
    pub id: CheckpointId,
    /// The attempt that took it.
    pub attempt: Attempt,
    /// The slot that holds it.
    pub slot: SlotNumber,
}

impl DecidedCheckpoint {
    /// Whether it is the checkpoint that a manifest describes.
    pub(crate) fn is(&self, manifest: &Manifest) -> bool {
        (self.id, self.attempt) == (manifest.checkpoint, manifest.attempt)
    }
}

/// A manifest in its slot, or where it lies if it is large.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Stored {
    /// The manifest itself.
    Manifest(Box<Encoded>),
    /// Summary of a large manifest and its object.
    Large(Large),
}

/// A manifest that lies in an object of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Large {
    /// Its number.
    pub(crate) checkpoint: CheckpointId,
    /// What it is for.
    pub(crate) kind: CheckpointKind,
    /// When all tasks had acknowledged it.
    pub(crate) decided_at: Timestamp,
    /// As in the manifest.
    pub(crate) swept_through: Attempt,
    /// The object.
    pub(crate) object: ObjectRef,
    /// Paths of the files that the manifest names, so that nobody has to read it to know which may
    /// go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) files: Vec<String>,
    /// Bytes of these files.
    #[serde(default)]
    pub(crate) state_bytes: u64,
}

impl Stored {
    /// Paths of all objects that it names, below the folder of its job or savepoint.
    pub(crate) fn paths(&self) -> Vec<&str> {
        match self {
            Self::Manifest(encoded) => {
                let files = encoded.manifest().files();
                files.map(|file| file.path.as_str()).collect()
            }
            Self::Large(large) => {
                let files = large.files.iter().map(String::as_str);
                files.chain([large.object.path.as_str()]).collect()
            }
        }
    }
}

/// An object that a slot names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct ObjectRef {
    /// Path below the job's folder.
    pub(crate) path: String,
    /// Size of the object in bytes.
    pub(crate) bytes: u64,
    /// SHA-256 of its body.
    pub(crate) sha256: String,
}

impl Slot {
    /// Checks that an opened object is the slot that was asked for.
    pub(crate) fn verify(self, object: &str, number: SlotNumber) -> Result<Self> {
        if self.number != number {
            return Err(Error::corrupt(
                object,
                format!("it holds slot {}, not slot {number}", self.number),
            ));
        }
        let Entry::Checkpoint(stored) = &self.entry else {
            return Ok(self);
        };
        if let Stored::Manifest(encoded) = stored {
            check_manifest(object, encoded.manifest(), self.attempt)?;
        }
        if let Some(path) = stored.paths().iter().find(|path| File::at(path).is_none()) {
            let reason = format!("it names `{path}`, which is no path of a file of a chain");
            return Err(Error::corrupt(object, reason));
        }
        Ok(self)
    }
}

/// Checks a manifest against the slot or object that holds it.
pub(crate) fn check_manifest(object: &str, manifest: &Manifest, attempt: Attempt) -> Result<()> {
    if !READ_VERSIONS.contains(&manifest.version) {
        return Err(Error::corrupt(
            object,
            format!(
                "its manifest has version {}, this build reads versions {} to {MANIFEST_VERSION}",
                manifest.version,
                READ_VERSIONS.start()
            ),
        ));
    }
    if manifest.attempt != attempt {
        return Err(Error::corrupt(
            object,
            format!(
                "its manifest is of attempt {}, it is of {attempt}",
                manifest.attempt
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_names_sort_like_their_numbers_and_are_read_back() {
        let numbers = [1, 2, 9, 10, 99, 100, u64::MAX].map(SlotNumber);
        let names: Vec<String> = numbers.iter().map(|number| number.file_name()).collect();
        assert!(names.is_sorted());
        for (number, name) in numbers.iter().zip(&names) {
            assert_eq!(SlotNumber::from_file_name(name), Some(*number));
        }
    }

    #[test]
    fn a_slot_of_a_chain_without_a_name_is_written_as_older_builds_have_done() {
        let slot = Slot {
            job: JobId {
                namespace: "default".into(),
                name: "orders".into(),
            },
            number: SlotNumber(2),
            attempt: Attempt(1),
            newest: None,
            next_checkpoint: CheckpointId(1),
            deployment: None,
            lineage: None,
            entry: Entry::Committed(CommittedEntry {
                checkpoint: None,
                given_up: None,
                swept_through: Attempt(0),
            }),
        };
        let text = serde_json::to_string(&slot).unwrap();
        assert!(!text.contains("lineage"), "{text}");
        assert_eq!(serde_json::from_str::<Slot>(&text).unwrap(), slot);
    }

    #[test]
    fn a_manifest_of_a_version_to_come_is_refused_with_its_number() {
        let object = include_bytes!(
            "../tests/golden/manifest-1-large/default/orders/data/1/2/manifest.json"
        );
        let (manifest, _) = crate::envelope::open::<Manifest>("x", object).unwrap();
        let with = |version| Manifest {
            version,
            ..manifest.clone()
        };
        for version in [1, 2, 3] {
            check_manifest("x", &with(version), Attempt(1)).unwrap();
        }
        for version in [0, 4] {
            let refused = check_manifest("x", &with(version), Attempt(1)).unwrap_err();
            let text = refused.to_string();
            assert!(text.contains(&format!("version {version}")), "{text}");
            assert!(text.contains("versions 1 to 3"), "{text}");
        }
    }

    #[test]
    fn other_names_are_no_slots() {
        for name in [
            "",
            "1.json",
            "00000000000000000001",
            "+0000000000000000001.json",
            "99999999999999999999.json",
            "000000000000000000001.json",
        ] {
            assert_eq!(SlotNumber::from_file_name(name), None, "{name}");
        }
    }
}
