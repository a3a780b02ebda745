//! Files that are not what they were, and states that are not what they were.

use std::sync::Arc;
use std::time::Duration;

use arrow_ipc::reader::FileReader;
use arrow_schema::{DataType, Field, FieldRef};
use futures::FutureExt;
use millstream_types::{CheckpointKind, ErrorCode, StateSnapshot};

use super::job::{GROUPS, Job, Kind, MemoryFiles, SMALL};
use crate::policy::Limits;
use crate::reader::read_state;
use crate::{Content, Keeper, Keyed, Table, TableOptions};

/// A checkpoint of some keys.
fn checkpoint(kind: Kind, limits: Limits) -> (Vec<StateSnapshot>, Arc<MemoryFiles>) {
    let files = Arc::default();
    let mut job = Job::start((kind, false), (0, 1), (&[], &files), (0, limits), None).unwrap();
    job.add(&(0..1_000).collect::<Vec<_>>());
    let subtask = &mut job.subtasks[0];
    let frozen = subtask.freeze(1, CheckpointKind::Checkpoint);
    let written = subtask.write(frozen);
    (vec![subtask.settle(Some(written)).unwrap()], files)
}

fn restored(snapshots: &[StateSnapshot], files: &Arc<MemoryFiles>) -> crate::Result<Job> {
    let shape = (Kind::Text, false);
    Job::start(shape, (1, 1), (snapshots, files), (0, SMALL), None)
}

#[test]
fn a_file_that_is_not_what_was_written_is_corrupt_by_its_name() {
    let (snapshots, files) = checkpoint(Kind::Text, Limits::default());
    assert_eq!(restored(&snapshots, &files).unwrap().keys(), (1_000, 0));
    let path = snapshots[0].runs[0].file.path.clone();
    let whole = files.0.lock().unwrap()[&path].clone();
    let flips = (0..whole.len()).step_by(97).map(|at| {
        let mut flipped = whole.to_vec();
        flipped[at] ^= 0x10;
        flipped
    });
    let cuts = (0..whole.len()).step_by(211).map(|at| whole[..at].to_vec());
    let longer = [whole.as_ref(), &[0]].concat();
    for content in flips.chain(cuts).chain([longer]) {
        files.0.lock().unwrap().insert(path.clone(), content.into());
        let failure = restored(&snapshots, &files).err().unwrap();
        assert_eq!(failure.code, ErrorCode::CorruptObject);
        assert!(failure.message.contains(&path), "{failure}");
    }
}

