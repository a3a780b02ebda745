//! What the attempts of a job may have open, found by its job file and its chain.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use millstream_checkpoint::{
    Chain, ChainState, ClaimedChain, Holder, ReleaseReason, Storage, StorageOptions,
};
use millstream_connect::{KnownTransaction, Lingering, SinkCommitter};
use millstream_coordinator::opened::{Committers, Leftover, Opened, leftovers, who_reaches};
use millstream_types::clock::SystemClock;
use millstream_types::{
    Attempt, CheckpointId, Clock, Committable, ErrorCode, ErrorKind, Failure, JobId, Opaque,
    OperatorUid,
};

use crate::job::LoadedJob;
use crate::registry::Connectors;

/// Attempts that a sink is asked about at once.
const ATTEMPTS_AT_ONCE: usize = 8;

/// What the attempts of a job may have open.
pub(crate) struct Leftovers {
    job: JobId,
    chain: Chain,
    state: ChainState,
    /// Whether every attempt in `state` is fenced.
    is_fenced: bool,
    committers: Committers,
    families: BTreeMap<OperatorUid, Opaque>,
}

/// A decided checkpoint that lists a transaction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decided {
    pub(super) checkpoint: CheckpointId,
    pub(super) is_committed: bool,
}

/// A transaction, and who can end it.
pub(super) struct Found {
    pub(super) transaction: KnownTransaction,
    pub(super) decided: Option<Decided>,
    pub(super) committer: Arc<dyn SinkCommitter>,
}

