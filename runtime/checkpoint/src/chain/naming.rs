//! What checkpoints and savepoints of the holder may name, and what is kept for them.

use millstream_types::FileRef;

use crate::chain::ClaimedChain;
use crate::chain::import::is_imported;
use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::protocol::CheckpointMark;
use crate::protocol::files::{File, Keeping, Newest, may_name};
use crate::savepoint::PendingSavepoints;
use crate::slot::SlotNumber;

impl ClaimedChain {
    /// Keeps all files from being deleted while one of these savepoints is pending.
    pub fn set_pending_savepoints(&mut self, pending: PendingSavepoints) {
        self.pending_savepoints = pending;
    }

    /// Size in bytes of the newest checkpoint: of its slot, its manifest where that lies beside, and
    /// all files that it names.
    pub fn newest_bytes(&self) -> u64 {
        self.newest_mark()
            .map_or(0, |mark| mark.bytes.saturating_add(mark.state_bytes))
    }

    fn newest_mark(&self) -> Option<&CheckpointMark> {
        self.survey.records.get(&self.newest()?.slot)?.checkpoint()
    }

    /// What decides which files may be deleted.
    pub(super) fn keeping<'a>(&'a self, unreadable: &'a [SlotNumber]) -> Keeping<'a> {
        Keeping {
            attempt: self.attempt,
            records: &self.survey.records,
            unreadable,
            is_savepoint_pending: self.pending_savepoints.is_some(),
        }
    }

    /// Checks that a checkpoint names only what it may.
    pub(super) fn check_files(&self, manifest: &Manifest) -> Result<()> {
        let newest = self.newest_mark().map(|mark| Newest {
            id: mark.id,
            files: &mark.files,
        });
        let may = |file: &FileRef| {
            let file = File::at(&file.path);
            file.is_some_and(|file| {
                // Nothing has run yet: paths of another chain may look like new ones of this.
                let is_elsewhere = manifest.beginning.is_some()
                    && file.attempt == self.attempt
                    && !is_imported(&file);
                !is_elsewhere && may_name(self.attempt, newest, &file)
            })
        };
        let Some(forbidden) = manifest.files().find(|file| !may(file)) else {
            return Ok(());
        };
        Err(Error::Rule(format!(
            "checkpoint {} of {} must not name the file `{}`: it may name what the newest checkpoint names and what attempt {} has written since",
            manifest.checkpoint,
            self.chain.path(),
            forbidden.path,
            self.attempt
        )))
    }

    /// The number of key groups that a manifest says: the one that the chain has said before, as long
    /// as there is keyed state.
    pub(super) fn key_groups(&self, manifest: &Manifest) -> Result<Option<u32>> {
        if manifest.beginning.is_some() || !manifest.has_state() {
            // The state of another chain, or none.
            return Ok(manifest.max_parallelism.filter(|_| manifest.has_state()));
        }
        match (self.max_parallelism, manifest.max_parallelism) {
            (Some(frozen), Some(asked)) if frozen != asked => Err(Error::MaxParallelism {
                state: self.chain.path(),
                frozen,
                asked,
            }),
            (frozen, asked) => Ok(asked.or(frozen)),
        }
    }
}
