//! Looking for more splits while an attempt runs: one task per source, as long as the attempt.

use std::collections::BTreeSet;

use millstream_operators::SplitEnumerator;
use millstream_types::{Attempt, OperatorUid};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::job::Event;
use crate::service::recovery::Enumerators;

/// Starts looking with every enumerator that has an interval.
pub(super) fn start(
    attempt: Attempt,
    enumerators: Enumerators,
    events: &mpsc::Sender<Event>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for (uid, (enumerator, known)) in enumerators {
        if enumerator.interval().is_some() {
            tasks.spawn(look(attempt, uid, enumerator, known, events.clone()));
        }
    }
    tasks
}

async fn look(
    attempt: Attempt,
    uid: OperatorUid,
    mut enumerator: Box<dyn SplitEnumerator>,
    mut known: BTreeSet<String>,
    events: mpsc::Sender<Event>,
) {
    while let Some(interval) = enumerator.interval() {
        tokio::time::sleep(interval).await;
        let event = match enumerator.discover(&known, false).await {
            Ok(discovery) => {
                if discovery.splits.is_empty() {
                    continue;
                }
                let names = discovery.splits.iter().map(|split| &split.split);
                tracing::info!(source = %uid, splits = ?names.clone().collect::<Vec<_>>(), "splits discovered");
                known.extend(names.cloned());
                Event::Discovered {
                    attempt,
                    uid: uid.clone(),
                    discovery,
                }
            }
            Err(failure) if failure.kind.is_restartable() => {
                // What is read goes on being read; only news are missing until the next look.
                tracing::warn!(source = %uid, %failure, "splits cannot be discovered for now");
                continue;
            }
            Err(failure) => Event::DiscoveryFailed { attempt, failure },
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
}
