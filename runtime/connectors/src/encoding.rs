//! The encoder of a sink's format.

use arrow_schema::SchemaRef;
use millstream_connect::Result;
use millstream_formats::{
    EncodeError, Encoder, JsonEncoder, JsonOptions, RawEncoder, Timestamps, Written,
};
use millstream_spec::dataflow::JsonFormat;
use millstream_spec::{Format, ValidSink};
use millstream_types::{ErrorCode, ErrorKind, Failure};

/// An encoder of the sink's format for batches with these columns.
///
/// # Errors
/// The format cannot hold a column.
pub fn encoder(spec: &ValidSink, schema: &SchemaRef) -> Result<Encoder> {
    let encoder = match &spec.format {
        Format::Json(json) => {
            JsonEncoder::with_options(schema, &json_options(json)).map(Encoder::from)
        }
        Format::Raw(_) => RawEncoder::new(schema).map(Encoder::from),
    };
    encoder.map_err(|error| {
        let message = format!(
            "sink `{}`: {error}; cast it in the SQL of its input, or leave it out",
            spec.name
        );
        Failure::new(ErrorCode::InvalidJob, ErrorKind::InvalidJob, message)
    })
}

/// How a sink's JSON is written.
pub fn json_options(format: &JsonFormat) -> JsonOptions {
    let zone = format.time_zone.unwrap_or_default();
    let columns = format.json_columns.iter();
    JsonOptions {
        timestamps: format
            .timestamp_format
            .map(|format| Timestamps::new(format, zone)),
        columns: columns.map(|name| (name.clone(), Written::Json)).collect(),
    }
}

/// The failure of a sink whose input cannot be encoded.
pub fn failed(sink: &str, error: &EncodeError) -> Failure {
    let kind = match error {
        EncodeError::OtherSchema(_) => ErrorKind::Internal,
        EncodeError::Value { .. } => ErrorKind::InvalidJob,
    };
    let message = format!("sink `{sink}`: {error}; filter or convert such values in SQL");
    Failure::new(ErrorCode::ExpressionFailed, kind, message)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};

    use super::*;

    #[test]
    fn json_is_written_as_the_format_says() {
        let columns: [(&str, ArrayRef); 2] = [
            ("payload", Arc::new(StringArray::from(vec!["{\"a\": 1}"]))),
            (
                "made",
                Arc::new(TimestampMicrosecondArray::from(vec![0]).with_timezone("+00:00")),
            ),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        for (format, expected) in [
            (
                r#"{"jsonColumns":["payload"],"timestampFormat":"sql","timeZone":"+02:00"}"#,
                r#"{"payload":{"a":1},"made":"1970-01-01 02:00:00"}"#,
            ),
            (
                r#"{"timestampFormat":"epochSeconds"}"#,
                r#"{"payload":"{\"a\": 1}","made":0}"#,
            ),
        ] {
            let format = serde_json::from_str(format).unwrap();
            let options = json_options(&format);
            let mut encoder = JsonEncoder::with_options(&batch.schema(), &options).unwrap();
            let rows = encoder.encode(&batch).unwrap();
            assert_eq!(std::str::from_utf8(rows.row(0)), Ok(expected));
        }
    }
}
