//! The files source as a coordinator and a task see it, on a real file system.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use futures::FutureExt as _;
use millstream_connect::{Polled, SplitRun};
use millstream_spec::OnError;
use millstream_spec::valid::SourceConnector as SourceOptions;
use millstream_types::schema::{Column, ColumnType, arrow_schema};
use millstream_types::snapshot::Counters;
use millstream_types::{ErrorCode, ErrorKind, Failure, Opaque, SplitState, SubtaskIndex};

use super::*;

fn columns() -> Vec<Column> {
    vec![Column::new("id", ColumnType::Int64, false)]
}

fn connector(path: &Path, on_error: OnError) -> Arc<dyn SourceConnector> {
    let options = FilesSource {
        path: path.to_str().unwrap().to_owned(),
    };
    crate::source(&Arc::new(ValidSource {
        parallelism: None,
        name: "lines".to_owned(),
        connector: SourceOptions::Files(options),
        format: Format::Json(millstream_spec::dataflow::JsonFormat::default()),
        schema: columns(),
        metadata: Vec::new(),
        watermark: None,
        on_error,
    }))
    .unwrap()
}

fn reader(connector: &dyn SourceConnector) -> Box<dyn SourceReader> {
    let context = ReaderContext {
        job: JobId {
            namespace: "default".to_owned(),
            name: "test".to_owned(),
        },
        uid: "lines".into(),
        subtask: SubtaskIndex(0),
        parallelism: 1,
        schema: arrow_schema(&columns()),
    };
    connector.reader(context).unwrap()
}

async fn discover(connector: &dyn SourceConnector) -> Result<Vec<SplitState>> {
    let mut enumerator = connector.enumerator()?;
    let discovery = enumerator.discover(&BTreeSet::new(), true).await?;
    let known = discovery
        .splits
        .iter()
        .map(|split| split.split.clone())
        .collect();
    let later = enumerator.discover(&known, false).await?;
    assert_eq!(later.splits, []);
    Ok(discovery.splits)
}

/// Polls until there is nothing more, or `rows` have come.
fn read(reader: &mut dyn SourceReader, rows: usize) -> Vec<i64> {
    let mut ids = Vec::new();
    while ids.len() < rows {
        match reader.poll(Duration::ZERO).unwrap() {
            Polled::Records(output) => {
                if let Some(batch) = output.batch {
                    let column = batch.records().column(0).as_primitive::<Int64Type>();
                    ids.extend(column.values());
                }
            }
            Polled::Nothing => {}
            Polled::End => break,
        }
    }
    ids
}

fn lines(ids: std::ops::Range<i64>) -> String {
    let lines: Vec<_> = ids.map(|id| format!("{{\"id\":{id}}}\n")).collect();
    lines.concat()
}

#[tokio::test]
async fn visible_files_are_read_once_and_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| fs::write(directory.path().join(name), text).unwrap();
    write("b.jsonl", lines(100..200));
    write("a.jsonl", lines(0..100).trim_end().to_owned());
    write("c.jsonl", lines(200..203).replace('\n', "\r\n"));
    write("empty.jsonl", String::new());
    write("_ignored", lines(900..901));
    write(".hidden", lines(900..901));
    fs::create_dir(directory.path().join("folder")).unwrap();
    let connector = connector(directory.path(), OnError::Fail);
    let splits = discover(connector.as_ref()).await.unwrap();
    let names: Vec<_> = splits.iter().map(|split| split.split.as_str()).collect();
    assert_eq!(names, ["a.jsonl", "b.jsonl", "c.jsonl", "empty.jsonl"]);
    let mut reader = reader(connector.as_ref());
    assert_eq!(reader.poll(Duration::ZERO).unwrap(), Polled::Nothing);
    reader.add_splits(splits).unwrap();
    let Polled::Records(output) = reader.poll(Duration::ZERO).unwrap() else {
        panic!("there are records");
    };
    assert_eq!(output.batch.unwrap().rows(), 203);
    let runs = [(0, 100), (1, 100), (2, 3)].map(|(split, rows)| SplitRun { split, rows });
    assert_eq!(output.runs, runs);
    assert_eq!(reader.poll(Duration::ZERO).unwrap(), Polled::End);
    assert!(reader.snapshot().iter().all(|split| split.finished));
    assert_eq!(reader.counters().records_out, 203);
}

