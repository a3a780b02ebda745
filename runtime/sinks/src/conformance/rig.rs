//! The two halves of a sink, as an engine uses them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_connect::{
    CommitOutcome, Lingering, SinkCommitter, SinkConnector, SinkWriter, WriterContext,
};
use millstream_types::change::changelog;
use millstream_types::{
    Attempt, Batch, CheckpointId, Committable, JobId, Lineage, OperatorUid, SubtaskIndex,
};

use super::Subject;
use super::child::{Order, Running, Step, start};
use crate::client::block_on;

/// How long a commit may take.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// A sink and its reader.
pub(super) struct Rig {
    subject: Box<dyn Subject>,
    connector: Arc<dyn SinkConnector>,
    job: String,
}

/// The checkpoint at whose barrier an attempt prepares.
pub(super) const fn at(attempt: u64) -> CheckpointId {
    CheckpointId(attempt)
}

/// A failure in words.
pub(super) fn outcome<T>(result: millstream_connect::Result<T>) -> Result<T, String> {
    result.map_err(|failure| failure.to_string())
}

impl Rig {
    pub(super) fn new(subject: Box<dyn Subject>, job: &str) -> Self {
        Self {
            connector: subject.connector(),
            subject,
            job: job.to_owned(),
        }
    }

    fn names(&self) -> (JobId, OperatorUid, Lineage) {
        let job = JobId {
            namespace: "conformance".to_owned(),
            name: self.job.clone(),
        };
        (job, "sink".into(), Lineage(self.job.clone()))
    }

    pub(super) fn batch(&self, ids: &[i64]) -> Batch {
        self.subject.batch(ids)
    }

    pub(super) fn writer(&self, attempt: u64) -> Result<Box<dyn SinkWriter>, String> {
        let (job, uid, lineage) = self.names();
        let schema = self.batch(&[]).schema();
        outcome(self.connector.writer(WriterContext {
            job,
            uid,
            attempt: Attempt(attempt),
            lineage: Some(lineage),
            subtask: SubtaskIndex(0),
            parallelism: 1,
            changelog: changelog(&schema),
            schema,
        }))
    }

    fn committer(&self) -> Result<Arc<dyn SinkCommitter>, String> {
        let (job, uid, _) = self.names();
        let committer = outcome(self.connector.committer(&job, &uid))?;
        committer.ok_or_else(|| "the sink has no committer".to_owned())
    }

    /// What a coordinator does before anything is written.
    pub(super) fn preflight(&self) -> Result<(), String> {
        let committer = self.committer()?;
        outcome(block_on(async { committer.preflight(false).await }))
    }

    /// Commits, trying again as a coordinator does.
    pub(super) fn commit(
        &self,
        committables: &[Committable],
    ) -> Result<Vec<CommitOutcome>, String> {
        let committer = self.committer()?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let outcomes = outcome(block_on(async { Ok(committer.commit(committables).await) }))?;
            if outcomes.len() != committables.len() {
                return Err(format!(
                    "{} transactions were to be committed, and {} outcomes returned",
                    committables.len(),
                    outcomes.len()
                ));
            }
            let again = |outcome: &CommitOutcome| matches!(outcome, CommitOutcome::Retry(_));
            if !outcomes.iter().any(again) || Instant::now() > deadline {
                return Ok(outcomes);
            }
            rest()?;
        }
    }

    /// Commits, which must succeed.
    pub(super) fn commits(&self, committables: &[Committable]) -> Result<(), String> {
        let outcomes = self.commit(committables)?;
        let failed = outcomes
            .iter()
            .find(|one| **one != CommitOutcome::Committed);
        failed.map_or(Ok(()), |one| {
            Err(format!("a prepared transaction is not committed: {one:?}"))
        })
    }

    /// Undoes what attempts up to this one have left, but for what is listed.
    pub(super) fn sweep(&self, newest: u64, keep: &[Committable]) -> Result<u64, String> {
        let (_, _, lineage) = self.names();
        let lingering = Lingering {
            attempts: (1..=newest).map(|attempt| (Attempt(attempt), 1)).collect(),
            lineage: Some(lineage),
            family: None,
            keep: keep.to_vec(),
            only_open: false,
        };
        let committer = self.committer()?;
        outcome(block_on(async {
            committer.abort_lingering(&lingering).await
        }))
    }

    /// Starts a process that writes.
    pub(super) fn start(
        &self,
        place: &str,
        step: Step,
        attempt: u64,
        ids: &[i64],
    ) -> Result<Running, String> {
        start(&Order {
            step,
            place: place.to_owned(),
            job: self.job.clone(),
            attempt,
            ids: ids.to_vec(),
            committables: Vec::new(),
        })
    }

    /// Starts a process that commits.
    pub(super) fn start_commit(
        &self,
        place: &str,
        committables: &[Committable],
    ) -> Result<Running, String> {
        start(&Order {
            step: Step::Commit,
            place: place.to_owned(),
            job: self.job.clone(),
            attempt: 0,
            ids: Vec::new(),
            committables: committables.to_vec(),
        })
    }

    /// What a process prepares that is killed then.
    pub(super) fn prepared(
        &self,
        place: &str,
        attempt: u64,
        ids: &[i64],
    ) -> Result<Vec<Committable>, String> {
        let mut process = self.start(place, Step::Prepare, attempt, ids)?;
        let prepared = process.prepared();
        process.kill()?;
        prepared
    }

    /// Checks that a reader sees each of these once, and none of the others. What is committed may take a
    /// moment to be seen.
    pub(super) fn sees(&self, there: &[i64], not_there: &[i64]) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.sees_now(there, not_there)? {
                None => return Ok(()),
                Some(id) if Instant::now() > deadline => {
                    return Err(format!("row {id} is not visible"));
                }
                Some(_) => rest()?,
            }
        }
    }

    /// The first of these that is not visible yet.
    fn sees_now(&self, there: &[i64], not_there: &[i64]) -> Result<Option<i64>, String> {
        let mut seen: BTreeMap<i64, usize> = BTreeMap::new();
        for id in self.subject.visible()? {
            *seen.entry(id).or_default() += 1;
        }
        let times = |id: &i64| seen.get(id).copied().unwrap_or_default();
        if let Some(id) = there.iter().find(|id| times(id) > 1) {
            return Err(format!("row {id} is visible {} times", times(id)));
        }
        match not_there.iter().find(|id| times(id) > 0) {
            Some(id) => Err(format!(
                "row {id} is visible, and its transaction is not committed"
            )),
            None => Ok(there.iter().find(|id| times(id) == 0).copied()),
        }
    }
}

/// Lets the other side go on.
fn rest() -> Result<(), String> {
    outcome(block_on(async {
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }))
}

/// A name that no other run has.
pub(super) fn fresh() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let now = millstream_types::Clock::now(&millstream_types::clock::SystemClock::default());
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    format!("run-{}-{}-{run}", now.0, std::process::id())
}
