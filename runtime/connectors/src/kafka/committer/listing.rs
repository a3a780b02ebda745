//! Transactions for people: what is known of them, and ending one of them.

use std::collections::BTreeMap;

use millstream_connect::{KnownTransaction, Lingering, Result};
use millstream_types::{CheckpointId, Timestamp};

use super::KafkaCommitter;
use crate::kafka::client::{
    ClientError, Described, IDS_PER_REQUEST, Phase, Transaction, code, is_transient,
};
use crate::kafka::transaction::Prepared;

impl KafkaCommitter {
    pub(super) async fn list_known(&self, of: &Lingering) -> Result<Vec<KnownTransaction>> {
        let mut listed: BTreeMap<Transaction, CheckpointId> = BTreeMap::new();
        for one in &of.keep {
            let prepared = Prepared::read(one)?;
            listed.insert(prepared.transaction(), one.checkpoint);
        }
        let mut found = Vec::new();
        for chunk in self.ids_of(of).await?.chunks(IDS_PER_REQUEST) {
            let Some(known) = self.describe(chunk).await? else {
                return Ok(found);
            };
            found.extend(known.into_iter().map(|(id, described)| {
                let transaction = Transaction {
                    id,
                    producer_id: described.producer_id,
                    epoch: described.epoch,
                };
                let listed_by = listed.get(&transaction).copied();
                shown(transaction, described, listed_by)
            }));
        }
        Ok(found)
    }

    /// Aborts exactly this incarnation. Whether it was open still.
    pub(super) async fn abort_known(&self, known: &KnownTransaction) -> Result<bool> {
        let transaction = Transaction {
            id: known.id.clone(),
            producer_id: known.producer_id,
            epoch: known.epoch,
        };
        let refused = |code| ClientError::Refused {
            broker: self.client.access().bootstrap(),
            request: "EndTxn",
            code,
        };
        let ask = || async {
            let code = self.client.end_transaction(&transaction, false).await?;
            if is_transient(code) {
                return Err(refused(code));
            }
            Ok(code)
        };
        let answer = self.until_answered(ask).await;
        match answer.map_err(|error| self.client.failure(error))? {
            code::NONE => Ok(true),
            // It has ended, or a newer incarnation has the id.
            code::INVALID_TXN_STATE
            | code::INVALID_PRODUCER_EPOCH
            | code::INVALID_PRODUCER_ID_MAPPING
            | code::PRODUCER_FENCED => Ok(false),
            code => Err(self.client.failure(refused(code))),
        }
    }
}

fn shown(
    transaction: Transaction,
    described: Described,
    listed_by: Option<CheckpointId>,
) -> KnownTransaction {
    let is_open = matches!(
        described.phase,
        Phase::Ongoing | Phase::PrepareCommit | Phase::PrepareAbort | Phase::PrepareEpochFence
    );
    let began_at = u64::try_from(described.started_at_ms).ok();
    KnownTransaction {
        id: transaction.id,
        producer_id: transaction.producer_id,
        epoch: transaction.epoch,
        state: described.phase.name().to_owned(),
        is_open,
        began_at: began_at.filter(|_| is_open).map(Timestamp),
        timeout_ms: u64::try_from(described.timeout_ms).unwrap_or_default(),
        partitions: described.partitions,
        listed_by,
    }
}
