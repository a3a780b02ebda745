//! Owns the chain and the sinks' committers: everything here happens one thing after the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_checkpoint::{
    Chain, ClaimedChain, Collected, CommitPermit, Holder, Manifest, PendingSavepoints, Saved,
    SlotNumber, Storage, StorageOptions,
};
use millstream_connect::SourceConnector;
use millstream_plan::JobGraph;
use millstream_spec::ValidJob;
use millstream_types::{
    Attempt, Bug, CheckpointId, Clock, Deployment, ErrorCode, ErrorKind, Failure, Lineage, Opaque,
    OperatorUid,
};
use tokio::sync::mpsc;

use crate::job::{Event, NotFinalized, Operation, Written};
use crate::manifest::JobFacts;
use crate::opened::{Committers, Opened};
use crate::service::alive::{Doubt, ensure_alive};
use crate::service::commit::{Commits, Listed, NotCommitted, commit_all, ensure_held};
use crate::service::revisit::Revisit;
use crate::topology::Topology;
use crate::{Options, Overrides, Restore};

/// Something to do with the chain.
#[derive(Debug)]
pub(super) enum Work {
    /// What the job wants.
    Job(Operation),
    /// Look again at what older attempts have left open, if it is time.
    Revisit {
        /// Look as often as after the start from now on: one of their workers may be back.
        anew: bool,
    },
    /// Delete what is not retained.
    CollectGarbage,
}

/// Owns the chain.
#[expect(
    clippy::struct_excessive_bools,
    reason = "what the start was told, one flag each"
)]
pub(super) struct Keeper {
    pub(super) job: Arc<ValidJob>,
    pub(super) graph: Arc<JobGraph>,
    pub(super) storage_options: StorageOptions,
    pub(super) sources: BTreeMap<OperatorUid, Arc<dyn SourceConnector>>,
    pub(super) committers: Committers,
    /// Where the next attempt starts from.
    pub(super) restore: Restore,
    /// `restore` counts only if the chain has not gone on from there.
    pub(super) unless_advanced: bool,
    /// The chain must not be found empty.
    pub(super) expect_state: bool,
    pub(super) overrides: Overrides,
    pub(super) allow_dropped_state: bool,
    /// Only looks, and holds nothing: what a start would come to.
    pub(super) rehearses: bool,
    /// The checkpoint of the chain whose output may be lost.
    pub(super) accept_lost_output: Option<CheckpointId>,
    /// Who orders this start.
    pub(super) resource_uid: Option<String>,
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
    /// What the transactions of each sink have in common, once that has been asked.
    pub(super) families: BTreeMap<OperatorUid, Opaque>,
    pub(super) claimed: Option<ClaimedChain>,
    /// What the newest checkpoint lists that this attempt has decided.
    pub(super) decided: Listed,
    /// What a checkpoint lists of which this attempt does not know whether it is decided.
    pub(super) undecided: Listed,
    /// What the newest checkpoint lists that is known to be committed.
    confirmed: Listed,
    /// Older attempts that are looked at again while this one runs.
    pub(super) revisit: Revisit,
    /// Savepoints that tasks are about to take or have taken, and that are not written.
    pub(super) pending_savepoints: PendingSavepoints,
    /// What this attempt may have opened, once its tasks may run.
    pub(super) own: Option<Opened>,
}

impl Keeper {
    /// A keeper that has not opened anything.
    ///
    /// # Errors
    /// A connector cannot work as configured, or a node of the graph has none.
    pub(super) fn new(options: &Options, notes: mpsc::Sender<String>) -> Result<Self, Failure> {
        let topology = Topology::new(&options.graph, options.job.parallelism);
        for uid in topology.sources.keys() {
            if !options.sources.contains_key(uid) {
                return Err(no_connector(uid));
            }
        }
        let mut committers = Committers::new();
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
            rehearses: false,
            accept_lost_output: options.accept_lost_output,
            resource_uid: options
                .resource_uid
                .as_ref()
                .or(options.job.identity.as_ref())
                .cloned(),
            deployment: options.deployment,
            clock: Arc::clone(&options.clock),
            holder: options.holder.clone(),
            host: options.host.clone(),
            build: options.build.clone(),
            notes,
            storage: None,
            sinks_are_checked: false,
            families: BTreeMap::new(),
            claimed: None,
            decided: Listed::new(),
            undecided: Listed::new(),
            confirmed: Listed::new(),
            revisit: Revisit::default(),
            pending_savepoints: PendingSavepoints::default(),
            own: None,
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
        self.claimed.as_mut().ok_or_else(not_claimed)
    }

