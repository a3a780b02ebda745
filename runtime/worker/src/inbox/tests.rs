use std::sync::Arc;
use std::thread;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use millstream_types::{Barrier, Batch, CheckpointId, CheckpointKind, EventTime, Timestamp};
use proptest::prelude::*;

use super::*;

const SOON: Duration = Duration::from_secs(20);
const NONE_HELD: Read<'_> = Read::Channels { held: &[] };

fn batch(values: Vec<i64>) -> Element {
    let column: ArrayRef = Arc::new(Int64Array::from(values));
    Element::Batch(Batch::new(
        RecordBatch::try_from_iter([("value", column)]).unwrap(),
    ))
}

fn barrier(number: u64) -> Element {
    Element::Barrier(Barrier {
        checkpoint: CheckpointId(number),
        kind: CheckpointKind::Checkpoint,
        triggered_at: Timestamp(0),
        aligned_timeout_ms: None,
    })
}

/// An inbox with one channel.
fn one(bound: usize) -> (Inbox, ChannelSender, InboxHandle) {
    let (inbox, mut senders, handle) = inbox(1, bound);
    (inbox, senders.remove(0), handle)
}

/// The next element; that a barrier was put in is not looked at.
fn next(inbox: &mut Inbox) -> Element {
    loop {
        match inbox.next(NONE_HELD, SOON).unwrap() {
            Some(Received::Element(_, element)) => return element,
            Some(Received::Announced(..)) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_barrier_is_announced_to_whoever_reads_nothing_and_taken_out_before_its_turn() {
    let (mut inbox, sender, _handle) = one(1_024);
    for element in [
        batch(vec![1]),
        Element::Idle,
        batch(vec![2]),
        barrier(7),
        batch(vec![3]),
    ] {
        sender.send(element).unwrap();
    }
    let (channel, checkpoint) = (ChannelIndex(0), CheckpointId(7));
    match inbox.next(Read::Nothing, SOON) {
        Ok(Some(Received::Announced(at, barrier))) => {
            assert_eq!((at, barrier.checkpoint), (channel, checkpoint));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(inbox.next(Read::Nothing, Duration::ZERO), Ok(None));
    assert_eq!(inbox.take_barrier(channel, CheckpointId(8)), None);
    let before = inbox.take_barrier(channel, checkpoint).unwrap();
    let before: Vec<Element> = before.into_iter().map(Element::Batch).collect();
    assert_eq!(before, [batch(vec![1]), batch(vec![2])]);
    assert_eq!(inbox.take_barrier(channel, checkpoint), None);
    // They are read as before, without the barrier.
    for element in [
        batch(vec![1]),
        Element::Idle,
        batch(vec![2]),
        batch(vec![3]),
    ] {
        assert_eq!(next(&mut inbox), element);
    }
}

/// Sends as a task does, which looks for room first and waits for it in its own inbox.
fn send(sender: &ChannelSender, element: Element) {
    let (mut own, _senders, handle) = inbox(0, 0);
    while !sender.has_room(&handle.waker()) {
        assert_eq!(own.next(Read::Nothing, SOON), Ok(None));
    }
    sender.send(element).unwrap();
}

#[test]
fn a_batch_larger_than_the_bound_fills_the_channel() {
    let (mut inbox, sender, handle) = one(1);
    let waker = handle.waker();
    assert!(sender.has_room(&waker));
    sender.send(batch(vec![1; 100])).unwrap();
    assert!(!sender.has_room(&waker));
    // The rest of a step needs no room.
    sender.send(batch(vec![2])).unwrap();
    assert_eq!(next(&mut inbox), batch(vec![1; 100]));
    assert!(!sender.has_room(&waker));
    assert_eq!(next(&mut inbox), batch(vec![2]));
    assert!(sender.has_room(&waker));
}

#[test]
fn a_task_that_waits_for_room_is_woken_by_it_and_takes_commands_until_then() {
    let (mut reader, to_reader, _handle) = one(1);
    let (mut own, _senders, handle) = one(1);
    to_reader.send(batch(vec![1])).unwrap();
    assert!(!to_reader.has_room(&handle.waker()));
    let command = Command::Aborted(CheckpointId(3));
    handle.send(command.clone()).unwrap();
    let received = own.next(Read::Nothing, SOON);
    assert_eq!(received, Ok(Some(Received::Command(command))));
    assert_eq!(own.next(Read::Nothing, Duration::ZERO), Ok(None));
    let waiting = thread::spawn(move || own.next(Read::Nothing, Duration::from_hours(1)));
    next(&mut reader);
    assert_eq!(waiting.join().unwrap(), Ok(None));
    assert!(to_reader.has_room(&handle.waker()));
}

#[test]
fn a_full_channel_lets_a_barrier_in_behind_its_records() {
    let (mut inbox, sender, _handle) = one(1);
    sender.send(batch(vec![1])).unwrap();
    sender.send(barrier(7)).unwrap();
    assert_eq!(next(&mut inbox), batch(vec![1]));
    assert_eq!(next(&mut inbox), barrier(7));
}

#[test]
fn unread_watermarks_become_one() {
    let (mut inbox, sender, _handle) = one(1);
    for time in 0..1_000 {
        sender.send(Element::Watermark(EventTime(time))).unwrap();
    }
    assert_eq!(next(&mut inbox), Element::Watermark(EventTime(999)));
    assert_eq!(inbox.next(NONE_HELD, Duration::ZERO), Ok(None));
}

#[test]
fn a_command_comes_before_the_elements_and_wakes_the_task() {
    let (mut inbox, sender, handle) = one(1_024);
    sender.send(batch(vec![1])).unwrap();
    let command = Command::Aborted(CheckpointId(3));
    handle.send(command.clone()).unwrap();
    let received = inbox.next(NONE_HELD, SOON);
    assert_eq!(received, Ok(Some(Received::Command(command.clone()))));
    assert_eq!(next(&mut inbox), batch(vec![1]));
    let waiting = thread::spawn(move || inbox.next(NONE_HELD, Duration::from_hours(1)));
    handle.send(command.clone()).unwrap();
    assert_eq!(
        waiting.join().unwrap(),
        Ok(Some(Received::Command(command)))
    );
}

#[test]
fn commands_that_nobody_looks_at_are_no_longer_taken() {
    let (inbox, _sender, handle) = one(1);
    let command = Command::Aborted(CheckpointId(3));
    for _ in 0..COMMANDS_MAX {
        handle.send(command.clone()).unwrap();
    }
    assert_eq!(handle.send(command.clone()), Err(Unreachable::Stuck));
    drop(inbox);
    assert_eq!(handle.send(command), Err(Unreachable::Stopped));
}

#[test]
fn a_held_channel_waits_and_fills_without_keeping_the_other_from_being_read() {
    let (mut inbox, senders, _handle) = inbox(2, 1);
    senders[0].send(batch(vec![1])).unwrap();
    let held = [true, false];
    assert_eq!(
        inbox.next(Read::Channels { held: &held }, Duration::ZERO),
        Ok(None)
    );
    for number in 0..100 {
        send(&senders[1], batch(vec![number]));
        let received = inbox.next(Read::Channels { held: &held }, SOON).unwrap();
        let expected = Received::Element(ChannelIndex(1), batch(vec![number]));
        assert_eq!(received, Some(expected));
    }
    assert_eq!(next(&mut inbox), batch(vec![1]));
}

#[test]
fn channels_take_turns() {
    let (mut inbox, senders, _handle) = inbox(3, 1_000_000);
    for sender in &senders {
        for number in 0..2 {
            sender.send(batch(vec![number])).unwrap();
        }
    }
    let order: Vec<usize> = (0..6)
        .map(|_| match inbox.next(NONE_HELD, SOON).unwrap() {
            Some(Received::Element(channel, _)) => channel.0,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(order, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn closing_wakes_a_sender_that_waits_for_room() {
    let (_reader, sender, reader) = one(1);
    let (mut own, _senders, handle) = one(1);
    sender.send(batch(vec![1])).unwrap();
    assert!(!sender.has_room(&handle.waker()));
    let waiting = thread::spawn(move || own.next(Read::Nothing, Duration::from_hours(1)));
    reader.close();
    assert_eq!(waiting.join().unwrap(), Ok(None));
    assert!(sender.has_room(&handle.waker()));
    assert_eq!(sender.send(batch(vec![2])), Err(Closed));
}

#[test]
fn closing_wakes_a_task_that_waits() {
    let (mut inbox, _sender, handle) = one(1);
    let waiting = thread::spawn(move || inbox.next(NONE_HELD, Duration::from_hours(1)));
    handle.close();
    assert_eq!(waiting.join().unwrap(), Err(Closed));
}

#[test]
fn what_was_sent_before_the_sender_went_is_still_received() {
    let (mut inbox, sender, _handle) = one(1_024);
    sender.send(batch(vec![1])).unwrap();
    drop(sender);
    assert_eq!(next(&mut inbox), batch(vec![1]));
    assert_eq!(inbox.next(NONE_HELD, SOON), Err(Closed));
}

#[test]
fn a_sender_that_went_wakes_a_task_that_waits() {
    let (mut inbox, sender, _handle) = one(1_024);
    let waiting = thread::spawn(move || inbox.next(NONE_HELD, Duration::from_hours(1)));
    drop(sender);
    assert_eq!(waiting.join().unwrap(), Err(Closed));
}

#[test]
fn a_sender_is_told_that_the_task_went() {
    let (inbox, sender, _handle) = one(1_024);
    drop(inbox);
    assert_eq!(sender.send(Element::End), Err(Closed));
}

fn any_element() -> impl Strategy<Value = Element> {
    prop_oneof![
        4 => proptest::collection::vec(any::<i64>(), 1..50).prop_map(batch),
        1 => (0_u64..9).prop_map(barrier),
        1 => Just(Element::Idle),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn elements_arrive_all_and_in_order_of_their_channel_for_every_bound(
        channels in proptest::collection::vec(
            proptest::collection::vec(any_element(), 0..40), 1..4),
        bound in 0_usize..3_000,
    ) {
        let (mut inbox, senders, _handle) = inbox(channels.len(), bound);
        let sending: Vec<_> = channels
            .iter()
            .cloned()
            .zip(senders)
            .map(|(elements, sender)| {
                thread::spawn(move || {
                    for element in elements {
                        send(&sender, element);
                    }
                    sender
                })
            })
            .collect();
        let count: usize = channels.iter().map(Vec::len).sum();
        let mut received = vec![Vec::new(); channels.len()];
        while received.iter().map(Vec::len).sum::<usize>() < count {
            match inbox.next(NONE_HELD, SOON) {
                Ok(Some(Received::Element(channel, element))) => received[channel.0].push(element),
                Ok(Some(Received::Announced(..))) => {}
                other => panic!("{other:?}"),
            }
        }
        let senders: Vec<_> = sending.into_iter().map(|one| one.join().unwrap()).collect();
        prop_assert_eq!(inbox.next(NONE_HELD, Duration::ZERO), Ok(None));
        prop_assert_eq!(received, channels);
        drop(senders);
    }
}

/// A sender in another worker has credit for what it puts in.
#[test]
fn what_comes_over_a_connection_is_delivered_without_waiting() {
    let (mut inbox, mut sender, handle) = one(1);
    for number in 0..3 {
        sender.deliver(batch(vec![number; 100]), None).unwrap();
    }
    sender.deliver(barrier(1), None).unwrap();
    for number in 0..3 {
        assert_eq!(next(&mut inbox), batch(vec![number; 100]));
    }
    assert_eq!(next(&mut inbox), barrier(1));
    handle.close();
    assert_eq!(sender.deliver(barrier(2), None), Err(Gone));
}

#[test]
fn channels_of_one_task_share_what_they_hold() {
    assert_eq!(channel_bytes(0), CHANNEL_BYTES);
    assert_eq!(channel_bytes(8), CHANNEL_BYTES);
    assert_eq!(channel_bytes(16), CHANNEL_BYTES / 2);
    assert_eq!(channel_bytes(10_000), CHANNEL_BYTES_MIN);
}
