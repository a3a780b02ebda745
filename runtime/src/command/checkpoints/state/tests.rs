//! Over a real chain with real runs.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, FieldRef};
use clap::Parser;
use millstream_checkpoint::{
    Chain, ClaimedChain, Holder, MANIFEST_VERSION, Manifest, PendingSavepoints, Storage,
};
use millstream_state::{Keeper, Keyed, Slot, Table, TableOptions, Values};
use millstream_types::{
    Attempt, CheckpointKind, JobId, OperatorSnapshot, SubtaskIndex, Timestamp, keys,
};

use super::*;
use crate::registry::state::{StateStorage, TaskFiles};

const GROUPS: u32 = 16;

/// How often a key was seen.
#[derive(Debug, Default)]
struct Seen(Vec<i64>);

impl Values for Seen {
    fn fields(&self) -> Vec<FieldRef> {
        vec![Arc::new(Field::new("n", DataType::Int64, false))]
    }

    fn resize(&mut self, slots: usize) {
        self.0.resize(slots, 0);
    }

    fn clear(&mut self, slot: Slot) {
        self.0[slot as usize] = 0;
    }

    fn gather(&self, slots: &[Slot]) -> millstream_state::Result<Vec<ArrayRef>> {
        let seen = slots.iter().map(|slot| self.0[*slot as usize]);
        Ok(vec![Arc::new(Int64Array::from_iter_values(seen))])
    }

    fn scatter(&mut self, slots: &[Slot], columns: &[ArrayRef]) -> millstream_state::Result<()> {
        let seen = columns[0].as_primitive::<Int64Type>();
        for (slot, seen) in slots.iter().zip(seen.values()) {
            self.0[*slot as usize] = *seen;
        }
        Ok(())
    }
}

struct Subtask {
    table: Keyed<Seen>,
    keeper: Keeper,
    files: TaskFiles,
}

/// A job that counts customers in two subtasks.
struct Job {
    folder: tempfile::TempDir,
    claimed: ClaimedChain,
    subtasks: Vec<Subtask>,
    checkpoint: u64,
}

fn id() -> JobId {
    JobId {
        namespace: "default".to_owned(),
        name: "orders".to_owned(),
    }
}

fn subtask(storage: &Storage, number: u32) -> Subtask {
    let groups = keys::range(number, 2, GROUPS);
    let table = TableOptions {
        name: "groups".to_owned(),
        key: vec![Arc::new(Field::new("customer", DataType::Utf8, true))],
        key_groups: groups.clone(),
        max_parallelism: GROUPS,
        ttl: None,
    };
    let storage = Arc::new(StateStorage::opened(storage.clone()));
    Subtask {
        table: Keyed::new(table, Seen::default()),
        keeper: Keeper::new("sums".into(), groups, GROUPS),
        files: TaskFiles::new(storage, &id(), Attempt(1), SubtaskIndex(number)),
    }
}

fn key(customers: &[&str]) -> (Vec<ArrayRef>, Vec<u64>) {
    let names = customers
        .iter()
        .map(|name| (*name != "null").then_some(*name));
    let column: ArrayRef = Arc::new(names.collect::<StringArray>());
    let rows = RecordBatch::try_from_iter_with_nullable([("customer", Arc::clone(&column), true)]);
    let mut hashes = Vec::new();
    keys::hash(&rows.unwrap(), &[0], &mut hashes).unwrap();
    (vec![column], hashes)
}

