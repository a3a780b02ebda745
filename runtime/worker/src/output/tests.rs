use std::time::Duration;

use millstream_types::{Barrier, CheckpointId, CheckpointKind, EventTime, Timestamp};

use super::*;
use crate::inbox::{Inbox, Read, Received, inbox};
use crate::testing::batch;

const BARRIER: Element = Element::Barrier(Barrier {
    checkpoint: CheckpointId(1),
    kind: CheckpointKind::Checkpoint,
    triggered_at: Timestamp(0),
    aligned_timeout_ms: None,
});

/// An output to so many tasks, and their inboxes.
fn output(partitioning: &Partitioning, tasks: usize) -> (Output, Vec<Inbox>) {
    let mut inboxes = Vec::new();
    let mut channels = Vec::new();
    for _ in 0..tasks {
        let (inbox, senders, _handle) = inbox(1, 10_000_000);
        inboxes.push(inbox);
        channels.extend(senders.into_iter().map(Channel::from));
    }
    (Output::new(partitioning, channels, 1), inboxes)
}

fn hash() -> Partitioning {
    Partitioning::Hash {
        columns: vec![0],
        max_parallelism: 1_024,
    }
}

fn received(inbox: &mut Inbox) -> Vec<Element> {
    let mut all = Vec::new();
    while let Some(received) = inbox
        .next(Read::Channels { held: &[] }, Duration::ZERO)
        .unwrap()
    {
        if let Received::Element(_, element) = received {
            all.push(element);
        }
    }
    all
}

fn rows(elements: &[Element]) -> usize {
    let rows = |element: &Element| match element {
        Element::Batch(batch) => batch.rows(),
        _ => 0,
    };
    elements.iter().map(rows).sum()
}

#[test]
fn records_are_held_back_until_a_control_element_or_until_there_are_no_more() {
    let (mut output, mut inboxes) = output(&hash(), 3);
    output.batch(&batch(0..100)).unwrap();
    assert!(output.holds());
    assert!(inboxes.iter_mut().all(|inbox| received(inbox).is_empty()));
    output.flush().unwrap();
    assert!(!output.holds());
    let came: usize = inboxes.iter_mut().map(|inbox| rows(&received(inbox))).sum();
    assert_eq!(came, 100);

    output.batch(&batch(100..200)).unwrap();
    output.control(&BARRIER).unwrap();
    assert!(!output.holds());
    let mut came = 0;
    for inbox in &mut inboxes {
        let elements = received(inbox);
        assert_eq!(elements.last(), Some(&BARRIER), "behind all records");
        came += rows(&elements);
    }
    assert_eq!(came, 100);
}

#[test]
fn control_elements_reach_every_task() {
    for partitioning in [hash(), Partitioning::Rebalance] {
        let (mut output, mut inboxes) = output(&partitioning, 4);
        let all = [
            Element::Watermark(EventTime(7)),
            Element::Idle,
            BARRIER,
            Element::End,
        ];
        for element in &all {
            output.control(element).unwrap();
        }
        for inbox in &mut inboxes {
            assert_eq!(received(inbox), all);
        }
    }
}

#[test]
fn batches_are_dealt_out_in_turn() {
    let (mut output, mut inboxes) = output(&Partitioning::Rebalance, 3);
    for number in 0..6 {
        output
            .batch(&batch(number * 10..(number + 1) * 10))
            .unwrap();
    }
    output.flush().unwrap();
    for inbox in &mut inboxes {
        assert_eq!(rows(&received(inbox)), 20);
    }
}

#[test]
fn a_closed_reader_stops_the_writer() {
    let (mut output, mut inboxes) = output(&hash(), 2);
    inboxes.pop();
    output.batch(&batch(0..100)).unwrap();
    assert_eq!(output.flush(), Err(Stop::Cancelled));
}
