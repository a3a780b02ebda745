//! Records that were in channels when a barrier overtook them, as a file.
//!
//! It is a sequence of [frames](crate::frame) of the kinds *schema* and *batch*, numbered from 0, of attempt
//! 0. In front of the first batch of a channel, and wherever its columns change, stands its schema. The
//! `edge` of a channel is the number of the input that its records are for: edges of the graph may be
//! numbered anew when a job changes, inputs of a node are not.

use std::collections::BTreeMap;

use arrow_buffer::Buffer;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use millstream_types::Batch;

use crate::frame::body::{self, BatchEncoder};
use crate::frame::{ChannelId, Frame, FrameError, HEADER_BYTES, Header, Kind};

/// A batch that was in a channel.
#[derive(Debug, Clone, PartialEq)]
pub struct InFlight {
    /// Which; its `edge` is the input that the records are for.
    pub channel: ChannelId,
    /// The records.
    pub batch: Batch,
}

/// Writes records as a file, in their order.
///
/// # Errors
/// A column has a type that no stream has.
pub fn encode(records: &[InFlight]) -> Result<Bytes, FrameError> {
    let mut encoder = BatchEncoder::default();
    let mut schemas: BTreeMap<ChannelId, SchemaRef> = BTreeMap::new();
    let mut file = Vec::new();
    let mut sequence = 0;
    let mut append = |channel, kind, body| {
        let frame = Frame::new(channel, 0, sequence, kind, body)?;
        sequence += 1;
        file.extend_from_slice(&frame.header);
        file.extend_from_slice(&frame.body.head);
        file.extend_from_slice(&frame.body.data);
        Ok::<(), FrameError>(())
    };
    for InFlight { channel, batch } in records {
        let schema = batch.records().schema_ref();
        if schemas.get(channel) != Some(schema) {
            append(*channel, Kind::Schema, body::encode_schema(schema)?)?;
            schemas.insert(*channel, SchemaRef::clone(schema));
        }
        append(*channel, Kind::Batch, encoder.encode(batch)?)?;
    }
    Ok(file.into())
}

/// Reads a file, of which the checksum is known to hold.
///
/// # Errors
/// It is none that [`encode`] writes.
pub fn decode(mut file: &[u8]) -> Result<Vec<InFlight>, FrameError> {
    let mut schemas: BTreeMap<ChannelId, SchemaRef> = BTreeMap::new();
    let mut records = Vec::new();
    let mut expected = 0;
    while !file.is_empty() {
        let (bytes, rest) = file.split_first_chunk::<HEADER_BYTES>().ok_or_else(ends)?;
        let header = Header::decode(bytes)?;
        let length = usize::try_from(header.length).unwrap_or(usize::MAX);
        let (body, rest) = rest.split_at_checked(length).ok_or_else(ends)?;
        Header::check(bytes, body)?;
        file = rest;
        let Header {
            channel,
            kind,
            sequence,
            ..
        } = header;
        if sequence != expected {
            return Err(FrameError::Sequence {
                channel,
                expected,
                actual: sequence,
            });
        }
        expected += 1;
        match kind {
            Kind::Schema => drop(schemas.insert(channel, body::decode_schema(body)?)),
            Kind::Batch => {
                let schema = schemas.get(&channel);
                let schema = schema.ok_or(FrameError::Unexpected { channel, kind })?;
                // Columns lie in memory that is aligned for them.
                let batch = body::decode_batch(&Buffer::from_slice_ref(body), schema)?;
                records.push(InFlight { channel, batch });
            }
            kind => return Err(FrameError::Unexpected { channel, kind }),
        }
    }
    Ok(records)
}

fn ends() -> FrameError {
    FrameError::Body {
        kind: Kind::Batch,
        reason: "the file ends within a frame".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::batches;

    fn channel(number: u32) -> ChannelId {
        ChannelId {
            edge: number % 2,
            from: number,
            to: 7,
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_in_its_order(
            (_, first) in batches(40), (_, second) in batches(40),
        ) {
            let all = first.into_iter().chain(second).zip(0..);
            let records: Vec<InFlight> = all
                .map(|(batch, number)| InFlight { channel: channel(number % 3), batch })
                .collect();
            let file = encode(&records).unwrap();
            prop_assert_eq!(decode(&file).unwrap(), records);
        }

        #[test]
        fn a_file_that_is_cut_or_changed_is_refused_or_complete(
            (_, batches) in batches(40), at in any::<prop::sample::Index>(), cut in any::<bool>(),
        ) {
            let channel = channel(0);
            let records: Vec<InFlight> =
                batches.into_iter().map(|batch| InFlight { channel, batch }).collect();
            let mut file = encode(&records).unwrap().to_vec();
            prop_assume!(!file.is_empty());
            let at = at.index(file.len());
            if cut {
                file.truncate(at);
                // Between two frames it is what was written first: the checksum of the file tells.
                let read = decode(&file).unwrap_or_default();
                prop_assert!(records.starts_with(&read));
            } else {
                file[at] ^= 0x10;
                prop_assert!(decode(&file).is_err());
            }
        }
    }

    #[test]
    fn frames_of_another_kind_or_order_are_refused() {
        let frame = |sequence, kind| {
            let body = crate::frame::Body::default();
            Frame::new(channel(0), 0, sequence, kind, body)
                .unwrap()
                .to_bytes()
        };
        let read = decode(&frame(0, Kind::Idle)).unwrap_err();
        assert!(matches!(read, FrameError::Unexpected { .. }), "{read}");
        let read = decode(&frame(1, Kind::Idle)).unwrap_err();
        assert!(matches!(read, FrameError::Sequence { .. }), "{read}");
        let read = decode(&frame(0, Kind::Batch)).unwrap_err();
        assert!(matches!(read, FrameError::Unexpected { .. }), "{read}");
        assert_eq!(decode(&[]).unwrap(), []);
    }
}
