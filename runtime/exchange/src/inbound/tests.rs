use std::sync::mpsc;

use arrow_buffer::Buffer;
use millstream_types::{Batch, EventTime};
use proptest::prelude::*;

use super::*;
use crate::frame::{Frame, HEADER_BYTES};
use crate::outbox::{RemoteSender, SendError};
use crate::testing::{batch, send};

const ATTEMPT: u64 = 3;
const CHANNEL: ChannelId = ChannelId {
    edge: 1,
    from: 0,
    to: 2,
};
const WINDOW: usize = 100_000;

#[derive(Debug)]
struct Into(mpsc::Sender<(Element, Option<Credit>)>);

impl Deliver for Into {
    fn deliver(&mut self, element: Element, credit: Option<Credit>) -> Result<(), Gone> {
        self.0.send((element, credit)).map_err(|_| Gone)
    }
}

type Delivered = mpsc::Receiver<(Element, Option<Credit>)>;

fn receiver(window: usize) -> (Inbound, Arc<Outbox>, Delivered) {
    let outbox = Arc::new(Outbox::new(ATTEMPT));
    let (sender, delivered) = mpsc::channel();
    let receiving = Receiving::new(CHANNEL, window, Box::new(Into(sender)), &outbox);
    let inbound = Inbound::new(ATTEMPT, BTreeMap::from([(CHANNEL, receiving)]));
    (inbound, outbox, delivered)
}

#[expect(clippy::unwrap_in_result, reason = "a frame has a header")]
fn take(inbound: &mut Inbound, frame: &Frame) -> Result<(), FrameError> {
    let bytes = frame.to_bytes();
    let header = Header::decode(bytes.first_chunk().unwrap()).unwrap();
    inbound.take(&header, &Buffer::from_slice_ref(&bytes[HEADER_BYTES..]))
}

fn some(rows: usize) -> Batch {
    batch(&[0, 1], &vec![vec![Some(1), Some(2)]; rows])
}

/// The frames of some elements.
fn sent(count: usize) -> Vec<Frame> {
    let outbox = Arc::new(Outbox::new(ATTEMPT));
    let sender = RemoteSender::new(CHANNEL, usize::MAX, &outbox);
    for number in 0..count {
        let element = if number % 3 == 1 {
            Element::Idle
        } else {
            Element::Batch(some(number))
        };
        sender.send(&element).unwrap();
    }
    outbox.take().unwrap().into()
}

proptest! {
    #[test]
    fn a_frame_that_is_lost_doubled_or_out_of_order_is_an_error_where_it_happens(
        at in 0_usize..9, what in 0..3,
    ) {
        let mut frames = sent(8);
        let complete = frames.len();
        match what {
            0 => { frames.remove(at.min(complete - 2)); }
            1 => frames.insert(at, frames[at.min(complete - 1)].clone()),
            _ => frames.swap(at.min(complete - 2), at.min(complete - 2) + 1),
        }
        let (mut inbound, _, delivered) = receiver(usize::MAX);
        let error = frames.iter().try_for_each(|frame| take(&mut inbound, frame)).unwrap_err();
        let in_order = matches!(error, FrameError::Sequence { channel: CHANNEL, expected, .. } if expected <= 9);
        prop_assert!(in_order, "{:?}", error);
        prop_assert!(delivered.try_iter().count() <= at + 1);
    }
}

#[test]
fn elements_are_delivered_in_order() {
    let (mut inbound, _, delivered) = receiver(usize::MAX);
    for frame in sent(9) {
        take(&mut inbound, &frame).unwrap();
    }
    let rows: Vec<usize> = delivered
        .try_iter()
        .filter_map(|(element, _)| match element {
            Element::Batch(batch) => Some(batch.rows()),
            _ => None,
        })
        .collect();
    assert_eq!(rows, [0, 2, 3, 5, 6, 8]);
}

