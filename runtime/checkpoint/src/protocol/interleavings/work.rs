//! What a coordinator does that owns the chain, and what the tasks of its attempt do.

use std::sync::Arc;

use millstream_types::{Attempt, CheckpointId, CheckpointKind, Deployment, Timestamp};

use super::coordinator::Action;
use super::rules::Rules;
use super::world::{Event, World};
use crate::protocol::files::{File, Files, Keeping, named};
use crate::protocol::garbage::mark;
use crate::protocol::placing::{Intent, Next, Put, after_look, after_put, after_read};
use crate::protocol::{CheckpointMark, Mark, Record, Records};
use crate::release::ReleaseReason;
use crate::slot::{CommittedEntry, DecidedCheckpoint, SlotNumber};

/// A slot being written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Write {
    pub(super) slot: SlotNumber,
    pub(super) intent: Intent,
    pub(super) record: Record,
    pub(super) next: Next,
}

/// Something that is about to be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Going {
    Slot(SlotNumber),
    File(File),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Work {
    pub(super) attempt: Attempt,
    pub(super) deployment: Option<Deployment>,
    pub(super) known: Records,
    /// Slots that could not be read after the claim.
    pub(super) unreadable: Vec<SlotNumber>,
    pub(super) next: SlotNumber,
    pub(super) next_checkpoint: CheckpointId,
    pub(super) decided: Vec<DecidedCheckpoint>,
    /// How many actions are done.
    pub(super) done: usize,
    pub(super) write: Option<Write>,
    /// The write is left over from an action that was given up.
    pub(super) given_up: bool,
    /// Has still to say that it will delete.
    marking: bool,
    going: Vec<Going>,
    /// Files that its tasks have ever heard of. What a checkpoint names is chosen among them.
    remembered: Files,
    /// Starts from the files of another chain, and has not copied them yet.
    imports: bool,
    /// What a savepoint names that is not complete.
    savepoint: Option<Files>,
}

/// What becomes of the world and of the coordinator: nothing if it stops.
type Steps = Vec<(Event, Option<Work>, World)>;

impl Work {
    /// Begins behind a claim. `files` are all that its tasks can have heard of.
    pub(super) fn new(
        attempt: Attempt,
        (claim, next_checkpoint): (SlotNumber, CheckpointId),
        (known, unreadable): (Records, Vec<SlotNumber>),
        (files, imports): (Files, bool),
    ) -> Self {
        let own = known.get(&claim);
        Self {
            attempt,
            deployment: own.and_then(|claim| claim.deployment),
            known,
            unreadable,
            next: claim.next(),
            next_checkpoint,
            decided: Vec::new(),
            done: 0,
            write: None,
            given_up: false,
            marking: false,
            going: Vec::new(),
            remembered: files,
            imports,
            savepoint: None,
        }
    }

    /// What it does, in a few words.
    pub(super) fn brief(&self) -> String {
        let write = |write: &Write| format!("slot {} {:?}", write.slot, write.next);
        format!(
            "working as {} at {} ({} done, writes {:?}, deletes {:?})",
            self.attempt,
            self.next,
            self.done,
            self.write.as_ref().map(write),
            self.going
        )
    }

    pub(super) fn steps(&self, world: &World, plan: &'static [Action], rules: Rules) -> Steps {
        if let Some((going, rest)) = self.going.split_first() {
            return vec![self.delete(going, rest, world)];
        }
        if let Some(write) = &self.write {
            return self.write(write, world, rules);
        }
        let Some(action) = plan.get(self.done) else {
            return Vec::new();
        };
        let writes = self.begin(*action, rules);
        if !writes.is_empty() {
            let steps = writes.iter();
            return steps
                .flat_map(|write| self.write(write, world, rules))
                .collect();
        }
        let mut done = self.clone();
        done.done += 1;
        match action {
            Action::Upload => return self.upload(done, world, rules),
            Action::Savepoint => return self.trigger_savepoint(done, world),
            Action::WriteSavepoint => return done.write_savepoint(world),
            Action::Import if self.imports && rules != Rules::ForeignIsNamed => {
                return self.import(done, world);
            }
            Action::Collect => done.collect(world, rules),
            _ => {}
        }
        // What touches nothing outside needs no step of its own.
        done.steps(world, plan, rules)
    }

    /// The number of the next checkpoint. Numbers of given-up ones are not taken again by the same
    /// attempt.
    fn next_id(&self) -> CheckpointId {
        CheckpointId(self.next_checkpoint.0.max(self.done as u64 + 1))
    }

    fn new_file(&self) -> File {
        let (attempt, checkpoint) = (self.attempt, self.next_id());
        File {
            attempt,
            checkpoint,
            path: self.done.to_string(),
        }
    }

    fn newest(&self) -> Option<&CheckpointMark> {
        self.known.values().rev().find_map(Record::checkpoint)
    }

