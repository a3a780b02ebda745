use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use millstream_exchange::ChannelId;
use millstream_operators::InputIndex;
use millstream_state::StateFiles;
use millstream_types::{Clock, EdgeId, SubtaskIndex, VertexId};
use proptest::prelude::*;

use super::*;
use crate::plan::TaskPlan;
use crate::testing::{MemoryFiles, batch};

const GROUPS: u32 = 16;

/// A task that is read by key, in turn and from the subtask of the same number.
struct Job(u32);

impl JobTasks for Job {
    fn edges(&self) -> Vec<TaskEdge> {
        let by_key = Partitioning::Hash {
            columns: vec![0],
            max_parallelism: GROUPS,
        };
        let all = [by_key, Partitioning::Rebalance, Partitioning::Forward];
        let edge = |(input, partitioning)| TaskEdge {
            // Its number in the graph says nothing.
            id: EdgeId(7),
            from: VertexId(0),
            to: VertexId(1),
            input: InputIndex(input),
            partitioning,
        };
        (0..).zip(all).map(edge).collect()
    }

    fn parallelism(&self, _: VertexId) -> u32 {
        self.0
    }

    fn task(&self, _: TaskId, _: &Arc<dyn Clock>) -> millstream_connect::Result<TaskPlan> {
        unreachable!("no task is built")
    }

    fn state_memory(&self) -> Option<u64> {
        None
    }

    fn state_directory(&self) -> Option<std::path::PathBuf> {
        None
    }

    fn state_files(&self, _: TaskId) -> Arc<dyn StateFiles> {
        Arc::<MemoryFiles>::default()
    }
}

fn task(subtask: u32) -> TaskId {
    TaskId {
        vertex: VertexId(1),
        subtask: SubtaskIndex(subtask),
    }
}

fn file(path: &str) -> FileRef {
    FileRef {
        path: path.to_owned(),
        bytes: 0,
        crc32c: 0,
    }
}

fn record(edge: u32, to: u32, values: std::ops::Range<u64>) -> InFlight {
    let channel = ChannelId { edge, from: 3, to };
    let batch = batch(values);
    InFlight { channel, batch }
}

/// The values that a subtask takes of what another one has persisted, by input.
fn taken(parallelism: u32, subtask: u32, records: &[InFlight]) -> Result<Vec<(u32, i64)>, Failure> {
    let content = Content::from(in_flight::encode(records).unwrap());
    let contents = BTreeMap::from([("f".to_owned(), content)]);
    let head = OperatorUid::from("sums");
    let own = own(
        &Job(parallelism),
        task(subtask),
        &head,
        &[file("f")],
        &contents,
    )?;
    let values = own.iter().flat_map(|record| {
        let column = record.batch.records().column(0);
        let values = column.as_primitive::<Int64Type>().values().to_vec();
        values.into_iter().map(|value| (record.channel.edge, value))
    });
    Ok(values.collect())
}

proptest! {
    #[test]
    fn each_row_is_taken_by_one_subtask_in_its_order(
        parallelism in 1_u32..6,
        batches in proptest::collection::vec((0_u32..2, 0_u32..4, 1_u64..60), 0..6),
    ) {
        let mut first = 0;
        let mut records = Vec::new();
        for (edge, to, rows) in batches {
            records.push(record(edge, to, first..first + rows));
            first += rows;
        }
        let mut all = Vec::new();
        for subtask in 0..parallelism {
            let own = taken(parallelism, subtask, &records).unwrap();
            prop_assert!(own.is_sorted_by_key(|(_, value)| *value), "{:?}", own);
            for (edge, value) in &own {
                if *edge == 0 {
                    // Where new records with the key come.
                    let value = u64::try_from(*value).unwrap();
                    let mut hashes = Vec::new();
                    let records = batch(value..value + 1);
                    millstream_types::keys::hash(records.records(), &[0], &mut hashes).unwrap();
                    let group = millstream_types::keys::key_group(hashes[0], GROUPS);
                    let owner = millstream_types::keys::subtask(group, parallelism, GROUPS);
                    prop_assert_eq!(owner, subtask);
                }
            }
            all.extend(own.into_iter().map(|(_, value)| value));
        }
        all.sort_unstable();
        prop_assert_eq!(all, (0..i64::try_from(first).unwrap()).collect::<Vec<_>>());
    }
}

#[test]
fn at_the_same_parallelism_a_subtask_takes_all_of_its_own() {
    let records = [record(1, 2, 0..5), record(1, 2, 5..9)];
    assert_eq!(taken(3, 2, &records).unwrap().len(), 9);
    assert_eq!(taken(3, 1, &records).unwrap(), []);
}

#[test]
fn records_of_an_edge_that_has_none_and_broken_files_are_told() {
    for edge in [2, 3] {
        let failure = taken(1, 0, &[record(edge, 0, 0..5)]).unwrap_err();
        assert_eq!(failure.code, ErrorCode::CorruptObject);
        assert!(failure.message.contains("`sums` in f"), "{failure}");
    }
    let head = OperatorUid::from("sums");
    let missing = own(&Job(1), task(0), &head, &[file("g")], &Contents::new()).unwrap_err();
    assert!(missing.message.contains("in g"), "{missing}");
    let content = Content::from(bytes::Bytes::from("no frame"));
    let contents = BTreeMap::from([("f".to_owned(), content)]);
    let broken = own(&Job(1), task(0), &head, &[file("f")], &contents).unwrap_err();
    assert_eq!(broken.code, ErrorCode::CorruptObject);
}
