use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, ListArray, NullArray, RecordBatch};
use arrow_buffer::Buffer;
use arrow_schema::{Field, Schema};
use millstream_types::{Barrier, Batch, CheckpointId, CheckpointKind, EventTime, Timestamp};
use proptest::prelude::*;

use super::body::*;
use super::*;
use crate::testing::{batches, kinds, rows};

fn kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(Kind::ALL.to_vec())
}

fn channel() -> impl Strategy<Value = ChannelId> {
    (any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(edge, from, to)| ChannelId {
        edge,
        from,
        to,
    })
}

fn frame() -> impl Strategy<Value = (Header, Frame, Vec<u8>)> {
    let body = prop::collection::vec(any::<u8>(), 0..200);
    (channel(), any::<u64>(), any::<u64>(), kind(), body).prop_map(
        |(channel, attempt, sequence, kind, mut body)| {
            body.truncate(kind.longest());
            let length = u32::try_from(body.len()).unwrap();
            let header = Header {
                channel,
                attempt,
                sequence,
                kind,
                length,
            };
            let (head, data) = body.split_at(body.len() / 3);
            let made = Body::new(head.to_vec(), data.to_vec());
            let frame = Frame::new(channel, attempt, sequence, kind, made).unwrap();
            (header, frame, body)
        },
    )
}

/// Reads a frame as a connection does.
fn read(bytes: &[u8]) -> Option<Result<(Header, Vec<u8>), FrameError>> {
    let header = bytes.first_chunk::<HEADER_BYTES>()?;
    let decoded = match Header::decode(header) {
        Ok(decoded) => decoded,
        Err(error) => return Some(Err(error)),
    };
    let body = bytes[HEADER_BYTES..].get(..decoded.length as usize)?;
    Some(Header::check(header, body).map(|()| (decoded, body.to_vec())))
}

fn aligned(body: &Body) -> Buffer {
    Buffer::from_slice_ref([body.head.as_slice(), &body.data].concat())
}

