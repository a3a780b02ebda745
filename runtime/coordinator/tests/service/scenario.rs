//! A job's surroundings: a directory for its chain, a topic, a ledger, and coordinators and
//! workers that come and go.

use std::path::PathBuf;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use millstream_checkpoint::{Chain, ChainState, Holder, Storage, StorageOptions};
use millstream_coordinator::{
    CONNECTIONS_CAPACITY, Coordinator, Handle, Options, Outcome, Overrides, Restore, Snapshot,
    WorkerConnection,
};
use millstream_types::api::JobState;
use millstream_types::clock::SystemClock;
use millstream_types::protocol::Heartbeat;
use millstream_types::{CheckpointId, Clock, Deployment, JobId, Timestamp};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval};
use tokio_util::sync::CancellationToken;

use crate::sink::{Ledger, Stand, TestSink};
use crate::source::{TestSource, Topic};
use crate::worker::{Manners, TestWorker};

/// No test waits longer for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Everything outside of coordinators and workers.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of a start"
)]
pub(crate) struct Scenario {
    folder: TempDir,
    pub(crate) source: TestSource,
    pub(crate) sink: TestSink,
    pub(crate) name: String,
    /// Lines of the `checkpoint` section besides `storage`.
    pub(crate) checkpoint: String,
    /// Name of the source in the job file.
    pub(crate) source_name: String,
    /// Name of a transform that counts by customer between the two, and what it counts, if there is one.
    pub(crate) counts: Option<(String, String)>,
    /// Name of the sink in the job file.
    pub(crate) sink_name: String,
    /// What coordinators are started for.
    pub(crate) deployment: Option<u64>,
    pub(crate) parallelism: u32,
    pub(crate) max_parallelism: u32,
    pub(crate) allow_dropped_state: bool,
    pub(crate) unless_advanced: bool,
    pub(crate) expect_state: bool,
    pub(crate) overrides: Overrides,
    /// Identity of the job.
    pub(crate) identity: Option<String>,
    /// Where coordinators run.
    pub(crate) host: Option<String>,
    /// Where the chain lies, below the scenario's folder.
    pub(crate) storage: String,
    pub(crate) accept_lost_output: Option<CheckpointId>,
    /// Uid of the resource that orders the start.
    pub(crate) resource_uid: Option<String>,
    /// Whether metrics have Flink's names, too.
    pub(crate) flink_names: bool,
}

impl Default for Scenario {
    fn default() -> Self {
        let scenario = Self {
            folder: tempfile::tempdir().unwrap(),
            source: TestSource::default(),
            sink: TestSink::default(),
            name: "orders".to_owned(),
            checkpoint: "interval: 50ms, timeout: 5s, tolerableFailures: 3".to_owned(),
            source_name: "orders".to_owned(),
            counts: None,
            sink_name: "out".to_owned(),
            deployment: None,
            parallelism: 2,
            max_parallelism: 1_024,
            allow_dropped_state: false,
            unless_advanced: false,
            expect_state: false,
            overrides: Overrides::default(),
            identity: None,
            host: None,
            storage: "store".to_owned(),
            accept_lost_output: None,
            resource_uid: None,
            flink_names: false,
        };
        scenario.topic().splits = ["p0", "p1", "p2", "p3"].map(str::to_owned).to_vec();
        "cluster-a".clone_into(&mut scenario.topic().identity);
        scenario
    }
}

/// A running coordinator. Dropping it is a crash.
pub(crate) struct Running {
    pub(crate) handle: Handle,
    pub(crate) workers: mpsc::Sender<WorkerConnection>,
    pub(crate) shutdown: CancellationToken,
    task: JoinHandle<Outcome>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Scenario {
    pub(crate) fn topic(&self) -> MutexGuard<'_, Topic> {
        self.source.0.lock().unwrap()
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.sink.0.lock().unwrap()
    }

    pub(crate) fn storage_path(&self) -> PathBuf {
        self.folder.path().join(&self.storage)
    }

