//! The encoder of a sink's format.

use arrow_schema::SchemaRef;
use millstream_connect::Result;
use millstream_formats::{EncodeError, Encoder, JsonEncoder, RawEncoder};
use millstream_spec::{Format, ValidSink};
use millstream_types::{ErrorCode, ErrorKind, Failure};

/// An encoder of the sink's format for batches with these columns.
///
/// # Errors
/// The format cannot hold a column.
pub fn encoder(spec: &ValidSink, schema: &SchemaRef) -> Result<Encoder> {
    let encoder = match &spec.format {
        Format::Json(_) => JsonEncoder::new(schema).map(Encoder::from),
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

/// The failure of a sink whose input cannot be encoded.
pub fn failed(sink: &str, error: &EncodeError) -> Failure {
    let kind = match error {
        EncodeError::OtherSchema(_) => ErrorKind::Internal,
        EncodeError::Value { .. } => ErrorKind::InvalidJob,
    };
    let message = format!("sink `{sink}`: {error}; filter or convert such values in SQL");
    Failure::new(ErrorCode::ExpressionFailed, kind, message)
}
