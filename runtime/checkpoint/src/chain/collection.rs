//! Deleting what nothing needs any more, for the holder of the chain.

use futures::{StreamExt, TryStreamExt, stream};
use millstream_types::Attempt;

use crate::chain::ClaimedChain;
use crate::chain::slots::CONCURRENT_DELETIONS;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::protocol::files::{DATA, File, deletable, named};
use crate::protocol::garbage::{garbage, listing_start, mark};
use crate::release::ReleaseReason;
use crate::slot::SlotNumber;

/// What a collection has deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Slots of the chain.
    pub slots: u64,
    /// Files and manifests that only deleted checkpoints named, or that no checkpoint ever named.
    pub objects: u64,
    /// Temporary files and uploads that older attempts had not finished.
    pub unfinished: u64,
}

pub(super) async fn collect(chain: &mut ClaimedChain, retained: u32) -> Result<Collected> {
    match chain.released {
        None | Some(ReleaseReason::Deleted) => {}
        Some(reason) => {
            return Err(Error::Rule(format!(
                "attempt {} collects garbage although it has released the chain ({reason:?})",
                chain.attempt
            )));
        }
    }
    let mut collected = Collected {
        slots: delete_slots(chain, retained).await?,
        ..Collected::default()
    };
    if chain.pending_savepoints.is_some() {
        // Looked at again when it is complete.
        return Ok(collected);
    }
    collected.objects += delete_named(chain).await?;
    collected.objects += delete_orphans(chain).await?;
    if !chain.swept_leftovers {
        let marks = chain.chain.slots.marks_before(chain.attempt).await?;
        delete_objects(chain, marks).await?;
        collected.unfinished = remove_unfinished(chain).await?;
        chain.swept_leftovers = true;
    }
    Ok(collected)
}

/// Deletes the slots that are not retained. What they name is deleted after them.
async fn delete_slots(chain: &mut ClaimedChain, retained: u32) -> Result<u64> {
    let slots = garbage(&chain.survey.records, retained);
    if slots.is_empty() {
        return Ok(0);
    }
    if let Some(below) = mark(&slots) {
        mark_deletions(chain, below).await?;
    }
    if listing_start(&chain.survey.records).is_none() {
        // A wipe takes all slots that say which attempts are swept, so from here on every
        // claim matters again, also those before the remembered start.
        chain.chain.slots.forget_start().await?;
        chain.remembered_start = None;
    }
    fail::fail_point!("checkpoint::before-collection", |_| std::process::abort());
    let going = slots
        .iter()
        .filter_map(|slot| chain.survey.records.get(slot));
    let named = named(going);
    chain.going.extend(named);
    chain.chain.slots.delete(&slots).await?;
    fail::fail_point!("checkpoint::slots-collected", |_| std::process::abort());
    for slot in &slots {
        chain.survey.records.remove(slot);
    }
    remember_start(chain).await?;
    Ok(count(slots.len()))
}

/// Deletes files that slots have named which are gone, unless others name them.
async fn delete_named(chain: &mut ClaimedChain) -> Result<u64> {
    let unreadable = chain.survey.unreadable_slots();
    let files = deletable(&chain.going, chain.keeping(&unreadable));
    let deleted = delete_files(chain, &files).await?;
    if unreadable.is_empty() && !chain.pending_savepoints.is_some() {
        chain.going.clear();
    }
    Ok(deleted)
}

/// Deletes files that nothing names and nothing will: the first time those of all older attempts, and
/// later those that this attempt has written for checkpoints that failed.
async fn delete_orphans(chain: &mut ClaimedChain) -> Result<u64> {
    let folder = if !chain.swept_leftovers {
        DATA.to_owned()
    } else if chain.has_undecided {
        format!("{DATA}/{}", chain.attempt)
    } else {
        return Ok(0);
    };
    let unreadable = chain.survey.unreadable_slots();
    let slots = &chain.chain.slots;
    let Some(key) = slots.folder.descendant(&folder) else {
        return Ok(0);
    };
    let listed = slots.storage.door().list(&key, None).await?;
    let there: Vec<File> = listed
        .iter()
        .filter_map(|listed| File::at(&format!("{folder}/{}", listed.name)))
        .collect();
    let files = deletable(&there, chain.keeping(&unreadable));
    let deleted = delete_files(chain, &files).await?;
    chain.has_undecided = false;
    Ok(deleted)
}

/// Marks what is about to be deleted. The mark before it stays one round longer: a listing that
/// runs meanwhile sees one of the two.
async fn mark_deletions(chain: &mut ClaimedChain, below: SlotNumber) -> Result<()> {
    let slots = &chain.chain.slots;
    slots.mark_deletions(chain.attempt, below).await?;
    if chain.marks.last() != Some(&below) {
        chain.marks.push(below);
    }
    while chain.marks.len() > 2 {
        let oldest = chain.marks.remove(0);
        let key = slots.mark_key(chain.attempt, oldest);
        slots.storage.door().delete(&key).await?;
    }
    Ok(())
}

async fn delete_files(chain: &ClaimedChain, files: &[File]) -> Result<u64> {
    let folder = &chain.chain.slots.folder;
    let keys = files
        .iter()
        .filter_map(|file| folder.descendant(&file.path));
    delete_objects(chain, keys.collect()).await
}

async fn delete_objects(chain: &ClaimedChain, objects: Vec<Key>) -> Result<u64> {
    let door = chain.chain.slots.storage.door();
    let deletions: Vec<_> = objects.iter().map(|key| door.delete(key)).collect();
    stream::iter(deletions)
        .buffer_unordered(CONCURRENT_DELETIONS)
        .try_collect::<()>()
        .await?;
    Ok(count(objects.len()))
}

/// Whether a path below `data/` belongs to an attempt before this one.
fn is_older(name: &str, attempt: Attempt) -> bool {
    let of = name.split('/').next().and_then(|text| text.parse().ok());
    of.is_some_and(|of| Attempt(of) < attempt)
}

async fn remove_unfinished(chain: &ClaimedChain) -> Result<u64> {
    let slots = &chain.chain.slots;
    let door = slots.storage.door();
    let below_claim =
        |name: &str| SlotNumber::from_file_name(name).is_some_and(|slot| slot < chain.claim);
    let of_older = |name: &str| is_older(name, chain.attempt);
    let in_chain = door.remove_unfinished(&slots.chain(), &below_claim).await?;
    let data = slots.folder.child(DATA);
    Ok(in_chain + door.remove_unfinished(&data, &of_older).await?)
}

async fn remember_start(chain: &mut ClaimedChain) -> Result<()> {
    if !chain.survey.unreadable.is_empty() {
        return Ok(());
    }
    let start = listing_start(&chain.survey.records);
    if let Some(slot) = start.filter(|_| start != chain.remembered_start) {
        chain.chain.slots.remember_start(slot).await?;
        chain.remembered_start = start;
    }
    Ok(())
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