#[tokio::test]
async fn a_single_file_may_be_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("_only.jsonl");
    fs::write(&path, lines(0..3)).unwrap();
    let connector = connector(&path, OnError::Fail);
    let splits = discover(connector.as_ref()).await.unwrap();
    let mut reader = reader(connector.as_ref());
    reader.add_splits(splits).unwrap();
    assert_eq!(read(reader.as_mut(), usize::MAX), [0, 1, 2]);
}

#[tokio::test]
async fn a_byte_order_mark_is_no_part_of_the_first_record() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("windows.jsonl");
    fs::write(&path, format!("\u{feff}{}", lines(0..3))).unwrap();
    let connector = connector(&path, OnError::Fail);
    let splits = discover(connector.as_ref()).await.unwrap();
    let mut reader = reader(connector.as_ref());
    reader.add_splits(splits).unwrap();
    assert_eq!(read(reader.as_mut(), usize::MAX), [0, 1, 2]);
}

#[tokio::test]
async fn a_file_without_lines_is_refused_by_what_it_is() {
    for (first, what) in [
        (&b"\x1f\x8b\x08\x00"[..], "gzip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"PK\x03\x04", "zip"),
        (b"PAR1", "Parquet"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a"), first).unwrap();
        let connector = connector(directory.path(), OnError::Skip);
        let splits = discover(connector.as_ref()).await.unwrap();
        let mut reader = reader(connector.as_ref());
        reader.add_splits(splits).unwrap();
        let failure = reader.poll(Duration::ZERO).unwrap_err();
        assert_eq!(failure.kind, ErrorKind::InvalidJob, "{failure}");
        assert!(failure.message.contains(what), "{failure}");
    }
}

#[tokio::test]
async fn a_reader_goes_on_exactly_where_the_snapshot_says() {
    let directory = tempfile::tempdir().unwrap();
    for file in 0..3 {
        let from = file * 10_000;
        let path = directory.path().join(format!("{file}.jsonl"));
        fs::write(path, lines(from..from + 10_000)).unwrap();
    }
    let connector = connector(directory.path(), OnError::Fail);
    let mut splits = discover(connector.as_ref()).await.unwrap();
    let mut ids = Vec::new();
    loop {
        let mut reader = reader(connector.as_ref());
        reader.add_splits(splits).unwrap();
        let part = read(reader.as_mut(), 1);
        splits = reader.snapshot();
        if part.is_empty() {
            break;
        }
        ids.extend(part);
    }
    assert_eq!(ids, (0..30_000).collect::<Vec<_>>());
    let records: Vec<_> = splits.iter().map(|split| split.records).collect();
    assert_eq!(records, [10_000; 3]);
}

/// Does something to a file that had this text.
type Change = fn(&Path, &str);

/// What may happen to a file, and what is said about it.
const CHANGES: [(&str, Change); 4] = [
    ("now has 110", |path, text| {
        fs::write(path, format!("{text}{}", lines(20..21))).unwrap();
    }),
    ("content is another", |path, text| {
        fs::write(path, text.replace("15", "16")).unwrap();
    }),
    ("modification time", |path, text| {
        fs::write(path, text).unwrap();
    }),
    ("No such file", |path, _| fs::remove_file(path).unwrap()),
];

#[tokio::test]
async fn a_file_that_has_changed_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.jsonl");
    let original = lines(10..20);
    for (message, change) in CHANGES {
        fs::write(&path, &original).unwrap();
        let connector = connector(directory.path(), OnError::Fail);
        let splits = discover(connector.as_ref()).await.unwrap();
        let before = fs::metadata(&path).unwrap().modified().unwrap();
        let until = std::time::Instant::now() + Duration::from_secs(10);
        change(&path, &original);
        // Clocks of file systems are coarse: write until the time is another.
        while fs::metadata(&path).is_ok_and(|now| now.modified().unwrap() == before) {
            assert!(std::time::Instant::now() < until);
            change(&path, &original);
        }
        let failure = reader(connector.as_ref()).add_splits(splits).unwrap_err();
        assert_eq!(failure.code, ErrorCode::FileAccess, "{failure}");
        assert!(failure.message.contains(message), "{failure}");
        assert!(failure.message.contains("a.jsonl"), "{failure}");
    }
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_read_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.jsonl");
    for (cut, message) in [(true, "shorter"), (false, "now has")] {
        fs::write(&path, lines(100_000..160_000)).unwrap();
        let connector = connector(directory.path(), OnError::Fail);
        let mut reader = reader(connector.as_ref());
        reader
            .add_splits(discover(connector.as_ref()).await.unwrap())
            .unwrap();
        read(reader.as_mut(), 1);
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        let length = file.metadata().unwrap().len();
        file.set_len(if cut { length / 2 } else { length + 1 })
            .unwrap();
        let failure = fail(reader.as_mut());
        assert!(failure.message.contains(message), "{failure}");
    }
}

/// Polls until the reader fails.
fn fail(reader: &mut dyn SourceReader) -> Failure {
    loop {
        match reader.poll(Duration::ZERO) {
            Ok(Polled::End) => panic!("the reader has come to its end"),
            Ok(_) => {}
            Err(failure) => return failure,
        }
    }
}

const BROKEN: &str = "{\"id\":1}\nnot json\n{\"id\":2}\n\n{\"id\":\"3\"}\n{\"id\":4}\n";

#[tokio::test]
async fn a_corrupt_line_fails_the_job_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a.jsonl"), BROKEN).unwrap();
    let connector = connector(directory.path(), OnError::Fail);
    let mut reader = reader(connector.as_ref());
    reader
        .add_splits(discover(connector.as_ref()).await.unwrap())
        .unwrap();
    let failure = fail(reader.as_mut());
    assert_eq!(
        (failure.code, failure.kind),
        (ErrorCode::CorruptRecord, ErrorKind::CorruptData)
    );
    for part in [
        "source `lines`",
        "byte 9 of",
        "a.jsonl cannot",
        "not a JSON object (byte 0)",
        "\"not json\"",
    ] {
        assert!(failure.message.contains(part), "{failure} has {part}");
    }
}

