//! The part of the sink that runs in the coordinator.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use millstream_connect::{CommitOutcome, Lingering, Result, SinkCommitter, Standing};
use millstream_types::{Attempt, Committable, ErrorCode, ErrorKind, Failure, JobId};
use serde::{Deserialize, Serialize};

use super::commit::{commit, remove_if_there, standing};
use super::failure::{access, is_plain_name, not_there, not_understood, unusable};
use super::layout::{Layout, Prepared, attempt_of, before_committed};

/// Commits and cleans up.
#[derive(Debug, Clone)]
pub(super) struct Committer {
    sink: String,
    layout: Layout,
    owner: Owner,
}

/// Whose a hidden directory is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Owner {
    namespace: String,
    job: String,
}

impl Committer {
    pub(super) fn new(sink: &str, layout: Layout, job: &JobId) -> Self {
        Self {
            sink: sink.to_owned(),
            layout,
            owner: Owner {
                namespace: job.namespace.clone(),
                job: job.name.clone(),
            },
        }
    }

    /// Does file work on a thread that may block.
    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> BoxFuture<'static, Result<T>> {
        let this = self.clone();
        let sink = self.sink.clone();
        let task = tokio::task::spawn_blocking(move || work(&this));
        let panicked = move |error| {
            let message = format!("`{sink}`: work on its files has panicked: {error}");
            Failure::new(ErrorCode::FileAccess, ErrorKind::Internal, message)
        };
        task.map(|done| done.map_err(panicked)).boxed()
    }

    fn check(&self, has_run: bool) -> Result<()> {
        let hidden = self.layout.hidden();
        if has_run && !hidden.is_dir() {
            return Err(not_there(&self.sink, hidden));
        }
        fs::create_dir_all(hidden).map_err(|error| access(&self.sink, "create", hidden, &error))?;
        self.check_owner()?;
        let probe = hidden.join("probe");
        let probed = remove_if_there(&probe)
            .and_then(|()| write_new(&probe, b"probe"))
            .and_then(|()| remove_if_there(&probe))
            .and_then(|()| self.sync_directories());
        probed.map_err(|error| access(&self.sink, "write into", hidden, &error))
    }

    /// As [`check`](Self::check), and changes nothing: of what is not there yet the nearest
    /// directory that is there is looked at.
    fn look(&self, has_run: bool) -> Result<()> {
        let hidden = self.layout.hidden();
        if hidden.is_dir() {
            return match self.layout.owner().try_exists() {
                Ok(true) => self.read_owner(),
                Ok(false) => Ok(()),
                Err(error) => Err(access(&self.sink, "read", &self.layout.owner(), &error)),
            };
        }
        if has_run {
            return Err(not_there(&self.sink, hidden));
        }
        let named = |path: &&Path| !path.as_os_str().is_empty();
        let above = hidden.ancestors().filter(named);
        let there = above.map(fs::metadata).find_map(std::result::Result::ok);
        if there.is_some_and(|there| !there.is_dir()) {
            let reason = "a part of the path is a file: choose another directory";
            return Err(unusable(&self.sink, self.layout.directory(), reason));
        }
        Ok(())
    }

    /// Makes the directories themselves durable, which may have been created just now.
    fn sync_directories(&self) -> io::Result<()> {
        let above = |path: &Path| path.ancestors().nth(1).map(Path::to_owned);
        let parents = [above(self.layout.hidden()), above(self.layout.directory())];
        sync(self.layout.directory())?;
        for parent in parents.into_iter().flatten() {
            // The parent of a relative path of one part is the working directory.
            let here = parent.as_os_str().is_empty();
            match sync(if here { Path::new(".") } else { &parent }) {
                // Whoever may not read it has not just created anything in it.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                synced => synced?,
            }
        }
        Ok(())
    }

    /// Takes the hidden directory for this job, or sees whose it is.
    fn check_owner(&self) -> Result<()> {
        let path = self.layout.owner();
        let failed = |error: io::Error| access(&self.sink, "claim", &path, &error);
        let text = serde_json::to_string(&self.owner).map_err(|error| failed(error.into()))?;
        // Complete from the moment it is there: written under another name first.
        let new = self
            .layout
            .hidden()
            .join(format!("owner-{}", std::process::id()));
        let claimed = remove_if_there(&new)
            .and_then(|()| write_new(&new, text.as_bytes()))
            .and_then(|()| match fs::hard_link(&new, &path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                _ => remove_if_there(&new),
            });
        claimed.map_err(failed)?;
        self.read_owner()
    }

    /// Sees whose the hidden directory is.
    fn read_owner(&self) -> Result<()> {
        let path = self.layout.owner();
        let failed = |error: io::Error| access(&self.sink, "read", &path, &error);
        let found = fs::read_to_string(&path).map_err(failed)?;
        match serde_json::from_str::<Owner>(&found) {
            Ok(owner) if owner == self.owner => Ok(()),
            Ok(Owner { namespace, job }) => {
                let reason = format!(
                    "the directory takes the output of sink `{}` of job {namespace}/{job}: use \
                     another directory, or remove this file if that job is gone for good",
                    self.sink
                );
                Err(unusable(&self.sink, &path, &reason))
            }
            Err(_) => Err(unusable(
                &self.sink,
                &path,
                "it does not name a job: remove it",
            )),
        }
    }

    fn commit_all(&self, committables: &[Committable]) -> Vec<CommitOutcome> {
        let outcomes = committables.iter().map(|one| self.commit_one(one));
        let mut outcomes: Vec<CommitOutcome> = outcomes.collect();
        for directory in [self.layout.directory(), self.layout.hidden()] {
            let Err(error) = sync(directory) else {
                continue;
            };
            let failure = access(&self.sink, "sync", directory, &error);
            for outcome in &mut outcomes {
                if *outcome == CommitOutcome::Committed {
                    *outcome = CommitOutcome::Retry(failure.clone());
                }
            }
        }
        outcomes
    }

    fn commit_one(&self, committable: &Committable) -> CommitOutcome {
        match self.prepared(committable) {
            Ok(prepared) => commit(&self.sink, &self.layout, &prepared),
            Err(failure) => CommitOutcome::Retry(failure),
        }
    }

    fn look_up_all(&self, committables: &[Committable]) -> Vec<Standing> {
        let look_up = |one| match self.prepared(one) {
            Ok(prepared) => standing(&self.sink, &self.layout, &prepared),
            Err(failure) => Standing::Unknown(failure),
        };
        committables.iter().map(look_up).collect()
    }

    /// Reads a committable, whose names must not lead out of the sink's directories.
    fn prepared(&self, committable: &Committable) -> Result<Prepared> {
        let text = &committable.transaction.0;
        serde_json::from_str(text)
            .ok()
            .filter(|prepared: &Prepared| {
                attempt_of(&prepared.temporary).is_some()
                    && is_plain_name(&prepared.visible)
                    && prepared.visible.starts_with("part-")
            })
            .ok_or_else(|| not_understood(&self.sink, text))
    }

    fn abort(&self, lingering: &Lingering) -> Result<u64> {
        let Some(newest) = lingering.attempts.iter().map(|(attempt, _)| *attempt).max() else {
            return Ok(0);
        };
        let kept = lingering
            .keep
            .iter()
            .map(|kept| Ok(self.prepared(kept)?.temporary));
        let kept: BTreeSet<String> = kept.collect::<Result<_>>()?;
        let hidden = self.layout.hidden();
        let removed = remove_older(hidden, newest, &kept);
        removed.map_err(|error| access(&self.sink, "clean up", hidden, &error))
    }
}