impl Leftovers {
    /// Reads the job file and the chain of the job.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub(crate) async fn of(file: &Path) -> Result<Self, Failure> {
        let loaded = LoadedJob::read(file)?;
        let sinks = Connectors::of(&loaded, loaded.job.parallelism)?.sinks;
        let options = StorageOptions::from_env();
        let storage = Storage::open(&loaded.job.checkpoint.storage, &options).await?;
        let chain = Chain::new(storage, loaded.job.id.clone());
        let state = chain.observe().await?;
        let mut committers = Committers::new();
        let mut families = BTreeMap::new();
        for (uid, sink) in sinks {
            let Some(committer) = sink.committer(&loaded.job.id, &uid)? else {
                continue;
            };
            if let Some(family) = committer.family().await? {
                families.insert(uid.clone(), family);
            }
            committers.insert(uid, committer);
        }
        Ok(Self {
            job: loaded.job.id,
            chain,
            state,
            is_fenced: false,
            committers,
            families,
        })
    }

    /// Which job.
    pub(crate) const fn job(&self) -> &JobId {
        &self.job
    }

    /// Fences whoever may still run the job.
    ///
    /// # Errors
    /// The chain cannot be claimed.
    pub(super) async fn fence(&mut self) -> Result<(), Failure> {
        let holder = Holder {
            name: format!("transactions abort by process {}", std::process::id()),
            build: crate::BUILD.to_owned(),
            identity: None,
            parallelism: 1,
            deployment: None,
            host: None,
            sinks: self.families.clone(),
        };
        let now = SystemClock::default().now();
        let (_, state): (ClaimedChain, _) = self.chain.take_over(holder, now).await?;
        self.state = state;
        self.is_fenced = true;
        Ok(())
    }

    /// Fails where the job has never run: then the file names another job, or another storage.
    ///
    /// # Errors
    /// There is no chain.
    pub(super) fn ensure_known(&self) -> Result<(), Failure> {
        if !self.state.claims.is_empty() {
            return Ok(());
        }
        Err(Failure::new(
            ErrorCode::CheckpointMissing,
            ErrorKind::InvalidJob,
            format!(
                "{} has no chain at {}: it has never run there, and nothing is known of its transactions. \
                 Check `checkpoint.storage`, the job's name and its namespace",
                self.job,
                self.chain.path()
            ),
        ))
    }

    /// Fails while somebody may still decide what is open.
    ///
    /// # Errors
    /// The job has not ended by itself, and is not fenced.
    pub(super) fn ensure_over(&self) -> Result<(), Failure> {
        if self.is_fenced || self.state.claims.is_empty() || self.state.released().is_some() {
            return Ok(());
        }
        Err(Failure::new(
            ErrorCode::InvalidJob,
            ErrorKind::InvalidJob,
            format!(
                "{} runs, or was killed: its chain {} is not released, so that its coordinator \
                 may still decide what is open. Stop the job first; or start it, which ends what \
                 earlier attempts have left open; or fence it with --fence",
                self.job,
                self.chain.path()
            ),
        ))
    }

    /// Asks the sinks for everything that they know of the job's transactions.
    ///
    /// # Errors
    /// A sink cannot be asked.
    pub(super) async fn find(&self) -> Result<Vec<Found>, Failure> {
        let mut found = Vec::new();
        for leftover in self.leftovers() {
            let Some(committer) = self.reach(&leftover).await? else {
                continue;
            };
            for lingering in self.questions(&leftover, false) {
                for transaction in committer.list(&lingering).await? {
                    found.push(Found {
                        decided: self.decided(&transaction),
                        transaction,
                        committer: Arc::clone(&committer),
                    });
                }
            }
        }
        found.sort_by(|one, other| one.transaction.id.cmp(&other.transaction.id));
        Ok(found)
    }

    /// Ends everything that is open, whatever lists it: for a job whose checkpoints are gone.
    /// Returns how many transactions were aborted.
    ///
    /// # Errors
    /// A sink cannot be asked.
    pub(crate) async fn abort_everything(&self) -> Result<u64, Failure> {
        let mut aborted = 0;
        for leftover in self.leftovers() {
            let Some(committer) = self.reach(&leftover).await? else {
                continue;
            };
            for lingering in self.questions(&leftover, true) {
                aborted += committer.abort_lingering(&lingering).await?;
            }
        }
        Ok(aborted)
    }

    fn leftovers(&self) -> Vec<Leftover> {
        let opened: Vec<Opened> = self.state.claims.iter().map(Opened::from).collect();
        leftovers(self.committers.keys(), &self.families, &opened)
    }

    async fn reach(&self, leftover: &Leftover) -> Result<Option<Arc<dyn SinkCommitter>>, Failure> {
        let committer = who_reaches(&self.committers, leftover).await?;
        if committer.is_none() {
            tracing::warn!(
                sink = %leftover.sink, former = ?leftover.former,
                "no sink of this job file reaches what this one may have open: use the former job \
                 file"
            );
        }
        Ok(committer)
    }

    fn questions(&self, leftover: &Leftover, is_for_all: bool) -> Vec<Lingering> {
        let keep = if is_for_all {
            Vec::new()
        } else {
            self.listed(&leftover.sink)
        };
        let parts = leftover.attempts.chunks(ATTEMPTS_AT_ONCE);
        parts
            .map(|attempts: &[(Attempt, u32)]| Lingering {
                attempts: attempts.to_vec(),
                lineage: self.state.lineage.clone(),
                family: leftover.former.clone(),
                keep: keep.clone(),
                only_open: true,
            })
            .collect()
    }

    /// What the newest checkpoint lists. Everything that older ones listed is committed by now.
    fn listed(&self, sink: &OperatorUid) -> Vec<Committable> {
        let newest = self.state.newest.as_ref();
        newest.map_or_else(Vec::new, |newest| newest.committables(sink))
    }

    fn decided(&self, transaction: &KnownTransaction) -> Option<Decided> {
        transaction.listed_by?;
        let newest = self.state.newest.as_ref()?;
        let is_released = self.state.released() == Some(ReleaseReason::Deleted);
        (!is_released && !self.state.newest_is_given_up()).then(|| Decided {
            checkpoint: newest.checkpoint,
            is_committed: self.state.newest_is_committed(),
        })
    }
}
