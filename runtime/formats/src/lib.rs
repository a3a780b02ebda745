//! Bytes to batches and back.
//!
//! A decoder is pushed one record at a time and appends one row or nothing: a record that cannot
//! be decoded leaves no trace in the columns. Its columns are those of the schema it is given,
//! which may be a projection of what the records hold; fields that nobody asked for are checked
//! for well-formedness and never parsed into values. An encoder turns a batch into one byte string
//! per row, in buffers that it keeps.
//!
//! Invariants:
//! - No input makes a decoder panic, and lengths are checked before anything is allocated for
//!   them.
//! - The JSON decoder's shape cache ([`json`]) changes how fast a record is decoded, never
//!   whether or to what.
//!
//! Reading order: [`error`] is what can be wrong with a record, [`calendar`], [`number`] and
//! [`timestamp`] are the exact conversions, [`column`] collects values, [`json`] and [`raw`] are the formats,
//! [`encoded`] is what encoders return. `docs/formats.md` says it to users.

pub mod calendar;
mod codec;
mod column;
pub mod encoded;
pub mod error;
pub mod json;
pub mod number;
pub mod raw;
pub mod timestamp;

pub use codec::{Decoder, Encoder};
pub use encoded::EncodedRows;
pub use error::{DecodeError, DecodeReason, EncodeError, UnsupportedColumn};
pub use json::{JsonDecoder, JsonEncoder, JsonOptions, Written};
pub use raw::{RawDecoder, RawEncoder};
pub use timestamp::Timestamps;