impl Job {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::directory(folder.path().to_owned());
        let holder = Holder {
            name: "test".to_owned(),
            build: "test".to_owned(),
            identity: None,
            parallelism: 2,
            deployment: None,
            host: None,
            sinks: BTreeMap::new(),
        };
        let chain = Chain::new(storage.clone(), id());
        Self {
            folder,
            claimed: chain.claim(holder, Timestamp(1)).await.unwrap().0,
            subtasks: (0..2).map(|number| subtask(&storage, number)).collect(),
            checkpoint: 0,
        }
    }

    fn each(&mut self, customers: &[&str], mut change: impl FnMut(&mut Keyed<Seen>, Slot)) {
        for customer in customers {
            let (columns, hashes) = key(&[customer]);
            let owner = keys::subtask(keys::key_group(hashes[0], GROUPS), 2, GROUPS);
            let table = &mut self.subtasks[owner as usize].table;
            let mut slots = Vec::new();
            table.resolve(&columns, &hashes, &mut slots).unwrap();
            change(table, slots[0]);
        }
    }

    fn see(&mut self, customers: &[&str]) {
        self.each(customers, |table, slot| {
            table.values_mut().0[slot as usize] += 1;
            table.touch(slot);
        });
    }

    fn forget(&mut self, customers: &[&str]) {
        self.each(customers, Keyed::remove);
    }

    async fn manifest(&mut self, kind: CheckpointKind) -> Manifest {
        self.checkpoint += 1;
        let checkpoint = CheckpointId(self.checkpoint);
        let mut snapshots = BTreeMap::new();
        for (number, subtask) in (0..).zip(&mut self.subtasks) {
            let table: &mut dyn Table = &mut subtask.table;
            let frozen = subtask.keeper.freeze(&mut [table], checkpoint, kind);
            let encoded = frozen.unwrap().encode().unwrap();
            let written = encoded.upload(&subtask.files).await;
            let table: &mut dyn Table = &mut subtask.table;
            let state = subtask.keeper.settle(&mut [table], written).unwrap();
            let snapshot = OperatorSnapshot {
                state: Some(state),
                ..OperatorSnapshot::default()
            };
            snapshots.insert(SubtaskIndex(number), snapshot);
        }
        Manifest {
            version: MANIFEST_VERSION,
            job: id(),
            checkpoint,
            attempt: Attempt(1),
            kind,
            fingerprint: "f".to_owned(),
            parallelism: 2,
            max_parallelism: Some(GROUPS),
            triggered_at: Timestamp(1),
            decided_at: Timestamp(2),
            identities: BTreeMap::new(),
            connectors: BTreeMap::new(),
            operators: BTreeMap::from([("sums".into(), snapshots)]),
            inputs: BTreeMap::new(),
            swept_through: Attempt(0),
            imported_from: None,
            beginning: None,
            origins: Vec::new(),
            previous: None,
            ended: false,
        }
    }

    async fn decide(&mut self) {
        let manifest = self.manifest(CheckpointKind::Checkpoint).await;
        drop(self.claimed.decide(manifest).await.unwrap());
    }

    fn path(&self) -> String {
        format!("file://{}/default/orders", self.folder.path().display())
    }
}

fn options(arguments: &[&str]) -> StateOptions {
    let command = ["millstream", "checkpoints", "state"].iter();
    let parsed = crate::cli::Arguments::try_parse_from(command.chain(arguments));
    match parsed.unwrap().command {
        crate::cli::Command::Checkpoints(crate::cli::CheckpointsCommand::State(options)) => options,
        other => panic!("{other:?}"),
    }
}

async fn point(options: &StateOptions) -> Point {
    let id = options.checkpoint.map(CheckpointId);
    let storage = StorageOptions::default();
    inspect::point(&options.storage, id, &storage)
        .await
        .unwrap()
}

/// What the command writes.
async fn written(arguments: &[&str]) -> Result<Vec<u8>, Failure> {
    let options = options(arguments);
    let point = point(&options).await;
    let mut out = Vec::new();
    let mut writer = Writer::to(options.format, &mut out);
    let uid = options.operator.as_deref().unwrap().into();
    rows(&options, &point, &uid, &mut writer).await?;
    writer.finish()?;
    Ok(out)
}

