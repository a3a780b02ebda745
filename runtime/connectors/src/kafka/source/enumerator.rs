//! Finds partitions and the offsets to begin with, once for the whole job.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use millstream_connect::{Discovery, Result, SplitEnumerator};
use millstream_spec::connector::{KafkaSource, OffsetFallback, StartingOffsets};
use millstream_types::api::SplitLag;
use millstream_types::{ErrorCode, ErrorKind, Failure, Opaque, SplitState};
use serde::{Deserialize, Serialize};

use super::lag;
use super::position::{Position, Split};
use crate::kafka::client::{Client, Cluster, OffsetAt, PartitionId};
use crate::kafka::{failure, place};

/// What lies behind the source's names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClusterIdentity {
    cluster_id: String,
    /// Topic ids by name.
    topics: BTreeMap<String, String>,
}

/// Enumerator of one Kafka source.
#[derive(Debug)]
pub(super) struct KafkaEnumerator {
    source: String,
    options: KafkaSource,
    client: Client,
    /// What was found or verified last: a topic may be made again while the job runs.
    identity: Option<ClusterIdentity>,
}

impl KafkaEnumerator {
    pub(super) const fn new(source: String, options: KafkaSource, client: Client) -> Self {
        Self {
            source,
            options,
            client,
            identity: None,
        }
    }

    async fn find(&mut self, known: &BTreeSet<String>, first: bool) -> Result<Discovery> {
        let topics = &self.options.topics;
        let has_been = |topic: &str| {
            let identity = self.identity.as_ref();
            !first && identity.is_none_or(|identity| identity.topics.contains_key(topic))
        };
        let cluster = self.client.existing_topics(topics, has_been).await?;
        let identity = identity_of(&cluster);
        if let Some(before) = &self.identity {
            self.check_same(before, &identity)?;
        }
        let fresh: BTreeSet<PartitionId> = partitions_of(&cluster)
            .filter(|partition| !known.contains(&Split::name(partition)))
            .collect();
        let starts = if first {
            self.starting_offsets(&fresh).await?
        } else {
            self.known_offsets(&fresh, OffsetAt::Earliest).await?
        };
        let stops = if self.options.bounded {
            self.known_offsets(&fresh, OffsetAt::End).await?
        } else {
            BTreeMap::new()
        };
        let splits = starts.into_iter().map(|(partition, offset)| {
            let stop = stops.get(&partition).copied();
            Split {
                position: Position { offset, stop },
                partition,
                records: 0,
            }
            .state()
        });
        Ok(Discovery {
            splits: splits.collect(),
            identity: Some(self.keep(identity)?),
        })
    }

    fn keep(&mut self, identity: ClusterIdentity) -> Result<Opaque> {
        let text = serde_json::to_string(&identity).map_err(|error| {
            failure::broker(format!("the cluster's identity is unprintable: {error}"))
        })?;
        self.identity = Some(identity);
        Ok(Opaque(text))
    }

    async fn starting_offsets(
        &self,
        partitions: &BTreeSet<PartitionId>,
    ) -> Result<BTreeMap<PartitionId, i64>> {
        match &self.options.starting_offsets {
            StartingOffsets::Earliest(_) => {
                self.known_offsets(partitions, OffsetAt::Earliest).await
            }
            StartingOffsets::Latest(_) => self.known_offsets(partitions, OffsetAt::End).await,
            StartingOffsets::Timestamp(start) => {
                let millis = i64::try_from(start.millis.0).unwrap_or(i64::MAX);
                let found = self
                    .offsets(partitions, OffsetAt::Timestamp(millis))
                    .await?;
                self.with_fallback(found, OffsetAt::End).await
            }
            StartingOffsets::Committed(start) => {
                self.committed_offsets(partitions, start.fallback).await
            }
        }
    }

