//! Where partitions begin and end, and where a consumer group stands.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{
    BrokerId, FindCoordinatorRequest, GroupId, ListOffsetsRequest, OffsetFetchRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::cluster::Cluster;
use super::error::{ClientError, code};
use super::{Answer, Client};
use crate::kafka::access::Endpoint;

const COORDINATOR_OF_GROUP: i8 = 0;
const READ_UNCOMMITTED: i8 = 0;
const READ_COMMITTED: i8 = 1;
const NO_REPLICA: BrokerId = BrokerId(-1);
/// Offset that the broker gives where there is none.
const NO_OFFSET: i64 = -1;

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PartitionId {
    /// The topic.
    pub(crate) topic: String,
    /// Its number.
    pub(crate) partition: i32,
}

/// Which offset is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OffsetAt {
    /// The oldest record.
    Earliest,
    /// The end of what a `read_committed` reader may see (the last stable offset).
    End,
    /// The end of everything that replicas have, open transactions included.
    HighWatermark,
    /// The first record with this timestamp or a later one, milliseconds since 1970.
    Timestamp(i64),
}

impl OffsetAt {
    const fn isolation(self) -> i8 {
        match self {
            Self::HighWatermark => READ_UNCOMMITTED,
            Self::Earliest | Self::End | Self::Timestamp(_) => READ_COMMITTED,
        }
    }

    const fn code(self) -> i64 {
        match self {
            Self::Earliest => -2,
            Self::End | Self::HighWatermark => -1,
            Self::Timestamp(millis) => millis,
        }
    }
}

