use millstream_types::{CheckpointKind, Timestamp};

use super::*;
use crate::testing::batch;

const A: ChannelIndex = ChannelIndex(0);
const B: ChannelIndex = ChannelIndex(1);

fn barrier(number: u64) -> Barrier {
    Barrier {
        checkpoint: CheckpointId(number),
        kind: CheckpointKind::Checkpoint,
        triggered_at: Timestamp(0),
        aligned_timeout_ms: None,
    }
}

const NOW: Duration = Duration::from_millis(7);

/// Bytes of one channel that are persisted before it is held: two batches of ten.
const BOUND: usize = 300;

fn input(number: u32) -> Input {
    Input {
        input: InputIndex(usize::try_from(number).unwrap()),
        channel: ChannelId {
            edge: number,
            from: 0,
            to: 0,
        },
        overtakable: true,
    }
}

/// Two channels, each of another input.
fn two() -> Gate {
    Gate::new(vec![input(0), input(1)], BOUND)
}

fn cut(number: u64) -> Arrival {
    Arrival::Barrier(Cut {
        barrier: barrier(number),
        since: NOW,
    })
}

fn arrivals(gate: &mut Gate, channel: ChannelIndex, element: Element) -> Vec<Arrival> {
    gate.element(channel, element, NOW).collect()
}

#[test]
fn records_come_with_the_number_of_their_input() {
    let mut gate = two();
    let records = batch(0..3);
    let came = arrivals(&mut gate, B, Element::Batch(records.clone()));
    assert_eq!(came, [Arrival::Batch(InputIndex(1), records)]);
}

#[test]
fn a_barrier_comes_once_from_all_channels_and_holds_those_that_brought_it() {
    let mut gate = two();
    assert_eq!(arrivals(&mut gate, A, Element::Barrier(barrier(1))), []);
    assert_eq!(gate.held(), [true, false]);
    let came = arrivals(&mut gate, B, Element::Barrier(barrier(1)));
    assert_eq!(came, [cut(1)]);
    assert_eq!(gate.held(), [false, false]);
}

#[test]
fn a_newer_barrier_declines_the_older_one() {
    let mut gate = two();
    arrivals(&mut gate, A, Element::Barrier(barrier(1)));
    let came = arrivals(&mut gate, B, Element::Barrier(barrier(2)));
    assert_eq!(came, [Arrival::Declined(CheckpointId(1))]);
    assert_eq!(gate.held(), [false, true]);
}

#[test]
fn what_is_cancelled_holds_nothing() {
    let mut gate = two();
    arrivals(&mut gate, A, Element::Barrier(barrier(1)));
    gate.cancelled(CheckpointId(1));
    assert_eq!(gate.held(), [false, false]);
    assert_eq!(arrivals(&mut gate, B, Element::Barrier(barrier(1))), []);
    assert_eq!(gate.held(), [false, false]);
}

#[test]
fn the_end_comes_when_every_channel_has_ended_and_barriers_still_follow() {
    let mut gate = two();
    arrivals(&mut gate, A, Element::Watermark(EventTime::MAX));
    assert_eq!(arrivals(&mut gate, A, Element::End), []);
    let came = arrivals(&mut gate, B, Element::Watermark(EventTime::MAX));
    assert_eq!(came, [Arrival::Watermark(EventTime::MAX)]);
    assert_eq!(arrivals(&mut gate, B, Element::End), [Arrival::End]);
    arrivals(&mut gate, A, Element::Barrier(barrier(4)));
    let came = arrivals(&mut gate, B, Element::Barrier(barrier(4)));
    assert_eq!(came, [cut(4)]);
}

#[test]
fn records_of_a_channel_that_was_idle_wake_what_waits_behind() {
    let mut gate = Gate::new(vec![input(0)], BOUND);
    arrivals(&mut gate, A, Element::Watermark(EventTime(5)));
    assert_eq!(arrivals(&mut gate, A, Element::Idle), [Arrival::Idle]);
    let came = arrivals(&mut gate, A, Element::Batch(batch(0..1)));
    let records = Arrival::Batch(InputIndex(0), batch(0..1));
    assert_eq!(came, [Arrival::Watermark(EventTime(5)), records]);
}

