//! The store, what is on its way to it, and what must hold.

use std::collections::{BTreeMap, BTreeSet};

use millstream_types::{Attempt, CheckpointId, Deployment};

use super::Size;
use super::coordinator::{Action, Coordinator};
use super::rules::Rules;
use crate::protocol::files::{File, Files};
use crate::protocol::placing::Put;
use crate::protocol::{Mark, Record, Records};
use crate::slot::SlotNumber;

/// What a step was, for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Event {
    Step,
    Told,
    LostReply,
    LateWrite,
    LateCopy,
    RepeatedBelow,
    Arrived,
    GaveUp,
    Settled,
    Claimed,
    ClaimedAHole,
    MarkedHole,
    Decided,
    Fenced,
    FoundOver,
    Superseded,
    Collected,
    ClaimedUnreadable,
    Damaged,
    Repaired,
    Uploaded,
    LostUpload,
    LateUpload,
    Imported,
    ForeignDeleted,
    SavepointTriggered,
    SavepointWritten,
    FileCollected,
}

/// Everything that exists.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) store: Records,
    /// By attempt: below which slot it may have deleted what it wrote.
    pub(super) marks: BTreeMap<Attempt, SlotNumber>,
    /// Files of the chain that are there.
    pub(super) files: Files,
    /// Uploads that may still arrive.
    pub(super) late_files: Files,
    /// Files of another chain, from which the job is started first; its owner deletes them when
    /// they are not needed here any more.
    pub(super) foreign: Files,
    /// Slots that nobody can read for the time being.
    damaged: BTreeSet<SlotNumber>,
    /// Whether slots may be damaged.
    damages: bool,
    /// Checkpoints that stay when others are collected.
    pub(super) retained: u32,
    /// Writes that may still arrive.
    late: BTreeSet<(SlotNumber, Record)>,
    coordinators: Vec<Coordinator>,
    /// Whether it matters which coordinator comes first.
    differ: bool,
    pub(super) faults: u8,
    /// Claims that each coordinator tries before it gives up.
    pub(super) bids: u8,
    /// Whether coordinators are told what the newest state is believed to be.
    pub(super) beliefs: bool,
    history: History,
    pub(super) violation: Option<String>,
}

impl Record {
    fn brief(&self) -> String {
        let what = match &self.mark {
            Mark::Claim(claim) => format!("claim {}", claim.nonce),
            Mark::Checkpoint(mark) if mark.files.is_empty() => format!("checkpoint {}", mark.id),
            Mark::Checkpoint(mark) => format!("checkpoint {} of {:?}", mark.id, mark.files),
            Mark::Committed(_) => "committed".to_owned(),
            Mark::Released(_) => "released".to_owned(),
        };
        format!("{}:{what}", self.attempt)
    }
}

/// What coordinators believe, and what was true when they came to believe it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct History {
    /// What each slot held first.
    first: BTreeMap<SlotNumber, (Attempt, Option<CheckpointId>)>,
    /// Checkpoints whose coordinator believes that they are decided.
    decided: BTreeMap<SlotNumber, Attempt>,
    /// Claims whose coordinator believes that it owns the chain.
    owned: BTreeMap<SlotNumber, Owner>,
    /// Deployments that have ended, and where they said so.
    ended: BTreeMap<SlotNumber, Deployment>,
    /// Slots that were garbage, and that a late copy of a write has brought back: nobody restores
    /// from them.
    ghosts: BTreeSet<SlotNumber>,
}

/// What a coordinator believes that owns the chain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Owner {
    pub(super) attempt: Attempt,
    /// The checkpoint that it restores from, unless its start is to be applied.
    pub(super) restored: Option<SlotNumber>,
    /// What it was started for.
    pub(super) deployment: Option<Deployment>,
    /// Whether it applies what its deployment is to start from.
    pub(super) begins: bool,
}

