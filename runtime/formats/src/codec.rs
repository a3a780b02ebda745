//! The formats by name, dispatched statically.

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, SchemaRef};

use crate::{
    DecodeError, EncodeError, EncodedRows, JsonDecoder, JsonEncoder, RawDecoder, RawEncoder,
};

/// A decoder of any format.
#[derive(Debug)]
pub enum Decoder {
    /// JSON objects.
    Json(Box<JsonDecoder>),
    /// Text as it is.
    Raw(RawDecoder),
}

impl From<JsonDecoder> for Decoder {
    fn from(decoder: JsonDecoder) -> Self {
        Self::Json(Box::new(decoder))
    }
}

impl From<RawDecoder> for Decoder {
    fn from(decoder: RawDecoder) -> Self {
        Self::Raw(decoder)
    }
}

impl Decoder {
    /// Appends one row, or nothing.
    ///
    /// # Errors
    /// The record is not of the format, or does not fit the columns.
    #[inline]
    pub fn decode(&mut self, record: &[u8]) -> Result<(), DecodeError> {
        match self {
            Self::Json(decoder) => decoder.decode(record),
            Self::Raw(decoder) => decoder.decode(record),
        }
    }

    /// Appends a row for a record without a value (a Kafka tombstone), if the format has one for it.
    pub fn decode_absent(&mut self) -> bool {
        match self {
            Self::Json(_) => false,
            Self::Raw(decoder) => decoder.decode_absent(),
        }
    }

    /// Rows since the last [`finish`](Self::finish).
    pub const fn rows(&self) -> usize {
        match self {
            Self::Json(decoder) => decoder.rows(),
            Self::Raw(decoder) => decoder.rows(),
        }
    }

    /// Bytes of the records that became those rows.
    pub const fn bytes(&self) -> usize {
        match self {
            Self::Json(decoder) => decoder.bytes(),
            Self::Raw(decoder) => decoder.bytes(),
        }
    }

    /// Records that the JSON decoder's shape cache did not fit, since it was made.
    pub const fn shape_misses(&self) -> u64 {
        match self {
            Self::Json(decoder) => decoder.shape_misses(),
            Self::Raw(_) => 0,
        }
    }

    /// Gives the rows away as a batch and begins the next one.
    ///
    /// # Errors
    /// None of these rows can be the cause: it is a bug of the decoder.
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        match self {
            Self::Json(decoder) => decoder.finish(),
            Self::Raw(decoder) => decoder.finish(),
        }
    }
}

/// An encoder of any format.
#[derive(Debug)]
pub enum Encoder {
    /// JSON objects.
    Json(JsonEncoder),
    /// Text or bytes as they are.
    Raw(RawEncoder),
}

impl From<JsonEncoder> for Encoder {
    fn from(encoder: JsonEncoder) -> Self {
        Self::Json(encoder)
    }
}

impl From<RawEncoder> for Encoder {
    fn from(encoder: RawEncoder) -> Self {
        Self::Raw(encoder)
    }
}

impl Encoder {
    /// The same, for where a record may be without a value: what the format writes as one is
    /// [absent](EncodedRows::is_absent), instead of an error.
    #[must_use]
    pub fn with_nulls(self) -> Self {
        match self {
            Self::Json(_) => self,
            Self::Raw(encoder) => Self::Raw(encoder.with_nulls()),
        }
    }

    /// Encodes every row of a batch. What is returned is valid until the next call.
    ///
    /// # Errors
    /// The batch has other columns than the encoder was made for, or a value that the format
    /// cannot hold; nothing is encoded then.
    pub fn encode(&mut self, batch: &RecordBatch) -> Result<&EncodedRows, EncodeError> {
        match self {
            Self::Json(encoder) => encoder.encode(batch),
            Self::Raw(encoder) => encoder.encode(batch),
        }
    }

    /// The columns that the encoder was made for.
    pub const fn schema(&self) -> &SchemaRef {
        match self {
            Self::Json(encoder) => encoder.schema(),
            Self::Raw(encoder) => encoder.schema(),
        }
    }
}
