//! Deleting what nothing needs any more, for the holder of the chain.

use std::collections::BTreeSet;

use millstream_types::Attempt;

use crate::chain::ClaimedChain;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::protocol::garbage::{garbage, listing_start, mark};
use crate::release::ReleaseReason;
use crate::slot::SlotNumber;

/// What a collection has deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Slots of the chain.
    pub slots: u64,
    /// Objects that deleted checkpoints named, or that no checkpoint ever named.
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
    let mut collected = Collected::default();
    let slots = garbage(&chain.survey.records, retained);
    if !slots.is_empty() {
        if let Some(below) = mark(&slots) {
            mark_deletions(chain, below).await?;
        }
        if listing_start(&chain.survey.records).is_none() {
            // A wipe takes all slots that say which attempts are swept, so from here on every
            // claim matters again, also those before the remembered start.
            chain.chain.slots.forget_start().await?;
            chain.remembered_start = None;
        }
        // Objects only after the slots that name them.
        let objects = named_only_by(chain, &slots);
        chain.chain.slots.delete(&slots).await?;
        for slot in &slots {
            chain.survey.records.remove(slot);
        }
        collected.slots = count(slots.len());
        collected.objects += delete_objects(chain, objects).await?;
        remember_start(chain).await?;
    }
    if !chain.swept_leftovers {
        collected.objects += delete_orphans(chain).await?;
        let marks = chain.chain.slots.marks_before(chain.attempt).await?;
        delete_objects(chain, marks).await?;
        collected.unfinished = remove_unfinished(chain).await?;
        chain.swept_leftovers = true;
    }
    Ok(collected)
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

/// Keys of the objects that these slots name and no other slot does.
fn named_only_by(chain: &ClaimedChain, going: &[SlotNumber]) -> Vec<Key> {
    let going: BTreeSet<SlotNumber> = going.iter().copied().collect();
    let named = |goes: bool| {
        let going = &going;
        chain
            .survey
            .records
            .iter()
            .filter(move |(slot, _)| going.contains(slot) == goes)
            .filter_map(|(_, record)| record.checkpoint()?.object.as_ref())
            .map(|object| object.path.as_str())
    };
    let kept: BTreeSet<&str> = named(false).collect();
    named(true)
        .filter(|path| !kept.contains(path))
        .filter_map(|path| chain.chain.slots.folder.descendant(path))
        .collect()
}

async fn delete_objects(chain: &ClaimedChain, objects: Vec<Key>) -> Result<u64> {
    let door = chain.chain.slots.storage.door();
    for key in &objects {
        door.delete(key).await?;
    }
    Ok(count(objects.len()))
}

/// Objects of older attempts that no checkpoint names: those attempts can decide nothing any
/// more. Own objects may belong to a checkpoint that is not decided yet.
async fn delete_orphans(chain: &ClaimedChain) -> Result<u64> {
    if !chain.survey.unreadable.is_empty() {
        // A slot that cannot be read may name any object.
        return Ok(0);
    }
    let slots = &chain.chain.slots;
    let data = slots.folder.child("data");
    let named: BTreeSet<Key> = chain
        .survey
        .records
        .values()
        .filter_map(|record| record.checkpoint()?.object.as_ref())
        .filter_map(|object| slots.folder.descendant(&object.path))
        .collect();
    let orphans: Vec<Key> = slots
        .storage
        .door()
        .list(&data, None)
        .await?
        .into_iter()
        .filter(|listed| is_older(&listed.name, chain.attempt) && !named.contains(&listed.key))
        .map(|listed| listed.key)
        .collect();
    delete_objects(chain, orphans).await
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
    let data = slots.folder.child("data");
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