#[tokio::test]
async fn corrupt_lines_are_skipped_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a.jsonl"), BROKEN).unwrap();
    let connector = connector(directory.path(), OnError::Skip);
    let mut reader = reader(connector.as_ref());
    reader
        .add_splits(discover(connector.as_ref()).await.unwrap())
        .unwrap();
    assert_eq!(read(reader.as_mut(), usize::MAX), [1, 2, 4]);
    let expected = Counters {
        records_in: 6,
        records_out: 3,
        bytes: 42,
        skipped: 3,
        ..Counters::default()
    };
    assert_eq!(reader.counters(), expected);
    assert_eq!(reader.snapshot()[0].records, 6);
}

#[tokio::test]
async fn corrupt_lines_go_to_the_dead_letters_with_place_and_reason() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a.jsonl"), BROKEN).unwrap();
    let connector = connector(directory.path(), OnError::DeadLetter);
    let mut reader = reader(connector.as_ref());
    reader
        .add_splits(discover(connector.as_ref()).await.unwrap())
        .unwrap();
    let Polled::Records(output) = reader.poll(Duration::ZERO).unwrap() else {
        panic!("there are records");
    };
    assert_eq!(output.batch.unwrap().rows(), 3);
    let letters = output.dead_letters.unwrap();
    assert_eq!(
        letters.schema(),
        millstream_connect::source::dead_letter_schema()
    );
    let column = |index: usize| letters.records().column(index);
    let payloads: Vec<_> = column(0).as_binary::<i32>().iter().flatten().collect();
    assert_eq!(payloads, [b"not json".as_slice(), b"", b"{\"id\":\"3\"}"]);
    let topics: BTreeSet<_> = column(1).as_string::<i32>().iter().flatten().collect();
    let path = directory.path().join("a.jsonl");
    assert_eq!(topics, BTreeSet::from([path.to_str().unwrap()]));
    let offsets = column(3).as_primitive::<Int64Type>().values();
    assert_eq!(offsets, &[9, 27, 28]);
    let reasons: Vec<_> = column(4).as_string::<i32>().iter().flatten().collect();
    assert_eq!(
        reasons[2],
        "a string where the column wants a number (byte 6, field `id`)"
    );
}

