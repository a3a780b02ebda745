//! Names of transactions, and what a checkpoint keeps of a prepared one.

use std::time::Duration;

use millstream_connect::Result;
use millstream_types::{
    Attempt, CheckpointId, Committable, JobId, Lineage, Opaque, OperatorUid, SubtaskIndex,
    Timestamp,
};
use serde::{Deserialize, Serialize};

use super::client::Transaction;
use super::failure;

/// How many transactional ids one subtask may use in one attempt. Recovery asks the brokers about
/// every id below this bound, so it is part of the protocol between builds: it may grow, but never
/// shrink.
///
/// A subtask needs one id for the open transaction, one for the standby, one for each prepared
/// transaction that no checkpoint has committed yet (failed, concurrent and savepoints), and one
/// for each that is committed but still listed by the newest completed checkpoint.
pub(crate) const SLOTS: u32 = 64;

/// The family of transactional ids of one sink:
/// `<prefix>-<uid>-<lineage>-<attempt>-<subtask>-<slot>`.
///
/// The lineage keeps two chains of one job name apart, which both count attempts from 1: a job of
/// that name in another Kubernetes cluster, or with another checkpoint storage. Chains of older
/// builds have none, and their ids do not have it either.
///
/// The attempt is part of the id, so that a late `InitProducerId` of a writer that does not know
/// that it is dead can abort nothing of its successor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TransactionNames {
    prefix: String,
    stem: String,
}

impl TransactionNames {
    /// Names for the sink `uid` of `job`; the prefix is `<namespace>.<name>` of the job if none
    /// is given.
    pub(crate) fn new(prefix: Option<&str>, job: &JobId, uid: &OperatorUid) -> Self {
        let prefix =
            prefix.map_or_else(|| format!("{}.{}", job.namespace, job.name), str::to_owned);
        let stem = format!("{prefix}-{uid}");
        Self { prefix, stem }
    }

    /// The names in one chain.
    pub(crate) fn in_chain(&self, lineage: Option<&Lineage>) -> Self {
        let Some(lineage) = lineage else {
            return self.clone();
        };
        Self {
            prefix: self.prefix.clone(),
            stem: format!("{}-{lineage}", self.stem),
        }
    }

    /// The name of one id.
    pub(crate) fn id(&self, attempt: Attempt, subtask: SubtaskIndex, slot: u32) -> String {
        format!("{}-{attempt}-{subtask}-{slot}", self.stem)
    }

    /// Every id that an attempt with `parallelism` subtasks can have used.
    pub(crate) fn ids_of(
        &self,
        attempt: Attempt,
        parallelism: u32,
    ) -> impl Iterator<Item = String> + '_ {
        (0..parallelism).flat_map(move |subtask| {
            (0..SLOTS).map(move |slot| self.id(attempt, SubtaskIndex(subtask), slot))
        })
    }

    /// What all ids have in common, and the cluster, as the chain keeps it.
    pub(crate) fn family(&self, cluster: String) -> Opaque {
        let family = Family {
            cluster,
            prefix: self.prefix.clone(),
            stem: self.stem.clone(),
        };
        let text = serde_json::to_string(&family)
            .unwrap_or_else(|error| unreachable!("strings are always written: {error}"));
        Opaque(text)
    }

    /// Reads [`family`](Self::family): the cluster and the names; `None` if it is not one.
    pub(crate) fn of_family(family: &Opaque) -> Option<(String, Self)> {
        let Family {
            cluster,
            prefix,
            stem,
        } = serde_json::from_str(&family.0).ok()?;
        Some((cluster, Self { prefix, stem }))
    }

    /// What no other job may use on the same cluster. The stem is reserved as well as the prefix,
    /// because prefix `a` with sink `b-c` and prefix `a-b` with sink `c` make the same ids.
    pub(crate) fn reservations(&self, cluster: &str) -> Vec<String> {
        vec![
            format!("kafka/{cluster}/{}", self.prefix),
            format!("kafka/{cluster}/{}", self.stem),
        ]
    }
}

/// [`TransactionNames`] as the chain keeps them.
#[derive(Debug, Serialize, Deserialize)]
struct Family {
    cluster: String,
    prefix: String,
    stem: String,
}

/// A prepared transaction as a checkpoint keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Prepared {
    /// `transactional.id`.
    pub(crate) transactional_id: String,
    /// Producer id that the broker gave.
    pub(crate) producer_id: i64,
    /// Epoch of the producer id.
    pub(crate) epoch: i16,
    /// The topic.
    pub(crate) topic: String,
    /// Unique id of the topic. Older builds have not kept it, and not every broker has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) topic_id: Option<String>,
    /// When its first record was written, by the writer's clock. The broker's clock for the
    /// timeout starts a little later.
    pub(crate) started_at: Timestamp,
    /// `transaction.timeout.ms`.
    pub(crate) timeout_ms: u64,
    /// Id of the cluster in which it is. Older builds have not kept it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cluster: Option<String>,
}