    pub(super) fn held(&self) -> Result<&ClaimedChain, Failure> {
        self.claimed.as_ref().ok_or_else(not_claimed)
    }

    /// Takes over a chain that has just been claimed.
    pub(super) fn begin_attempt(&mut self, mut claimed: ClaimedChain) {
        self.pending_savepoints.clear();
        claimed.set_pending_savepoints(self.pending_savepoints.clone());
        self.claimed = Some(claimed);
        self.decided = Listed::new();
        self.undecided = Listed::new();
        self.confirmed = Listed::new();
        self.revisit = Revisit::default();
        self.own = None;
    }

    /// Who claims.
    pub(super) fn holder(&self) -> Holder {
        Holder {
            name: self.holder.clone(),
            build: self.build.clone(),
            identity: self.job.identity.clone(),
            // No subtask has a higher number.
            parallelism: self.job.slots(),
            deployment: self.deployment,
            host: self.host.clone(),
            sinks: self.families.clone(),
        }
    }

    /// The name of the chain, once it is claimed.
    pub(super) fn lineage(&self) -> Option<Lineage> {
        self.claimed
            .as_ref()
            .and_then(ClaimedChain::lineage)
            .cloned()
    }

    /// What every manifest says of the job.
    pub(super) fn facts(&self) -> JobFacts<'_> {
        JobFacts {
            job: &self.job.id,
            fingerprint: &self.graph.fingerprint,
            connectors: self.graph.connectors(),
            parallelism: self.job.parallelism,
            max_parallelism: self.graph.max_parallelism,
            inputs: self.graph.all_overtakable_inputs(),
        }
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
    pub(super) async fn finalize(&mut self, manifest: Manifest, deadline: Duration) -> Event {
        let (attempt, checkpoint) = (manifest.attempt, manifest.checkpoint);
        let result = self.decide_and_commit(manifest, deadline).await;
        Event::Finalized {
            attempt,
            checkpoint,
            result,
        }
    }

    async fn decide_and_commit(
        &mut self,
        manifest: Manifest,
        deadline: Duration,
    ) -> Result<Written, NotFinalized> {
        let commits = Commits::of(&manifest).after(self.confirmed.clone());
        if Bug::CommitBeforeDecision.is_seeded() {
            drop(commit_all(self, &commits).await);
        }
        fail::fail_point!("coordinator::before-decide", |_| std::process::abort());
        let permit = self.decide(manifest, &commits.by_sink, deadline).await?;
        fail::fail_point!("coordinator::after-decide", |_| std::process::abort());
        let written = Written {
            path: self.slot_path(permit.decided().slot),
            bytes: self.claimed.as_ref().map_or(0, ClaimedChain::newest_bytes),
        };
        let not_committed = |failure| NotFinalized::NotCommitted(written.clone(), failure);
        match commit_all(self, &commits).await {
            Ok(()) => {}
            Err(NotCommitted::Failed(failure)) => return Err(not_committed(failure)),
            // The next attempt goes back to the checkpoint before.
            Err(NotCommitted::Aborted { reason, .. }) => return Err(not_committed(reason)),
        }
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
        self.confirmed = commits.by_sink;
        fail::fail_point!("coordinator::after-committed", |_| std::process::abort());
        Ok(written)
    }

    /// Decides a checkpoint, if what it lists still lives and it is not too late.
    async fn decide(
        &mut self,
        manifest: Manifest,
        listed: &Listed,
        deadline: Duration,
    ) -> Result<CommitPermit, NotFinalized> {
        let checkpoint = manifest.checkpoint;
        // A write that had stayed unknown is finished first, and would decide what it lists.
        let mut asked = listed.clone();
        if self
            .claimed()
            .map_err(NotFinalized::NotDecided)?
            .is_unsettled()
        {
            add(&mut asked, &self.undecided);
        }
        let late = |waits_for| NotFinalized::NotDecided(too_late(checkpoint, waits_for));
        let left = deadline.saturating_sub(self.clock.monotonic());
        match within(left, ensure_alive(self, checkpoint, &asked)).await {
            Some(Ok(())) => {}
            Some(Err(Doubt::Dead(failure))) => return Err(NotFinalized::Undecidable(failure)),
            Some(Err(Doubt::Unclear(failure))) => return Err(NotFinalized::NotDecided(failure)),
            None => return Err(late("the sinks' side")),
        }
        add(&mut self.undecided, listed);
        let left = deadline.saturating_sub(self.clock.monotonic());
        let claimed = self.claimed().map_err(NotFinalized::NotDecided)?;
        match within(left, claimed.decide(manifest)).await {
            Some(Ok(permit)) => {
                self.undecided = Listed::new();
                self.decided.clone_from(listed);
                Ok(permit)
            }
            Some(Err(error)) => Err(NotFinalized::NotDecided(error.into())),
            None => Err(late("the checkpoint store")),
        }
    }

