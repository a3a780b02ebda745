//! What an attempt begins with. Pure.

use std::collections::{BTreeMap, BTreeSet};

use millstream_checkpoint::{Began, Error, Manifest, Origin, Taken};
use millstream_connect::{Discovery, SplitEnumerator};
use millstream_plan::Incompatibility;
use millstream_types::{
    Attempt, CheckpointId, CheckpointKind, ErrorCode, ErrorKind, Failure, Lineage, OperatorUid,
    SplitState, SubtaskIndex,
};

use crate::fitting::{drop_state, misfits};
use crate::job::Prepared;
use crate::job::checkpoints::pending::{Identities, OperatorStates, Parts, check_states};
use crate::placement::deal;
use crate::preflight;
use crate::service::keeper::Keeper;
use crate::service::prepare::Enumerators;

/// A savepoint or checkpoint that a job is to be started from.
#[derive(Debug, Clone)]
pub(in crate::service) struct Import {
    /// What it is and where it lies.
    pub(in crate::service) origin: Origin,
    pub(in crate::service) manifest: Manifest,
    /// Address of the folder that its files lie in.
    pub(in crate::service) folder: String,
    /// Whether all that it lists is known to be committed.
    pub(in crate::service) is_committed: bool,
}

/// What an attempt begins with.
#[derive(Debug, Clone)]
pub(in crate::service) struct Beginning {
    attempt: Attempt,
    /// The newest checkpoint of the chain, or the one that must become it.
    pub(in crate::service) manifest: Manifest,
    /// Where it lies, once it does.
    pub(in crate::service) path: String,
    /// Whether the job has been somewhere before.
    restored: bool,
    /// Whether `manifest` is not in the chain yet.
    new: bool,
    next: CheckpointId,
    pub(in crate::service) identities: Identities,
    /// What the chain has come to before.
    reached: Option<Taken>,
    /// Where the files that `manifest` names lie, if not in the chain.
    pub(in crate::service) folder: Option<String>,
    /// Splits that `manifest` does not have.
    later: BTreeMap<OperatorUid, Vec<SplitState>>,
}

impl Beginning {
    /// Nothing: every source begins at its starting options.
    pub(in crate::service) fn empty(
        keeper: &Keeper,
        (attempt, next): (Attempt, CheckpointId),
    ) -> Self {
        let now = keeper.clock.now();
        let parts = Parts {
            id: next,
            kind: CheckpointKind::Checkpoint,
            triggered_at: now,
            identities: Identities::new(),
            operators: OperatorStates::new(),
        };
        let manifest = keeper.facts().manifest(attempt, parts, now);
        Self {
            attempt,
            manifest,
            path: String::new(),
            restored: false,
            new: true,
            next,
            reached: None,
            folder: None,
            identities: Identities::new(),
            later: BTreeMap::new(),
        }
    }

    /// The same in a chain that has come to this before.
    pub(in crate::service) fn behind(self, newest: Option<&Manifest>) -> Self {
        Self {
            reached: newest.and_then(Manifest::reached),
            ..self
        }
    }

    /// The newest checkpoint of the chain.
    pub(in crate::service) fn restored(
        manifest: Manifest,
        path: String,
        (attempt, next): (Attempt, CheckpointId),
    ) -> Self {
        Self {
            attempt,
            identities: manifest.identities.clone(),
            manifest: manifest.without_committables(),
            path,
            restored: true,
            new: false,
            next,
            reached: None,
            folder: None,
            later: BTreeMap::new(),
        }
    }

    /// The state of a savepoint or checkpoint.
    pub(in crate::service) fn imported(
        keeper: &Keeper,
        import: Import,
        place: (Attempt, CheckpointId),
    ) -> Self {
        let empty = Self::empty(keeper, place);
        let manifest = import.manifest.without_committables();
        let mut origins = manifest.origins;
        let imported_from = Some(import.origin.path.clone());
        origins.push(import.origin);
        Self {
            identities: manifest.identities,
            manifest: Manifest {
                max_parallelism: manifest.max_parallelism,
                operators: manifest.operators,
                inputs: manifest.inputs,
                ended: manifest.ended,
                imported_from,
                origins,
                ..empty.manifest
            },
            restored: true,
            folder: Some(import.folder),
            ..empty
        }
    }

    /// Whether the manifest is still to be written into the chain.
    pub(in crate::service) const fn is_new(&self) -> bool {
        self.new
    }

    /// Splits of a source that the state knows, and whether the source is asked for the first
    /// time.
    pub(in crate::service) fn known(&self, uid: &OperatorUid) -> (BTreeSet<String>, bool) {
        let known = preflight::known(&self.manifest, uid);
        let first = known.is_none();
        (known.unwrap_or_default(), first)
    }

