//! What an attempt starts from: wished before the claim, judged by the chain after it.
//!
//! Before the claim everything is looked at that can make a start fail: whether the restore point
//! is there, whether its chain is still held, whether the graph has a place for it. What counts is
//! what lies below the claim: until then an older attempt may decide more.

use millstream_checkpoint::storage::without_secret;
use millstream_checkpoint::{
    ChainState, CheckpointEntry, Error, Kinship, Manifest, Origin, Place, RestorePoint, SlotNumber,
    Storage, read_restore_point,
};
use millstream_types::{ErrorCode, ErrorKind, Failure};

use crate::Restore;
use crate::service::keeper::Keeper;
use crate::service::prepare::state::{Import, fitting};

/// What an attempt is asked to start from.
pub(in crate::service) enum Wish {
    /// The newest checkpoint of the chain, empty if there is none.
    Newest,
    /// The newest checkpoint of the chain, which must be there: this address names it.
    NewestAt(String),
    /// Empty, whatever there is.
    Empty,
    /// This checkpoint of the chain.
    Own { slot: SlotNumber, path: String },
    /// What lies at an address outside of the chain.
    Import(Box<Import>),
}

/// What an attempt starts from.
pub(in crate::service) enum Basis {
    /// The newest checkpoint of the chain.
    Newest(Box<Manifest>),
    /// Nothing.
    Empty,
    /// A savepoint or checkpoint that becomes the newest checkpoint of the chain.
    Import(Box<Import>),
}

/// What the attempt is asked to start from, as it looks before the claim.
///
/// # Errors
/// It is not there, may not be used, or has no place in the graph.
pub(in crate::service) async fn wish(
    keeper: &Keeper,
    storage: &Storage,
    state: Option<&ChainState>,
) -> Result<Wish, Failure> {
    let chain = keeper.chain(storage);
    let newest = state.and_then(|state| state.newest.as_ref());
    let wish = match &keeper.restore {
        Restore::Latest => Wish::Newest,
        Restore::Fresh => Wish::Empty,
        Restore::Path(path) => match chain.place(path) {
            Some(Place::Newest) => Wish::NewestAt(path.clone()),
            Some(Place::Slot(_)) if keeper.unless_advanced => Wish::NewestAt(path.clone()),
            Some(Place::Slot(slot)) => own(keeper, storage, slot, path).await?,
            Some(Place::Beside) | None => import(keeper, newest, path).await?,
        },
    };
    if let Some(state) = state {
        // Fails here what would fail after the claim, where an older attempt would be fenced.
        match &wish {
            Wish::Newest | Wish::NewestAt(_) => {
                newest_of(keeper, storage, state, &wish)?;
            }
            Wish::Empty | Wish::Own { .. } => {}
            Wish::Import(import) => {
                judge(keeper, storage, state, import)?;
            }
        }
    }
    Ok(wish)
}

/// A checkpoint of this chain. It is read here only to see that it is there and fits.
async fn own(
    keeper: &Keeper,
    storage: &Storage,
    slot: SlotNumber,
    path: &str,
) -> Result<Wish, Failure> {
    keeper.note(format!("reads {path}"));
    let manifest = keeper.chain(storage).checkpoint(slot).await?;
    fitting(keeper, manifest.ok_or_else(|| gone(path))?)?;
    let path = path.to_owned();
    Ok(Wish::Own { slot, path })
}

fn gone(path: &str) -> Error {
    Error::Missing {
        path: path.to_owned(),
        reason: "there is no such checkpoint in the job's chain".to_owned(),
    }
}

/// A savepoint, or a checkpoint of another chain.
async fn import(keeper: &Keeper, newest: Option<&Manifest>, path: &str) -> Result<Wish, Failure> {
    keeper.note(format!("reads {}", without_secret(path)));
    let RestorePoint {
        manifest,
        folder,
        is_committed,
        held_by,
    } = match read_restore_point(path, &keeper.storage_options).await {
        Err(Error::Missing { .. })
            if keeper.unless_advanced
                && newest.and_then(|newest| newest.imported_from.as_deref()) == Some(path) =>
        {
            // The chain has it already, and whatever comes until the claim is newer. Only then: a
            // job's folder stands for something else whenever that job has gone on.
            return Ok(Wish::NewestAt(path.to_owned()));
        }
        read => read?,
    };
    if let Some(claim) = held_by.filter(|_| !keeper.overrides.fork) {
        return Err(Failure::from(Error::InUse {
            path: path.to_owned(),
            by: format!("attempt {} ({})", claim.attempt, claim.holder.name),
        }));
    }
    let origin = Origin {
        path: path.to_owned(),
        taken: manifest.taken(),
        identity: keeper.resource_uid.clone(),
    };
    Ok(Wish::Import(Box::new(Import {
        origin,
        manifest: fitting(keeper, manifest)?,
        folder,
        is_committed,
    })))
}

