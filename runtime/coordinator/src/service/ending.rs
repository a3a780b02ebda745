//! The end of an attempt, and of the job: what is left open is undone, and the chain released.

use std::time::Duration;

use millstream_checkpoint::disposal::{JobDisposal, delete_job};
use millstream_checkpoint::{ChainState, Release};
use millstream_types::{ErrorCode, ErrorKind, Failure};

use crate::job::Event;
use crate::opened::Opened;
use crate::service::alive::{Doubt, ensure_alive};
use crate::service::keeper::{Keeper, add, open, within};
use crate::service::revisit::Revisit;
use crate::service::sweep::{Sweep, sweep};

/// How often the release of the chain is tried.
const RELEASE_TRIES: u32 = 5;
/// How long ending what an attempt has left open may take, beside what the next attempt does about
/// it.
const SWEEP_PATIENCE: Duration = Duration::from_secs(10);

impl Keeper {
    /// Everything older is resolved: from now on tasks of this attempt may open transactions, and
    /// so may tasks of older ones that do not know that it is over.
    pub(super) fn resolved(&mut self, state: &ChainState) {
        self.own = self.claimed.as_ref().map(|claimed| Opened {
            attempt: claimed.attempt(),
            parallelism: self.job.slots(),
            sinks: self.families.clone(),
        });
        let older = self.own.as_ref().map(|own| Revisit::new(state, own));
        self.revisit = older.unwrap_or_default();
    }

    /// Undoes what this attempt has left open, which has ended. What a checkpoint lists of which it
    /// does not know whether it is decided is left for the next attempt, which does.
    pub(super) async fn sweep_own(&self) {
        let own: Vec<Opened> = self.own.iter().cloned().collect();
        self.sweep_open(&own).await;
    }

    /// Looks again at what older attempts have left open, if it is time.
    pub(super) async fn revisit(&mut self, anew: bool) {
        if anew {
            self.revisit.again();
        }
        if let Some(opened) = self.revisit.next(self.clock.monotonic()) {
            self.sweep_open(&opened).await;
        }
    }

    async fn sweep_open(&self, opened: &[Opened]) {
        if opened.is_empty() {
            return;
        }
        let mut keep = self.decided.clone();
        add(&mut keep, &self.undecided);
        let swept = sweep(
            self,
            Sweep {
                opened,
                keep: &keep,
                only_open: true,
            },
        );
        // Nothing is lost; somebody comes by again, or the transactions' timeout ends them.
        match within(SWEEP_PATIENCE, swept).await {
            Some(Ok(())) => {}
            Some(Err(failure)) => tracing::warn!(%failure, "open transactions are not aborted"),
            None => tracing::warn!("open transactions are not aborted yet: no answer in time"),
        }
    }

    async fn sweep_before_end(&self) {
        let mut opened = self.revisit.opened().to_vec();
        opened.extend(self.own.clone());
        self.sweep_open(&opened).await;
    }

    pub(super) async fn release(&mut self, mut release: Release) -> Event {
        release.time = Some(self.clock.now());
        if self.claimed.is_none() {
            // Given up before anything was claimed.
            return Event::Released(Ok(()));
        }
        self.sweep_before_end().await;
        fail::fail_point!("coordinator::before-release", |_| std::process::abort());
        let result = self.try_release(&release).await;
        fail::fail_point!("coordinator::after-release", |_| std::process::abort());
        Event::Released(result)
    }

    async fn try_release(&mut self, release: &Release) -> Result<(), Failure> {
        if self.held()?.is_unsettled() {
            // The release would finish that write first, and decide what it lists.
            let checkpoint = self.held()?.next_checkpoint();
            match ensure_alive(self, checkpoint, &self.undecided).await {
                Ok(()) => {}
                Err(Doubt::Dead(failure) | Doubt::Unclear(failure)) => return Err(failure),
            }
        }
        let mut pause = Duration::from_millis(500);
        let mut tries = 1;
        loop {
            let claimed = self.claimed()?;
            match claimed
                .release(release.clone())
                .await
                .map_err(Failure::from)
            {
                Err(failure) if failure.kind == ErrorKind::Retryable && tries < RELEASE_TRIES => {
                    tracing::warn!(%failure, "the chain is not released yet");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                    tries += 1;
                }
                result => return result,
            }
        }
    }

    /// Deletes the job's checkpoints, and releases its chain and its names with that. Savepoints
    /// stay. If that cannot be done the chain is released and the checkpoints stay.
    pub(super) async fn discard(&mut self, release: Release) -> Event {
        self.sweep_before_end().await;
        match self.try_discard().await {
            Ok(()) => Event::Released(Ok(())),
            Err(failure) => match self.release(release).await {
                Event::Released(Ok(())) => Event::Released(Err(failure)),
                event => event,
            },
        }
    }

    async fn try_discard(&mut self) -> Result<(), Failure> {
        let storage = open(self).await?;
        let state = self.chain(&storage).observe().await?;
        if !state.newest_is_committed() {
            return Err(Failure::new(
                ErrorCode::StoreUnavailable,
                ErrorKind::Retryable,
                "the checkpoints are kept, because output of the newest one is not known to be \
                 committed: start the job again, so that it is, and cancel it then; or delete it \
                 with `millstream checkpoints delete --job`",
            ));
        }
        let disposal = JobDisposal {
            job: self.job.id.clone(),
            holder: self.holder(),
            keep_savepoints: true,
        };
        let deleted = delete_job(&storage, &disposal, self.clock.now()).await?;
        tracing::info!(
            ?deleted,
            "the job is cancelled and its checkpoints are deleted"
        );
        Ok(())
    }
}
