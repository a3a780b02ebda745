//! Rows of the kit.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use millstream_types::Batch;

/// Rows with these ids, and a text for each.
pub(super) fn of(ids: &[i64]) -> Batch {
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("text", DataType::Utf8, true),
    ]));
    let texts = ids.iter().map(|id| Some(format!("row {id}")));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(ids.to_vec())),
        Arc::new(texts.collect::<StringArray>()),
    ];
    let records = RecordBatch::try_new(Arc::clone(&schema), columns);
    records
        .unwrap_or_else(|_| RecordBatch::new_empty(schema))
        .into()
}
