//! Ends of a process around every step of a file's life: uploaded, named, copied, collected.
//!
//! No operator keeps state yet. So the process is this program, started once more: it does with a
//! real store what a coordinator and its tasks do.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};

use bytes::Bytes;
use futures::{TryStreamExt, stream};
use millstream_checkpoint::inspect::verify;
use millstream_checkpoint::{
    ClaimedChain, Files, Manifest, PendingSavepoints, S3Credentials, S3Options, Storage,
    StorageOptions, read_savepoint,
};
use millstream_tests::Minio;
use millstream_types::{CheckpointId, FileRef, OperatorUid, SubtaskIndex};

use crate::copies::naming;
use crate::sample::{NOW, chain, holder, job, manifest};

/// Where a process that is to end keeps its state.
const STORE: &str = "MILLSTREAM_TEST_STORE";
/// Endpoint of the service, if that is in S3.
const SERVICE: &str = "MILLSTREAM_TEST_SERVICE";
/// Checkpoints that a process decides.
const CHECKPOINTS: u64 = 6;
const SIGABRT: i32 = 6;

/// One process: restores, then writes, names, saves and collects files.
struct Process {
    files: Files,
    claimed: ClaimedChain,
    pending: PendingSavepoints,
    /// What the newest checkpoint names.
    named: Vec<FileRef>,
    next: u64,
}

impl Process {
    /// Claims the chain and reads every file that its newest checkpoint names.
    async fn restore(storage: &Storage) -> Self {
        let (mut claimed, state) = chain(storage).claim(holder("process"), NOW).await.unwrap();
        let pending = PendingSavepoints::default();
        claimed.set_pending_savepoints(pending.clone());
        let files = Files::new(
            storage.clone(),
            &job("orders"),
            claimed.attempt(),
            SubtaskIndex(0),
        );
        let newest = state.newest.iter();
        let named: Vec<FileRef> = newest.flat_map(Manifest::files).cloned().collect();
        for file in &named {
            let content: Vec<Bytes> = files.open(file).await.unwrap().try_collect().await.unwrap();
            assert_eq!(content.concat(), content_of(&file.path));
        }
        Self {
            files,
            claimed,
            pending,
            named,
            next: state.next_checkpoint.0,
        }
    }

    async fn upload(&self, id: u64) -> FileRef {
        let path = format!("data/{}/{id}/sums/0-1.sst", self.claimed.attempt());
        let content = stream::iter([Ok(content_of(&path).into())]);
        let operator = OperatorUid::from("sums");
        let put = self
            .files
            .put(CheckpointId(id), &operator, "1.sst", content);
        let file = put.await.unwrap();
        assert_eq!(file.path, path);
        file
    }

    fn manifest(&self, id: u64, files: &[FileRef]) -> Manifest {
        naming(manifest(self.claimed.attempt(), id), files)
    }

    /// Names the newest file, and the one before it in every other checkpoint only.
    async fn checkpoint(&mut self) {
        let id = self.next;
        self.next += 1;
        let new = self.upload(id).await;
        let keep = usize::from(id.is_multiple_of(2));
        self.named.drain(..self.named.len().saturating_sub(keep));
        self.named.push(new);
        let manifest = self.manifest(id, &self.named);
        let permit = self.claimed.decide(manifest).await.unwrap();
        self.claimed.committed(permit).await.unwrap();
        self.claimed.collect_garbage(1).await.unwrap();
    }

    /// A savepoint that is complete only after the next checkpoint.
    async fn savepoint(&mut self) -> String {
        let id = self.next;
        self.next += 1;
        self.pending.begin(CheckpointId(id));
        let mut named = self.named.clone();
        named.push(self.upload(id).await);
        self.checkpoint().await;
        let name = format!("at-{}-{id}", self.claimed.attempt());
        let manifest = self.manifest(id, &named).without_committables();
        let saved = self.claimed.savepoint(&name, manifest).await.unwrap();
        self.pending.end(CheckpointId(id));
        self.claimed.collect_garbage(1).await.unwrap();
        saved.path
    }
}

/// Each file says where it lies.
fn content_of(path: &str) -> Vec<u8> {
    path.as_bytes().repeat(1_000)
}