    /// A task uploads a file for the next checkpoint.
    fn upload(&self, mut done: Self, world: &World, rules: Rules) -> Steps {
        let file = self.new_file();
        let mut steps = Vec::new();
        if world.faults > 0 {
            let mut late = world.after_fault();
            late.late_files.insert(file.clone());
            let mut failed = done.clone();
            if rules == Rules::UnknownUploadsAreNamed {
                failed.remembered.insert(file.clone());
            }
            steps.push((Event::LostUpload, Some(failed), late));
        }
        let mut world = world.clone();
        world.files.insert(file.clone());
        done.remembered.insert(file);
        steps.push((Event::Uploaded, Some(done), world));
        steps
    }

    /// Its tasks copy the files of another chain, from which the job is started.
    fn import(&self, mut done: Self, world: &World) -> Steps {
        done.imports = false;
        let mut world = world.clone();
        if world.foreign.is_empty() {
            // They are gone: it does not start.
            return vec![(Event::Step, None, world)];
        }
        for file in &world.foreign {
            done.remembered.remove(file);
        }
        let copy = self.new_file();
        world.files.insert(copy.clone());
        done.remembered.insert(copy);
        vec![(Event::Imported, Some(done), world)]
    }

    /// A savepoint is triggered; its tasks upload what is new and acknowledge.
    fn trigger_savepoint(&self, mut done: Self, world: &World) -> Steps {
        let file = self.new_file();
        let newest = self.newest();
        let mut names = newest.map_or_else(Files::new, |mark| Files::clone(&mark.files));
        names.insert(file.clone());
        done.savepoint = Some(names);
        let mut world = world.clone();
        world.files.insert(file.clone());
        done.remembered.insert(file);
        vec![(Event::SavepointTriggered, Some(done), world)]
    }

    /// The savepoint is written: its files are copied.
    fn write_savepoint(mut self, world: &World) -> Steps {
        let mut world = world.clone();
        let names = self.savepoint.take().unwrap_or_default();
        let is_fenced = world.store.values().any(|slot| slot.attempt > self.attempt);
        if names.is_subset(&world.files) {
            return vec![(Event::SavepointWritten, Some(self), world)];
        }
        if !is_fenced {
            world.violate(format!("a savepoint lacks files of {names:?}"));
        }
        vec![(Event::Fenced, None, world)]
    }

    fn collect(&mut self, world: &World, rules: Rules) {
        let slots = rules.garbage(&self.known, world.retained);
        self.marking = !slots.is_empty() && rules != Rules::NothingIsMarked;
        let mut staying = self.known.clone();
        let gone: Vec<Record> = slots
            .iter()
            .filter_map(|slot| staying.remove(slot))
            .collect();
        let mut there = named(&gone);
        there.extend(world.files.iter().cloned());
        if rules == Rules::ForeignIsCollected {
            there.extend(world.foreign.iter().cloned());
        }
        let keeping = Keeping {
            attempt: self.attempt,
            records: &staying,
            unreadable: &self.unreadable,
            is_savepoint_pending: self.savepoint.is_some(),
        };
        let files = rules.deletable(&there, keeping);
        let slots = slots.into_iter().map(Going::Slot);
        let files = files.into_iter().map(Going::File);
        self.going = if rules == Rules::FilesGoFirst {
            files.chain(slots).collect()
        } else {
            slots.chain(files).collect()
        };
    }

    fn delete(&self, going: &Going, rest: &[Going], world: &World) -> (Event, Option<Self>, World) {
        let (mut world, mut work) = (world.clone(), self.clone());
        if self.marking {
            work.marking = false;
            let slots = self.going.iter().filter_map(|going| match going {
                Going::Slot(slot) => Some(*slot),
                Going::File(_) => None,
            });
            if let Some(mark) = mark(&slots.collect::<Vec<_>>()) {
                world.marks.retain(|attempt, _| *attempt >= work.attempt);
                world.marks.insert(work.attempt, mark);
            }
            return (Event::Step, Some(work), world);
        }
        work.going = rest.to_vec();
        let event = match going {
            Going::Slot(slot) => {
                world.store.remove(slot);
                work.known.remove(slot);
                Event::Collected
            }
            Going::File(file) => {
                world.delete_file(file);
                Event::FileCollected
            }
        };
        (event, Some(work), world)
    }

    fn write(&self, write: &Write, world: &World, rules: Rules) -> Steps {
        let mut steps = Vec::new();
        for (event, write, mut world) in write.steps(world, self.attempt, rules) {
            let mut work = self.clone();
            let step = match write.next {
                Next::Placed => {
                    let event = work.note(&write, &mut world);
                    (event, Some(work), world)
                }
                Next::Overtaken => (Event::Fenced, None, world),
                _ => {
                    work.write = Some(write);
                    (event, Some(work), world)
                }
            };
            steps.push(step);
        }
        // Once its outcome is unknown, a write may be given up, for the time being.
        if world.faults > 0 && !self.given_up && write.next == Next::Read {
            let mut work = self.clone();
            work.done += 1;
            work.given_up = rules != Rules::UnsettledIsReplaced;
            work.write = work.given_up.then(|| Write {
                next: Next::PutAgain,
                ..write.clone()
            });
            steps.push((Event::GaveUp, Some(work), world.after_fault()));
        }
        steps
    }

