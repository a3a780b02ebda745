use std::time::Duration;

use millstream_types::{CheckpointKind, Timestamp};

use super::*;
use crate::alignment::ChannelIndex;
use crate::inbox::{ChannelSender, Inbox, Read, Received, inbox};
use crate::plan::Partitioning;
use crate::testing::{Memory, Shared, Watching, batch};

fn forward(channel: ChannelSender) -> Output {
    Output::new(&Partitioning::Forward, vec![channel.into()], 0)
}

fn sink(seen: &Shared, input: Port, uid: &str) -> PlannedNode {
    PlannedNode {
        uid: uid.into(),
        input,
        step: Step::Sink(Box::new(Memory::new(seen))),
    }
}

fn watching(seen: &Shared) -> PlannedNode {
    PlannedNode {
        uid: "watching".into(),
        input: Port::Root,
        step: Step::Operator(Box::new(Watching::holding(seen))),
    }
}

fn counters(chain: &Chain, uid: &str) -> Counters {
    chain.snapshot()[&uid.into()].counters
}

fn next(inbox: &mut Inbox) -> Element {
    let all = Read::Channels { held: &[] };
    loop {
        match inbox.next(all, Duration::ZERO).unwrap() {
            Some(Received::Element(ChannelIndex(0), element)) => return element,
            Some(Received::Announced(..)) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_node_feeds_everything_behind_it() {
    let seen = Shared::default();
    let nodes = vec![
        watching(&seen),
        sink(&seen, Port::Node(0), "one"),
        sink(&seen, Port::Node(0), "other"),
        sink(&seen, Port::DeadLetters, "broken"),
    ];
    let mut chain = Chain::new(nodes, Vec::new());
    chain.push(InputIndex(0), &batch(0..9)).unwrap();
    chain.push(InputIndex(0), &batch(9..10)).unwrap();
    chain.push_dead_letters(&batch(0..2)).unwrap();
    assert_eq!(counters(&chain, "watching").records_in, 10);
    assert_eq!(counters(&chain, "watching").records_out, 9);
    assert_eq!(counters(&chain, "one").records_out, 9);
    assert_eq!(counters(&chain, "other").records_out, 9);
    assert_eq!(counters(&chain, "broken").records_out, 2);
}

#[test]
fn what_an_operator_holds_comes_before_the_end() {
    let seen = Shared::default();
    let (mut inbox, mut senders, _handle) = inbox(1, 1_000_000);
    let output = forward(senders.remove(0));
    let mut chain = Chain::new(vec![watching(&seen)], vec![(Port::Node(0), output)]);
    chain.push(InputIndex(0), &batch(0..1)).unwrap();
    chain.watermark(EventTime(7)).unwrap();
    chain.end().unwrap();
    let mut next = || next(&mut inbox);
    assert_eq!(next(), Element::Watermark(EventTime(7)));
    assert_eq!(next(), Element::Batch(batch(0..1)));
    assert_eq!(next(), Element::End);
}

#[test]
fn a_barrier_stays_behind_the_records_before_it() {
    let (mut inbox, mut senders, _handle) = inbox(1, 1_000_000);
    let output = forward(senders.remove(0));
    let mut chain = Chain::new(Vec::new(), vec![(Port::Root, output)]);
    let barrier = Barrier {
        checkpoint: CheckpointId(1),
        kind: CheckpointKind::Checkpoint,
        triggered_at: Timestamp(0),
        aligned_timeout_ms: None,
    };
    chain.push(InputIndex(0), &batch(0..1)).unwrap();
    chain.forward(barrier).unwrap();
    chain.push(InputIndex(0), &batch(1..2)).unwrap();
    let mut next = || next(&mut inbox);
    assert_eq!(next(), Element::Batch(batch(0..1)));
    assert_eq!(next(), Element::Barrier(barrier));
    assert_eq!(next(), Element::Batch(batch(1..2)));
}

#[test]
fn a_transaction_is_listed_until_a_checkpoint_that_listed_it_is_committed() {
    let seen = Shared::default();
    let mut chain = Chain::new(vec![sink(&seen, Port::Root, "sink")], Vec::new());
    let listed = |chain: &Chain| -> Vec<u64> {
        let snapshot = chain.snapshot();
        let committables = &snapshot[&"sink".into()].committables;
        committables
            .iter()
            .map(|committable| committable.checkpoint.0)
            .collect()
    };
    for checkpoint in 1..=3 {
        chain.push(InputIndex(0), &batch(0..5)).unwrap();
        chain.prepare(CheckpointId(checkpoint)).unwrap();
    }
    assert_eq!(listed(&chain), [1, 2, 3]);
    chain.committed(CheckpointId(2));
    assert_eq!(listed(&chain), [3]);
    assert_eq!(seen.lock().unwrap().committed.len(), 2);
}

#[test]
fn totals_go_on_from_a_snapshot() {
    let seen = Shared::default();
    let mut chain = Chain::new(vec![sink(&seen, Port::Root, "sink")], Vec::new());
    chain.push(InputIndex(0), &batch(0..5)).unwrap();
    let snapshot = chain.snapshot();
    let mut next = Chain::new(vec![sink(&seen, Port::Root, "sink")], Vec::new());
    next.restore(&snapshot, &Contents::new()).unwrap();
    next.push(InputIndex(0), &batch(0..5)).unwrap();
    assert_eq!(counters(&next, "sink").records_out, 10);
}