fn encoded(batch: &Batch) -> Vec<u8> {
    let body = BatchEncoder::default().encode(batch).unwrap();
    [body.head.as_slice(), &body.data].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_frame_is_read_back_as_it_was_made((header, frame, body) in frame()) {
        prop_assert_eq!(frame.len(), HEADER_BYTES + body.len());
        prop_assert_eq!(read(&frame.to_bytes()), Some(Ok((header, body))));
    }

    #[test]
    fn a_frame_in_which_anything_has_changed_is_an_error(
        (_, frame, _) in frame(), at in any::<prop::sample::Index>(), change in 1..=u8::MAX,
    ) {
        let mut bytes = frame.to_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        // A longer length makes it a frame that is not there yet.
        prop_assert!(!matches!(read(&bytes), Some(Ok(_))), "byte {} has changed", at);
    }

    #[test]
    fn a_frame_that_is_cut_off_is_never_one((_, frame, _) in frame(), at in any::<prop::sample::Index>()) {
        let bytes = frame.to_bytes();
        prop_assert_eq!(read(&bytes[..at.index(bytes.len())]), None);
    }

    #[test]
    fn any_bytes_are_a_frame_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(!matches!(read(&bytes), Some(Ok(_))));
    }

    #[test]
    fn a_body_that_is_longer_than_its_kind_allows_is_an_error(
        mut bytes in prop::collection::vec(any::<u8>(), HEADER_BYTES), kind in kind(), more in 1..=u32::MAX,
    ) {
        let longest = u32::try_from(kind.longest()).unwrap();
        bytes[28] = kind as u8;
        bytes[32..36].copy_from_slice(&longest.saturating_add(more).to_le_bytes());
        let header = bytes.first_chunk::<HEADER_BYTES>().unwrap();
        let too_long = matches!(Header::decode(header), Err(FrameError::Length { .. }));
        prop_assert!(too_long);
    }

    #[test]
    fn batches_of_every_type_are_read_back((_, batches) in batches(60)) {
        let mut encoder = BatchEncoder::default();
        for batch in batches {
            let schema = encode_schema(&batch.schema()).unwrap();
            let schema = decode_schema(&aligned(&schema)).unwrap();
            prop_assert_eq!(&schema, &batch.schema());
            let body = encoder.encode(&batch).unwrap();
            prop_assert_eq!(decode_batch(&aligned(&body), &schema), Ok(batch));
        }
    }

    /// With a checksum that holds: somebody who means harm, or a bug of the sender.
    #[test]
    fn a_batch_with_wrong_content_is_read_or_refused_and_never_a_panic(
        (kinds, rows) in kinds().prop_flat_map(|kinds| { let rows = rows(kinds.len(), 30); (Just(kinds), rows) }),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        in_front in any::<bool>(),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        let batch = crate::testing::batch(&kinds, &rows);
        let mut bytes = encoded(&batch);
        let most = if in_front { bytes.len().min(400) } else { bytes.len() };
        for (at, value) in changes {
            let at = at.index(most);
            bytes[at] = value;
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(read) = decode_batch(&Buffer::from_vec(bytes), &batch.schema()) {
            // What is read can be used.
            prop_assert!(i32::try_from(read.rows()).is_ok());
            let mut hashes = Vec::new();
            drop(millstream_types::keys::hash(read.records(), &[0], &mut hashes));
            drop(format!("{read:?}"));
        }
    }

    #[test]
    fn a_batch_of_another_schema_is_read_or_refused_and_never_a_panic(
        a in kinds(), b in kinds(), count in 0_usize..20,
    ) {
        let row = |kinds: &[usize]| vec![vec![Some(7); kinds.len()]; count];
        let (a, b) = (crate::testing::batch(&a, &row(&a)), crate::testing::batch(&b, &row(&b)));
        if let Ok(read) = decode_batch(&Buffer::from_vec(encoded(&a)), &b.schema()) {
            drop(format!("{read:?}"));
        }
    }

    #[test]
    fn any_bytes_are_a_body_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let schema = crate::testing::batch(&[0, 1], &[]).schema();
        prop_assert!(decode_batch(&Buffer::from_vec(bytes.clone()), &schema).is_err());
        prop_assert!(decode_schema(&bytes).is_err());
        prop_assert_eq!(decode_number(Kind::Credit, &bytes).is_ok(), bytes.len() == 8);
        prop_assert!(decode_barrier(&bytes).is_err() || bytes.len() == 25);
    }

    #[test]
    fn control_elements_are_read_back(
        checkpoint in any::<u64>(), at in any::<u64>(), timeout in any::<Option<u32>>(), time in any::<i64>(), kind in 0..4,
    ) {
        let kind = match kind {
            0 => CheckpointKind::Checkpoint,
            1 => CheckpointKind::Savepoint,
            kind => CheckpointKind::StopWithSavepoint { drain: kind == 3 },
        };
        let barrier = Barrier {
            checkpoint: CheckpointId(checkpoint),
            kind,
            triggered_at: Timestamp(at),
            aligned_timeout_ms: timeout.map(u64::from),
        };
        prop_assert_eq!(decode_barrier(&aligned(&encode_barrier(barrier))), Ok(barrier));
        let time = EventTime(time);
        prop_assert_eq!(decode_watermark(&aligned(&encode_watermark(time))), Ok(time));
    }
}

#[test]
fn columns_lie_in_the_buffer_that_was_read() {
    let batch = crate::testing::batch(&[0, 1], &vec![vec![Some(7), Some(8)]; 1_000]);
    let body = aligned(&BatchEncoder::default().encode(&batch).unwrap());
    let read = decode_batch(&body, &batch.schema()).unwrap();
    let within = body.as_ptr_range();
    for column in read.records().columns() {
        for buffer in column.to_data().buffers() {
            assert!(within.contains(&buffer.as_ptr()), "a column was copied");
        }
    }
}

#[test]
fn a_column_without_buffers_travels() {
    let nulls: ArrayRef = Arc::new(NullArray::new(5));
    let batch =
        Batch::new(RecordBatch::try_from_iter_with_nullable([("nothing", nulls, true)]).unwrap());
    let schema = decode_schema(&aligned(&encode_schema(&batch.schema()).unwrap())).unwrap();
    assert_eq!(
        decode_batch(&Buffer::from_vec(encoded(&batch)), &schema),
        Ok(batch)
    );
}

#[test]
fn a_column_that_cannot_travel_is_named() {
    let lists: ArrayRef = Arc::new(ListArray::new_null(
        Arc::new(Field::new("item", arrow_schema::DataType::Int64, true)),
        1,
    ));
    let fields = Schema::new(vec![Field::new("lists", lists.data_type().clone(), true)]);
    let error = encode_schema(&fields).unwrap_err();
    assert!(error.to_string().contains("`lists`"), "{error}");
    let text = r#"[{"name": "x", "type": "List(Int64)", "nullable": true}]"#;
    assert!(decode_schema(text.as_bytes()).is_err());
}

#[test]
fn a_slice_is_sent_without_the_rest() {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100_000));
    let records = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
    let slice = Batch::new(records.slice(50_000, 10));
    assert!(encoded(&slice).len() < 1_000);
}