    async fn committed_offsets(
        &self,
        partitions: &BTreeSet<PartitionId>,
        fallback: OffsetFallback,
    ) -> Result<BTreeMap<PartitionId, i64>> {
        let Some(group) = &self.options.group_id else {
            return Err(Failure::new(
                ErrorCode::InvalidJob,
                ErrorKind::InvalidJob,
                format!(
                    "source `{}`: startingOffsets: committed needs a groupId",
                    self.source
                ),
            ));
        };
        let committed = self
            .client
            .committed_offsets(group, partitions)
            .await
            .map_err(|error| self.client.failure(error))?;
        let found: BTreeMap<PartitionId, Option<i64>> = partitions
            .iter()
            .map(|partition| (partition.clone(), committed.get(partition).copied()))
            .collect();
        match fallback {
            OffsetFallback::Earliest => self.with_fallback(found, OffsetAt::Earliest).await,
            OffsetFallback::Latest => self.with_fallback(found, OffsetAt::End).await,
            OffsetFallback::Fail => {
                let missing: Vec<String> = missing(&found).iter().map(Split::name).collect();
                if missing.is_empty() {
                    return Ok(known(found));
                }
                Err(failure::offset_out_of_range(format!(
                    "source `{}`: group `{group}` has no committed offset for {}. Set \
                     startingOffsets.committed.fallback to Earliest or Latest, or commit offsets \
                     for the group",
                    self.source,
                    missing.join(", ")
                )))
            }
        }
    }

    /// Offsets where there are some, and those for `at` where there are none.
    async fn with_fallback(
        &self,
        found: BTreeMap<PartitionId, Option<i64>>,
        at: OffsetAt,
    ) -> Result<BTreeMap<PartitionId, i64>> {
        let missing = missing(&found);
        let mut offsets = known(found);
        if !missing.is_empty() {
            offsets.extend(self.known_offsets(&missing, at).await?);
        }
        Ok(offsets)
    }

    /// Offsets that every partition has: of its first record, or of its end.
    async fn known_offsets(
        &self,
        partitions: &BTreeSet<PartitionId>,
        at: OffsetAt,
    ) -> Result<BTreeMap<PartitionId, i64>> {
        let found = self.offsets(partitions, at).await?;
        match missing(&found).first() {
            None => Ok(known(found)),
            Some(partition) => Err(failure::broker(format!(
                "source `{}`: the broker names no offset for {} ({at:?})",
                self.source,
                Split::name(partition)
            ))),
        }
    }

    async fn offsets(
        &self,
        partitions: &BTreeSet<PartitionId>,
        at: OffsetAt,
    ) -> Result<BTreeMap<PartitionId, Option<i64>>> {
        self.client
            .offsets(partitions, at)
            .await
            .map_err(|error| self.client.failure(error))
    }

    /// What is read on of a checkpoint. Whether a partition has a stop follows `bounded` as it is
    /// now: the stop is forgotten, or is where the partition ends now.
    async fn fitted(&self, states: Vec<SplitState>) -> Result<Vec<SplitState>> {
        let mut fitted = Vec::new();
        let mut endless = BTreeMap::new();
        for state in states {
            let mut split = Split::read(&state)?;
            match (self.options.bounded, split.position.stop) {
                (true, Some(_)) | (false, None) => fitted.push(state),
                (false, Some(_)) => {
                    split.position.stop = None;
                    fitted.push(split.state());
                }
                (true, None) => {
                    endless.insert(split.partition.clone(), split);
                }
            }
        }
        if !endless.is_empty() {
            let partitions = endless.keys().cloned().collect();
            for (partition, end) in self.known_offsets(&partitions, OffsetAt::End).await? {
                if let Some(mut split) = endless.remove(&partition) {
                    split.position.stop = Some(end);
                    fitted.push(split.state());
                }
            }
        }
        Ok(fitted)
    }