#[tokio::test]
async fn a_line_without_end_is_refused_and_not_kept() {
    let directory = tempfile::tempdir().unwrap();
    let mut text = lines(0..1).into_bytes();
    text.resize(20 * 1_024 * 1_024, b'x');
    fs::write(directory.path().join("a.jsonl"), text).unwrap();
    let connector = connector(directory.path(), OnError::Skip);
    let mut reader = reader(connector.as_ref());
    reader
        .add_splits(discover(connector.as_ref()).await.unwrap())
        .unwrap();
    let failure = fail(reader.as_mut());
    assert_eq!(failure.code, ErrorCode::CorruptRecord);
    assert!(
        failure.message.contains("byte 9 is longer than 16 MiB"),
        "{failure}"
    );
}

#[tokio::test]
async fn a_directory_without_files_or_that_is_missing_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let failure = discover(connector(directory.path(), OnError::Fail).as_ref()).await;
    assert!(
        failure
            .unwrap_err()
            .message
            .contains("there is no file to read")
    );
    let missing = directory.path().join("missing");
    let failure = discover(connector(&missing, OnError::Fail).as_ref()).await;
    let failure = failure.unwrap_err();
    assert_eq!(failure.kind, ErrorKind::InvalidJob, "{failure}");
    let message = failure.message;
    assert!(
        message.contains("is not there") && message.contains("missing"),
        "{message}"
    );
}

#[test]
fn state_that_leads_elsewhere_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a"), "{}").unwrap();
    let connector = connector(directory.path(), OnError::Fail);
    let good = discover_now(connector.as_ref()).remove(0);
    for (split, position) in [
        ("../a", good.position.0.as_str()),
        ("/etc/passwd", &good.position.0),
        ("..", &good.position.0),
        ("a", "{\"next\":0,\"splits\":4}"),
        ("a", "nonsense"),
    ] {
        let state = SplitState {
            split: split.to_owned(),
            position: Opaque(position.to_owned()),
            ..good.clone()
        };
        let failure = reader(connector.as_ref())
            .add_splits(vec![state])
            .unwrap_err();
        assert_eq!(failure.code, ErrorCode::IncompatibleState, "{failure}");
    }
    let behind = good.position.0.replace("\"offset\":0", "\"offset\":3");
    let state = SplitState {
        position: Opaque(behind),
        ..good
    };
    let failure = reader(connector.as_ref())
        .add_splits(vec![state])
        .unwrap_err();
    assert!(
        failure.message.contains("behind the file's end"),
        "{failure}"
    );
}

fn discover_now(connector: &dyn SourceConnector) -> Vec<SplitState> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(discover(connector)).unwrap()
}

#[test]
fn nothing_is_discovered_later() {
    let mut enumerator = connector(Path::new("/nowhere"), OnError::Fail)
        .enumerator()
        .unwrap();
    assert_eq!(enumerator.interval(), None);
    let later = enumerator.discover(&BTreeSet::new(), false).now_or_never();
    assert_eq!(later.unwrap().unwrap().splits, []);
}