impl World {
    /// As many coordinators as deployments, each started for its own.
    pub(super) fn new(of: Size) -> Self {
        let deployments = of.deployments;
        let named = deployments.iter().enumerate();
        Self {
            store: Records::new(),
            marks: BTreeMap::new(),
            files: Files::new(),
            late_files: Files::new(),
            foreign: of.imports.then(foreign_file).into_iter().collect(),
            damaged: BTreeSet::new(),
            damages: of.damages,
            retained: of.retained,
            late: BTreeSet::new(),
            coordinators: named
                .map(|(name, deployment)| Coordinator::new(name, deployment.map(Deployment)))
                .collect(),
            differ: deployments
                .iter()
                .any(|one| Some(one) != deployments.first()),
            faults: of.faults,
            bids: of.bids,
            beliefs: of.beliefs,
            history: History::default(),
            violation: None,
        }
    }

    /// What there is, on one line.
    pub(super) fn brief(&self) -> String {
        let slots = |records: &mut dyn Iterator<Item = (SlotNumber, &Record)>| {
            let texts: Vec<String> = records
                .map(|(slot, record)| format!("{slot}={}", record.brief()))
                .collect();
            texts.join(" ")
        };
        let store = slots(&mut self.store.iter().map(|(slot, record)| (*slot, record)));
        let late = slots(&mut self.late.iter().map(|(slot, record)| (*slot, record)));
        let coordinators: Vec<String> = self.coordinators.iter().map(Coordinator::brief).collect();
        let files: Vec<&str> = self.files.iter().map(|file| file.path.as_str()).collect();
        format!(
            "[{store}], late [{late}], files {files:?}, {}",
            coordinators.join(", ")
        )
    }

    /// All worlds that one step makes of this one.
    pub(super) fn steps(&self, plan: &'static [Action], rules: Rules) -> Vec<(Event, Self)> {
        let mut next = Vec::new();
        for (slot, record) in &self.late {
            let mut world = self.clone();
            world.late.remove(&(*slot, record.clone()));
            world.write(*slot, record);
            next.push((Event::Arrived, world));
        }
        self.file_steps(&mut next);
        // Coordinators are alike: they come in the order of their names.
        let outside = |coordinator: &&Coordinator| !coordinator.is_new();
        let come = if self.differ {
            self.coordinators.len()
        } else {
            self.coordinators.iter().take_while(outside).count() + 1
        };
        for (index, coordinator) in self.coordinators.iter().enumerate().take(come) {
            for (event, moved, mut world) in coordinator.steps(self, plan, rules) {
                if let Some(place) = world.coordinators.get_mut(index) {
                    *place = moved;
                }
                next.push((event, world));
            }
        }
        next
    }

    /// What happens to files and slots without a coordinator.
    fn file_steps(&self, next: &mut Vec<(Event, Self)>) {
        for file in &self.late_files {
            let mut world = self.clone();
            world.late_files.remove(file);
            world.files.insert(file.clone());
            next.push((Event::LateUpload, world));
        }
        if !self.foreign.is_empty() && !self.history.decided.is_empty() {
            let mut world = self.clone();
            world.foreign.clear();
            world.check_files();
            next.push((Event::ForeignDeleted, world));
        }
        for slot in &self.damaged {
            let mut world = self.clone();
            world.damaged.remove(slot);
            next.push((Event::Repaired, world));
        }
        if self.damages && self.faults > 0 {
            let checkpoints = self.store.iter().rev();
            let older = checkpoints
                .filter(|(_, record)| record.checkpoint().is_some())
                .skip(1);
            for (slot, _) in older.filter(|(slot, _)| !self.damaged.contains(slot)) {
                let mut world = self.after_fault();
                world.damaged.insert(*slot);
                next.push((Event::Damaged, world));
            }
        }
    }

    /// A coordinator deletes a file.
    pub(super) fn delete_file(&mut self, file: &File) {
        self.files.remove(file);
        if self.foreign.remove(file) {
            self.violate(format!("{file:?} of another chain is deleted"));
        }
        self.check_files();
    }