    /// The writes that an action may begin with; none if it writes no slot.
    fn begin(&self, action: Action, rules: Rules) -> Vec<Write> {
        let confirmed = match action {
            Action::Confirm => self.decided.last(),
            Action::ConfirmOlder => self.decided.first(),
            _ => None,
        };
        match action {
            Action::Decide => {
                let id = self.next_id();
                let names = self.choices(rules).into_iter();
                let mark = |names| checkpoint(id, self.attempt, names);
                names
                    .map(|names| self.writing(Intent::Checkpoint { id }, mark(names)))
                    .collect()
            }
            Action::Release => {
                let mark = Mark::Released(ReleaseReason::Stopped.into());
                vec![self.writing(Intent::Released, mark)]
            }
            Action::Confirm | Action::ConfirmOlder => {
                let entry = |checkpoint: &DecidedCheckpoint| CommittedEntry {
                    checkpoint: Some(*checkpoint),
                    given_up: None,
                    swept_through: Attempt(self.attempt.0 - 1),
                };
                let entry = confirmed.map(entry).into_iter();
                entry
                    .map(|entry| self.writing(Intent::Committed(entry), Mark::Committed(entry)))
                    .collect()
            }
            Action::Collect
            | Action::Upload
            | Action::Import
            | Action::Savepoint
            | Action::WriteSavepoint => Vec::new(),
        }
    }

    /// What the next checkpoint may name: all that the rules allow, or only what is new, as after a
    /// merge of all runs.
    fn choices(&self, rules: Rules) -> Vec<Files> {
        let newest = self.newest();
        let allowed = self.remembered.iter();
        let allowed: Files = allowed
            .filter(|file| rules.may_name(self.attempt, newest, file))
            .cloned()
            .collect();
        let is_new = |file: &&File| {
            file.attempt == self.attempt && newest.is_none_or(|newest| file.checkpoint > newest.id)
        };
        let new: Files = allowed.iter().filter(is_new).cloned().collect();
        if new == allowed {
            vec![allowed]
        } else {
            vec![allowed, new]
        }
    }

    fn writing(&self, intent: Intent, mark: Mark) -> Write {
        let checkpoints = self.known.iter().rev();
        let newest = checkpoints
            .filter(|(_, record)| record.checkpoint().is_some())
            .map(|(slot, _)| *slot)
            .next();
        Write {
            slot: self.next,
            intent,
            record: Record {
                attempt: self.attempt,
                newest,
                next_checkpoint: self.next_checkpoint,
                deployment: self.deployment,
                lineage: None,
                mark,
            },
            next: Next::PutAgain,
        }
    }

    /// Takes note of a write that is there.
    fn note(&mut self, write: &Write, world: &mut World) -> Event {
        self.write = None;
        self.known.insert(write.slot, write.record.clone());
        self.next = write.slot.next();
        let given_up = std::mem::take(&mut self.given_up);
        if !given_up {
            self.done += 1;
        }
        if let Some(mark) = write.record.checkpoint() {
            self.next_checkpoint = mark.id.next();
            self.decided.push(DecidedCheckpoint {
                id: mark.id,
                attempt: self.attempt,
                slot: write.slot,
            });
            world.believe_decided(write.slot, self.attempt, mark.id);
        }
        if given_up {
            Event::Settled
        } else {
            Event::Decided
        }
    }
}

fn checkpoint(id: CheckpointId, attempt: Attempt, names: Files) -> Mark {
    Mark::Checkpoint(CheckpointMark {
        id,
        kind: CheckpointKind::Checkpoint,
        decided_at: Timestamp(0),
        swept_through: Attempt(attempt.0 - 1),
        sha256: String::new(),
        bytes: 0,
        state_bytes: 0,
        files: Arc::new(names),
    })
}

impl Write {
    /// All ways in which the next request about this write can end.
    pub(super) fn steps(
        &self,
        world: &World,
        attempt: Attempt,
        rules: Rules,
    ) -> Vec<(Event, Self, World)> {
        let next = |next: Next| Self {
            next,
            ..self.clone()
        };
        match self.next {
            Next::PutAgain => world
                .put(self.slot, &self.record)
                .into_iter()
                .map(|(event, answer, world)| {
                    let believed = rules == Rules::UnknownIsBelieved && answer == Put::Unknown;
                    let after = if believed {
                        Next::Placed
                    } else {
                        after_put(answer)
                    };
                    (event, next(after), world)
                })
                .collect(),
            Next::Read => {
                let after = after_read(attempt, &self.intent, world.store.get(&self.slot));
                vec![(Event::Step, next(after), world.clone())]
            }
            Next::LookBehind => {
                let later = world.store.range(self.slot.next()..).next().is_some();
                vec![(Event::Step, next(after_look(later)), world.clone())]
            }
            Next::Placed | Next::Overtaken => Vec::new(),
        }
    }
}