fn options(service: Option<String>) -> StorageOptions {
    StorageOptions {
        s3: S3Options {
            path_style: true,
            credentials: Some(S3Credentials {
                access_key: Minio::ACCESS_KEY.to_owned(),
                secret_key: Minio::SECRET_KEY.to_owned(),
            }),
            endpoint: service,
            ..S3Options::default()
        },
        ..StorageOptions::default()
    }
}

/// A whole life, if nothing ends it before.
async fn live(store: &str, options: &StorageOptions) {
    let storage = Storage::open(store, options).await.unwrap();
    let mut process = Process::restore(&storage).await;
    for _ in 0..CHECKPOINTS / 2 {
        process.checkpoint().await;
        let path = process.savepoint().await;
        let saved = read_savepoint(&path, options).await.unwrap();
        assert_eq!(saved.checkpoint.0, process.next - 2);
    }
}

fn block_on(future: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(future);
}

/// What the processes of the other tests do. By itself, it is one that nothing ends.
#[test]
fn a_process_that_keeps_files_lives_to_its_end() {
    if let Ok(store) = std::env::var(STORE) {
        let _points = fail::FailScenario::setup();
        block_on(live(&store, &options(std::env::var(SERVICE).ok())));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let store = format!("file://{}", folder.path().display());
    block_on(async {
        live(&store, &options(None)).await;
        live(&store, &options(None)).await;
        is_whole(&store, &options(None), 1).await;
    });
}

/// Starts a process of its own in a store, with a crash point armed.
fn run(store: &str, service: Option<&str>, armed: &str) -> ExitStatus {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(Path::new(&program));
    command
        .args([
            "--exact",
            "crash::a_process_that_keeps_files_lives_to_its_end",
        ])
        .env(STORE, store)
        .env("FAILPOINTS", armed);
    if let Some(service) = service {
        command.env(SERVICE, service);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_ne!(output.status.code(), Some(101), "{said}");
    output.status
}

/// Nothing is missing or damaged, and no file is left over that nothing names.
async fn is_whole(store: &str, options: &StorageOptions, retained: u64) {
    let verified = verify(store, options).await.unwrap();
    assert_eq!(verified.faults, []);
    assert_eq!(verified.checkpoints, retained);
    let files = verified
        .leftovers
        .iter()
        .filter(|path| path.contains("/data/"));
    assert_eq!(files.collect::<Vec<_>>(), Vec::<&String>::new());
    assert!(verified.savepoints >= CHECKPOINTS / 2, "{verified:?}");
}

/// A process ends at each of these places, at the first time and later; the next one goes on from what
/// it has left, ends at the same place, and a third one lives to its end.
fn ends_and_goes_on(store: impl Fn(&str) -> String, service: Option<&str>) {
    for point in [
        "checkpoint::file-uploaded",
        "checkpoint::before-decision",
        "checkpoint::after-decision",
        "checkpoint::savepoint-copied",
        "checkpoint::before-collection",
        "checkpoint::slots-collected",
    ] {
        for passes in [0, 2] {
            let name = format!("{}-{passes}", point.replace("::", "-"));
            let store = store(&name);
            let armed = format!("{point}={passes}*off->return");
            for armed in [armed.as_str(), &armed] {
                let ended = run(&store, service, armed);
                assert_eq!(ended.signal(), Some(SIGABRT), "{armed}");
            }
            assert!(run(&store, service, "").success(), "{armed}");
            let options = options(service.map(str::to_owned));
            block_on(is_whole(&store, &options, 1));
        }
    }
}

#[test]
fn processes_that_end_around_files_in_a_directory_lose_none_and_leave_none() {
    let folder = tempfile::tempdir().unwrap();
    ends_and_goes_on(
        |name| format!("file://{}/{name}", folder.path().display()),
        None,
    );
}

#[test]
fn processes_that_end_around_files_in_s3_lose_none_and_leave_none() {
    let minio = Minio::start();
    let endpoint = minio.endpoint();
    ends_and_goes_on(
        |name| format!("s3://{}/{name}", Minio::BUCKET),
        Some(&endpoint),
    );
}
