//! The coordinator: it claims the chain, runs, takes checkpoints, stops.

use std::collections::BTreeSet;

use jiff::Timestamp;
use millstream_crds::stream_job::RestorePolicy;

use super::chain::{Chain, Kind, Place, Release, Saved, Slot};
use super::{Applied, World};
use crate::runtime_client::RuntimeState;

/// A coordinator's process.
#[derive(Debug, Clone)]
pub(in crate::controller) struct Process {
    pub(in crate::controller) applied: Applied,
    pub(in crate::controller) state: RuntimeState,
    pub(super) since: Timestamp,
    storage: String,
    claimed: bool,
    position: u64,
    /// What it knows to be committed ends here.
    committed: u64,
    excused: u64,
    from: Option<Place>,
    pub(super) restored: Option<String>,
    /// The newest checkpoint that it has completed, or that it has found when all was over.
    pub(super) shown: Option<(u64, Timestamp)>,
    pub(super) savepoint: Option<String>,
    stop: Option<Stop>,
}

/// A stop that was asked for.
#[derive(Debug, Clone)]
struct Stop {
    savepoint: Option<String>,
    step: Step,
}

/// Each may be the last thing that a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Checkpoint,
    Savepoint,
    Release,
}

/// How a claim comes out.
enum Begun {
    At { id: u64, restored: Option<String> },
    Failed,
}

impl World {
    pub(super) fn storage_of(&self, revision: &str) -> String {
        self.revisions[revision].storage().to_owned()
    }

    fn chain_of(&mut self, storage: &str) -> &mut Chain {
        self.chains.entry(storage.to_owned()).or_default()
    }

    pub(in crate::controller) fn folder(storage: &str) -> String {
        format!("{storage}/default/orders")
    }

    pub(super) fn path_of(storage: &str, id: u64) -> String {
        format!("{}/chain/{id}", Self::folder(storage))
    }

    pub(super) fn savepoint_path(storage: &str, name: &str) -> String {
        format!("{}/savepoints/{name}", Self::folder(storage))
    }

    /// The coordinator dies; a savepoint that it was taking will never be.
    pub(in crate::controller) fn kill(&mut self) {
        self.process = None;
        self.savepoints
            .retain(|_, saved| matches!(saved, Saved::Done(_)));
    }

    /// A person runs what is deployed for a while with its newest state, and stops it. In a storage
    /// that the job has moved away from it would be another job.
    pub(in crate::controller) fn run_by_hand(&mut self) {
        let Some(revision) = self.status.revision.clone() else {
            return;
        };
        let storage = self.storage_of(&revision);
        if self.process.is_some() || self.applied.is_some() {
            return;
        }
        let chain = self.chain_of(&storage);
        let Some((_, slot)) = chain.newest() else {
            return;
        };
        let (from, mut slot) = (slot.position, slot.clone());
        slot.position += 3;
        slot.kind = Kind::Work;
        let (to, excused) = (slot.position, slot.excused);
        chain.add(slot);
        chain.released = Some(Release {
            state: RuntimeState::Stopped,
            savepoint: None,
        });
        self.output.commit(from, to, excused);
    }

    /// The stop of a person, over REST.
    pub(in crate::controller) fn stop_by_hand(&mut self) {
        self.stop(None);
    }

    pub(super) fn stop(&mut self, savepoint: Option<&str>) {
        let Some(process) = self.process.as_mut().filter(|_| !self.silent) else {
            return;
        };
        if process.state.is_terminal() || process.stop.is_some() {
            return;
        }
        if let Some(name) = savepoint {
            if matches!(self.savepoints.get(name), Some(Saved::Done(_))) {
                // The name is taken.
                return;
            }
            if self.savepoints_fail {
                self.savepoints.insert(name.to_owned(), Saved::Failed);
                return;
            }
            self.savepoints.insert(name.to_owned(), Saved::Taking);
        }
        process.stop = Some(Stop {
            savepoint: savepoint.map(str::to_owned),
            step: Step::Checkpoint,
        });
        if process.claimed {
            process.state = RuntimeState::Stopping;
            process.since = self.now;
        }
    }

    /// A pod comes up.
    pub(super) fn start(&mut self) {
        let Some(applied) = self.applied.clone() else {
            return;
        };
        let storage = self.storage_of(&applied.revision);
        let no_image = self.image_of(&applied.revision).starts_with("no-image");
        let now = self.now;
        if no_image {
            return;
        }
        let chain = self.chain_of(&storage);
        if applied.deployment < chain.deployment {
            return;
        }
        let mut process = Process {
            state: RuntimeState::Restoring,
            since: now,
            storage,
            claimed: false,
            position: 0,
            committed: 0,
            excused: 0,
            from: None,
            restored: None,
            shown: None,
            savepoint: None,
            stop: None,
            applied,
        };
        let known = process.applied.deployment == chain.deployment;
        if let (true, Some(ended)) = (known, chain.released.clone()) {
            process.state = ended.state;
            process.savepoint = ended.savepoint;
            process.shown = chain.newest().map(|(id, _)| (id, now));
            process.claimed = true;
        }
        self.process = Some(process);
    }