    fn job_text(&self) -> String {
        let counts = self.counts.as_ref();
        let transforms = counts.map(|(name, counts)| {
            format!(
                "transforms: [{{name: {name}, input: {source}, sql: \"SELECT customer_id, {counts} AS n FROM {source} GROUP BY \
                 customer_id\"}}]\n    ",
                source = self.source_name
            )
        });
        format!(
            "apiVersion: millstream.dev/v1alpha1\n\
             kind: StreamJob\n\
             metadata: {{name: {name}{uid}}}\n\
             spec:\n  \
             parallelism: {parallelism}\n  \
             maxParallelism: {max_parallelism}\n  \
             checkpoint: {{storage: \"file://{storage}\", {checkpoint}}}\n  \
             restart: {{exponentialDelay: {{initial: 10ms, max: 50ms}}}}\n  \
             metrics: {{flinkNames: {flink_names}}}\n  \
             dataflow:\n    \
             sources: [{{name: {source}, generator: {{}}}}]\n    \
             {transforms}\
             sinks: [{{name: {sink}, input: {input}, blackhole: {{}}}}]\n",
            name = self.name,
            uid = self
                .identity
                .as_ref()
                .map_or_else(String::new, |uid| format!(", uid: {uid}")),
            parallelism = self.parallelism,
            max_parallelism = self.max_parallelism,
            storage = self.storage_path().display(),
            checkpoint = self.checkpoint,
            flink_names = self.flink_names,
            source = self.source_name,
            transforms = transforms.unwrap_or_default(),
            input = counts.map_or(&self.source_name, |(name, _)| name),
            sink = self.sink_name,
        )
    }

    /// What a coordinator is started with.
    pub(crate) fn options(&self, restore: Restore) -> Options {
        let text = self.job_text();
        let job = millstream_spec::read(&text, "job.yaml").unwrap();
        let graph = millstream_plan::plan(&job).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        Options {
            job,
            job_text: text,
            graph,
            sources: [(
                self.source_name.as_str().into(),
                Arc::new(self.source.clone()) as _,
            )]
            .into(),
            sinks: [(
                self.sink_name.as_str().into(),
                Arc::new(self.sink.clone()) as _,
            )]
            .into(),
            storage: StorageOptions::default(),
            restore,
            unless_advanced: self.unless_advanced,
            expect_state: self.expect_state,
            overrides: self.overrides,
            allow_dropped_state: self.allow_dropped_state,
            accept_lost_output: self.accept_lost_output,
            resource_uid: self.resource_uid.clone(),
            deployment: self.deployment.map(Deployment),
            heartbeat: Heartbeat {
                interval_ms: 20,
                timeout_ms: 4_000,
            },
            cancel_timeout: Duration::from_secs(5),
            clock,
            seed: 1,
            holder: "test".to_owned(),
            host: self.host.clone(),
            build: "test".to_owned(),
        }
    }

    /// Starts a coordinator.
    pub(crate) fn start(&self, restore: Restore) -> Running {
        let options = self.options(restore);
        let (workers, connections) = mpsc::channel(CONNECTIONS_CAPACITY);
        let (coordinator, handle) = Coordinator::new(options, connections);
        let shutdown = CancellationToken::new();
        Running {
            handle,
            workers,
            task: spawn(coordinator.run(shutdown.clone())),
            shutdown,
        }
    }

    /// Connects a worker with well-bred manners.
    pub(crate) async fn worker(&self, name: &str, slots: u32, running: &Running) -> TestWorker {
        self.worker_with(name, slots, running, Manners::default())
            .await
    }

    pub(crate) async fn worker_with(
        &self,
        name: &str,
        slots: u32,
        running: &Running,
        manners: Manners,
    ) -> TestWorker {
        TestWorker::connect(name, slots, &self.sink, manners, &running.workers).await
    }

    pub(crate) fn job_chain(&self) -> Chain {
        let storage = Storage::directory(self.storage_path());
        let job = JobId {
            namespace: "default".to_owned(),
            name: self.name.clone(),
        };
        Chain::new(storage, job)
    }

    /// What the chain says now.
    pub(crate) async fn chain(&self) -> ChainState {
        self.job_chain().observe().await.unwrap()
    }

