//! Owns the chain and the sinks' committers: everything here happens one thing after the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_checkpoint::{
    Chain, ClaimedChain, Collected, Manifest, Release, SlotNumber, Storage, StorageOptions,
};
use millstream_operators::{SinkCommitter, SourceConnector};
use millstream_plan::JobGraph;
use millstream_spec::ValidJob;
use millstream_types::{
    Attempt, CheckpointId, Clock, Deployment, ErrorCode, ErrorKind, Failure, Lineage, OperatorUid,
};
use tokio::sync::mpsc;

use crate::job::{Event, NotFinalized, Written};
use crate::service::commit::{Commits, commit_all};
use crate::service::recovery::{Revisit, revisit};
use crate::topology::Topology;
use crate::{Options, Overrides, Restore};

/// How often the release of the chain is tried.
const RELEASE_TRIES: u32 = 5;

/// Something to do with the chain.
#[derive(Debug)]
pub(super) enum Operation {
    /// Begin an attempt.
    Prepare,
    /// Decide, commit and confirm a checkpoint.
    Finalize(Box<Manifest>),
    /// Write a savepoint.
    WriteSavepoint {
        attempt: Attempt,
        checkpoint: CheckpointId,
        name: String,
        manifest: Box<Manifest>,
    },
    /// Release the chain.
    Release(Box<Release>),
    /// Delete what is not retained.
    CollectGarbage,
}

/// Owns the chain.
pub(super) struct Keeper {
    pub(super) job: Arc<ValidJob>,
    pub(super) graph: Arc<JobGraph>,
    pub(super) storage_options: StorageOptions,
    pub(super) sources: BTreeMap<OperatorUid, Arc<dyn SourceConnector>>,
    pub(super) committers: BTreeMap<OperatorUid, Arc<dyn SinkCommitter>>,
    /// Where the next attempt starts from.
    pub(super) restore: Restore,
    /// `restore` counts only if the chain has not gone on from there.
    pub(super) unless_advanced: bool,
    /// The chain must not be found empty.
    pub(super) expect_state: bool,
    pub(super) overrides: Overrides,
    pub(super) allow_dropped_state: bool,
    /// The checkpoint of the chain whose output may be lost.
    pub(super) accept_lost_output: Option<CheckpointId>,
    pub(super) deployment: Option<Deployment>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) holder: String,
    pub(super) host: Option<String>,
    pub(super) build: String,
    /// What preparing waits for, for people.
    pub(super) notes: mpsc::Sender<String>,
    /// The storage, once it has passed its probe.
    pub(super) storage: Option<Storage>,
    /// Whether the sinks have passed their preflight.
    pub(super) sinks_are_checked: bool,
    pub(super) claimed: Option<ClaimedChain>,
    /// Older attempts that are looked at again while this one runs.
    pub(super) revisit: Revisit,
}

impl Keeper {
    /// A keeper that has not opened anything.
    ///
    /// # Errors
    /// A connector cannot work as configured, or a node of the graph has none.
    pub(super) fn new(options: &Options, notes: mpsc::Sender<String>) -> Result<Self, Failure> {
        let topology = Topology::from(&options.graph);
        for uid in topology.sources.keys() {
            if !options.sources.contains_key(uid) {
                return Err(no_connector(uid));
            }
        }
        let mut committers = BTreeMap::new();
        for uid in &topology.sinks {
            let sink = options.sinks.get(uid).ok_or_else(|| no_connector(uid))?;
            if let Some(committer) = sink.committer(&options.job.id, uid)? {
                committers.insert(uid.clone(), committer);
            }
        }
        Ok(Self {
            job: Arc::new(options.job.clone()),
            graph: Arc::new(options.graph.clone()),
            storage_options: options.storage.clone(),
            sources: options.sources.clone(),
            committers,
            restore: options.restore.clone(),
            unless_advanced: options.unless_advanced,
            expect_state: options.expect_state,
            overrides: options.overrides,
            allow_dropped_state: options.allow_dropped_state,
            accept_lost_output: options.accept_lost_output,
            deployment: options.deployment,
            clock: Arc::clone(&options.clock),
            holder: options.holder.clone(),
            host: options.host.clone(),
            build: options.build.clone(),
            notes,
            storage: None,
            sinks_are_checked: false,
            claimed: None,
            revisit: Revisit::default(),
        })
    }

    /// The chain of the job.
    pub(super) fn chain(&self, storage: &Storage) -> Chain {
        Chain::new(storage.clone(), self.job.id.clone())
    }

    /// Tells people what is waited for.
    pub(super) fn note(&self, text: impl Into<String>) {
        let text = text.into();
        tracing::info!(note = text, "preparing");
        // Nobody is harmed by a note that is lost because others are not read yet.
        drop(self.notes.try_send(text));
    }

    pub(super) fn claimed(&mut self) -> Result<&mut ClaimedChain, Failure> {
        self.claimed.as_mut().ok_or_else(|| {
            Failure::new(
                ErrorCode::StoreUnavailable,
                ErrorKind::Internal,
                "the chain is not claimed yet",
            )
        })
    }