    /// It claims the chain and finds out where to go on.
    fn claim(&mut self, mut process: Process) {
        let deployment = process.applied.deployment;
        let storage = process.storage.clone();
        let known = self.chain_of(&storage).deployment == deployment;
        if !known {
            self.starts.push(process.applied.clone());
        }
        let chain = self.chain_of(&storage);
        chain.deployment = deployment;
        chain.released = None;
        if known && self.finish_stop(&mut process) {
            self.process = Some(process);
            return;
        }
        match self.begin(&process) {
            Begun::Failed => process.state = RuntimeState::Failed,
            Begun::At { id, restored } => {
                let slot = &self.chain_of(&storage).slots[&id];
                process.position = slot.position;
                process.committed = slot.position;
                process.excused = slot.excused;
                process.from.clone_from(&slot.from);
                process.restored = restored;
                process.claimed = true;
                if process.stop.is_some() {
                    process.state = RuntimeState::Stopping;
                }
            }
        }
        process.since = self.now;
        self.process = Some(process);
    }

    /// Finishes a stop that the process before was cut off from, if its savepoint is written.
    fn finish_stop(&mut self, process: &mut Process) -> bool {
        let storage = process.storage.clone();
        let newest = self.chain_of(&storage).newest().map(|(id, _)| id);
        let of_newest = |saved: &Saved| match saved {
            Saved::Done(place) => place.storage == storage && Some(place.id) == newest,
            Saved::Taking | Saved::Failed => false,
        };
        let saved = self.savepoints.iter().find(|(_, saved)| of_newest(saved));
        let Some(name) = saved.filter(|_| !self.goes_on).map(|(name, _)| name) else {
            return false;
        };
        process.savepoint = Some(Self::savepoint_path(&storage, name));
        process.state = RuntimeState::Stopped;
        process.claimed = true;
        process.since = self.now;
        process.shown = newest.map(|id| (id, self.now));
        self.chain_of(&storage).released = Some(Release {
            state: process.state,
            savepoint: process.savepoint.clone(),
        });
        true
    }

    /// The checkpoint that the claim goes on from, which is in the chain by then.
    fn begin(&mut self, process: &Process) -> Begun {
        let Applied {
            restore,
            unless_advanced,
            expect_state,
            deployment,
            ..
        } = process.applied.clone();
        let judges = unless_advanced && !self.obeys;
        let storage = &process.storage;
        let chain = self.chain_of(storage);
        let newest = chain.newest().map(|(id, slot)| (id, slot.deployment));
        if expect_state && newest.is_none() {
            return Begun::Failed;
        }
        let resumes = newest.is_some_and(|(_, under)| under == deployment);
        let at_newest = newest.map(|(id, _)| Begun::At {
            id,
            restored: Some(Self::path_of(storage, id)),
        });
        match (restore.as_str(), at_newest) {
            ("latest", Some(newest)) => newest,
            (_, Some(newest)) if resumes => newest,
            ("latest", None) => self.begin_empty(storage, 0),
            ("fresh", _) => {
                let excused = self.excuse(&process.applied, 0);
                self.begin_empty(storage, excused)
            }
            (path, newest) => {
                let Some(place) = self.resolve(path, &process.applied) else {
                    return Begun::Failed;
                };
                let chain = self.chain_of(storage);
                match newest {
                    Some(newest) if judges && !chain.is_newest(storage, &place) => newest,
                    _ => {
                        let excused = self.excuse(&process.applied, place.position);
                        let excused = excused.max(place.excused);
                        let position = place.position;
                        let chain = self.chain_of(storage);
                        Begun::At {
                            id: chain.begin(position, excused, Some(place)),
                            restored: Some(path.to_owned()),
                        }
                    }
                }
            }
        }
    }

    fn begin_empty(&mut self, storage: &str, excused: u64) -> Begun {
        Begun::At {
            id: self.chain_of(storage).begin(0, excused, None),
            restored: None,
        }
    }