impl Client {
    /// The offset that each partition has for `at`; `None` where no record is that late.
    /// Keeps asking while leaders move, until `connect_timeout`.
    ///
    /// # Errors
    /// A leader does not answer, or refuses.
    pub(crate) async fn offsets(
        &self,
        partitions: &BTreeSet<PartitionId>,
        at: OffsetAt,
    ) -> Answer<BTreeMap<PartitionId, Option<i64>>> {
        let deadline = Instant::now() + self.access().connect_timeout;
        let mut backoff = Backoff::default();
        let mut found = BTreeMap::new();
        loop {
            let missing: BTreeSet<PartitionId> = partitions
                .iter()
                .filter(|partition| !found.contains_key(*partition))
                .cloned()
                .collect();
            if missing.is_empty() {
                return Ok(found);
            }
            let round = self.offsets_once(&missing, at, &mut found).await;
            let wait = backoff.next();
            match round {
                Ok(()) => {}
                Err(error) if error.is_transient() && Instant::now() + wait < deadline => {
                    tokio::time::sleep(wait).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn offsets_once(
        &self,
        missing: &BTreeSet<PartitionId>,
        at: OffsetAt,
        found: &mut BTreeMap<PartitionId, Option<i64>>,
    ) -> Answer<()> {
        let topics: BTreeSet<String> = missing.iter().map(|id| id.topic.clone()).collect();
        let topics: Vec<String> = topics.into_iter().collect();
        let cluster = self.cluster(&topics).await?;
        let mut first_error = None;
        for (endpoint, partitions) in by_leader(&cluster, missing)? {
            let request = list_offsets(&partitions, at);
            match self.at(&endpoint, &request, 2..=7).await {
                Ok(response) => {
                    for topic in &response.topics {
                        for partition in &topic.partitions {
                            if partition.error_code != code::NONE {
                                first_error = Some(refused(&endpoint, partition.error_code));
                                continue;
                            }
                            let id = PartitionId {
                                topic: topic.name.to_string(),
                                partition: partition.partition_index,
                            };
                            let offset =
                                (partition.offset != NO_OFFSET).then_some(partition.offset);
                            found.insert(id, offset);
                        }
                    }
                }
                Err(error) => first_error = Some(error),
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    /// Where the group `group` stands; partitions without an offset are left out.
    ///
    /// # Errors
    /// The group's coordinator does not answer, or refuses.
    pub(crate) async fn committed_offsets(
        &self,
        group: &str,
        partitions: &BTreeSet<PartitionId>,
    ) -> Answer<BTreeMap<PartitionId, i64>> {
        let deadline = Instant::now() + self.access().connect_timeout;
        let mut backoff = Backoff::default();
        loop {
            let answer = self.committed_offsets_once(group, partitions).await;
            let wait = backoff.next();
            match answer {
                Err(error) if error.is_transient() && Instant::now() + wait < deadline => {
                    tokio::time::sleep(wait).await;
                }
                answer => return answer,
            }
        }
    }

    async fn committed_offsets_once(
        &self,
        group: &str,
        partitions: &BTreeSet<PartitionId>,
    ) -> Answer<BTreeMap<PartitionId, i64>> {
        let endpoint = self.group_coordinator(group).await?;
        let request = offset_fetch(group, partitions);
        // Version 8 brought several groups per request; version 10 names topics by id.
        let response = self.at(&endpoint, &request, 8..=9).await?;
        let mut offsets = BTreeMap::new();
        for group in &response.groups {
            if group.error_code != code::NONE {
                return Err(group_refused(&endpoint, group.error_code));
            }
            for topic in &group.topics {
                for partition in &topic.partitions {
                    if partition.error_code != code::NONE {
                        return Err(group_refused(&endpoint, partition.error_code));
                    }
                    if partition.committed_offset >= 0 {
                        let id = PartitionId {
                            topic: topic.name.to_string(),
                            partition: partition.partition_index,
                        };
                        offsets.insert(id, partition.committed_offset);
                    }
                }
            }
        }
        Ok(offsets)
    }

    async fn group_coordinator(&self, group: &str) -> Answer<Endpoint> {
        let request = FindCoordinatorRequest::default()
            .with_key_type(COORDINATOR_OF_GROUP)
            .with_coordinator_keys(vec![StrBytes::from_string(group.to_owned())]);
        let response = self.anywhere(&request, 4..=6).await?;
        let answer = response.coordinators.first();
        match answer {
            Some(coordinator) if coordinator.error_code == code::NONE => Ok(Endpoint {
                host: coordinator.host.to_string(),
                port: u16::try_from(coordinator.port).unwrap_or_default(),
            }),
            other => Err(ClientError::Refused {
                broker: self.access().bootstrap(),
                request: "FindCoordinator",
                code: other.map_or(code::COORDINATOR_NOT_AVAILABLE, |other| other.error_code),
            }),
        }
    }
}

/// Partitions by the broker that leads them.
pub(super) fn by_leader(
    cluster: &Cluster,
    partitions: &BTreeSet<PartitionId>,
) -> Answer<BTreeMap<Endpoint, Vec<PartitionId>>> {
    let mut by_leader: BTreeMap<Endpoint, Vec<PartitionId>> = BTreeMap::new();
    for id in partitions {
        let leader = cluster
            .topics
            .get(&id.topic)
            .and_then(|topic| topic.as_ref().ok())
            .and_then(|topic| topic.leaders.get(&id.partition))
            .and_then(|leader| cluster.brokers.get(leader))
            .ok_or_else(|| ClientError::Refused {
                broker: format!("that would lead {}/{}", id.topic, id.partition),
                request: "Metadata",
                code: code::LEADER_NOT_AVAILABLE,
            })?;
        by_leader
            .entry(leader.clone())
            .or_default()
            .push(id.clone());
    }
    Ok(by_leader)
}

fn list_offsets(partitions: &[PartitionId], at: OffsetAt) -> ListOffsetsRequest {
    let mut topics: BTreeMap<&str, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for id in partitions {
        let partition = ListOffsetsPartition::default()
            .with_partition_index(id.partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(at.code());
        topics.entry(&id.topic).or_default().push(partition);
    }
    let topics = topics.into_iter().map(|(topic, partitions)| {
        ListOffsetsTopic::default()
            .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
            .with_partitions(partitions)
    });
    ListOffsetsRequest::default()
        .with_replica_id(NO_REPLICA)
        .with_isolation_level(at.isolation())
        .with_topics(topics.collect())
}

fn offset_fetch(group: &str, partitions: &BTreeSet<PartitionId>) -> OffsetFetchRequest {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for id in partitions {
        topics.entry(&id.topic).or_default().push(id.partition);
    }
    let topics = topics.into_iter().map(|(topic, partitions)| {
        OffsetFetchRequestTopics::default()
            .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
            .with_partition_indexes(partitions)
    });
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
        .with_member_epoch(-1)
        .with_topics(Some(topics.collect()));
    OffsetFetchRequest::default()
        .with_groups(vec![group])
        .with_require_stable(true)
}

fn refused(endpoint: &Endpoint, code: i16) -> ClientError {
    // A partition that a broker does not know any more, or not yet, is led by another one.
    let code = if code == code::UNKNOWN_TOPIC_OR_PARTITION {
        code::NOT_LEADER_OR_FOLLOWER
    } else {
        code
    };
    ClientError::Refused {
        broker: endpoint.to_string(),
        request: "ListOffsets",
        code,
    }
}

fn group_refused(endpoint: &Endpoint, code: i16) -> ClientError {
    ClientError::Refused {
        broker: endpoint.to_string(),
        request: "OffsetFetch",
        code,
    }
}