/// Removes files of this attempt and of older ones, except those that are kept. Returns how many of
/// them were not committed.
fn remove_older(hidden: &Path, newest: Attempt, kept: &BTreeSet<String>) -> io::Result<u64> {
    let entries = match fs::read_dir(hidden) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut removed = 0;
    for entry in entries {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else {
            continue;
        };
        let committed = before_committed(name);
        let attempt = attempt_of(name).map(|attempt| (attempt, name.to_owned()));
        let Some((attempt, before)) = attempt.or_else(|| committed.clone()) else {
            continue;
        };
        if attempt <= newest && !kept.contains(&before) {
            remove_if_there(&hidden.join(name))?;
            removed += u64::from(committed.is_none());
        }
    }
    Ok(removed)
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

impl SinkCommitter for Committer {
    fn preflight(&self, has_run: bool) -> BoxFuture<'_, Result<()>> {
        let done = self.blocking(move |this| this.check(has_run));
        done.map(|done| done?).boxed()
    }

    fn inspect(&self, has_run: bool) -> BoxFuture<'_, Result<()>> {
        let done = self.blocking(move |this| this.look(has_run));
        done.map(|done| done?).boxed()
    }

    fn reservations(&self) -> BoxFuture<'_, Result<Vec<String>>> {
        // The owner file reserves the directory, also against jobs with another storage.
        std::future::ready(Ok(Vec::new())).boxed()
    }

    fn commit<'a>(&'a self, committables: &'a [Committable]) -> BoxFuture<'a, Vec<CommitOutcome>> {
        let owned = committables.to_vec();
        let done = self.blocking(move |this| this.commit_all(&owned));
        async move {
            match done.await {
                Ok(outcomes) => outcomes,
                Err(failure) => {
                    let retry = |_| CommitOutcome::Retry(failure.clone());
                    committables.iter().map(retry).collect()
                }
            }
        }
        .boxed()
    }

    fn look_up<'a>(&'a self, committables: &'a [Committable]) -> BoxFuture<'a, Vec<Standing>> {
        let owned = committables.to_vec();
        let done = self.blocking(move |this| this.look_up_all(&owned));
        async move {
            match done.await {
                Ok(standings) => standings,
                Err(failure) => {
                    let unknown = |_| Standing::Unknown(failure.clone());
                    committables.iter().map(unknown).collect()
                }
            }
        }
        .boxed()
    }

    fn abort_lingering<'a>(&'a self, lingering: &'a Lingering) -> BoxFuture<'a, Result<u64>> {
        let lingering = lingering.clone();
        let done = self.blocking(move |this| this.abort(&lingering));
        done.map(|done| done?).boxed()
    }
}