    /// What a path means: a savepoint, a slot of a chain, or the newest one of a chain, which must
    /// have come to its end if it is another job's or in another storage.
    fn resolve(&self, path: &str, applied: &Applied) -> Option<Place> {
        if let Some((_, name)) = path.split_once("/savepoints/") {
            return match self.savepoints.get(name) {
                Some(Saved::Done(place)) => Some(place.clone()),
                _ => None,
            };
        }
        let place = |storage: &str, id: u64, slot: &Slot| Place {
            storage: storage.to_owned(),
            id,
            position: slot.position,
            excused: slot.excused,
        };
        for (storage, chain) in &self.chains {
            let slots = format!("{}/chain/", Self::folder(storage));
            if let Some(slot) = path.strip_prefix(&slots) {
                let id = slot.parse().unwrap();
                return chain.slots.get(&id).map(|slot| place(storage, id, slot));
            }
            if path == Self::folder(storage) {
                let own = *storage == self.storage_of(&applied.revision);
                let (id, slot) = chain.newest().filter(|_| own || chain.released.is_some())?;
                return Some(place(storage, id, slot));
            }
        }
        assert!(path.starts_with("elsewhere/"), "{path} lies nowhere");
        Some(Place {
            storage: "elsewhere".to_owned(),
            id: 1,
            position: 0,
            excused: 0,
        })
    }

    /// Records below may be written again if a person has asked for this start, once for each
    /// time that it was asked for.
    fn excuse(&mut self, applied: &Applied, position: u64) -> u64 {
        let restore = &self.spec.restore;
        let by_policy = match applied.restore.as_str() {
            "fresh" => restore.policy == RestorePolicy::Fresh,
            path => restore.policy == RestorePolicy::From && self.source.as_deref() == Ok(path),
        };
        let stateless = self.stateless.get(&applied.revision);
        let stateless = stateless.filter(|_| applied.restore == "fresh").copied();
        let asked = by_policy
            && self
                .excused
                .insert(format!("restore {}", self.restore_asked))
            || stateless.is_some_and(|asked| self.excused.insert(format!("stateless {asked}")));
        if !asked {
            return 0;
        }
        let end = self.output.end();
        self.output.leave_out(position);
        end
    }

    /// The process moves on.
    pub(super) fn run(&mut self) {
        let Some(mut process) = self.process.take() else {
            return;
        };
        if !process.claimed && !process.state.is_terminal() {
            return self.claim(process);
        }
        if process.state == RuntimeState::Stopping && process.stop.is_none() {
            process.stop = Some(Stop {
                savepoint: None,
                step: Step::Checkpoint,
            });
        }
        let before = process.state;
        match process.stop.clone() {
            Some(stop) if !before.is_terminal() => self.stop_on(&mut process, stop),
            _ => self.step_on(&mut process),
        }
        if process.state != before {
            process.since = self.now;
        }
        if process.state.is_terminal() && !before.is_terminal() {
            let release = Release {
                state: process.state,
                savepoint: process.savepoint.clone(),
            };
            self.chain_of(&process.storage).released = Some(release);
        }
        self.process = Some(process);
    }

    fn step_on(&mut self, process: &mut Process) {
        let image = self.image_of(&process.applied.revision).to_owned();
        let hangs = image.starts_with("hangs");
        let next = match process.state {
            RuntimeState::Restoring if image == "fails" || image == "no-check" => {
                RuntimeState::Failed
            }
            RuntimeState::Restoring | RuntimeState::Restarting | RuntimeState::Running
                if self.unhealthy =>
            {
                RuntimeState::Restarting
            }
            RuntimeState::Restoring | RuntimeState::Restarting => RuntimeState::Running,
            RuntimeState::Running if self.bounded => RuntimeState::Completed,
            state => state,
        };
        if process.state == RuntimeState::Running && !hangs {
            process.position += 1;
            self.checkpoint(process);
        }
        process.state = next;
    }

    /// One step of a stop.
    fn stop_on(&mut self, process: &mut Process, stop: Stop) {
        let next = match stop.step {
            Step::Checkpoint => {
                self.checkpoint(process);
                Step::Savepoint
            }
            Step::Savepoint => {
                if let Some(name) = &stop.savepoint {
                    let chain = self.chain_of(&process.storage);
                    let id = chain.newest().map_or(0, |(id, _)| id);
                    let place = Place {
                        storage: process.storage.clone(),
                        id,
                        position: process.position,
                        excused: process.excused,
                    };
                    self.savepoints.insert(name.clone(), Saved::Done(place));
                }
                Step::Release
            }
            Step::Release => {
                let name = stop.savepoint.as_ref();
                process.savepoint = name.map(|name| Self::savepoint_path(&process.storage, name));
                process.state = RuntimeState::Stopped;
                Step::Release
            }
        };
        process.stop = Some(Stop { step: next, ..stop });
    }

    /// It is decided, and what it lists is committed.
    fn checkpoint(&mut self, process: &mut Process) {
        let slot = Slot {
            position: process.position,
            excused: process.excused,
            from: process.from.clone(),
            kind: Kind::Work,
            deployment: process.applied.deployment,
        };
        let id = self.chain_of(&process.storage).add(slot);
        process.shown = Some((id, self.now));
        self.output
            .commit(process.committed, process.position, process.excused);
        process.committed = process.position;
    }
}

/// What was asked for, so that each wish excuses one start.
pub(super) type Excused = BTreeSet<String>;