#[test]
fn a_reader_holds_a_batch_of_each_run_however_many_keys_there_are() {
    const KEYS: usize = 300_000;
    let shape = (Kind::Number, false);
    let limits = Limits::default();
    let files: Arc<MemoryFiles> = Arc::default();
    let mut job = Job::start(shape, (0, 1), (&[], &files), (0, limits), None).unwrap();
    let mut snapshot = StateSnapshot::default();
    for (number, keys) in [(1, KEYS), (2, KEYS / 100), (3, KEYS / 200)] {
        job.add(&(0..).take(keys).collect::<Vec<_>>());
        let subtask = &mut job.subtasks[0];
        let frozen = subtask.freeze(number, CheckpointKind::Checkpoint);
        let written = subtask.write(frozen);
        snapshot = subtask.settle(Some(written)).unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let directory = crate::LocalDirectory::claim(directory.path()).unwrap();
    let content = |path: &String| files.0.lock().unwrap()[path].clone();
    let runs = snapshot.runs.iter().map(|run| {
        let local = directory.write(&content(&run.file.path)).unwrap();
        (run.clone(), Content::Local(local))
    });
    let mut reader = read_state(&(0..GROUPS), runs.collect()).unwrap().unwrap();
    let (mut rows, mut largest) = (0, 0);
    while let Some(part) = reader.next_part().unwrap() {
        rows += part.rows.num_rows();
        largest = largest.max(part.rows.num_rows());
    }
    assert_eq!(rows, KEYS);
    let group = KEYS / usize::try_from(GROUPS).unwrap();
    assert!(
        largest < 2 * group,
        "{largest} rows at once, {group} in a group"
    );
    // A group may go on in a second batch of the large run.
    let most = 2 * 65_536 + 3 * KEYS / 200;
    let held = reader.most_rows();
    assert!(held > 0 && held <= most, "{held} rows of runs at once");
    assert!(
        most < rows / 2,
        "the state is much larger than what is held"
    );
}

#[test]
fn any_tool_reads_a_run() {
    let (snapshots, files) = checkpoint(Kind::Several, Limits::default());
    let path = &snapshots[0].runs[0].file.path;
    let content = std::io::Cursor::new(files.0.lock().unwrap()[path].clone());
    let reader = FileReader::try_new(content, None).unwrap();
    let schema = reader.schema();
    let names: Vec<_> = schema.fields().iter().map(|field| field.name()).collect();
    assert_eq!(names, ["name", "weight", "$deleted", "number"]);
    assert_eq!(schema.metadata()["millstream.state"], "numbers");
    assert_eq!(schema.metadata()["millstream.keyGroups"], "0..16");
    let rows: usize = reader.map(|rows| rows.unwrap().num_rows()).sum();
    assert_eq!(rows, 1_000);
}

#[test]
fn a_large_run_is_several_files_of_all_key_groups() {
    let (snapshots, files) = checkpoint(
        Kind::Text,
        Limits {
            file_bytes: 4_000,
            ..Limits::default()
        },
    );
    let runs = &snapshots[0].runs;
    assert!(runs.len() > 3, "{} files", runs.len());
    assert_eq!(runs[0].range.first, 0);
    assert_eq!(runs.last().unwrap().range.end, GROUPS);
    for pair in runs.windows(2) {
        assert_eq!(pair[0].range.end, pair[1].range.first);
    }
    assert_eq!(restored(&snapshots, &files).unwrap().keys(), (1_000, 0));
}

fn other(name: &str, key: DataType, ttl: Option<Duration>) -> Keyed<super::job::Numbers> {
    let key: FieldRef = Arc::new(Field::new("name", key, true));
    let options = TableOptions {
        name: name.to_owned(),
        key: vec![key],
        key_groups: 0..GROUPS,
        max_parallelism: GROUPS,
        ttl,
    };
    Keyed::new(options, super::job::Numbers::default())
}

fn restore_into(
    mut table: impl Table,
    snapshot: &StateSnapshot,
    files: &MemoryFiles,
    groups: u32,
) -> crate::Result<u64> {
    let contents = snapshot.runs.iter();
    let contents = contents.map(|run| files.0.lock().unwrap()[&run.file.path].clone());
    let contents = contents.map(Content::from).collect();
    let mut keeper = Keeper::new("uid".into(), 0..groups, groups);
    keeper.restore(&mut [&mut table as &mut dyn Table], snapshot, contents)?;
    Ok(table.stats().keys)
}

#[test]
fn state_of_other_types_is_refused_with_both() {
    let (snapshots, files) = checkpoint(Kind::Text, Limits::default());
    let refused = |table: Keyed<super::job::Numbers>, words: &[&str]| {
        let failure = restore_into(table, &snapshots[0], &files, GROUPS).unwrap_err();
        assert_eq!(failure.code, ErrorCode::IncompatibleState);
        for word in words {
            assert!(failure.message.contains(word), "{failure}");
        }
    };
    refused(
        other("numbers", DataType::Int64, None),
        &["`numbers`", "name Utf8", "name Int64"],
    );
    refused(other("counts", DataType::Utf8, None), &["`numbers`"]);
    refused(
        other("numbers", DataType::Utf8, None).with_type("other"),
        &["`other`"],
    );
    // The same words for other columns: the file itself says it.
    let disguised = other("numbers", DataType::Int64, None)
        .with_type(snapshots[0].declarations[0].data_type.clone());
    refused(disguised, &["name Utf8", "name Int64"]);
}

#[test]
fn state_of_another_number_of_key_groups_is_refused() {
    let (snapshots, files) = checkpoint(Kind::Text, Limits::default());
    let key: FieldRef = Arc::new(Field::new("name", DataType::Utf8, true));
    let options = TableOptions {
        name: "numbers".to_owned(),
        key: vec![key],
        key_groups: 0..2 * GROUPS,
        max_parallelism: 2 * GROUPS,
        ttl: None,
    };
    let table = Keyed::new(options, super::job::Numbers::default());
    let failure = restore_into(table, &snapshots[0], &files, 2 * GROUPS).unwrap_err();
    assert!(failure.message.contains("maxParallelism 16"), "{failure}");
}

#[test]
fn a_time_to_live_may_come_and_go() {
    let (snapshots, files) = checkpoint(Kind::Text, Limits::default());
    let ttl = Some(Duration::from_secs(1));
    let table = other("numbers", DataType::Utf8, ttl);
    let keys = restore_into(table, &snapshots[0], &files, GROUPS).unwrap();
    assert_eq!(keys, 1_000, "they begin to live now");
}

#[test]
fn tables_of_one_operator_have_runs_of_their_own() {
    let files = Arc::<MemoryFiles>::default();
    let mut keeper = Keeper::new("uid".into(), 0..GROUPS, GROUPS);
    let mut one = other("one", DataType::Utf8, None);
    let mut two = other("two", DataType::Utf8, None);
    let add = |table: &mut Keyed<super::job::Numbers>, keys: std::ops::Range<i64>| {
        let columns = Kind::Text.columns(&keys.collect::<Vec<_>>());
        let mut slots = Vec::new();
        let hashes = Kind::Text.hashes(&columns);
        table.resolve(&columns, &hashes, &mut slots).unwrap();
        table.touch_all(&slots);
    };
    let mut snapshot = StateSnapshot::default();
    for (checkpoint, ones, twos) in [(1, 0..90, 0..0), (2, 0..0, 0..50), (3, 0..1, 50..55)] {
        add(&mut one, ones);
        add(&mut two, twos);
        let tables: &mut [&mut dyn Table] = &mut [&mut one, &mut two];
        let id = millstream_types::CheckpointId(checkpoint);
        let frozen = keeper
            .freeze(tables, id, CheckpointKind::Checkpoint)
            .unwrap();
        let upload = frozen
            .encode()
            .unwrap()
            .upload(files.as_ref())
            .now_or_never();
        snapshot = keeper.settle(tables, upload.unwrap()).unwrap();
    }
    let states: Vec<_> = snapshot.runs.iter().map(|run| run.state.as_str()).collect();
    assert_eq!(states, ["one", "one", "two", "two"]);
    assert_eq!(keeper.stats().runs, 4);
    let contents = || {
        let files = files.0.lock().unwrap();
        let runs = snapshot.runs.iter();
        runs.map(|run| files[&run.file.path].clone()).collect()
    };
    let mut one = other("one", DataType::Utf8, None);
    let mut two = other("two", DataType::Utf8, None);
    let mut restored = Keeper::new("uid".into(), 0..GROUPS, GROUPS);
    let tables: &mut [&mut dyn Table] = &mut [&mut two, &mut one];
    restored.restore(tables, &snapshot, contents()).unwrap();
    assert_eq!((one.len(), two.len()), (90, 55));
    // Each state has a table, and no other.
    let failure = restore_into(
        other("one", DataType::Utf8, None),
        &snapshot,
        &files,
        GROUPS,
    );
    let failure = failure.unwrap_err();
    assert_eq!(failure.code, ErrorCode::IncompatibleState);
    assert!(failure.message.contains("`two`"), "{failure}");
}
