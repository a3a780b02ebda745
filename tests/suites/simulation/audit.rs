//! The judge: what committed readers see, against what was there to be read.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_checkpoint::storage::simulated::install;
use millstream_checkpoint::{Chain, Manifest, Storage, StorageOptions};
use millstream_types::{JobId, OperatorUid};
use tokio::runtime::Builder;

use crate::broker::Record;
use crate::keyed;
use crate::scenario::{Scenario, Shape};
use crate::store::DirectStore;
use crate::world::{State, World};

/// What has been seen so far, by sink and partition.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    seen: BTreeMap<(String, u32), Vec<Record>>,
}

impl Audit {
    /// Looks while the job runs: nothing may be there twice, missing before what is there, in another
    /// order, or gone again.
    pub(crate) fn look(&mut self, scenario: &Scenario, state: &mut State) {
        for sink in scenario.sinks() {
            let mut next: BTreeMap<i64, i64> = BTreeMap::new();
            for (partition, records) in state.broker.visible(sink) {
                let place = ((*sink).to_owned(), partition);
                let before = self.seen.entry(place).or_default();
                if !records.starts_with(before) {
                    let fault = format!("{sink}/{partition}: what was seen is gone or changed");
                    state.violations.push(fault);
                }
                if scenario.shape == Shape::Counts {
                    if let Some(fault) = keyed::fault(sink, &records) {
                        state
                            .violations
                            .push(format!("{sink}/{partition}: {fault}"));
                        return;
                    }
                    *before = records;
                    continue;
                }
                for Record { split, sequence } in &records {
                    let expected = next.entry(*split).or_default();
                    if sequence != expected {
                        let what = if sequence < expected {
                            "is there twice, or behind a later one"
                        } else {
                            "is there before an earlier one, which is lost or comes later"
                        };
                        let fault = format!(
                            "{sink}/{partition}: record {sequence} of split {split} {what}; expected \
                             {expected}"
                        );
                        state.violations.push(fault);
                        return;
                    }
                    *expected += 1;
                }
                *before = records;
            }
        }
    }

    fn count(&self, sink: &str) -> u64 {
        let partitions = self.seen.iter().filter(|((name, _), _)| name == sink);
        let counts = partitions.map(|(_, records)| records.len());
        u64::try_from(counts.sum::<usize>()).unwrap_or(u64::MAX)
    }

    /// Records seen, of all sinks.
    pub(crate) fn total(&self, scenario: &Scenario) -> u64 {
        scenario.sinks().iter().map(|sink| self.count(sink)).sum()
    }

    /// Whether everything that was there to be read is seen.
    pub(crate) fn is_complete(&self, scenario: &Scenario, state: &State) -> bool {
        if scenario.shape == Shape::Counts {
            let mut sinks = scenario.sinks().iter();
            return sinks.all(|sink| self.newest(sink) == keyed::expected(sink, &state.topics));
        }
        let expected = expected(state);
        scenario
            .sinks()
            .iter()
            .all(|sink| self.count(sink) == expected)
    }

    /// The newest row of every key that a keyed job has written.
    fn newest(&self, sink: &str) -> BTreeMap<i64, i64> {
        let partitions = self.seen.iter().filter(|((name, _), _)| name == sink);
        keyed::newest(partitions.flat_map(|(_, records)| records))
    }

    /// The last look: everything is there, and the newest manifest has counted it.
    pub(crate) fn close(&self, scenario: &Scenario, world: &Arc<World>) -> Vec<String> {
        let expected = expected(&world.lock());
        let mut faults = Vec::new();
        for sink in scenario.sinks() {
            if scenario.shape == Shape::Counts {
                let rows = keyed::expected(sink, &world.lock().topics);
                let newest = self.newest(sink);
                if newest != rows {
                    faults.push(format!("{sink}: it ends with {newest:?}, not {rows:?}"));
                }
                continue;
            }
            let count = self.count(sink);
            if count != expected {
                faults.push(format!("{sink}: {count} records are seen of {expected}"));
            }
        }
        let Some(manifest) = newest(world) else {
            faults.push("the chain has no checkpoint".to_owned());
            return faults;
        };
        let totals = manifest.totals();
        let of = |uid: &str| {
            totals
                .get(&OperatorUid::from(uid))
                .copied()
                .unwrap_or_default()
        };
        let read: u64 = scenario
            .sources()
            .iter()
            .map(|source| of(source).records_out)
            .sum();
        if read != expected {
            faults.push(format!(
                "the manifest counts {read} records read of {expected}"
            ));
        }
        for sink in scenario.sinks() {
            let (written, seen) = (of(sink).records_out, self.count(sink));
            if written != seen {
                faults.push(format!(
                    "the manifest counts {written} records in {sink}, {seen} are seen"
                ));
            }
        }
        faults
    }
}

fn expected(state: &State) -> u64 {
    let splits = state.topics.values().flat_map(|topic| &topic.splits);
    let records = splits.map(|split| u64::try_from(split.records).unwrap_or_default());
    records.sum()
}

fn newest(world: &Arc<World>) -> Option<Manifest> {
    install(Some(Arc::new(DirectStore(Arc::clone(world)))));
    let job = JobId {
        namespace: "default".to_owned(),
        name: "simulated".to_owned(),
    };
    let look = async move {
        let options = StorageOptions::default();
        let storage = Storage::open("file:///simulated", &options).await.ok()?;
        Chain::new(storage, job).observe().await.ok()?.newest
    };
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().ok()?;
    let found = runtime.block_on(look);
    install(None);
    found
}
