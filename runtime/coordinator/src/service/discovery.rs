//! Looking at sources while an attempt runs: for more splits, and at how far they are behind. One task
//! per source, as long as the attempt.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use millstream_connect::SplitEnumerator;
use millstream_types::{Attempt, OperatorUid, SplitState};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::job::Event;
use crate::service::prepare::Enumerators;

/// Between two looks at how far a source is behind.
const LAG_INTERVAL: Duration = Duration::from_secs(5);
/// Before the first: by then the tasks have said where they stand.
const FIRST_LAG: Duration = Duration::from_secs(2);

/// Where the splits of each source stand, as last reported.
pub(super) type Positions = Arc<BTreeMap<OperatorUid, Vec<SplitState>>>;

/// Starts looking with every enumerator.
pub(super) fn start(
    attempt: Attempt,
    enumerators: Enumerators,
    positions: &watch::Receiver<Positions>,
    events: &mpsc::Sender<Event>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for (uid, (enumerator, known)) in enumerators {
        let look = Look {
            attempt,
            uid,
            enumerator,
            known,
            positions: positions.clone(),
            has_lags: true,
        };
        tasks.spawn(look.run(events.clone()));
    }
    tasks
}

/// What looks at one source.
struct Look {
    attempt: Attempt,
    uid: OperatorUid,
    enumerator: Box<dyn SplitEnumerator>,
    known: BTreeSet<String>,
    positions: watch::Receiver<Positions>,
    /// Whether the source can say how far it is behind; it is asked once, at least.
    has_lags: bool,
}

impl Look {
    async fn run(mut self, events: mpsc::Sender<Event>) {
        let mut look_at = self.enumerator.interval().map(|wait| Instant::now() + wait);
        let mut measure_at = Instant::now() + FIRST_LAG;
        loop {
            let is_lag = self.has_lags && look_at.is_none_or(|at| measure_at < at);
            let next = if is_lag { Some(measure_at) } else { look_at };
            let Some(next) = next else { return };
            tokio::time::sleep_until(next).await;
            let event = if is_lag {
                let event = self.measure().await;
                measure_at = Instant::now() + LAG_INTERVAL;
                event
            } else {
                let event = self.discover().await;
                look_at = self.enumerator.interval().map(|wait| Instant::now() + wait);
                event
            };
            if let Some(event) = event
                && events.send(event).await.is_err()
            {
                return;
            }
        }
    }

    async fn discover(&mut self) -> Option<Event> {
        let (attempt, uid) = (self.attempt, self.uid.clone());
        match self.enumerator.discover(&self.known, false).await {
            Ok(discovery) if discovery.splits.is_empty() => None,
            Ok(discovery) => {
                let names = discovery.splits.iter().map(|split| &split.split);
                tracing::info!(source = %uid, splits = ?names.clone().collect::<Vec<_>>(), "splits discovered");
                self.known.extend(names.cloned());
                Some(Event::Discovered {
                    attempt,
                    uid,
                    discovery,
                })
            }
            Err(failure) if failure.kind.is_restartable() => {
                // What is read goes on being read; only news are missing until the next look.
                tracing::warn!(source = %uid, %failure, "splits cannot be discovered for now");
                None
            }
            Err(failure) => Some(Event::DiscoveryFailed { attempt, failure }),
        }
    }

    async fn measure(&mut self) -> Option<Event> {
        let positions = Arc::clone(&self.positions.borrow());
        let splits = positions.get(&self.uid).map_or(&[][..], Vec::as_slice);
        let lags = match self.enumerator.lags(splits).await {
            Ok(Some(lags)) => lags,
            Ok(None) => {
                self.has_lags = false;
                return None;
            }
            // It is not known: what was said before would be taken for news.
            Err(failure) => {
                tracing::debug!(source = %self.uid, %failure, "how far it is behind is not known");
                Vec::new()
            }
        };
        Some(Event::Measured {
            attempt: self.attempt,
            uid: self.uid.clone(),
            lags,
        })
    }
}
