//! Whether the topics that prepared transactions wrote to are still there. A broker commits a
//! transaction whose partitions are gone without a word about its records.

use std::collections::{BTreeMap, BTreeSet};

use millstream_connect::Result;
use millstream_types::Committable;
use tokio::time::Instant;

use super::KafkaCommitter;
use super::resolve::{Fate, Gone, fate};
use crate::kafka::client::{Answer, Backoff, Cluster, code};
use crate::kafka::transaction::Prepared;

/// Ids of topics by name, as a cluster has them now; `None` for those that do not exist.
#[derive(Debug, Default)]
pub(super) struct Topics {
    cluster: String,
    ids: BTreeMap<String, Option<String>>,
}

impl Topics {
    /// # Errors
    /// The first topic of which the cluster does not tell, and its answer.
    fn read(cluster: Cluster) -> std::result::Result<Self, (String, i16)> {
        let mut ids = BTreeMap::new();
        for (name, answer) in cluster.topics {
            let id = match answer {
                Ok(topic) => Some(topic.id),
                Err(code::UNKNOWN_TOPIC_OR_PARTITION) => None,
                Err(code) => return Err((name, code)),
            };
            ids.insert(name, id);
        }
        Ok(Self {
            cluster: cluster.id,
            ids,
        })
    }

    /// Why a transaction's records are gone, or part of them, if they are.
    pub(super) fn gone(&self, prepared: &Prepared) -> Option<Gone> {
        let before = prepared.topic_id.as_ref()?;
        let is_other_cluster = prepared.cluster.as_ref() != Some(&self.cluster);
        let reason = match self.ids.get(&prepared.topic)? {
            _ if is_other_cluster => return None,
            Some(now) if now == before => return None,
            Some(now) => format!(
                "the topic was deleted and made again after its first record was written: its id \
                 was {before} and is {now}"
            ),
            None => format!("the topic with id {before} was deleted"),
        };
        // Nothing of it is visible, and nothing will be: nobody commits it any more.
        Some(Gone {
            reason,
            is_aborted: true,
        })
    }
}

impl KafkaCommitter {
    /// Looks up the topics that these wrote to. Where one seems to be gone other brokers are asked,
    /// too, up to the connector's patience: one that is behind may not have heard of it.
    ///
    /// # Errors
    /// No broker answers, or a topic may not be seen.
    pub(super) async fn topics_of(&self, committables: &[Committable]) -> Result<Topics> {
        let read = committables
            .iter()
            .filter_map(|one| Prepared::read(one).ok());
        let all: Vec<Prepared> = read.filter(|one| one.topic_id.is_some()).collect();
        if all.is_empty() {
            return Ok(Topics::default());
        }
        let names: BTreeSet<String> = all.iter().map(|one| one.topic.clone()).collect();
        let names: Vec<String> = names.into_iter().collect();
        let deadline = Instant::now() + self.patience();
        let mut backoff = Backoff::default();
        loop {
            let cluster = self.client.cluster(&names).await;
            let cluster = cluster.map_err(|error| self.client.failure(error))?;
            let topics = Topics::read(cluster);
            let is_over = Instant::now() >= deadline;
            match topics {
                Ok(topics) if is_over || !all.iter().any(|one| topics.gone(one).is_some()) => {
                    return Ok(topics);
                }
                Err((topic, code)) if is_over => {
                    return Err(self.client.no_topic(&topic, code, true));
                }
                Ok(_) | Err(_) => {}
            }
            tokio::time::sleep(backoff.next()).await;
            self.client.ask_another_server();
        }
    }

    /// Whether a transaction was committed all the same, before its topic was deleted.
    pub(super) async fn was_committed(&self, prepared: &Prepared) -> Answer<bool> {
        let transaction = prepared.transaction();
        let ask = || self.client.describe_transaction(&transaction.id);
        let described = self.until_answered(ask).await?;
        let fate = fate(&transaction, described.as_ref(), self.is_young(prepared));
        Ok(matches!(fate, Fate::Committed))
    }
}

#[cfg(test)]
mod tests {
    use millstream_types::Timestamp;

    use super::*;

    fn prepared(topic_id: Option<&str>) -> Prepared {
        Prepared {
            transactional_id: "a-1-0-0".into(),
            producer_id: 1,
            epoch: 2,
            topic: "out".into(),
            topic_id: topic_id.map(str::to_owned),
            started_at: Timestamp(3),
            timeout_ms: 4,
            cluster: Some("one".into()),
        }
    }

    fn topics(cluster: &str, id: Option<&str>) -> Topics {
        Topics {
            cluster: cluster.to_owned(),
            ids: BTreeMap::from([("out".to_owned(), id.map(str::to_owned))]),
        }
    }

    #[test]
    fn another_topic_of_the_same_name_and_none_are_told_apart_from_the_same() {
        let reason =
            |topics: &Topics, topic_id| topics.gone(&prepared(topic_id)).map(|gone| gone.reason);
        let pinned = Some("a");
        assert_eq!(reason(&topics("one", Some("a")), pinned), None);
        let made_again = reason(&topics("one", Some("b")), pinned).unwrap();
        assert!(made_again.contains("was a and is b"), "{made_again}");
        let deleted = reason(&topics("one", None), pinned).unwrap();
        assert!(deleted.contains("was deleted"), "{deleted}");
    }

    #[test]
    fn another_cluster_and_a_transaction_without_the_id_are_not_judged() {
        assert!(topics("two", None).gone(&prepared(Some("a"))).is_none());
        assert!(topics("one", None).gone(&prepared(None)).is_none());
    }
}