#[test]
fn frames_of_another_attempt_channel_or_direction_are_errors() {
    let frame =
        |channel, attempt, kind| Frame::new(channel, attempt, 0, kind, Body::default()).unwrap();
    let other = ChannelId { to: 9, ..CHANNEL };
    let (mut inbound, _, _delivered) = receiver(WINDOW);
    let error = take(&mut inbound, &frame(CHANNEL, 2, Kind::Idle)).unwrap_err();
    assert_eq!(
        error,
        FrameError::Attempt {
            expected: 3,
            actual: 2
        }
    );
    let error = take(&mut inbound, &frame(other, ATTEMPT, Kind::Idle)).unwrap_err();
    assert_eq!(
        error,
        FrameError::Unexpected {
            channel: other,
            kind: Kind::Idle
        }
    );
    let error = take(&mut inbound, &frame(CHANNEL, ATTEMPT, Kind::Gone)).unwrap_err();
    assert_eq!(
        error,
        FrameError::Unexpected {
            channel: CHANNEL,
            kind: Kind::Gone
        }
    );
    let outbox = Arc::new(Outbox::new(ATTEMPT));
    let mut answers = Answers::new(ATTEMPT, [CHANNEL], &outbox);
    let header = Header {
        channel: CHANNEL,
        attempt: ATTEMPT,
        sequence: 0,
        kind: Kind::Batch,
        length: 0,
    };
    let error = answers
        .take(&header, &Buffer::from_slice_ref([0_u8; 0]))
        .unwrap_err();
    assert_eq!(
        error,
        FrameError::Unexpected {
            channel: CHANNEL,
            kind: Kind::Batch
        }
    );
}

#[test]
fn records_before_their_schema_are_an_error() {
    let frames = sent(1);
    let body = frames[1].body.clone();
    let early = Frame::new(CHANNEL, ATTEMPT, 0, Kind::Batch, body).unwrap();
    let (mut inbound, _, _delivered) = receiver(WINDOW);
    let error = take(&mut inbound, &early).unwrap_err();
    assert_eq!(
        error,
        FrameError::Unexpected {
            channel: CHANNEL,
            kind: Kind::Batch
        }
    );
}

#[test]
fn more_than_a_step_beyond_the_window_is_an_error() {
    let (inbound, _, _delivered) = receiver(WINDOW);
    let window = &inbound.channels[&CHANNEL].window;
    let most = window.take(WINDOW + STEP_MAX).unwrap();
    let error = window.take(1).unwrap_err();
    let expected = FrameError::Credit {
        channel: CHANNEL,
        length: 1,
        credit: 0,
    };
    assert_eq!(error, expected);
    drop(most);
    window.take(1).unwrap();
}

#[test]
fn credit_comes_back_when_records_are_taken_and_lets_as_many_follow() {
    let (mut inbound, answers, delivered) = receiver(WINDOW);
    let outbox = Arc::new(Outbox::new(ATTEMPT));
    let sender = RemoteSender::new(CHANNEL, WINDOW, &outbox);
    let mut back = Answers::new(ATTEMPT, [CHANNEL], &outbox);
    let sending = std::thread::spawn(move || {
        for _ in 0..500 {
            send(&sender, &Element::Batch(some(300))).unwrap();
        }
        sender.send(&Element::End).unwrap();
    });
    let (mut held, mut most, mut batches) = (0, 0, 0);
    'all: loop {
        for frame in outbox.take().unwrap() {
            if frame.to_bytes()[28] == Kind::Batch as u8 {
                held += frame.body.len();
            }
            most = most.max(held);
            take(&mut inbound, &frame).unwrap();
        }
        for (element, credit) in delivered.try_iter().take(2) {
            match element {
                Element::Batch(_) => batches += 1,
                Element::End => break 'all,
                _ => {}
            }
            drop(credit);
        }
        for frame in answers.take().unwrap() {
            let bytes = frame.to_bytes();
            let header = Header::decode(bytes.first_chunk().unwrap()).unwrap();
            let body = Buffer::from_slice_ref(&bytes[HEADER_BYTES..]);
            held -= usize::try_from(body::decode_number(Kind::Credit, &body).unwrap()).unwrap();
            back.take(&header, &body).unwrap();
        }
        std::thread::yield_now();
    }
    sending.join().unwrap();
    assert_eq!(batches, 500);
    // The batch for which there was room.
    assert!(most < WINDOW + 16_000, "{most}");
    assert!(most > WINDOW / 2, "{most}: the window is used");
}

