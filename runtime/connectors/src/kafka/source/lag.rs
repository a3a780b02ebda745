//! How far partitions are from being read to their end, and what holds back that end.

use std::collections::{BTreeMap, BTreeSet};

use millstream_connect::Result;
use millstream_types::SplitState;
use millstream_types::api::{HeldBack, SplitLag};

use super::position::Split;
use crate::kafka::client::{Client, OffsetAt, PartitionId};

/// How far each split that is not finished is behind. A partition that the brokers do not describe is
/// left out.
///
/// # Errors
/// No broker answers, or a position is not one of ours.
pub(super) async fn of(client: &Client, states: &[SplitState]) -> Result<Vec<SplitLag>> {
    let unfinished = states.iter().filter(|state| !state.finished);
    let splits: Vec<Split> = unfinished.map(Split::read).collect::<Result<_>>()?;
    let partitions: BTreeSet<PartitionId> =
        splits.iter().map(|split| split.partition.clone()).collect();
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let failure = |error| client.failure(error);
    // What is committed between the two questions is behind neither of the ends.
    let high = client.offsets(&partitions, OffsetAt::HighWatermark).await;
    let high = high.map_err(failure)?;
    let stable = client.offsets(&partitions, OffsetAt::End).await;
    let stable = stable.map_err(failure)?;
    let end = |ends: &BTreeMap<PartitionId, Option<i64>>, id: &PartitionId| {
        ends.get(id).copied().flatten().unwrap_or(0)
    };
    let held_back = |id: &PartitionId| between(end(&stable, id), end(&high, id));
    let held: BTreeSet<PartitionId> = partitions
        .iter()
        .filter(|id| held_back(id) > 0)
        .cloned()
        .collect();
    let holders = if held.is_empty() {
        BTreeMap::new()
    } else {
        // That somebody does is known; who it is, is more.
        client.holders(&held).await.unwrap_or_default()
    };
    let lags = splits.iter().map(|split| {
        let id = &split.partition;
        let stop = split.position.stop.unwrap_or(i64::MAX);
        let readable = end(&stable, id).min(stop);
        let is_held = held.contains(id) && stop > end(&stable, id);
        let holder = holders.get(id);
        SplitLag {
            split: Split::name(id),
            pending_records: between(split.position.offset, readable),
            held_back: is_held.then(|| HeldBack {
                records: held_back(id),
                transactional_id: holder.and_then(|holder| holder.transactional_id.clone()),
                producer_id: holder.map(|holder| holder.producer_id),
            }),
        }
    });
    Ok(lags.collect())
}

/// Offsets from one on, and before another.
fn between(from: i64, to: i64) -> u64 {
    u64::try_from(to.saturating_sub(from)).unwrap_or(0)
}
