//! How prepared transactions stand. Changes nothing.

use std::time::Duration;

use futures::future::join_all;
use millstream_connect::Standing;
use millstream_types::{Committable, Timestamp};

use super::KafkaCommitter;
use super::commit::lost;
use super::resolve::{Fate, fate};
use super::topics::Topics;
use crate::kafka::failure;
use crate::kafka::transaction::Prepared;

impl KafkaCommitter {
    /// Those that have used up half of their time at `now`, or more; or that begin later, so that
    /// clocks differ.
    pub(super) fn old_at(now: Timestamp, committables: &[Committable]) -> Vec<Committable> {
        let is_old = |one: &&Committable| {
            Prepared::read(one).map_or(true, |prepared| {
                let half = Duration::from_millis(prepared.timeout_ms / 2);
                prepared.age_at(now).is_none_or(|age| age >= half)
            })
        };
        committables.iter().filter(is_old).cloned().collect()
    }

    pub(super) async fn look_up_all(&self, committables: &[Committable]) -> Vec<Standing> {
        self.find_coordinators_of(committables).await;
        let topics = match self.topics_of(committables).await {
            Ok(topics) => topics,
            Err(failure) => return vec![Standing::Unknown(failure); committables.len()],
        };
        let look_ups = committables
            .iter()
            .map(|one| self.look_up_one(one, &topics));
        join_all(look_ups).await
    }

    async fn look_up_one(&self, committable: &Committable, topics: &Topics) -> Standing {
        let prepared = match Prepared::read(committable) {
            Ok(prepared) => prepared,
            Err(failure) => return Standing::Unknown(failure),
        };
        if let Err(failure) = self.check_cluster(&prepared).await {
            return Standing::Unknown(failure);
        }
        let transaction = prepared.transaction();
        let ask = || self.client.describe_transaction(&transaction.id);
        let described = match self.until_answered(ask).await {
            Ok(described) => described,
            Err(error) => return Standing::Unknown(self.client.failure(error)),
        };
        match fate(&transaction, described.as_ref(), self.is_young(&prepared)) {
            Fate::Committed => Standing::Committed,
            Fate::Open => match topics.gone(&prepared) {
                None => Standing::Open,
                Some(gone) => {
                    Standing::Aborted(lost(&self.spec.name, committable, &prepared, &gone))
                }
            },
            Fate::Gone(gone) if gone.is_aborted => {
                Standing::Aborted(lost(&self.spec.name, committable, &prepared, &gone))
            }
            Fate::Gone(gone) => {
                Standing::Unknown(lost(&self.spec.name, committable, &prepared, &gone))
            }
            Fate::Stale(reason) => Standing::Unknown(failure::broker(format!(
                "transaction `{}`: the broker that answers is behind: {reason}",
                transaction.id
            ))),
        }
    }
}