    /// Waits until the newest checkpoint is decided and cannot be committed, because the other
    /// side is away. Its path, and the transactions that it lists.
    pub(crate) async fn uncommitted(&self) -> (String, Vec<String>) {
        assert!(self.ledger().unreachable);
        let mut looks = Looks::new("no decision");
        loop {
            let state = self.chain().await;
            let newest = state.newest.unwrap();
            let listed = newest.committables(&"out".into()).into_iter();
            let names: Vec<String> = listed.map(|listed| listed.transaction.0).collect();
            let open = self.ledger().that_stand(Stand::Open);
            if !names.is_empty() && names.iter().all(|name| open.contains(name)) {
                return (state.newest_path.unwrap(), names);
            }
            looks.next().await;
        }
    }

    /// Claims the chain as another coordinator would, and does nothing with it.
    pub(crate) fn claim(&self, name: &str) -> impl Future<Output = ()> + Send + use<> {
        let chain = self.job_chain();
        let holder = Holder {
            name: name.to_owned(),
            build: "test".to_owned(),
            identity: None,
            parallelism: 2,
            deployment: None,
            host: None,
            sinks: std::collections::BTreeMap::new(),
        };
        async move { drop(chain.claim(holder, Timestamp(1)).await.unwrap()) }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a handle owns the task and aborts it"
)]
fn spawn(future: impl Future<Output = Outcome> + Send + 'static) -> JoinHandle<Outcome> {
    tokio::spawn(future)
}

impl Running {
    /// Waits until what is known looks like this.
    pub(crate) async fn wait_for(
        &self,
        what: &str,
        wanted: impl Fn(&Snapshot) -> bool,
    ) -> Arc<Snapshot> {
        let mut watch = self.handle.watch();
        let found = tokio::time::timeout(DEADLINE, watch.wait_for(|snapshot| wanted(snapshot)));
        match found.await {
            Ok(Ok(snapshot)) => Arc::clone(&snapshot),
            _ => panic!("{what} did not happen: {:#?}", self.handle.snapshot().job),
        }
    }

    pub(crate) async fn wait_for_state(&self, state: JobState) -> Arc<Snapshot> {
        self.wait_for(&format!("{state:?}"), |snapshot| {
            snapshot.job.state == state
        })
        .await
    }

    /// Waits until so many checkpoints (savepoints not counted) are complete.
    pub(crate) async fn wait_for_checkpoints(&self, count: usize) -> Arc<Snapshot> {
        self.wait_for(&format!("{count} checkpoints"), |snapshot| {
            let completed = snapshot.checkpoints.iter().filter(|detail| {
                detail.summary.commits()
                    && detail.summary.state == millstream_types::api::CheckpointState::Completed
            });
            completed.count() >= count
        })
        .await
    }

    /// Waits for the end of the run.
    pub(crate) async fn outcome(mut self) -> Outcome {
        tokio::time::timeout(DEADLINE, &mut self.task)
            .await
            .expect("the run ends")
            .expect("the run does not panic")
    }

    /// Kills the coordinator and waits until it is gone.
    pub(crate) async fn crash(mut self) {
        self.task.abort();
        let gone = tokio::time::timeout(DEADLINE, &mut self.task).await;
        assert!(
            gone.expect("the run is gone")
                .is_err_and(|error| error.is_cancelled())
        );
    }
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let mut looks = Looks::new(what);
    while !condition() {
        looks.next().await;
    }
}

/// Paces looks at a condition, up to the deadline.
struct Looks<'a> {
    what: &'a str,
    deadline: Instant,
    pace: Interval,
}

impl<'a> Looks<'a> {
    fn new(what: &'a str) -> Self {
        Self {
            what,
            deadline: Instant::now() + DEADLINE,
            pace: tokio::time::interval(Duration::from_millis(5)),
        }
    }

    async fn next(&mut self) {
        assert!(
            Instant::now() < self.deadline,
            "waited in vain: {}",
            self.what
        );
        self.pace.tick().await;
    }
}
