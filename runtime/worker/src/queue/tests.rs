use std::sync::Arc;
use std::thread;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use millstream_types::{Barrier, Batch, CheckpointId, CheckpointKind, EventTime, Timestamp};
use proptest::prelude::*;

use super::*;

const SOON: Duration = Duration::from_secs(20);

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
    })
}

fn next(receiver: &QueueReceiver) -> Element {
    receiver.receive(SOON).unwrap().expect("an element")
}

#[test]
fn a_batch_larger_than_the_bound_passes_alone() {
    let (sender, receiver, _closer) = queue(1);
    sender.send(batch(vec![1; 100])).unwrap();
    assert_eq!(next(&receiver), batch(vec![1; 100]));
}

#[test]
fn a_full_queue_lets_a_barrier_in_behind_its_records() {
    let (sender, receiver, _closer) = queue(1);
    sender.send(batch(vec![1])).unwrap();
    sender.send(barrier(7)).unwrap();
    assert_eq!(next(&receiver), batch(vec![1]));
    assert_eq!(next(&receiver), barrier(7));
}

#[test]
fn unread_watermarks_become_one() {
    let (sender, receiver, _closer) = queue(1);
    for time in 0..1_000 {
        sender.send(Element::Watermark(EventTime(time))).unwrap();
    }
    assert_eq!(next(&receiver), Element::Watermark(EventTime(999)));
    assert_eq!(receiver.receive(Duration::ZERO).unwrap(), None);
}

#[test]
fn closing_wakes_a_sender_that_waits_for_room() {
    let (sender, _receiver, closer) = queue(1);
    sender.send(batch(vec![1])).unwrap();
    let waiting = thread::spawn(move || sender.send(batch(vec![2])));
    closer.close();
    assert_eq!(waiting.join().unwrap(), Err(Closed));
}

#[test]
fn closing_wakes_a_receiver_that_waits_for_an_element() {
    let (_sender, receiver, closer) = queue(1);
    let waiting = thread::spawn(move || receiver.receive(Duration::from_hours(1)));
    closer.close();
    assert_eq!(waiting.join().unwrap(), Err(Closed));
}

#[test]
fn what_was_sent_before_the_sender_went_is_still_received() {
    let (sender, receiver, _closer) = queue(1_024);
    sender.send(batch(vec![1])).unwrap();
    drop(sender);
    assert_eq!(next(&receiver), batch(vec![1]));
    assert_eq!(receiver.receive(SOON), Err(Closed));
}

#[test]
fn a_sender_is_told_that_the_receiver_went() {
    let (sender, receiver, _closer) = queue(1_024);
    drop(receiver);
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
    fn elements_arrive_all_and_in_order_for_every_bound(
        elements in proptest::collection::vec(any_element(), 0..60),
        bound in 0_usize..3_000,
    ) {
        let (sender, receiver, _closer) = queue(bound);
        let sent = elements.clone();
        let sending = thread::spawn(move || {
            for element in sent {
                sender.send(element).unwrap();
            }
        });
        let mut received = Vec::new();
        while let Ok(Some(element)) = receiver.receive(SOON) {
            received.push(element);
        }
        sending.join().unwrap();
        prop_assert_eq!(received, elements);
    }
}