#[test]
fn a_batch_that_is_larger_than_the_window_fills_it() {
    let outbox = Arc::new(Outbox::new(ATTEMPT));
    let sender = RemoteSender::new(CHANNEL, 10, &outbox);
    let waker = std::task::Waker::noop();
    assert!(sender.has_room(waker));
    sender.send(&Element::Batch(some(1_000))).unwrap();
    assert!(!sender.has_room(waker));
    let (mut inbound, _, delivered) = receiver(10);
    for frame in outbox.take().unwrap() {
        take(&mut inbound, &frame).unwrap();
    }
    assert!(matches!(delivered.try_recv().unwrap().0, Element::Batch(_)));
}

/// A barrier is never kept from its way by records that the receiver does not read.
#[test]
fn a_channel_without_room_takes_control_elements_and_the_rest_of_a_step() {
    let outbox = Arc::new(Outbox::new(ATTEMPT));
    let sender = RemoteSender::new(CHANNEL, 10, &outbox);
    let (mut inbound, _, delivered) = receiver(10);
    for element in [
        Element::Batch(some(100)),
        Element::Batch(some(7)),
        Element::Idle,
    ] {
        sender.send(&element).unwrap();
    }
    for frame in outbox.take().unwrap() {
        take(&mut inbound, &frame).unwrap();
    }
    let came: Vec<Element> = delivered.try_iter().map(|(element, _)| element).collect();
    assert_eq!(came.len(), 3);
    assert_eq!(came.last(), Some(&Element::Idle));
}

#[test]
fn a_reader_that_is_gone_ends_its_sender_and_no_other() {
    let (mut inbound, answers, delivered) = receiver(WINDOW);
    drop(delivered);
    for frame in sent(3) {
        take(&mut inbound, &frame).unwrap();
    }
    let outbox = Arc::new(Outbox::new(ATTEMPT));
    let sender = RemoteSender::new(CHANNEL, WINDOW, &outbox);
    let other = ChannelId { to: 3, ..CHANNEL };
    let beside = RemoteSender::new(other, WINDOW, &outbox);
    let mut back = Answers::new(ATTEMPT, [CHANNEL, other], &outbox);
    for frame in answers.take().unwrap() {
        let bytes = frame.to_bytes();
        let header = Header::decode(bytes.first_chunk().unwrap()).unwrap();
        back.take(&header, &Buffer::from_slice_ref(&bytes[HEADER_BYTES..]))
            .unwrap();
    }
    assert_eq!(sender.send(&Element::Idle), Err(SendError::Closed));
    assert_eq!(beside.send(&Element::Idle), Ok(()));
}

#[test]
fn watermarks_that_wait_are_replaced_by_newer_ones() {
    let outbox = Arc::new(Outbox::new(ATTEMPT));
    let sender = RemoteSender::new(CHANNEL, WINDOW, &outbox);
    let beside = RemoteSender::new(ChannelId { to: 3, ..CHANNEL }, WINDOW, &outbox);
    for time in 0..1_000 {
        sender.send(&Element::Watermark(EventTime(time))).unwrap();
        beside.send(&Element::Watermark(EventTime(time))).unwrap();
    }
    sender.send(&Element::Batch(some(1))).unwrap();
    sender.send(&Element::Watermark(EventTime(5_000))).unwrap();
    let (mut inbound, _, delivered) = receiver(WINDOW);
    let frames = outbox.take().unwrap();
    assert_eq!(frames.len(), 5, "two watermarks, schema, batch, watermark");
    for frame in frames.iter().filter(|frame| frame.to_bytes()[8] == 2) {
        take(&mut inbound, frame).unwrap();
    }
    let elements: Vec<Element> = delivered.try_iter().map(|(element, _)| element).collect();
    assert_eq!(elements.first(), Some(&Element::Watermark(EventTime(999))));
    assert_eq!(elements.last(), Some(&Element::Watermark(EventTime(5_000))));
    sender.send(&Element::Watermark(EventTime(6_000))).unwrap();
    assert_eq!(
        outbox.take().unwrap().len(),
        1,
        "what has left is not replaced"
    );
}

#[test]
fn a_sender_that_waits_wakes_when_the_connection_ends() {
    let outbox = Arc::new(Outbox::new(ATTEMPT));
    let sender = RemoteSender::new(CHANNEL, 10, &outbox);
    let waiting = std::thread::spawn(
        move || {
            while send(&sender, &Element::Batch(some(100))).is_ok() {}
        },
    );
    outbox.close();
    waiting.join().unwrap();
    while outbox.take().is_some() {}
}