    /// Every checkpoint that anybody may start from has all its files.
    fn check_files(&mut self) {
        let checkpoints = self.store.iter().filter_map(|(slot, record)| {
            let mark = record.checkpoint()?;
            (!self.history.ghosts.contains(slot)).then_some((*slot, mark))
        });
        let lacking = checkpoints
            .flat_map(|(slot, mark)| mark.files.iter().map(move |file| (slot, file)))
            .find(|(_, file)| !self.files.contains(file) && !self.foreign.contains(file));
        if let Some((slot, file)) = lacking {
            self.violate(format!("slot {slot} names {file:?}, which is not there"));
        }
    }

    /// This world with one fault less to come.
    pub(super) fn after_fault(&self) -> Self {
        Self {
            faults: self.faults - 1,
            ..self.clone()
        }
    }

    /// All ways in which a conditional write can be answered.
    pub(super) fn put(&self, slot: SlotNumber, record: &Record) -> Vec<(Event, Put, Self)> {
        let mut plain = self.clone();
        let written = plain.write(slot, record);
        let answer = if written { Put::Created } else { Put::Taken };
        let mut answers = vec![(Event::Step, answer, plain.clone())];
        if self.faults == 0 {
            return answers;
        }
        answers.push((Event::LostReply, Put::Unknown, plain.after_fault()));
        if written {
            let mut late = self.after_fault();
            late.late.insert((slot, record.clone()));
            answers.push((Event::LateWrite, Put::Unknown, late));
            let mut copy = plain.after_fault();
            copy.late.insert((slot, record.clone()));
            answers.push((Event::LateCopy, Put::Created, copy));
            answers.push((Event::RepeatedBelow, Put::Taken, plain.after_fault()));
        }
        answers
    }

    fn write(&mut self, slot: SlotNumber, record: &Record) -> bool {
        if self.store.contains_key(&slot) {
            return false;
        }
        let content = (record.attempt, record.checkpoint().map(|mark| mark.id));
        if self.history.first.contains_key(&slot) && record.checkpoint().is_some() {
            self.history.ghosts.insert(slot);
        }
        self.history.first.entry(slot).or_insert(content);
        let holder = self.store.values().find_map(|claim| {
            let made = claim.claim().filter(|_| claim.attempt == record.attempt);
            made?.holder.deployment
        });
        if let (Mark::Released(_), Some(deployment)) = (&record.mark, holder) {
            self.history.ended.insert(slot, deployment);
        }
        self.store.insert(slot, record.clone());
        self.check_files();
        true
    }

    /// A listing that began when `began` was there and ends now: everything that was there all
    /// the time, and any part of what has come meanwhile.
    /// With each the slots that could not be read.
    pub(super) fn listings(&self, began: &BTreeSet<SlotNumber>) -> Vec<(Records, Vec<SlotNumber>)> {
        let (old, new): (Records, Records) = self
            .store
            .iter()
            .map(|(slot, record)| (*slot, record.clone()))
            .partition(|(slot, _)| began.contains(slot));
        let mut listings = vec![old];
        for (slot, record) in new {
            let with: Vec<Records> = listings
                .iter()
                .map(|listing| {
                    let mut listing = listing.clone();
                    listing.insert(slot, record.clone());
                    listing
                })
                .collect();
            listings.extend(with);
        }
        let read = |mut records: Records| {
            let there = self
                .damaged
                .iter()
                .filter(|slot| records.contains_key(slot));
            let unreadable: Vec<SlotNumber> = there.copied().collect();
            records.retain(|slot, _| !self.damaged.contains(slot));
            (records, unreadable)
        };
        listings.into_iter().map(read).collect()
    }