/// What the attempt starts from, judged by what lies below its claim.
///
/// # Errors
/// The wish cannot or must not be fulfilled.
pub(in crate::service) async fn start(
    keeper: &Keeper,
    storage: &Storage,
    state: &ChainState,
    wish: Wish,
) -> Result<Basis, Failure> {
    match wish {
        Wish::Empty => Ok(Basis::Empty),
        Wish::Newest | Wish::NewestAt(_) => newest_of(keeper, storage, state, &wish),
        Wish::Own { slot, path } => {
            let is_there = state.checkpoints.iter().any(|entry| entry.slot == slot);
            let chain = keeper.chain(storage);
            let found = if is_there {
                chain.checkpoint(slot).await?
            } else {
                None
            };
            let manifest = found.ok_or_else(|| gone(&path))?;
            let origin = Origin {
                path,
                taken: manifest.taken(),
                identity: keeper.resource_uid.clone(),
            };
            let import = Import {
                origin,
                manifest: fitting(keeper, manifest)?,
                folder: chain.path(),
                // The recovery has seen to it, as to all that the chain holds.
                is_committed: true,
            };
            refuse_given_up(state, keeper, &import)?;
            Ok(Basis::Import(Box::new(import)))
        }
        Wish::Import(mut import) => match judge(keeper, storage, state, &import)? {
            Judged::Import => {
                refuse_given_up(state, keeper, &import)?;
                // As above, if it is a checkpoint of this chain by another address.
                import.is_committed |= own_entry(state, keeper, &import).is_some();
                Ok(Basis::Import(import))
            }
            Judged::Newest => {
                let newest = state.newest_path.clone().unwrap_or_default();
                let path = &import.origin.path;
                tracing::warn!(path, newest, "the chain has gone on from the restore point");
                keeper.note(format!(
                    "goes on from {newest}: {path} is not the newest state"
                ));
                newest_of(keeper, storage, state, &Wish::Newest)
            }
        },
    }
}

/// The checkpoint of the chain that a restore point is, if the chain still has it.
fn own_entry<'a>(
    state: &'a ChainState,
    keeper: &Keeper,
    import: &Import,
) -> Option<&'a CheckpointEntry> {
    let taken = &import.origin.taken;
    let mut checkpoints = state.checkpoints.iter();
    let is_it = |entry: &&CheckpointEntry| {
        let named = (entry.id, entry.attempt, entry.decided_at);
        named == (taken.checkpoint, taken.attempt, taken.decided_at)
    };
    checkpoints
        .find(is_it)
        .filter(|_| taken.job == keeper.job.id)
}

/// Nobody starts from a checkpoint whose output was aborted as a whole: what came before it in its
/// sources would be missing in the output.
fn refuse_given_up(state: &ChainState, keeper: &Keeper, import: &Import) -> Result<(), Failure> {
    let entry = own_entry(state, keeper, import);
    let Some(entry) = entry.filter(|entry| entry.given_up) else {
        return Ok(());
    };
    Err(Failure::new(
        ErrorCode::CheckpointMissing,
        ErrorKind::InvalidJob,
        format!(
            "checkpoint {} at {} was given up, because all of its output was aborted before it \
             could be committed: the records before it are missing in the output. Start from \
             another one; `latest` goes on from the newest that counts",
            entry.id, import.origin.path
        ),
    ))
}

fn newest_of(
    keeper: &Keeper,
    storage: &Storage,
    state: &ChainState,
    wish: &Wish,
) -> Result<Basis, Failure> {
    match (&state.newest, wish) {
        (Some(newest), _) => {
            let manifest = fitting(keeper, newest.clone())?;
            Ok(Basis::Newest(Box::new(manifest)))
        }
        (None, Wish::NewestAt(path)) => Err(Failure::from(Error::Missing {
            path: path.clone(),
            reason: "the job's chain has no checkpoint".to_owned(),
        })),
        (None, _) if keeper.expect_state => {
            Err(Failure::from(keeper.chain(storage).state_missing()))
        }
        (None, _) => Ok(Basis::Empty),
    }
}

/// What becomes of a restore point from outside of the chain.
#[derive(Debug, PartialEq, Eq)]
enum Judged {
    /// It is imported.
    Import,
    /// The chain has gone on from it: its newest checkpoint counts.
    Newest,
}

fn judge(
    keeper: &Keeper,
    storage: &Storage,
    state: &ChainState,
    import: &Import,
) -> Result<Judged, Failure> {
    let Some(newest) = &state.newest else {
        return Ok(Judged::Import);
    };
    let chain = keeper.chain(storage);
    if !keeper.unless_advanced {
        if let Some(before) = restored_before(newest, import) {
            return Err(Failure::from(Error::RestoredBefore {
                chain: chain.path(),
                path: import.origin.path.clone(),
                identity: before.identity.clone().unwrap_or_default(),
                newest: newest.checkpoint,
            }));
        }
        return Ok(Judged::Import);
    }
    let is_own = chain.place(&import.origin.path).is_some();
    match newest.kinship_of(&import.manifest, is_own) {
        Kinship::Same | Kinship::Descendant => Ok(Judged::Import),
        Kinship::Ancestor => Ok(Judged::Newest),
        Kinship::None => Err(Failure::from(Error::Unrelated {
            path: import.origin.path.clone(),
            checkpoint: import.origin.taken.checkpoint,
            job: import.origin.taken.job.clone(),
            chain: chain.path(),
            newest: newest.checkpoint,
        })),
    }
}

/// The start from the same address by a job of another identity, if the chain has gone on since.
fn restored_before<'a>(newest: &'a Manifest, import: &Import) -> Option<&'a Origin> {
    let path = import.origin.path.as_str();
    if newest.imported_from.as_deref() == Some(path) {
        return None;
    }
    let identity = import.origin.identity.as_ref()?;
    newest.origins.iter().find(|origin| {
        let other = origin
            .identity
            .as_ref()
            .is_some_and(|other| other != identity);
        origin.path == path && other
    })
}