async fn lines(arguments: &[&str]) -> Vec<String> {
    let text = String::from_utf8(written(arguments).await.unwrap()).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn line(customer: &str, seen: i64) -> String {
    let customer = if customer == "null" {
        customer.to_owned()
    } else {
        format!("\"{customer}\"")
    };
    format!(r#"{{"state":"groups","key":{{"customer":{customer}}},"value":{{"n":{seen}}}}}"#)
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

async fn job() -> Job {
    let mut job = Job::new().await;
    job.see(&["ann", "bob", "cat", "dan", "eve", "null"]);
    job.decide().await;
    job.see(&["ann", "fay", "ann"]);
    job.forget(&["bob", "eve"]);
    job.decide().await;
    job
}

#[tokio::test]
async fn every_checkpoint_is_read_as_it_was() {
    let job = job().await;
    let first = lines(&[&job.path(), "1", "--operator", "sums"]).await;
    let all = ["ann", "bob", "cat", "dan", "eve", "null"];
    assert_eq!(
        sorted(first),
        sorted(all.map(|name| line(name, 1)).to_vec())
    );
    let newest = lines(&[&job.path(), "--operator", "sums"]).await;
    let left = [("ann", 3), ("cat", 1), ("dan", 1), ("fay", 1), ("null", 1)];
    let left = left.map(|(name, seen)| line(name, seen));
    assert_eq!(sorted(newest.clone()), sorted(left.to_vec()));
    // In the same order each time: that of key groups.
    assert_eq!(lines(&[&job.path(), "--operator", "sums"]).await, newest);
    let group = |line: &String| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let name = row["key"]["customer"].as_str().unwrap_or("null").to_owned();
        keys::key_group(key(&[&name]).1[0], GROUPS)
    };
    assert!(newest.iter().map(group).is_sorted());
}

#[tokio::test]
async fn one_key_is_found_by_its_text_or_as_json() {
    let job = job().await;
    for (asked, expected) in [
        ("ann", vec![line("ann", 3)]),
        ("[\"fay\"]", vec![line("fay", 1)]),
        ("[null]", vec![line("null", 1)]),
        ("bob", vec![]),
        ("nobody", vec![]),
    ] {
        let found = lines(&[&job.path(), "--operator", "sums", "--key", asked]).await;
        assert_eq!(found, expected, "{asked}");
    }
    let two = ["--operator", "sums", "--key", "[\"a\",\"b\"]"];
    let refused = written(&[&[job.path().as_str()][..], &two].concat()).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::InvalidJob);
    assert!(refused.message.contains("customer string"), "{refused}");
}

#[tokio::test]
async fn files_that_are_too_large_for_memory_are_read_from_a_disk() {
    let job = job().await;
    let point = point(&options(&[&job.path()])).await;
    let uid = "sums".into();
    let mut keys = Vec::new();
    for snapshot in snapshots(&point, &uid) {
        let contents = fetched::contents(&point, &snapshot.runs, 0).await.unwrap();
        let runs = snapshot.runs.iter().map(|run| {
            let content = contents[&run.file].clone();
            assert!(matches!(content, millstream_state::Content::Local(_)));
            (run.clone(), content)
        });
        let groups = snapshot.key_groups.first..snapshot.key_groups.end;
        let reader = millstream_state::reader::read_state(&groups, runs.collect());
        let mut reader = reader.unwrap().unwrap();
        while let Some(part) = reader.next_part().unwrap() {
            let customers = part.rows.column(0).as_string::<i32>();
            keys.extend(customers.iter().map(|it| it.unwrap_or("null").to_owned()));
        }
    }
    keys.sort();
    assert_eq!(keys, ["ann", "cat", "dan", "fay", "null"]);
}

#[tokio::test]
async fn a_savepoint_is_read_after_it_was_moved() {
    let mut job = job().await;
    let pending = PendingSavepoints::default();
    job.claimed.set_pending_savepoints(pending.clone());
    pending.begin(CheckpointId(3));
    job.see(&["gus"]);
    let manifest = job.manifest(CheckpointKind::Savepoint).await;
    let saved = job.claimed.savepoint("kept", manifest).await.unwrap();
    let moved = tempfile::tempdir().unwrap();
    let target = moved.path().join("kept");
    std::fs::rename(saved.path.trim_start_matches("file://"), &target).unwrap();
    drop(job);
    let path = format!("file://{}", target.display());
    let found = lines(&[&path, "--operator", "sums", "--key", "gus"]).await;
    assert_eq!(found, [line("gus", 1)]);
    assert_eq!(lines(&[&path, "--operator", "sums"]).await.len(), 6);
}

#[tokio::test]
async fn an_arrow_file_has_the_columns_of_keys_and_values() {
    let job = job().await;
    let file = written(&[&job.path(), "--operator", "sums", "--format", "arrow"]).await;
    let file = std::io::Cursor::new(file.unwrap());
    let reader = arrow_ipc::reader::FileReader::try_new(file, None).unwrap();
    let schema = reader.schema();
    let names: Vec<&String> = schema.fields().iter().map(|field| field.name()).collect();
    assert_eq!(names, ["customer", "n"]);
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    let seen = batches.iter().flat_map(|batch| {
        let column = batch.column(1).as_primitive::<Int64Type>();
        column.values().to_vec()
    });
    assert_eq!(seen.sum::<i64>(), 7);
}

#[tokio::test]
async fn operators_are_listed_with_keys_runs_and_sizes() {
    let job = job().await;
    let point = point(&options(&[&job.path()])).await;
    let found = summaries(&point).await.unwrap();
    let declared = job.subtasks[0].table.declaration();
    let expected = Summary {
        operator: "sums".to_owned(),
        state: "groups".to_owned(),
        data_type: declared.data_type,
        subtasks: 2,
        keys: 5,
        runs: point.manifest.files().count(),
        bytes: point.manifest.state_bytes(),
    };
    assert_eq!(found, [expected]);
    assert!(found[0].bytes > 0);
    let text = listing(&point, &found);
    assert!(text.contains("sums") && text.contains("groups"), "{text}");
}

#[tokio::test]
async fn what_is_not_there_is_said_with_what_is() {
    let job = job().await;
    for (arguments, parts) in [
        (
            &["--operator", "sum"][..],
            ["operator `sum`", "holds `sums`"],
        ),
        (
            &["--operator", "sums", "--state", "x"],
            ["state `x`", "holds `groups`"],
        ),
    ] {
        let refused = written(&[&[job.path().as_str()][..], arguments].concat()).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code, ErrorCode::CheckpointMissing);
        for part in parts {
            assert!(refused.message.contains(part), "no `{part}` in: {refused}");
        }
    }
}

#[tokio::test]
async fn a_checkpoint_that_goes_while_it_is_read_is_not_called_corrupt() {
    let mut job = job().await;
    let path = job.path();
    let older = options(&[&path, "1", "--operator", "sums"]);
    let first = point(&older).await;
    let file = first.manifest.files().next().unwrap().clone();
    job.decide().await;
    job.claimed.collect_garbage(1).await.unwrap();
    std::fs::remove_file(job.folder.path().join("default/orders").join(&file.path)).unwrap();
    let failure = first.read(&file).await.unwrap_err();
    let failure = explained(&older, &first, failure.into()).await;
    assert_eq!(failure.code, ErrorCode::CheckpointMissing);
    assert!(failure.message.contains("the job has gone on"), "{failure}");
    // One that is still there and lacks a file is damaged.
    let newest = options(&[&path, "--operator", "sums"]);
    let last = point(&newest).await;
    let file = last.manifest.files().next().unwrap().clone();
    drop(std::fs::remove_file(
        job.folder.path().join("default/orders").join(&file.path),
    ));
    let failure = last.read(&file).await.unwrap_err();
    let failure = explained(&newest, &last, failure.into()).await;
    assert_eq!(failure.code, ErrorCode::CorruptObject);
}
