//! The files sink through crashes, on a real file system.

use std::fs;
use std::path::Path;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use millstream_connect::{CommitOutcome, Lingering, Standing};
use millstream_spec::CheckpointSpec;
use millstream_spec::valid::{Input, SinkConnector as SinkOptions};
use millstream_types::change::Changelog;
use millstream_types::{
    Attempt, Batch, CheckpointId, Committable, ErrorCode, ErrorKind, SubtaskIndex,
};

use super::*;

/// A sink in a directory of its own.
struct Output {
    directory: tempfile::TempDir,
    connector: Arc<dyn SinkConnector>,
}

const UID: &str = "processed";

impl Output {
    fn new() -> Self {
        Self::of_format(Format::Json(
            millstream_spec::dataflow::JsonFormat::default(),
        ))
    }

    fn of_format(format: Format) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        let connector = connector(&path, format);
        // As preflight does.
        fs::create_dir_all(path.join(".millstream").join(UID)).unwrap();
        Self {
            directory,
            connector,
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("out")
    }

    fn hidden(&self) -> PathBuf {
        self.path().join(".millstream").join(UID)
    }

    fn writer(&self, attempt: u64, subtask: u32) -> Box<dyn SinkWriter> {
        let context = WriterContext {
            job: job("orders"),
            uid: UID.into(),
            attempt: Attempt(attempt),
            lineage: None,
            subtask: SubtaskIndex(subtask),
            parallelism: 2,
            schema: batch(&[]).schema(),
            changelog: Changelog::Append,
        };
        self.connector.writer(context).unwrap()
    }

    fn committer(&self) -> Arc<dyn SinkCommitter> {
        self.committer_of("orders")
    }

    fn committer_of(&self, name: &str) -> Arc<dyn SinkCommitter> {
        let committer = self.connector.committer(&job(name), &UID.into());
        committer.unwrap().unwrap()
    }

    async fn commit(&self, committables: &[Committable]) -> Vec<CommitOutcome> {
        self.committer().commit(committables).await
    }

    /// What a reader of the directory sees, by name.
    fn visible(&self) -> Vec<(String, String)> {
        let entries = fs::read_dir(self.path()).unwrap();
        let mut files: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with('.'))
            .map(|name| {
                let text = fs::read_to_string(self.path().join(&name)).unwrap();
                (name, text)
            })
            .collect();
        files.sort();
        files
    }

    fn in_progress(&self) -> Vec<String> {
        let entries = fs::read_dir(self.hidden()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names
            .filter(|name| name.starts_with(".inprogress"))
            .collect();
        names.sort();
        names
    }
}

