//! The life of every savepoint that this coordinator is asked for, and of the stop that may take
//! one. Pure.
//!
//! ```text
//! requested → pending → uncommitted → writing → complete
//!     └──────────┴───────────┴───────────┴────→ failed
//! ```
//!
//! - A savepoint names no transactions, so that it can be restored at any time and anywhere: it is
//!   written once a later checkpoint has committed what it would have listed.
//! - The savepoint of a stop is the checkpoint that the job stops with: it is written once that is
//!   decided and committed. If it fails while its barriers flow, the job goes on and the stop is
//!   over; if the attempt ends later, the next one stops with what is committed then.
//! - Every request is answered: complete, or failed with the reason.

use std::collections::BTreeMap;

use millstream_checkpoint::Manifest;
use millstream_types::api::{CheckpointState, SavepointStatus};
use millstream_types::{CheckpointId, Committable, ErrorCode, ErrorKind, Failure};

use crate::job::checkpoints::trigger::{Stop, Wanted};
use crate::job::event::Written;

/// Savepoints since this coordinator began, and the stop that is wanted.
#[derive(Debug, Default)]
pub(crate) struct Savepoints {
    by_name: BTreeMap<String, Savepoint>,
    /// A stop that was asked for and is not done.
    stop: Option<Stop>,
    /// Requests so far.
    requests: u64,
}

#[derive(Debug)]
struct Savepoint {
    status: SavepointStatus,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Waits for its turn: it is the request of this number.
    Requested(u64),
    /// Its barriers flow.
    Pending,
    /// Every task has acknowledged it, and what it lists is not committed yet. Or it is that of a
    /// stop, whose checkpoint is being decided and committed; then it needs no manifest of its own.
    Uncommitted(Option<Box<Manifest>>),
    /// It is being written.
    Writing,
    /// Complete or failed.
    Done,
}

/// A savepoint that is to be written.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) name: String,
    pub(crate) manifest: Manifest,
}

/// What an answer about the savepoint of a stop means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// It is no stop's.
    Request,
    /// The job stops with it.
    Stop,
}

impl Savepoints {
    /// A new request. Whoever asks has seen to it that the name is not in use.
    pub(crate) fn request(&mut self, name: &str) -> SavepointStatus {
        self.requests += 1;
        let status = SavepointStatus {
            name: name.to_owned(),
            state: CheckpointState::InProgress,
            id: None,
            path: None,
            size_bytes: None,
            failure: None,
        };
        let savepoint = Savepoint {
            status: status.clone(),
            stage: Stage::Requested(self.requests),
        };
        self.by_name.insert(name.to_owned(), savepoint);
        status
    }

    /// The job is to stop. Whoever asks has seen to it that it is not stopping already.
    pub(crate) fn request_stop(&mut self, stop: Stop) {
        if let Some(name) = &stop.savepoint {
            self.request(name);
        }
        self.stop = Some(stop);
    }

