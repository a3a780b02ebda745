//! Sinks whose output is visible at once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use millstream_connect::{
    CommitOutcome, Lingering, Result, SinkCommitter, SinkConnector, SinkWriter, WriterContext,
};
use millstream_types::{Batch, CheckpointId, Committable, Failure, JobId, OperatorUid};

use crate::client::blocking;
use crate::context::SinkContext;
use crate::failure::refused;

/// A sink that may write a row again without a difference: by its key, with the newest one staying.
///
/// After a failure the rows since the last checkpoint are written again, in the same order within a
/// subtask; so a reader may see an older row of a key again for a while, unless the sink compares
/// versions.
pub trait Idempotent: Send + 'static {
    /// As [`TwoPhaseCommit::check`](crate::TwoPhaseCommit::check).
    ///
    /// # Errors
    /// The sink cannot work.
    fn check(&mut self) -> Result<()> {
        Ok(())
    }

    /// Writes rows. Returns how many bytes that were. It may keep them back until
    /// [`flush`](Self::flush).
    ///
    /// # Errors
    /// They cannot be written; the attempt fails.
    fn write(&mut self, batch: &Batch) -> Result<u64>;

    /// Everything that was written is durable when this returns. Called at every barrier.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn flush(&mut self) -> Result<()>;
}

/// A sink that writes rows as they come. After a failure those since the last checkpoint are there
/// twice.
pub trait AtLeastOnce: Send + 'static {
    /// As [`TwoPhaseCommit::check`](crate::TwoPhaseCommit::check).
    ///
    /// # Errors
    /// The sink cannot work.
    fn check(&mut self) -> Result<()> {
        Ok(())
    }

    /// As [`Idempotent::write`].
    ///
    /// # Errors
    /// They cannot be written; the attempt fails.
    fn write(&mut self, batch: &Batch) -> Result<u64>;

    /// As [`Idempotent::flush`].
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn flush(&mut self) -> Result<()>;
}

/// The connector of a job's sink. `open` makes one value for every writer and one for the coordinator,
/// which only checks; it should not wait for the other side.
pub fn idempotent<S, F>(open: F) -> Arc<dyn SinkConnector>
where
    S: Idempotent,
    F: Fn(&SinkContext) -> Result<S> + Send + Sync + 'static,
{
    connector(move |cx| Ok(Box::new(ByKey(open(cx)?))))
}

/// As [`idempotent`].
pub fn at_least_once<S, F>(open: F) -> Arc<dyn SinkConnector>
where
    S: AtLeastOnce,
    F: Fn(&SinkContext) -> Result<S> + Send + Sync + 'static,
{
    connector(move |cx| Ok(Box::new(AsTheyCome(open(cx)?))))
}

/// What the two have in common.
trait Plain: Send {
    fn check(&mut self) -> Result<()>;
    fn write(&mut self, batch: &Batch) -> Result<u64>;
    fn flush(&mut self) -> Result<()>;
}

struct ByKey<S>(S);

impl<S: Idempotent> Plain for ByKey<S> {
    fn check(&mut self) -> Result<()> {
        self.0.check()
    }

    fn write(&mut self, batch: &Batch) -> Result<u64> {
        self.0.write(batch)
    }

    fn flush(&mut self) -> Result<()> {
        self.0.flush()
    }
}

struct AsTheyCome<S>(S);

impl<S: AtLeastOnce> Plain for AsTheyCome<S> {
    fn check(&mut self) -> Result<()> {
        self.0.check()
    }

    fn write(&mut self, batch: &Batch) -> Result<u64> {
        self.0.write(batch)
    }

    fn flush(&mut self) -> Result<()> {
        self.0.flush()
    }
}

type Open = dyn Fn(&SinkContext) -> Result<Box<dyn Plain>> + Send + Sync;

struct Connector {
    open: Arc<Open>,
}

fn connector(
    open: impl Fn(&SinkContext) -> Result<Box<dyn Plain>> + Send + Sync + 'static,
) -> Arc<dyn SinkConnector> {
    Arc::new(Connector {
        open: Arc::new(open),
    })
}

impl SinkConnector for Connector {
    fn writer(&self, cx: WriterContext) -> Result<Box<dyn SinkWriter>> {
        let sink = (self.open)(&SinkContext {
            job: cx.job.clone(),
            sink: cx.uid.clone(),
            writer: Some(cx),
        })?;
        Ok(Box::new(Writer {
            sink,
            bytes: 0,
            waited: Duration::ZERO,
            failed: None,
        }))
    }

    fn committer(&self, job: &JobId, uid: &OperatorUid) -> Result<Option<Arc<dyn SinkCommitter>>> {
        let cx = SinkContext {
            job: job.clone(),
            sink: uid.clone(),
            writer: None,
        };
        Ok(Some(Arc::new(Checker {
            cx,
            open: Arc::clone(&self.open),
            sink: Arc::new(Mutex::new(None)),
        })))
    }
}

struct Writer {
    sink: Box<dyn Plain>,
    bytes: u64,
    waited: Duration,
    /// Sticky: what was written since the last barrier may not be there.
    failed: Option<Failure>,
}

impl Writer {
    fn once<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if let Some(failure) = &self.failed {
            return Err(failure.clone());
        }
        let started = Instant::now();
        let outcome = run(self);
        self.waited += started.elapsed();
        if let Err(failure) = &outcome {
            self.failed = Some(failure.clone());
        }
        outcome
    }
}

impl SinkWriter for Writer {
    fn write(&mut self, batch: &Batch) -> Result<u64> {
        if batch.rows() == 0 {
            return Ok(0);
        }
        self.once(|writer| {
            writer.bytes += writer.sink.write(batch)?;
            Ok(u64::try_from(batch.rows()).unwrap_or(u64::MAX))
        })
    }

    fn prepare(&mut self, _: CheckpointId) -> Result<Vec<Committable>> {
        self.once(|writer| writer.sink.flush())?;
        Ok(Vec::new())
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn waited(&self) -> Duration {
        self.waited
    }
}

/// The half that runs in the coordinator: there is nothing to commit, only to check.
struct Checker {
    cx: SinkContext,
    open: Arc<Open>,
    sink: Arc<Mutex<Option<Box<dyn Plain>>>>,
}

impl SinkCommitter for Checker {
    fn preflight(&self, _: bool) -> BoxFuture<'_, Result<()>> {
        let (cx, open, sink) = (
            self.cx.clone(),
            Arc::clone(&self.open),
            Arc::clone(&self.sink),
        );
        let check = move || {
            let mut held = sink.lock().unwrap_or_else(PoisonError::into_inner);
            let mut sink = match held.take() {
                Some(sink) => sink,
                None => open(&cx)?,
            };
            let checked = sink.check();
            *held = Some(sink);
            checked
        };
        blocking(check).boxed()
    }

    fn reservations(&self) -> BoxFuture<'_, Result<Vec<String>>> {
        std::future::ready(Ok(Vec::new())).boxed()
    }

    fn commit<'a>(&'a self, committables: &'a [Committable]) -> BoxFuture<'a, Vec<CommitOutcome>> {
        let refuse = |_: &Committable| {
            CommitOutcome::Refused(refused(format!(
                "the checkpoint has a prepared transaction of sink `{}`, which has no transactions as \
                 it is configured now: start the job once with the former sink, which commits it",
                self.cx.sink
            )))
        };
        std::future::ready(committables.iter().map(refuse).collect()).boxed()
    }

    fn abort_lingering<'a>(&'a self, _: &'a Lingering) -> BoxFuture<'a, Result<u64>> {
        std::future::ready(Ok(0)).boxed()
    }
}