fn connector(path: &Path, format: Format) -> Arc<dyn SinkConnector> {
    let checkpoint: CheckpointSpec = serde_json::from_str(r#"{"storage":"file:///x"}"#).unwrap();
    let options = FilesSink {
        path: path.to_str().unwrap().to_owned(),
    };
    crate::sink(&Arc::new(ValidSink {
        name: UID.to_owned(),
        inputs: vec![Input::Main("valid".to_owned())],
        partition_by: Vec::new(),
        parallelism: None,
        connector: SinkOptions::Files(options),
        format,
        metadata: Vec::new(),
        left_out: Vec::new(),
        checkpoint,
    }))
    .unwrap()
}

fn job(name: &str) -> JobId {
    JobId {
        namespace: "default".to_owned(),
        name: name.to_owned(),
    }
}

fn batch(ids: &[i64]) -> Batch {
    let column: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
    RecordBatch::try_from_iter([("id", column)]).unwrap().into()
}

#[tokio::test]
async fn rows_appear_when_their_checkpoint_is_committed_and_not_before() {
    let output = Output::new();
    output.committer().preflight(false).await.unwrap();
    let mut writer = output.writer(3, 1);
    assert_eq!(
        writer.prepare(CheckpointId(1)).unwrap(),
        [],
        "nothing was written"
    );
    writer.write(&batch(&[1, 2])).unwrap();
    writer.write(&batch(&[])).unwrap();
    writer.write(&batch(&[3])).unwrap();
    let first = writer.prepare(CheckpointId(2)).unwrap();
    writer.write(&batch(&[4])).unwrap();
    let second = writer.prepare(CheckpointId(3)).unwrap();
    assert_eq!(
        (first[0].records, first[0].checkpoint),
        (3, CheckpointId(2))
    );
    assert_eq!(writer.bytes(), 4 * 9);
    assert_eq!(output.visible(), []);
    // Both together: the first checkpoint's commit had failed before.
    let both = [first, second].concat();
    assert_eq!(
        output.commit(&both).await,
        [CommitOutcome::Committed, CommitOutcome::Committed]
    );
    let expected = [
        (
            "part-processed-3-1-0.jsonl",
            "{\"id\":1}\n{\"id\":2}\n{\"id\":3}\n",
        ),
        ("part-processed-3-1-1.jsonl", "{\"id\":4}\n"),
    ];
    let expected = expected.map(|(name, text)| (name.to_owned(), text.to_owned()));
    assert_eq!(output.visible(), expected);
    assert_eq!(output.in_progress(), Vec::<String>::new());
}

#[tokio::test]
async fn committing_again_is_harmless_wherever_it_was_interrupted() {
    let output = Output::new();
    let mut writer = output.writer(1, 0);
    writer.write(&batch(&[1])).unwrap();
    let prepared = writer.prepare(CheckpointId(1)).unwrap();
    let name = "part-processed-1-0-0.jsonl";
    let temporary = output.hidden().join(".inprogress-1-0-0");
    // As by a link that was not followed by the removal.
    fs::hard_link(&temporary, output.path().join(name)).unwrap();
    for _ in 0..3 {
        assert_eq!(output.commit(&prepared).await, [CommitOutcome::Committed]);
        assert_eq!(
            output.visible(),
            [(name.to_owned(), "{\"id\":1}\n".to_owned())]
        );
        assert_eq!(output.in_progress(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn output_that_is_gone_or_another_is_reported_as_lost() {
    let output = Output::new();
    let mut writer = output.writer(1, 0);
    let mut prepared = Vec::new();
    for id in 0..4 {
        writer.write(&batch(&[id])).unwrap();
        prepared.extend(writer.prepare(CheckpointId(1)).unwrap());
    }
    let hidden = output.hidden();
    fs::remove_file(hidden.join(".inprogress-1-0-0")).unwrap();
    fs::write(hidden.join(".inprogress-1-0-1"), "cut").unwrap();
    fs::write(
        output.path().join("part-processed-1-0-2.jsonl"),
        "{\"id\":7}\n",
    )
    .unwrap();
    let outcomes = output.commit(&prepared).await;
    let reasons = ["it is gone", "another length", "another file has its name"];
    for (number, (outcome, reason)) in outcomes.iter().zip(reasons).enumerate() {
        let CommitOutcome::Lost(failure) = outcome else {
            panic!("{outcome:?} for {reason}");
        };
        assert_eq!(
            (failure.code, failure.kind),
            (ErrorCode::FileOutputLost, ErrorKind::DataLoss)
        );
        assert!(failure.message.contains(reason), "{failure}");
        assert!(
            failure
                .message
                .contains(&format!("part-processed-1-0-{number}.jsonl"))
        );
    }
    assert_eq!(outcomes[3], CommitOutcome::Committed);
    let untouched = fs::read_to_string(output.path().join("part-processed-1-0-2.jsonl"));
    assert_eq!(untouched.unwrap(), "{\"id\":7}\n");
}

#[tokio::test]
async fn a_directory_that_is_not_mounted_loses_nothing() {
    let output = Output::new();
    let mut writer = output.writer(1, 0);
    writer.write(&batch(&[1])).unwrap();
    let prepared = writer.prepare(CheckpointId(1)).unwrap();
    let away = output.directory.path().join("away");
    fs::rename(output.path(), &away).unwrap();
    let outcomes = output.commit(&prepared).await;
    assert!(
        matches!(&outcomes[..], [CommitOutcome::Retry(_)]),
        "{outcomes:?}"
    );
    fs::rename(&away, output.path()).unwrap();
    assert_eq!(output.commit(&prepared).await, [CommitOutcome::Committed]);
}

#[tokio::test]
async fn a_file_that_a_reader_took_away_is_not_lost() {
    let output = Output::new();
    let mut writer = output.writer(1, 0);
    writer.write(&batch(&[1])).unwrap();
    let prepared = writer.prepare(CheckpointId(1)).unwrap();
    let visible = output.path().join("part-processed-1-0-0.jsonl");
    assert_eq!(
        output.committer().look_up(&prepared).await,
        [Standing::Open]
    );
    assert_eq!(output.commit(&prepared).await, [CommitOutcome::Committed]);
    fs::remove_file(&visible).unwrap();
    // As after a crash before the checkpoint could say so, and with the next checkpoint, which was
    // taken before the news.
    for _ in 0..2 {
        assert_eq!(output.commit(&prepared).await, [CommitOutcome::Committed]);
        assert_eq!(
            output.committer().look_up(&prepared).await,
            [Standing::Committed]
        );
        assert_eq!(output.visible(), [], "it is not written again");
    }
}

#[tokio::test]
async fn what_is_kept_of_a_committed_file_goes_when_no_checkpoint_can_list_it() {
    let output = Output::new();
    let mut writer = output.writer(1, 0);
    let kept = || {
        let names = fs::read_dir(output.hidden()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name.contains("committed")).collect();
        names.sort();
        names
    };
    for number in 0..3_u32 {
        writer.write(&batch(&[i64::from(number)])).unwrap();
        let prepared = writer.prepare(CheckpointId(u64::from(number) + 1)).unwrap();
        output.commit(&prepared).await;
        writer.committed(&prepared);
        assert_eq!(kept(), [format!(".committed-1-0-{number}")]);
    }
    let lingering = Lingering {
        attempts: vec![(Attempt(1), 1)],
        ..Lingering::default()
    };
    let aborted = output.committer().abort_lingering(&lingering).await;
    assert_eq!(aborted, Ok(0), "it is committed");
    assert_eq!(kept(), Vec::<String>::new());
}

#[tokio::test]
async fn a_directory_that_is_not_mounted_is_not_made_anew_where_the_job_has_written() {
    let output = Output::new();
    output.committer().preflight(false).await.unwrap();
    output.committer().preflight(true).await.unwrap();
    let away = output.directory.path().join("away");
    fs::rename(output.path(), &away).unwrap();
    // The mount point.
    fs::create_dir(output.path()).unwrap();
    let failure = output.committer().preflight(true).await.unwrap_err();
    assert_eq!(failure.kind, ErrorKind::Retryable, "{failure}");
    assert!(failure.message.contains("mounted"), "{failure}");
    let written = output.writer(2, 0).write(&batch(&[1]));
    assert_eq!(written.unwrap_err().kind, ErrorKind::Retryable);
    assert!(!output.hidden().try_exists().unwrap());
}

#[tokio::test]
async fn what_older_attempts_left_is_removed_except_what_is_kept() {
    let output = Output::new();
    let mut kept = Vec::new();
    for attempt in 1..=3 {
        let mut writer = output.writer(attempt, 0);
        writer.write(&batch(&[1])).unwrap();
        kept = writer.prepare(CheckpointId(1)).unwrap();
        writer.write(&batch(&[2])).unwrap();
    }
    let mut newer = output.writer(4, 0);
    newer.write(&batch(&[3])).unwrap();
    let committer = output.committer();
    assert_eq!(
        committer
            .abort_lingering(&Lingering::default())
            .await
            .unwrap(),
        0
    );
    let lingering = Lingering {
        attempts: vec![(Attempt(2), 1), (Attempt(3), 1)],
        lineage: None,
        family: None,
        keep: kept.clone(),
        only_open: false,
    };
    assert_eq!(committer.abort_lingering(&lingering).await.unwrap(), 5);
    assert_eq!(
        output.in_progress(),
        [".inprogress-3-0-0", ".inprogress-4-0-0"]
    );
    assert_eq!(output.commit(&kept).await, [CommitOutcome::Committed]);
}

#[tokio::test]
async fn two_jobs_cannot_share_a_sink() {
    let output = Output::new();
    output.committer().preflight(false).await.unwrap();
    output.committer().preflight(false).await.unwrap();
    let failure = output
        .committer_of("other")
        .preflight(false)
        .await
        .unwrap_err();
    assert_eq!(failure.kind, ErrorKind::InvalidJob);
    assert!(failure.message.contains("default/orders"), "{failure}");
    assert!(failure.message.contains("owner.json"), "{failure}");
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_refused_before_the_job_starts() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let connector = connector(
        &file.join("out"),
        Format::Json(millstream_spec::dataflow::JsonFormat::default()),
    );
    let committer = connector
        .committer(&job("orders"), &UID.into())
        .unwrap()
        .unwrap();
    let failure = committer.preflight(false).await.unwrap_err();
    assert_eq!(
        (failure.code, failure.kind),
        (ErrorCode::FileAccess, ErrorKind::InvalidJob)
    );
    assert!(failure.message.contains("file/out"), "{failure}");
}

#[tokio::test]
async fn output_of_an_earlier_life_is_not_mixed_with_new_output() {
    let output = Output::new();
    let mut writer = output.writer(1, 0);
    writer.write(&batch(&[1])).unwrap();
    let prepared = writer.prepare(CheckpointId(1)).unwrap();
    // The same attempt again, as with a new and empty checkpoint storage: first while the old
    // file is hidden, then when it is visible.
    for _ in 0..2 {
        let mut again = output.writer(1, 0);
        let failure = again.write(&batch(&[1])).unwrap_err();
        assert!(
            failure.message.contains("another checkpoint storage"),
            "{failure}"
        );
        assert_eq!(
            again.prepare(CheckpointId(1)).unwrap_err(),
            failure,
            "it is sticky"
        );
        output.commit(&prepared).await;
    }
}

#[tokio::test]
async fn a_committable_that_leads_elsewhere_is_not_followed() {
    let output = Output::new();
    let mut writer = output.writer(1, 0);
    writer.write(&batch(&[1])).unwrap();
    let prepared = writer.prepare(CheckpointId(1)).unwrap().remove(0);
    let text = &prepared.transaction.0;
    for other in [
        text.replace("\"part-", "\"../part-"),
        text.replace("\".inprogress-", "\"../.inprogress-"),
        text.replace(".inprogress-1-0-0", "owner.json"),
        "{}".to_owned(),
    ] {
        let committable = Committable {
            transaction: millstream_types::Opaque(other),
            ..prepared.clone()
        };
        let outcomes = output.commit(&[committable]).await;
        let [CommitOutcome::Retry(failure)] = &outcomes[..] else {
            panic!("{outcomes:?}");
        };
        assert_eq!(failure.code, ErrorCode::IncompatibleState);
    }
    assert_eq!(output.visible(), []);
}

#[tokio::test]
async fn large_output_has_the_checksum_that_was_announced() {
    let output = Output::new();
    let mut writer = output.writer(1, 0);
    let ids: Vec<i64> = (0..4_096).collect();
    for _ in 0..50 {
        writer.write(&batch(&ids)).unwrap();
    }
    let prepared = writer.prepare(CheckpointId(1)).unwrap();
    assert_eq!(output.commit(&prepared).await, [CommitOutcome::Committed]);
    // The second time the whole file is compared.
    assert_eq!(output.commit(&prepared).await, [CommitOutcome::Committed]);
    let (_, text) = output.visible().remove(0);
    assert_eq!(text.lines().count(), 50 * 4_096);
    assert_eq!(u64::try_from(text.len()).unwrap(), writer.bytes());
}

#[test]
fn a_raw_value_with_a_newline_is_refused() {
    let output = Output::of_format(Format::Raw(millstream_spec::dataflow::RawFormat {}));
    let text = |values: &[&str]| -> Batch {
        let column: ArrayRef = Arc::new(StringArray::from(values.to_vec()));
        RecordBatch::try_from_iter([("value", column)])
            .unwrap()
            .into()
    };
    let writer = |attempt| {
        let context = WriterContext {
            job: job("orders"),
            uid: UID.into(),
            attempt: Attempt(attempt),
            lineage: None,
            subtask: SubtaskIndex(0),
            parallelism: 1,
            schema: text(&[]).schema(),
            changelog: Changelog::Append,
        };
        output.connector.writer(context).unwrap()
    };
    let failure = writer(1).write(&text(&["a\nb"])).unwrap_err();
    assert!(failure.message.contains("newline"), "{failure}");
    let mut good = writer(2);
    good.write(&text(&["a", "b"])).unwrap();
    let prepared = good.prepare(CheckpointId(1)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(output.commit(&prepared));
    let expected = ("part-processed-2-0-0.txt".to_owned(), "a\nb\n".to_owned());
    assert_eq!(output.visible(), [expected]);
}