    /// Looks whether the claim is still the newest.
    pub(super) async fn look_at_claim(&self) -> Event {
        let patience = self.job.checkpoint.timeout.0;
        let held = within(patience, ensure_held(self)).await;
        Event::Held(held.unwrap_or_else(|| {
            Err(Failure::new(
                ErrorCode::StoreUnavailable,
                ErrorKind::Retryable,
                "the checkpoint store does not say in time whether the claim is still the newest",
            ))
        }))
    }

    pub(super) async fn write_savepoint(
        &mut self,
        (attempt, checkpoint): (Attempt, CheckpointId),
        name: String,
        manifest: Manifest,
    ) -> Event {
        fail::fail_point!("coordinator::before-savepoint", |_| std::process::abort());
        let patience = self.job.checkpoint.timeout.0;
        let result = match self.claimed() {
            Err(failure) => Err(failure),
            Ok(claimed) => match within(patience, claimed.savepoint(&name, manifest)).await {
                Some(Ok(Saved { path, bytes })) => Ok(Written { path, bytes }),
                Some(Err(error)) => Err(error.into()),
                None => Err(too_late(checkpoint, "the checkpoint store")),
            },
        };
        self.pending_savepoints.end(checkpoint);
        fail::fail_point!("coordinator::after-savepoint", |_| std::process::abort());
        Event::SavepointWritten {
            attempt,
            checkpoint,
            name,
            result,
        }
    }

    pub(super) async fn collect_garbage(&mut self) {
        let retained = self.job.checkpoint.retained;
        let patience = self.job.checkpoint.timeout.0;
        let Some(claimed) = self.claimed.as_mut() else {
            return;
        };
        // What could not be deleted now is deleted later; being fenced is noticed by the next
        // write.
        match within(patience, claimed.collect_garbage(retained)).await {
            Some(Ok(Collected {
                slots: 0,
                objects: 0,
                unfinished: 0,
            })) => {}
            Some(Ok(collected)) => tracing::debug!(?collected, "old checkpoints deleted"),
            Some(Err(error)) => {
                tracing::warn!(error = %Failure::from(error), "old checkpoints not deleted");
            }
            None => tracing::warn!("old checkpoints not deleted yet: the store does not answer"),
        }
    }
}

/// Opens and checks the storage, once per process.
pub(super) async fn open(keeper: &mut Keeper) -> Result<Storage, Failure> {
    if let Some(storage) = &keeper.storage {
        return Ok(storage.clone());
    }
    let uri = keeper.job.checkpoint.storage.clone();
    keeper.note(format!("opens {uri}"));
    let storage = Storage::open(&uri, &keeper.storage_options).await?;
    storage.probe().await.map_err(|error| {
        // Whoever starts a job by hand reads the answer and corrects what is wrong; a deployment
        // waits for it.
        if keeper.deployment.is_none() {
            error.into_failure_of_first_start()
        } else {
            error.into()
        }
    })?;
    keeper.storage = Some(storage.clone());
    Ok(storage)
}

/// What a future answers within a time; nothing is begun where none is left.
pub(super) async fn within<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    if time.is_zero() {
        return None;
    }
    tokio::time::timeout(time, future).await.ok()
}

pub(super) fn add(listed: &mut Listed, more: &Listed) {
    for (uid, committables) in more {
        let own = listed.entry(uid.clone()).or_default();
        for committable in committables {
            if !own.contains(committable) {
                own.push(committable.clone());
            }
        }
    }
}

fn too_late(checkpoint: CheckpointId, waits_for: &str) -> Failure {
    Failure::new(
        ErrorCode::CheckpointExpired,
        ErrorKind::Retryable,
        format!(
            "checkpoint {checkpoint} was acknowledged and not written within \
             `checkpoint.timeout`: {waits_for} did not answer in time"
        ),
    )
}

fn not_claimed() -> Failure {
    Failure::new(
        ErrorCode::StoreUnavailable,
        ErrorKind::Internal,
        "the chain is not claimed yet",
    )
}

fn no_connector(uid: &OperatorUid) -> Failure {
    Failure::new(
        ErrorCode::PlanMismatch,
        ErrorKind::Internal,
        format!("node {uid} of the job's graph has no connector"),
    )
}
