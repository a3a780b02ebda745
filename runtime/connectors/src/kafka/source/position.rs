//! A split and where it stands, as a checkpoint keeps it.

use millstream_connect::Result;
use millstream_types::{Opaque, SplitState};
use serde::{Deserialize, Serialize};

use crate::kafka::client::PartitionId;
use crate::kafka::failure;

/// Where a partition is read from, and up to where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// Offset of the next record.
    pub(super) offset: i64,
    /// The first offset that is not read any more; `None` if the partition has no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stop: Option<i64>,
}

impl Position {
    /// Whether everything before `stop` has been passed.
    pub(super) fn is_finished(self) -> bool {
        self.stop.is_some_and(|stop| self.offset >= stop)
    }

    fn opaque(self) -> Opaque {
        let text = match self.stop {
            None => format!(r#"{{"offset":{}}}"#, self.offset),
            Some(stop) => format!(r#"{{"offset":{},"stop":{stop}}}"#, self.offset),
        };
        Opaque(text)
    }
}

/// One partition that is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Split {
    pub(super) partition: PartitionId,
    pub(super) position: Position,
    /// Records read since the job began.
    pub(super) records: u64,
}

impl Split {
    /// Name of the split of a partition: `<topic>/<partition>`. A topic has no `/` in its name.
    pub(super) fn name(partition: &PartitionId) -> String {
        format!("{}/{}", partition.topic, partition.partition)
    }

    /// As a checkpoint keeps it.
    pub(super) fn state(&self) -> SplitState {
        SplitState {
            split: Self::name(&self.partition),
            position: self.position.opaque(),
            records: self.records,
            finished: self.position.is_finished(),
        }
    }

    /// Reads what a checkpoint kept.
    ///
    /// # Errors
    /// It was not written by this connector.
    pub(super) fn read(state: &SplitState) -> Result<Self> {
        let (topic, partition) = state
            .split
            .rsplit_once('/')
            .and_then(|(topic, number)| Some((topic, number.parse().ok()?)))
            .ok_or_else(|| {
                failure::unreadable_state("a split", &state.split, "it is not <topic>/<partition>")
            })?;
        let text = &state.position.0;
        let position: Position = serde_json::from_str(text)
            .map_err(|error| failure::unreadable_state("a position", text, &error.to_string()))?;
        if position.offset < 0 {
            let reason = "the offset is negative";
            return Err(failure::unreadable_state("a position", text, reason));
        }
        Ok(Self {
            partition: PartitionId {
                topic: topic.to_owned(),
                partition,
            },
            position,
            records: state.records,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(offset: i64, stop: Option<i64>) -> Split {
        Split {
            partition: PartitionId {
                topic: "orders.v1".into(),
                partition: 3,
            },
            position: Position { offset, stop },
            records: 17,
        }
    }

    #[test]
    fn a_split_is_read_back_as_written() {
        for split in [split(0, None), split(42, Some(50)), split(50, Some(50))] {
            assert_eq!(Split::read(&split.state()).unwrap(), split);
        }
    }

    #[test]
    fn a_split_is_finished_when_it_has_reached_its_stop() {
        assert!(!split(49, Some(50)).state().finished);
        assert!(split(50, Some(50)).state().finished);
        assert!(split(0, Some(0)).state().finished);
        assert!(!split(1_000, None).state().finished);
    }

    #[test]
    fn a_foreign_split_is_an_error_that_shows_it() {
        for (name, position) in [
            ("part-0.json", r#"{"offset":1}"#),
            ("orders/x", r#"{"offset":1}"#),
            ("orders/0", r#"{"byte":1}"#),
            ("orders/0", r#"{"offset":-1}"#),
            ("orders/0", "earliest"),
        ] {
            let state = SplitState {
                split: name.into(),
                position: Opaque(position.into()),
                records: 0,
                finished: false,
            };
            let error = Split::read(&state).unwrap_err();
            let shown = error.message.contains(name) || error.message.contains(position);
            assert!(shown, "{error}");
        }
    }
}