    /// The name of the chain, once it is claimed.
    pub(super) fn lineage(&self) -> Option<Lineage> {
        self.claimed
            .as_ref()
            .and_then(ClaimedChain::lineage)
            .cloned()
    }

    /// Where a slot lies.
    pub(super) fn slot_path(&self, slot: SlotNumber) -> String {
        let folder = self
            .storage
            .as_ref()
            .map(|storage| self.chain(storage).path())
            .unwrap_or_default();
        format!("{folder}/chain/{:020}.json", slot.0)
    }

    /// Decides a checkpoint, commits what it lists, and confirms that.
    pub(super) async fn finalize(&mut self, manifest: Manifest) -> Event {
        let (attempt, checkpoint) = (manifest.attempt, manifest.checkpoint);
        let result = self.decide_and_commit(manifest).await;
        Event::Finalized {
            attempt,
            checkpoint,
            result,
        }
    }

    async fn decide_and_commit(&mut self, manifest: Manifest) -> Result<Written, NotFinalized> {
        let bytes = size(&manifest);
        let commits = Commits::of(&manifest);
        let listed = commits.by_sink.clone();
        let is_last = manifest.ended || manifest.kind.stops_job();
        fail::fail_point!("coordinator::before-decide", |_| std::process::abort());
        let claimed = self.claimed().map_err(NotFinalized::NotDecided)?;
        let permit = claimed
            .decide(manifest)
            .await
            .map_err(|error| NotFinalized::NotDecided(error.into()))?;
        fail::fail_point!("coordinator::after-decide", |_| std::process::abort());
        let written = Written {
            path: self.slot_path(permit.decided().slot),
            bytes,
        };
        let not_committed = |failure| NotFinalized::NotCommitted(written.clone(), failure);
        commit_all(self, commits).await.map_err(not_committed)?;
        fail::fail_point!("coordinator::before-committed", |_| std::process::abort());
        let confirmed = self
            .claimed()
            .map_err(not_committed)?
            .committed(permit)
            .await;
        if let Err(error) = confirmed {
            let failure = Failure::from(error);
            if failure.kind == ErrorKind::Fenced {
                return Err(not_committed(failure));
            }
            // Everything is committed. The confirmation only saves a recovery from doing it again.
            tracing::warn!(%failure, "commit is not confirmed in the chain");
        }
        fail::fail_point!("coordinator::after-committed", |_| std::process::abort());
        revisit(self, &listed, is_last).await;
        Ok(written)
    }

    pub(super) async fn write_savepoint(
        &mut self,
        (attempt, checkpoint): (Attempt, CheckpointId),
        name: String,
        manifest: Manifest,
    ) -> Event {
        let bytes = size(&manifest);
        fail::fail_point!("coordinator::before-savepoint", |_| std::process::abort());
        let result = match self.claimed() {
            Err(failure) => Err(failure),
            Ok(claimed) => match claimed.savepoint(&name, &manifest).await {
                Ok(path) => Ok(Written { path, bytes }),
                Err(error) => Err(error.into()),
            },
        };
        fail::fail_point!("coordinator::after-savepoint", |_| std::process::abort());
        Event::SavepointWritten {
            attempt,
            checkpoint,
            name,
            result,
        }
    }

    pub(super) async fn release(&mut self, mut release: Release) -> Event {
        release.time = Some(self.clock.now());
        let Some(claimed) = self.claimed.as_mut() else {
            // Given up before anything was claimed.
            return Event::Released(Ok(()));
        };
        fail::fail_point!("coordinator::before-release", |_| std::process::abort());
        let mut pause = Duration::from_millis(500);
        let mut tries = 1;
        let result = loop {
            match claimed
                .release(release.clone())
                .await
                .map_err(Failure::from)
            {
                Err(failure) if failure.kind == ErrorKind::Retryable && tries < RELEASE_TRIES => {
                    tracing::warn!(%failure, "the chain is not released yet");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                    tries += 1;
                }
                result => break result,
            }
        };
        fail::fail_point!("coordinator::after-release", |_| std::process::abort());
        Event::Released(result)
    }

    pub(super) async fn collect_garbage(&mut self) {
        let retained = self.job.checkpoint.retained;
        let Some(claimed) = self.claimed.as_mut() else {
            return;
        };
        match claimed.collect_garbage(retained).await {
            Ok(Collected {
                slots: 0,
                objects: 0,
                unfinished: 0,
            }) => {}
            Ok(collected) => tracing::debug!(?collected, "old checkpoints deleted"),
            // What could not be deleted now is deleted later; being fenced is noticed by the next
            // write.
            Err(error) => {
                tracing::warn!(error = %Failure::from(error), "old checkpoints not deleted");
            }
        }
    }
}

fn no_connector(uid: &OperatorUid) -> Failure {
    Failure::new(
        ErrorCode::PlanMismatch,
        ErrorKind::Internal,
        format!("node {uid} of the job's graph has no connector"),
    )
}

/// Bytes of a manifest as it is stored.
pub(super) fn size(manifest: &Manifest) -> u64 {
    serde_json::to_vec(manifest).map_or(0, |bytes| u64::try_from(bytes.len()).unwrap_or(u64::MAX))
}