impl Prepared {
    /// Packs it for the checkpoint at whose barrier it was prepared.
    pub(crate) fn committable(&self, checkpoint: CheckpointId, records: u64) -> Committable {
        let text = serde_json::to_string(self).unwrap_or_else(|error| {
            unreachable!("strings and integers are always written: {error}")
        });
        Committable {
            checkpoint,
            transaction: Opaque(text),
            records,
        }
    }

    /// Unpacks it.
    ///
    /// # Errors
    /// It was not packed by this connector.
    pub(crate) fn read(committable: &Committable) -> Result<Self> {
        let text = &committable.transaction.0;
        serde_json::from_str(text).map_err(|error| {
            failure::unreadable_state("a prepared transaction", text, &error.to_string())
        })
    }

    /// How long ago its first record was written; `None` where clocks differ.
    pub(crate) fn age_at(&self, now: Timestamp) -> Option<Duration> {
        let millis = now.0.checked_sub(self.started_at.0)?;
        Some(Duration::from_millis(millis))
    }

    /// The transaction that the broker knows.
    pub(crate) fn transaction(&self) -> Transaction {
        Transaction {
            id: self.transactional_id.clone(),
            producer_id: self.producer_id,
            epoch: self.epoch,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> JobId {
        JobId {
            namespace: "default".into(),
            name: "orders".into(),
        }
    }

    fn prepared() -> Prepared {
        Prepared {
            transactional_id: "default.orders-out-3-0-1".into(),
            producer_id: 4_000,
            epoch: 7,
            topic: "processed".into(),
            topic_id: Some("5c1dd8bc-8a72-4d5c-b5b6-d1f6f1d8f2a1".into()),
            started_at: Timestamp(1_000),
            timeout_ms: 900_000,
            cluster: Some("bWlsbHN0cmVhbXRlc3RzMQ".into()),
        }
    }

    #[test]
    fn ids_carry_sink_attempt_subtask_and_slot() {
        let names = TransactionNames::new(None, &job(), &"out".into());
        assert_eq!(
            names.id(Attempt(3), SubtaskIndex(0), 1),
            "default.orders-out-3-0-1"
        );
        let names = TransactionNames::new(Some("mine"), &job(), &"out".into());
        assert_eq!(names.id(Attempt(3), SubtaskIndex(0), 1), "mine-out-3-0-1");
    }

    #[test]
    fn ids_of_two_chains_differ_and_begin_alike() {
        let names = TransactionNames::new(Some("mine"), &job(), &"out".into());
        let id = |lineage: &str| {
            let names = names.in_chain(Some(&Lineage::from(lineage)));
            names.id(Attempt(3), SubtaskIndex(0), 1)
        };
        assert_eq!(id("0f3a9c21"), "mine-out-0f3a9c21-3-0-1");
        assert_ne!(id("0f3a9c21"), id("0f3a9c22"));
        assert_eq!(names.in_chain(None), names);
    }

    #[test]
    fn every_id_of_an_attempt_is_listed() {
        let names = TransactionNames::new(None, &job(), &"out".into());
        let ids: std::collections::BTreeSet<String> = names.ids_of(Attempt(3), 2).collect();
        assert_eq!(ids.len(), 2 * SLOTS as usize);
        assert!(ids.contains(&names.id(Attempt(3), SubtaskIndex(1), SLOTS - 1)));
    }

    #[test]
    fn families_that_could_make_the_same_ids_reserve_a_common_name() {
        let one = TransactionNames::new(Some("a"), &job(), &"b-c".into());
        let other = TransactionNames::new(Some("a-b"), &job(), &"c".into());
        let common = one.reservations("x");
        assert!(
            other
                .reservations("x")
                .iter()
                .any(|name| common.contains(name))
        );
    }

    #[test]
    fn a_prepared_transaction_is_read_back_as_written() {
        let committable = prepared().committable(CheckpointId(5), 10);
        assert_eq!(Prepared::read(&committable).unwrap(), prepared());
    }

    #[test]
    fn what_an_older_build_has_prepared_is_read() {
        let committable = Committable {
            checkpoint: CheckpointId(1),
            transaction: Opaque(
                r#"{"transactionalId":"a-1-0-0","producerId":1,"epoch":2,"topic":"t","startedAt":3,"timeoutMs":4}"#
                    .into(),
            ),
            records: 1,
        };
        assert_eq!(Prepared::read(&committable).unwrap().cluster, None);
    }

    #[test]
    fn a_foreign_committable_is_an_error_that_shows_it() {
        let committable = Committable {
            checkpoint: CheckpointId(1),
            transaction: Opaque(r#"{"file":"part-0"}"#.into()),
            records: 1,
        };
        let error = Prepared::read(&committable).unwrap_err();
        assert!(error.message.contains("part-0"), "{error}");
    }
}
