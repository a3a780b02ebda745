//! Undoes what older attempts have left open.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use millstream_connect::{Lingering, Result};
use millstream_types::Opaque;

use super::KafkaCommitter;
use crate::kafka::client::{ClientError, Described, IDS_PER_REQUEST, Phase, code};
use crate::kafka::failure;
use crate::kafka::transaction::{Prepared, TransactionNames};

/// `transaction.timeout.ms` of the incarnation that fences an id: it never writes, so any value
/// that every broker allows will do.
const FENCE_TIMEOUT_MS: i32 = 10_000;

/// Incarnations that must not be touched, by transactional id.
struct Kept(BTreeMap<String, BTreeSet<(i64, i16)>>);

impl Kept {
    fn read(lingering: &Lingering) -> Result<Self> {
        let mut kept: BTreeMap<String, BTreeSet<(i64, i16)>> = BTreeMap::new();
        for one in &lingering.keep {
            let prepared = Prepared::read(one)?;
            kept.entry(prepared.transactional_id)
                .or_default()
                .insert((prepared.producer_id, prepared.epoch));
        }
        Ok(Self(kept))
    }

    /// Whether an id must be left alone. An incarnation that is newer than what is kept of its id
    /// is nobody's any more; an older one is what a broker says that is behind.
    fn has(&self, id: &str, described: &Described) -> bool {
        let Some(kept) = self.0.get(id) else {
            return false;
        };
        let is_newer_than_all = kept.iter().all(|(producer_id, epoch)| {
            described.producer_id == *producer_id && described.epoch > *epoch
        });
        !(is_newer_than_all && described.phase == Phase::Ongoing)
    }
}

impl KafkaCommitter {
    pub(super) async fn abort_all(&self, lingering: &Lingering) -> Result<u64> {
        let keep = Kept::read(lingering)?;
        let mut aborted = 0;
        for chunk in self.ids_of(lingering).await?.chunks(IDS_PER_REQUEST) {
            let Some(known) = self.describe(chunk).await? else {
                return Ok(0);
            };
            let to_fence = known.iter().filter(|(id, described)| {
                let is_wanted = !lingering.only_open || described.phase == Phase::Ongoing;
                is_wanted && !keep.has(id, described)
            });
            let fenced = join_all(to_fence.map(|(id, described)| self.fence(id, described)));
            for one in fenced.await {
                aborted += one?;
            }
        }
        Ok(aborted)
    }

    /// Every id that these attempts can have used.
    pub(super) async fn ids_of(&self, lingering: &Lingering) -> Result<Vec<String>> {
        let names = match &lingering.family {
            None => self.names.clone(),
            Some(family) => self.names_of(family).await?,
        };
        let names = names.in_chain(lingering.lineage.as_ref());
        let attempts = lingering.attempts.iter();
        let ids = attempts.flat_map(|(attempt, parallelism)| names.ids_of(*attempt, *parallelism));
        Ok(ids.collect())
    }

    /// Names of another family in the same cluster.
    async fn names_of(&self, family: &Opaque) -> Result<TransactionNames> {
        let (cluster, names) = TransactionNames::of_family(family).ok_or_else(|| {
            failure::unreadable_state("a family of transactions", &family.0, "it is not one")
        })?;
        if self.cluster_id().await? == cluster {
            return Ok(names);
        }
        Err(failure::identity_changed(format!(
            "sink `{}` cannot undo what was left open in cluster `{cluster}`: it writes to another one",
            self.spec.name
        )))
    }

    /// What is known of some ids; `None` if there can be nothing.
    pub(super) async fn describe(
        &self,
        ids: &[String],
    ) -> Result<Option<BTreeMap<String, Described>>> {
        let ask = || self.client.describe_transactions(ids);
        match self.until_answered(ask).await {
            Ok(known) => Ok(Some(known)),
            Err(error) if self.has_no_transactions(&error) => Ok(None),
            Err(error) => Err(self.client.failure(error)),
        }
    }

    /// A sink that is at-least-once needs no permission on transactional ids; without it, no
    /// earlier attempt can have been exactly-once.
    fn has_no_transactions(&self, error: &ClientError) -> bool {
        let is_forbidden = matches!(
            error,
            ClientError::Refused {
                code: code::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
                ..
            }
        );
        is_forbidden && !self.is_exactly_once()
    }

    /// Makes a new incarnation of an id, which aborts what is open and keeps an old writer from
    /// opening more. Returns how many transactions that aborted.
    async fn fence(&self, id: &str, described: &Described) -> Result<u64> {
        let is_open = described.phase == Phase::Ongoing;
        self.until_answered(|| self.client.init_producer_id(id, FENCE_TIMEOUT_MS))
            .await
            .map_err(|error| self.client.failure(error))?;
        if is_open {
            tracing::info!(sink = %self.spec.name, id, ?described, "aborted a lingering transaction");
        }
        Ok(u64::from(is_open))
    }
}
