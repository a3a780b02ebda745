//! A program of a user's own: its sink against the conformance kit, and the program as processes.

#![cfg(test)]
#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod guide;
mod program;
#[path = "../../../examples/custom-sink/src/spool.rs"]
mod spool;

use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use millstream::sinks::conformance::{Subject, transactional};
use millstream::sinks::{SinkConnector, two_phase_commit};
use millstream::types::Batch;
use millstream_tests::Scratch;

/// The example's sink, and somebody who reads its directory.
struct Reader(PathBuf);

impl Subject for Reader {
    fn connector(&self) -> Arc<dyn SinkConnector> {
        let options = serde_json::json!({"directory": self.0});
        let options: spool::Options = serde_json::from_value(options).unwrap();
        two_phase_commit(move |cx| spool::Spool::open(cx, &options))
    }

    fn batch(&self, ids: &[i64]) -> Batch {
        let names = ids.iter().map(ToString::to_string);
        let columns: [(&str, ArrayRef); 2] = [
            ("order_id", Arc::new(StringArray::from_iter_values(names))),
            ("quantity", Arc::new(Int64Array::from(ids.to_vec()))),
        ];
        RecordBatch::try_from_iter(columns).unwrap().into()
    }

    fn visible(&self) -> Result<Vec<i64>, String> {
        let entries = std::fs::read_dir(self.0.join("ready")).map_err(|error| error.to_string())?;
        let files = entries.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
        let text: String = files.collect();
        let ids = text.lines().map(|line| line.split(' ').next().unwrap());
        Ok(ids.map(|id| id.parse().unwrap()).collect())
    }
}

#[test]
fn the_examples_sink_conforms() {
    let mut scratch = None;
    let report = transactional(
        || {
            let directory = Scratch::new("spool");
            let path = directory.path().display().to_string();
            scratch = Some(directory);
            path
        },
        |place| Box::new(Reader(place.into())),
    );
    println!("{report}");
    assert!(report.is_clean(), "{report}");
}