    async fn check_identity(&mut self, identity: &Opaque) -> Result<()> {
        let saved: ClusterIdentity = serde_json::from_str(&identity.0).map_err(|error| {
            failure::unreadable_state("the identity", &identity.0, &error.to_string())
        })?;
        let topics = &self.options.topics;
        let has_been = |topic: &str| saved.topics.contains_key(topic);
        let cluster = self.client.existing_topics(topics, has_been).await?;
        let found = identity_of(&cluster);
        self.check_same(&saved, &found)?;
        self.identity = Some(found);
        Ok(())
    }

    fn check_same(&self, before: &ClusterIdentity, now: &ClusterIdentity) -> Result<()> {
        let source = &self.source;
        if before.cluster_id != now.cluster_id {
            return Err(failure::identity_changed(format!(
                "source `{source}`: the job's offsets are of cluster `{}`, but behind `{}` is \
                 cluster `{}`; they mean nothing there. Correct bootstrapServers, or start the \
                 job afresh",
                before.cluster_id,
                self.client.access().bootstrap(),
                now.cluster_id
            )));
        }
        let changed = now.topics.iter().find_map(|(topic, id)| {
            let before = before.topics.get(topic)?;
            (before != id).then_some((topic, before, id))
        });
        match changed {
            None => Ok(()),
            Some((topic, before, id)) => Err(failure::identity_changed(format!(
                "source `{source}`: topic `{topic}` was deleted and made again since its offsets \
                 were taken (its id was {before} and is {id}); offsets of the old one mean \
                 nothing there. Read another topic, or start the job afresh"
            ))),
        }
    }
}

impl SplitEnumerator for KafkaEnumerator {
    fn discover<'a>(
        &'a mut self,
        known: &'a BTreeSet<String>,
        first: bool,
    ) -> BoxFuture<'a, Result<Discovery>> {
        self.find(known, first).boxed()
    }

    fn verify<'a>(&'a mut self, identity: &'a Opaque) -> BoxFuture<'a, Result<()>> {
        self.check_identity(identity).boxed()
    }

    fn fit(&mut self, splits: Vec<SplitState>) -> BoxFuture<'_, Result<Vec<SplitState>>> {
        self.fitted(splits).boxed()
    }

    fn lags<'a>(
        &'a mut self,
        splits: &'a [SplitState],
    ) -> BoxFuture<'a, Result<Option<Vec<SplitLag>>>> {
        async { lag::of(&self.client, splits).await.map(Some) }.boxed()
    }

    fn reads(&self) -> Vec<String> {
        let identity = self.identity.iter();
        identity
            .flat_map(|identity| {
                let topics = identity.topics.keys();
                topics.map(|topic| place(&identity.cluster_id, topic))
            })
            .collect()
    }

    fn interval(&self) -> Option<Duration> {
        let interval = self.options.partition_discovery_interval.0;
        (!self.options.bounded && !interval.is_zero()).then_some(interval)
    }
}

fn partitions_of(cluster: &Cluster) -> impl Iterator<Item = PartitionId> + '_ {
    cluster.topics.iter().flat_map(|(name, topic)| {
        let partitions = topic.iter().flat_map(|topic| topic.leaders.keys());
        partitions.map(|partition| PartitionId {
            topic: name.clone(),
            partition: *partition,
        })
    })
}

fn identity_of(cluster: &Cluster) -> ClusterIdentity {
    let topics = cluster
        .topics
        .iter()
        .filter_map(|(name, topic)| Some((name.clone(), topic.as_ref().ok()?.id.clone())));
    ClusterIdentity {
        cluster_id: cluster.id.clone(),
        topics: topics.collect(),
    }
}

fn missing(found: &BTreeMap<PartitionId, Option<i64>>) -> BTreeSet<PartitionId> {
    found
        .iter()
        .filter(|(_, offset)| offset.is_none())
        .map(|(partition, _)| partition.clone())
        .collect()
}

fn known(found: BTreeMap<PartitionId, Option<i64>>) -> BTreeMap<PartitionId, i64> {
    found
        .into_iter()
        .filter_map(|(partition, offset)| Some((partition, offset?)))
        .collect()
}
