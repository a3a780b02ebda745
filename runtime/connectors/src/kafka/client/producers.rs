//! Who holds back the end of a partition: the producers with an open transaction there.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_producers_response::PartitionResponse;
use kafka_protocol::messages::{
    DescribeProducersRequest, ListTransactionsRequest, ProducerId, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::cluster::Cluster;
use super::error::code;
use super::offsets::by_leader;
use super::{Answer, Client, PartitionId};

/// The producer with the oldest open transaction of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Its producer id.
    pub(crate) producer_id: i64,
    /// Its `transactional.id`; `None` if the user may not see it.
    pub(crate) transactional_id: Option<String>,
}

impl Client {
    /// Who holds back each of these partitions, as far as brokers say: the user needs READ on the
    /// topic to see a producer, and DESCRIBE on its transactional id to see that.
    ///
    /// # Errors
    /// No broker describes the topics, or a partition has no leader.
    pub(crate) async fn holders(
        &self,
        partitions: &BTreeSet<PartitionId>,
    ) -> Answer<BTreeMap<PartitionId, Holder>> {
        let topics: BTreeSet<String> = partitions.iter().map(|id| id.topic.clone()).collect();
        let topics: Vec<String> = topics.into_iter().collect();
        let cluster = self.cluster(&topics).await?;
        let mut holders = BTreeMap::new();
        for (endpoint, partitions) in by_leader(&cluster, partitions)? {
            let request = describe_producers(&partitions);
            let Ok(response) = self.at(&endpoint, &request, 0..=0).await else {
                // What others lead is told all the same.
                continue;
            };
            for topic in &response.topics {
                for partition in &topic.partitions {
                    let Some(producer_id) = oldest(partition) else {
                        continue;
                    };
                    let id = PartitionId {
                        topic: topic.name.to_string(),
                        partition: partition.partition_index,
                    };
                    let holder = Holder {
                        producer_id,
                        transactional_id: None,
                    };
                    holders.insert(id, holder);
                }
            }
        }
        let producers: BTreeSet<i64> = holders.values().map(|holder| holder.producer_id).collect();
        let names = self.transactional_ids(&cluster, &producers).await;
        for holder in holders.values_mut() {
            holder.transactional_id = names.get(&holder.producer_id).cloned();
        }
        Ok(holders)
    }

    /// Transactional ids by producer id. Each broker knows those that it coordinates; one that does
    /// not answer is left out.
    async fn transactional_ids(
        &self,
        cluster: &Cluster,
        producers: &BTreeSet<i64>,
    ) -> BTreeMap<i64, String> {
        if producers.is_empty() {
            return BTreeMap::new();
        }
        let filter = producers.iter().map(|id| ProducerId(*id));
        let request = ListTransactionsRequest::default().with_producer_id_filters(filter.collect());
        let brokers = cluster.brokers.values();
        let asked = brokers.map(|broker| self.at(broker, &request, 0..=0));
        let answers = join_all(asked).await.into_iter().flatten();
        let states = answers.flat_map(|answer| answer.transaction_states);
        states
            .map(|state| (*state.producer_id, state.transactional_id.to_string()))
            .collect()
    }
}

/// The producer whose open transaction begins first.
fn oldest(partition: &PartitionResponse) -> Option<i64> {
    if partition.error_code != code::NONE {
        return None;
    }
    let open = partition.active_producers.iter();
    let open = open.filter(|producer| producer.current_txn_start_offset >= 0);
    let oldest = open.min_by_key(|producer| producer.current_txn_start_offset)?;
    Some(*oldest.producer_id)
}

fn describe_producers(partitions: &[PartitionId]) -> DescribeProducersRequest {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for id in partitions {
        topics.entry(&id.topic).or_default().push(id.partition);
    }
    let topics = topics.into_iter().map(|(topic, partitions)| {
        TopicRequest::default()
            .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
            .with_partition_indexes(partitions)
    });
    DescribeProducersRequest::default().with_topics(topics.collect())
}
