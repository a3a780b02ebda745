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
    }
}

/// Two channels, each of another input.
fn two() -> Gate {
    Gate::new(vec![InputIndex(0), InputIndex(1)])
}

fn arrivals(gate: &mut Gate, channel: ChannelIndex, element: Element) -> Vec<Arrival> {
    gate.element(channel, element).collect()
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
    assert_eq!(came, [Arrival::Barrier(barrier(1))]);
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
    assert_eq!(came, [Arrival::Barrier(barrier(4))]);
}

#[test]
fn records_of_a_channel_that_was_idle_wake_what_waits_behind() {
    let mut gate = Gate::new(vec![InputIndex(0)]);
    arrivals(&mut gate, A, Element::Watermark(EventTime(5)));
    assert_eq!(arrivals(&mut gate, A, Element::Idle), [Arrival::Idle]);
    let came = arrivals(&mut gate, A, Element::Batch(batch(0..1)));
    let records = Arrival::Batch(InputIndex(0), batch(0..1));
    assert_eq!(came, [Arrival::Watermark(EventTime(5)), records]);
}