    /// What is asked for and not triggered.
    pub(crate) fn wanted(&self) -> Wanted<'_> {
        let requests = self.by_name.iter();
        let waiting = requests.filter_map(|(name, savepoint)| match savepoint.stage {
            Stage::Requested(request) if !self.is_of_stop(name) => Some((request, name.as_str())),
            _ => None,
        });
        Wanted {
            stop: self.stop.as_ref(),
            savepoint: waiting.min().map(|(_, name)| name),
        }
    }

    /// The stop that was asked for and is not done.
    pub(crate) const fn stop(&self) -> Option<&Stop> {
        self.stop.as_ref()
    }

    pub(crate) fn status(&self, name: &str) -> Option<&SavepointStatus> {
        self.by_name.get(name).map(|savepoint| &savepoint.status)
    }

    /// The savepoint that keeps its name from being asked for anew.
    pub(crate) fn in_use(&self, name: &str) -> Option<&SavepointStatus> {
        let status = self.status(name);
        status.filter(|status| status.state != CheckpointState::Failed)
    }

    pub(crate) fn statuses(&self) -> BTreeMap<String, SavepointStatus> {
        let savepoints = self.by_name.iter();
        savepoints
            .map(|(name, savepoint)| (name.clone(), savepoint.status.clone()))
            .collect()
    }

    /// The barriers of a savepoint flow, under this number.
    pub(crate) fn triggered(&mut self, name: &str, id: CheckpointId) {
        self.go_on(name, Stage::Pending, Some(id));
    }

    /// As [`triggered`](Self::triggered), for the checkpoint that the job stops with.
    pub(crate) fn stop_triggered(&mut self, id: CheckpointId) {
        if let Some(name) = self.name_of_stop() {
            self.triggered(&name, id);
        }
    }

    /// Every task has acknowledged a savepoint. It is to be written at once if it lists no
    /// transactions; a later checkpoint must commit them otherwise.
    pub(crate) fn acknowledged(&mut self, name: &str, manifest: Manifest) -> Option<Write> {
        if listed(&manifest).next().is_some() {
            self.go_on(name, Stage::Uncommitted(Some(Box::new(manifest))), None);
            return None;
        }
        self.go_on(name, Stage::Writing, None);
        Some(Write {
            name: name.to_owned(),
            manifest,
        })
    }

    /// Every task has acknowledged the checkpoint that the job stops with.
    pub(crate) fn stop_acknowledged(&mut self) {
        if let Some(name) = self.name_of_stop() {
            self.go_on(&name, Stage::Uncommitted(None), None);
        }
    }

    /// A checkpoint is committed: what is to be written now, and what of it lists transactions that
    /// the checkpoint should have listed and has not.
    pub(crate) fn committed(&mut self, by: &Manifest) -> (Vec<Write>, Vec<Lost>) {
        let (mut writes, mut lost) = (Vec::new(), Vec::new());
        for (name, savepoint) in &mut self.by_name {
            let Stage::Uncommitted(manifest) = &mut savepoint.stage else {
                continue;
            };
            let older = manifest.take_if(|manifest| manifest.checkpoint < by.checkpoint);
            let Some(manifest) = older else {
                continue;
            };
            let missing = listed(&manifest).find(|wanted| !lists(by, wanted));
            if let Some(missing) = missing {
                let failure = not_committed(manifest.checkpoint, by.checkpoint, missing);
                savepoint.fail(failure.clone());
                lost.push(Lost {
                    checkpoint: manifest.checkpoint,
                    failure,
                });
            } else {
                savepoint.stage = Stage::Writing;
                writes.push(Write {
                    name: name.clone(),
                    manifest: *manifest,
                });
            }
        }
        writes.sort_by_key(|write| write.manifest.checkpoint);
        (writes, lost)
    }

    /// The job stops with this checkpoint, which is committed: the savepoint to write, if one is
    /// wanted.
    pub(crate) fn stop_committed(&mut self, manifest: &Manifest) -> Option<Write> {
        let name = self.name_of_stop()?;
        self.go_on(&name, Stage::Writing, Some(manifest.checkpoint));
        Some(Write {
            name,
            manifest: manifest.clone(),
        })
    }

    /// A savepoint is written.
    pub(crate) fn complete(&mut self, name: &str, written: &Written) -> Of {
        if let Some(savepoint) = self.by_name.get_mut(name) {
            let status = &mut savepoint.status;
            status.state = CheckpointState::Completed;
            status.path = Some(written.path.clone());
            status.size_bytes = Some(written.bytes);
            savepoint.stage = Stage::Done;
        }
        self.of(name)
    }

    /// A savepoint is not taken. If the job was to stop with it, it goes on: whoever has asked
    /// decides what to do next.
    pub(crate) fn fail(&mut self, name: &str, failure: Failure) -> Of {
        if let Some(savepoint) = self.by_name.get_mut(name) {
            savepoint.fail(failure);
        }
        let of = self.of(name);
        if of == Of::Stop {
            self.stop = None;
        }
        of
    }

    /// The checkpoint that the job was to stop with has failed. Without a savepoint it is tried
    /// again.
    pub(crate) fn stop_failed(&mut self, failure: Failure) {
        if let Some(name) = self.name_of_stop() {
            self.fail(&name, failure);
        }
    }

    /// The attempt has ended: what its tasks have not acknowledged or not committed is lost. A stop
    /// whose checkpoint may be decided stays wanted. Numbers of what is lost.
    pub(crate) fn attempt_ended(&mut self, failure: &Failure) -> Vec<CheckpointId> {
        let mut lost = Vec::new();
        let mut names = Vec::new();
        for (name, savepoint) in &mut self.by_name {
            match savepoint.stage {
                Stage::Pending | Stage::Uncommitted(Some(_)) => {
                    lost.extend(savepoint.status.id);
                    names.push(name.clone());
                }
                Stage::Uncommitted(None) => savepoint.stage = Stage::Requested(self.requests),
                Stage::Requested(_) | Stage::Writing | Stage::Done => {}
            }
        }
        for name in names {
            self.fail(&name, failure.clone());
        }
        lost
    }

    /// The job is over, or as good as: nobody takes what is not being written yet. The stop that
    /// the job is over because of stays known until its savepoint is written.
    pub(crate) fn close(&mut self, failure: &Failure, is_stop: bool) {
        if !is_stop {
            self.stop = None;
        }
        for savepoint in self.by_name.values_mut() {
            if !matches!(savepoint.stage, Stage::Writing | Stage::Done) {
                savepoint.fail(failure.clone());
            }
        }
    }

    /// Whether every request is answered.
    #[cfg(test)]
    pub(crate) fn all_answered(&self) -> bool {
        let is_done = |savepoint: &Savepoint| matches!(savepoint.stage, Stage::Done);
        self.by_name.values().all(is_done)
    }

    /// Savepoints that belong to an attempt: whoever deletes files leaves theirs.
    #[cfg(test)]
    pub(crate) fn of_attempt(&self) -> Vec<&str> {
        let belongs = |savepoint: &Savepoint| {
            matches!(savepoint.stage, Stage::Pending | Stage::Uncommitted(_))
        };
        let savepoints = self.by_name.iter();
        let belonging = savepoints.filter(|(_, savepoint)| belongs(savepoint));
        belonging.map(|(name, _)| name.as_str()).collect()
    }

    fn go_on(&mut self, name: &str, stage: Stage, id: Option<CheckpointId>) {
        if let Some(savepoint) = self.by_name.get_mut(name) {
            savepoint.stage = stage;
            savepoint.status.id = id.or(savepoint.status.id);
        }
    }

    fn name_of_stop(&self) -> Option<String> {
        self.stop.as_ref()?.savepoint.clone()
    }

    fn is_of_stop(&self, name: &str) -> bool {
        let stop = self.stop.as_ref();
        stop.and_then(|stop| stop.savepoint.as_deref()) == Some(name)
    }

    fn of(&self, name: &str) -> Of {
        if self.is_of_stop(name) {
            Of::Stop
        } else {
            Of::Request
        }
    }
}

/// A savepoint whose transactions nobody has committed.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) checkpoint: CheckpointId,
    pub(crate) failure: Failure,
}

impl Savepoint {
    fn fail(&mut self, failure: Failure) {
        self.status.state = CheckpointState::Failed;
        self.status.failure = Some(failure.into());
        self.stage = Stage::Done;
    }
}

fn listed(manifest: &Manifest) -> impl Iterator<Item = &Committable> {
    manifest
        .operators
        .values()
        .flat_map(|subtasks| subtasks.values())
        .flat_map(|snapshot| &snapshot.committables)
}

fn lists(manifest: &Manifest, wanted: &Committable) -> bool {
    listed(manifest).any(|committable| committable == wanted)
}

fn not_committed(
    savepoint: CheckpointId,
    checkpoint: CheckpointId,
    missing: &Committable,
) -> Failure {
    Failure::new(
        ErrorCode::InconsistentSnapshot,
        ErrorKind::Internal,
        format!(
            "savepoint {savepoint} lists a transaction of checkpoint {} that the later checkpoint \
             {checkpoint} does not list: {}",
            missing.checkpoint, missing.transaction.0
        ),
    )
}
