//! Reads the chain of a job whose checkpoints are files, as it stands on the disk.
//!
//! Apart from the runtime's own reader: what judges the runtime does not believe it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use millstream_types::snapshot::Counters;
use millstream_types::{Attempt, OperatorSnapshot, OperatorUid, SubtaskIndex};
use serde::Deserialize;
use serde_json::Value;

/// The folder of a job in a checkpoint storage of files.
#[derive(Debug, Clone)]
pub struct ChainFolder {
    path: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Envelope {
    body: Slot,
}

/// One slot of a chain, as far as it matters here.
#[derive(Debug, Clone, Deserialize)]
pub struct Slot {
    /// Its number.
    #[serde(rename = "slot")]
    pub number: u64,
    /// Who wrote it.
    pub attempt: Attempt,
    entry: serde_json::Map<String, Value>,
}

impl Slot {
    /// Whether it is a `claim`, a `checkpoint`, `released`, or says that one is `committed`.
    pub fn is(&self, kind: &str) -> bool {
        self.entry.contains_key(kind)
    }

    /// The manifest of a checkpoint.
    #[track_caller]
    pub fn manifest(&self) -> &Value {
        let checkpoint = self.entry.get("checkpoint");
        &checkpoint.expect("the slot holds a checkpoint")["manifest"]
    }

    /// The manifest of a checkpoint, understood.
    #[track_caller]
    pub fn understood(&self) -> Manifest {
        Manifest::deserialize(self.manifest()).expect("a manifest in its slot")
    }
}

/// A manifest; the part that counts.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Manifest {
    operators: BTreeMap<OperatorUid, BTreeMap<SubtaskIndex, OperatorSnapshot>>,
}

impl Manifest {
    /// Totals of one operator over its subtasks.
    pub fn counters(&self, uid: &str) -> Counters {
        let mut total = Counters::default();
        for snapshot in self.operators.get(&uid.into()).into_iter().flatten() {
            total.add(snapshot.1.counters);
        }
        total
    }

    /// Totals of all operators.
    pub fn totals(&self) -> BTreeMap<String, Counters> {
        let uids = self.operators.keys();
        uids.map(|uid| (uid.to_string(), self.counters(&uid.to_string())))
            .collect()
    }

    /// Where each partition of a source on Kafka goes on.
    #[track_caller]
    pub fn positions(&self, uid: &str) -> BTreeMap<i32, i64> {
        let snapshots = self.operators.get(&uid.into()).into_iter().flatten();
        let splits = snapshots.flat_map(|(_, snapshot)| &snapshot.splits);
        let position = |text: &str| serde_json::from_str::<Value>(text).ok()?["offset"].as_i64();
        splits
            .map(|split| {
                let partition = split.split.rsplit('/').next().and_then(|n| n.parse().ok());
                let partition = partition.expect("a split is <topic>/<partition>");
                let offset = position(&split.position.0).expect("a position has an offset");
                (partition, offset)
            })
            .collect()
    }
}

impl ChainFolder {
    /// The folder of a job: `<storage>/<namespace>/<name>`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Files of all slots that are there, by number.
    pub fn files(&self) -> BTreeMap<u64, PathBuf> {
        let entries = std::fs::read_dir(self.path.join("chain"));
        let paths = entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path());
        paths
            .filter_map(|path| Some((number(&path)?, path)))
            .collect()
    }

    /// The newest slot; `None` where there is none, or where it cannot be read.
    pub fn newest(&self) -> Option<Slot> {
        self.files()
            .values()
            .next_back()
            .and_then(|path| read(path))
    }

    /// The newest decided checkpoint, if one is.
    ///
    /// # Errors
    /// A slot cannot be read: it went a moment ago, or something else is wrong with it.
    pub fn newest_checkpoint(&self) -> std::io::Result<Option<Slot>> {
        for path in self.files().values().rev() {
            let unreadable = || std::io::Error::other(format!("{} is no slot", path.display()));
            let slot = read(path).ok_or_else(unreadable)?;
            if slot.is("checkpoint") {
                return Ok(Some(slot));
            }
        }
        Ok(None)
    }

    /// The newest checkpoint but one: what was the newest before the newest was decided.
    pub fn checkpoint_before(&self, slot: &Slot) -> Option<Slot> {
        let files = self.files();
        let older = files.range(..slot.number).rev();
        older
            .filter_map(|(_, path)| read(path))
            .find(|slot| slot.is("checkpoint"))
    }
}

fn number(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    name.strip_suffix(".json")?.parse().ok()
}

fn read(path: &Path) -> Option<Slot> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(serde_json::from_str::<Envelope>(&text).ok()?.body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scratch;

    fn write(folder: &ChainFolder, number: u64, entry: &str) {
        let body = format!(r#"{{"body":{{"slot":{number},"attempt":1,"entry":{entry}}}}}"#);
        std::fs::create_dir_all(folder.path().join("chain")).unwrap();
        let path = folder.path().join(format!("chain/{number:020}.json"));
        std::fs::write(path, body).unwrap();
    }

    #[test]
    fn the_newest_checkpoint_is_found_behind_other_slots_and_counts_its_operators() {
        let scratch = Scratch::new("chain");
        let folder = ChainFolder::new(scratch.path());
        assert!(folder.newest_checkpoint().unwrap().is_none());
        write(&folder, 1, r#"{"claim":{}}"#);
        assert!(folder.newest_checkpoint().unwrap().is_none());
        for (slot, records) in [(2, 5), (4, 9)] {
            let manifest = format!(
                r#"{{"operators":{{"out":{{"0":{{"counters":{{"recordsOut":{records}}}}}}},
                    "orders":{{"0":{{"splits":[{{"split":"orders/3","position":"{{\"offset\":7}}",
                    "records":7}}]}}}}}}}}"#
            );
            write(
                &folder,
                slot,
                &format!(r#"{{"checkpoint":{{"manifest":{manifest}}}}}"#),
            );
            write(&folder, slot + 1, r#"{"committed":{}}"#);
        }
        let newest = folder.newest_checkpoint().unwrap().unwrap();
        assert_eq!(newest.number, 4);
        assert_eq!(newest.understood().totals()["out"].records_out, 9);
        assert_eq!(newest.understood().positions("orders"), [(3, 7)].into());
        assert_eq!(folder.checkpoint_before(&newest).unwrap().number, 2);
        assert!(folder.newest().unwrap().is("committed"));
    }
}