/// A barrier that overtakes at once.
fn at_once(number: u64) -> Barrier {
    Barrier {
        aligned_timeout_ms: Some(0),
        ..barrier(number)
    }
}

fn rows(records: &[InFlight]) -> Vec<(u32, usize)> {
    let of = |record: &InFlight| (record.channel.edge, record.batch.rows());
    records.iter().map(of).collect()
}

#[test]
fn what_is_read_before_a_barrier_that_has_overtaken_is_persisted_and_given_out() {
    let mut gate = two();
    gate.announced(A, at_once(1), NOW);
    let overtaking = gate.overtake(NOW).unwrap();
    assert_eq!((overtaking.take, overtaking.complete), (vec![A], false));
    gate.persist(CheckpointId(1), A, vec![batch(0..3)]);
    let came = arrivals(&mut gate, B, Element::Batch(batch(0..4)));
    assert_eq!(came, [Arrival::Batch(InputIndex(1), batch(0..4))]);
    // The barrier is past there.
    arrivals(&mut gate, A, Element::Batch(batch(0..5)));
    let announced = gate.announced(B, at_once(1), NOW);
    assert!(announced.take && announced.complete);
    gate.persist(CheckpointId(1), B, vec![batch(0..6)]);
    let records = gate.take_overtaken(CheckpointId(1));
    assert_eq!(rows(&records), [(0, 3), (1, 4), (1, 6)]);
    assert_eq!(gate.take_overtaken(CheckpointId(1)), []);
}

#[test]
fn a_channel_of_which_enough_is_persisted_waits_for_its_barrier() {
    let mut gate = two();
    gate.announced(A, at_once(1), NOW);
    gate.overtake(NOW).unwrap();
    for _ in 0..2 {
        assert_eq!(gate.held(), [false, false]);
        arrivals(&mut gate, B, Element::Batch(batch(0..10)));
    }
    assert_eq!(gate.held(), [false, true]);
    gate.announced(B, at_once(1), NOW);
    assert_eq!(gate.held(), [false, false]);
    assert_eq!(gate.take_overtaken(CheckpointId(1)).len(), 2);

    gate.announced(A, at_once(2), NOW);
    gate.overtake(NOW).unwrap();
    for _ in 0..2 {
        arrivals(&mut gate, B, Element::Batch(batch(0..10)));
    }
    assert_eq!(gate.held(), [false, true]);
    gate.cancelled(CheckpointId(2));
    assert_eq!(gate.held(), [false, false]);
}

/// What was in flight in the checkpoint that the task goes on from is before everything, also before the
/// barrier of the next checkpoint.
#[test]
fn restored_records_are_given_out_first_and_overtaken_again() {
    let records: Vec<InFlight> = (1..4)
        .map(|number| InFlight {
            channel: input(1).channel,
            batch: batch(0..number),
        })
        .collect();
    let mut gate = two().restored(records);
    assert_eq!(gate.read(), Read::Nothing);
    assert_eq!(gate.next_restored(), Some((InputIndex(1), batch(0..1))));
    gate.announced(A, at_once(1), NOW);
    gate.announced(B, at_once(1), NOW);
    let overtaking = gate.overtake(NOW).unwrap();
    assert!(overtaking.complete);
    assert_eq!(
        rows(&gate.take_overtaken(CheckpointId(1))),
        [(1, 2), (1, 3)]
    );
    assert_eq!(gate.next_restored(), Some((InputIndex(1), batch(0..2))));
    assert_eq!(gate.next_restored(), Some((InputIndex(1), batch(0..3))));
    assert_eq!(gate.next_restored(), None);
    assert!(matches!(gate.read(), Read::Channels { .. }));
}
