//! How a source's JSON is written.

use millstream_formats::{JsonOptions, Timestamps, Written};
use millstream_spec::dataflow::JsonFormat;
use millstream_types::schema::Column;

/// What the format says, and its columns beyond it.
pub(super) fn of_source(format: &JsonFormat, columns: &[Column]) -> JsonOptions {
    let zone = format.time_zone.unwrap_or_default();
    let timestamps = |format| Timestamps::new(format, zone);
    let own = columns.iter().filter_map(|column| {
        let written = if column.json {
            Written::Json
        } else {
            Written::Timestamp(timestamps(column.timestamp_format?))
        };
        Some((column.name.clone(), written))
    });
    JsonOptions {
        timestamps: format.timestamp_format.map(timestamps),
        columns: own.collect(),
    }
}