    /// A coordinator believes that its checkpoint is decided.
    pub(super) fn believe_decided(&mut self, slot: SlotNumber, attempt: Attempt, id: CheckpointId) {
        if self.history.first.get(&slot) != Some(&(attempt, Some(id))) {
            self.violate(format!(
                "attempt {attempt} believes that checkpoint {id} is decided in slot {slot}, which held something else before"
            ));
        }
        self.history.decided.insert(slot, attempt);
        self.check();
    }

    /// A coordinator believes that it owns the chain.
    pub(super) fn believe_owned(&mut self, slot: SlotNumber, owner: Owner) {
        self.history.owned.insert(slot, owner);
        self.check();
        self.check_deployments();
    }

    /// A coordinator believes that its deployment has ended by itself.
    pub(super) fn believe_over(&mut self, deployment: Option<Deployment>) {
        if !self
            .history
            .ended
            .values()
            .any(|ended| Some(*ended) == deployment)
        {
            self.violate(format!(
                "deployment {deployment:?} counts as ended and has not"
            ));
        }
    }

    /// A deployment neither comes back after a newer one or after its own end, nor starts anew
    /// after it has decided something, nor goes on before.
    fn check_deployments(&mut self) {
        let history = self.history.clone();
        for (claim, owner) in &history.owned {
            let Some(deployment) = owner.deployment else {
                continue;
            };
            let mut earlier = history.owned.range(..claim).map(|(_, owner)| owner);
            if earlier.any(|earlier| earlier.deployment > Some(deployment)) {
                self.violate(format!(
                    "deployment {deployment} takes over in slot {claim} from a newer one"
                ));
            }
            let mut ended = history.ended.range(..claim);
            if ended.any(|(_, ended)| *ended == deployment) {
                self.violate(format!(
                    "deployment {deployment} runs on in slot {claim} after it has ended"
                ));
            }
            // What a person decides on a deployment's chain counts for it: if it began again, it
            // would go back behind that.
            let claims = self.store.iter().filter_map(|(slot, record)| {
                let claim = record.claim()?;
                (claim.holder.deployment == Some(deployment)).then_some(*slot)
            });
            let since = claims.min();
            let own: Vec<Attempt> = history
                .owned
                .range(..claim)
                .filter(|(slot, earlier)| match earlier.deployment {
                    Some(one) => one == deployment,
                    None => since.is_some_and(|since| since < **slot),
                })
                .map(|(_, earlier)| earlier.attempt)
                .collect();
            let mut first = history.first.range(..claim);
            let has_begun = first.any(|(_, (attempt, id))| id.is_some() && own.contains(attempt));
            if has_begun == owner.begins {
                self.violate(format!(
                    "deployment {deployment} in slot {claim}: it has decided {has_begun}, and begins {}",
                    owner.begins
                ));
            }
        }
    }

    fn check(&mut self) {
        let history = self.history.clone();
        for (claim, owner) in &history.owned {
            let (restored, owner) = (&owner.restored, owner.attempt);
            for (slot, attempt) in &history.decided {
                if slot < claim && *restored < Some(*slot) {
                    self.violate(format!(
                        "attempt {owner} restores from {restored:?} and forgets the decision in slot {slot}"
                    ));
                }
                if slot > claim && *attempt < owner {
                    self.violate(format!(
                        "attempt {attempt} decides slot {slot} although attempt {owner} has claimed slot {claim}"
                    ));
                }
            }
            for (later, successor) in history.owned.range(claim.next()..) {
                let (restored_later, successor) = (&successor.restored, successor.attempt);
                if successor <= owner || restored_later < restored {
                    self.violate(format!(
                        "attempt {successor} in slot {later} goes back behind attempt {owner} in slot {claim}"
                    ));
                }
            }
        }
    }

    pub(super) fn violate(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }
}

/// The file of another chain that the job is started from.
fn foreign_file() -> File {
    File {
        attempt: Attempt(0),
        checkpoint: CheckpointId(0),
        path: "foreign".to_owned(),
    }
}