    /// Fits a source's splits to how it is configured now.
    pub(in crate::service) async fn fit(
        &mut self,
        uid: &OperatorUid,
        enumerator: &mut dyn SplitEnumerator,
    ) -> Result<(), Failure> {
        let subtasks = self.manifest.operators.get_mut(uid);
        for snapshot in subtasks.into_iter().flat_map(BTreeMap::values_mut) {
            let splits = std::mem::take(&mut snapshot.splits);
            snapshot.splits = enumerator.fit(splits).await?;
            if snapshot.splits.iter().any(|split| !split.finished) {
                self.manifest.ended = false;
            }
        }
        Ok(())
    }

    /// Takes note of what a source has found. What it finds the first time pins where it begins,
    /// and must be in the chain before anything is read.
    pub(in crate::service) fn discovered(
        &mut self,
        uid: &OperatorUid,
        found: Discovery,
        first: bool,
        parallelism: u32,
    ) {
        if let Some(identity) = found.identity {
            self.identities.insert(uid.clone(), identity);
        }
        if !first {
            self.later.insert(uid.clone(), found.splits);
            return;
        }
        let dealt = deal(&BTreeMap::new(), found.splits, parallelism, 0);
        let subtasks = (0..).map(SubtaskIndex).zip(dealt.snapshots).collect();
        self.manifest.operators.insert(uid.clone(), subtasks);
        self.manifest.ended = false;
        self.new = true;
    }

    /// The manifest as a checkpoint of this attempt.
    pub(in crate::service) fn seal(&mut self, keeper: &Keeper) -> Manifest {
        let now = keeper.clock.now();
        let parts = Parts {
            id: self.next,
            kind: CheckpointKind::Checkpoint,
            triggered_at: now,
            identities: self.identities.clone(),
            operators: std::mem::take(&mut self.manifest.operators),
        };
        let sealed = keeper.facts().manifest(self.attempt, parts, now);
        let before = &mut self.manifest;
        self.manifest = Manifest {
            swept_through: before.swept_through,
            imported_from: before.imported_from.take(),
            beginning: Some(Began {
                after: self.reached.clone(),
            }),
            origins: std::mem::take(&mut before.origins),
            previous: before.previous.take(),
            ended: before.ended,
            ..sealed
        };
        self.manifest.clone()
    }

    /// What the job's state machine is told.
    pub(in crate::service) fn into_prepared(
        self,
        enumerators: &Enumerators,
        lineage: Option<Lineage>,
    ) -> Prepared {
        let discovering = enumerators
            .iter()
            .filter(|(_, (enumerator, _))| enumerator.interval().is_some())
            .map(|(uid, _)| uid.clone())
            .collect();
        Prepared {
            attempt: self.attempt,
            lineage,
            next_checkpoint: if self.new {
                self.next.next()
            } else {
                self.next
            },
            manifest: self.manifest,
            path: self.path,
            restored: self.restored,
            discovered: self.later,
            identities: self.identities,
            discovering,
            given_up: None,
        }
    }
}

/// What a manifest holds that the job's graph has a place for. Prepared output is looked after
/// where it is committed.
///
/// # Errors
/// There is more in it, and nobody has said that it may be dropped.
pub(in crate::service) fn fitting(
    keeper: &Keeper,
    mut manifest: Manifest,
) -> Result<Manifest, Failure> {
    let found = misfits(&keeper.graph, &manifest);
    // Whoever rehearses tells each of them.
    if !keeper.allow_dropped_state
        && !keeper.rehearses
        && let Some(failure) = Incompatibility::failure(&found)
    {
        return Err(failure);
    }
    let whole = keeper.rehearses.then(|| manifest.clone());
    for misfit in &found {
        if !keeper.rehearses {
            tracing::warn!(operator = %misfit.uid(), %misfit, "state is dropped, as is allowed");
        }
        drop_state(&mut manifest, misfit);
    }
    check_keyed(&manifest, keeper.graph.max_parallelism)?;
    Ok(whole.unwrap_or(manifest))
}

/// Checks that the job can find the keys of a state: they are divided into as many groups as then,
/// and each group is there once.
///
/// # Errors
/// It cannot.
fn check_keyed(manifest: &Manifest, asked: u32) -> Result<(), Failure> {
    if !manifest.has_state() {
        return Ok(());
    }
    let state = || format!("checkpoint {} of {}", manifest.checkpoint, manifest.job);
    if let Some(frozen) = manifest.max_parallelism.filter(|frozen| *frozen != asked) {
        let state = state();
        return Err(Failure::from(Error::MaxParallelism {
            state,
            frozen,
            asked,
        }));
    }
    check_states(&manifest.operators, asked).map_err(|inconsistent| {
        Failure::new(
            ErrorCode::InconsistentSnapshot,
            ErrorKind::CorruptData,
            format!("{} cannot be restored: {inconsistent}", state()),
        )
    })
}
