//! What arrives, and what waits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use millstream_types::{
    Barrier, Batch, CheckpointId, CheckpointKind, Element, EventTime, Timestamp,
};

use super::super::*;
use super::rig::*;
use crate::outbox::SendError;
use crate::testing::{batch, send};

const WINDOW: usize = 256 * 1_024;

fn numbers(rows: usize) -> Batch {
    batch(&[0, 1], &vec![vec![Some(7), Some(8)]; rows])
}

fn elements(seed: i64) -> Vec<Element> {
    let barrier = Barrier {
        checkpoint: CheckpointId(seed.unsigned_abs()),
        kind: CheckpointKind::StopWithSavepoint { drain: true },
        triggered_at: Timestamp(11),
        aligned_timeout_ms: Some(70),
    };
    vec![
        Element::Batch(batch(&[0, 1], &[vec![Some(seed), None]])),
        Element::Watermark(EventTime(seed)),
        Element::Idle,
        // Another schema in the same channel.
        Element::Batch(batch(&[5, 6, 3], &[vec![Some(seed), Some(2), Some(3)]])),
        Element::Barrier(barrier),
        Element::Batch(batch(&[0, 1], &[])),
        Element::End,
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn elements_of_all_kinds_arrive_in_order_over_every_channel() {
    let mut pair = Pair::connected(5, WINDOW, None).await;
    let senders: Vec<RemoteSender> = (0..5).map(|number| pair.sender(number)).collect();
    let sending = tokio::task::spawn_blocking(move || {
        for at in 0..elements(0).len() {
            for (number, sender) in (0..).zip(&senders) {
                send(sender, &elements(number)[at]).unwrap();
            }
        }
        senders
    });
    for (number, delivered) in (0..).zip(&mut pair.delivered) {
        for expected in elements(number) {
            let (element, credit) = soon(delivered.recv()).await.unwrap();
            assert_eq!(element, expected);
            assert_eq!(credit.is_some(), matches!(element, Element::Batch(_)));
        }
    }
    drop(soon(sending).await.unwrap());
    for delivered in &mut pair.delivered {
        assert!(
            soon(delivered.recv()).await.is_none(),
            "a sender that is gone ends the channel"
        );
    }
}

/// One reader takes a batch in a hundred turns; what waits for it is bounded, and a channel beside it
/// goes on at its own speed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_bounds_its_own_channel_and_no_other() {
    let mut pair = Pair::connected(2, WINDOW, None).await;
    let (slow, fast) = (pair.sender(0), pair.sender(1));
    let sent = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&sent);
    let blocked = std::thread::spawn(move || {
        while send(&slow, &Element::Batch(numbers(1_000))).is_ok() {
            counting.fetch_add(1, Ordering::AcqRel);
        }
    });
    let flowing = std::thread::spawn(move || {
        for _ in 0..5_000 {
            send(&fast, &Element::Batch(numbers(1_000))).unwrap();
        }
    });
    let (mut held, mut slowly, mut most) = (0, 0_u64, 0);
    let [slow, fast] = pair.delivered.as_mut_slice() else {
        panic!("two channels");
    };
    let size = numbers(1_000).bytes() as u64;
    for turn in 0..5_000 {
        drop(soon(fast.recv()).await.unwrap());
        held += u64::from(turn % 100 == 0);
        if held > 0
            && let Ok((_, credit)) = slow.try_recv()
        {
            drop(credit);
            (held, slowly) = (held - 1, slowly + 1);
        }
        // A batch may be here before its sender has counted it.
        most = most.max(sent.load(Ordering::Acquire).saturating_sub(slowly));
    }
    flowing.join().unwrap();
    assert!(slowly >= 40, "{slowly} of the slow channel");
    // What is sent and not read: less than the window, and the batch for which there was room.
    assert!(
        most * size <= WINDOW as u64 + 2 * size,
        "{most} batches of {size} bytes"
    );
    pair.links_a.close();
    pair.links_b.close();
    blocked.join().unwrap();
}

/// A source sends to two arms over one connection, most of it to the fast one, and both lead to one reader
/// that aligns their barriers: it holds the fast arm until the slow one has come as far. Meanwhile the fast
/// arm fills up, down to the source, and must not keep what the slow one needs from it.
async fn diamond(more: impl Fn(u64) -> bool + Send + 'static) {
    let (top, arms, bottom) = (exchange().await, exchange().await, exchange().await);
    let plan = Plan::of("top", 1).peer("arms", arms.address());
    let plan = plan
        .to("arms", channel(0, 0, 0), WINDOW)
        .to("arms", channel(0, 0, 1), WINDOW);
    let mut links_top = top.attempt(plan.0);
    let plan = Plan::of("arms", 1).peer("bottom", bottom.address());
    let (plan, fast) = plan.from("top", channel(0, 0, 0), WINDOW);
    let (plan, slow) = plan.from("top", channel(0, 0, 1), WINDOW);
    let plan = plan
        .to("bottom", channel(1, 0, 0), WINDOW)
        .to("bottom", channel(1, 1, 0), WINDOW);
    let mut links_arms = arms.attempt(plan.0);
    let (plan, first) = Plan::of("bottom", 1).from("arms", channel(1, 0, 0), WINDOW);
    let (plan, second) = plan.from("arms", channel(1, 1, 0), WINDOW);
    let _links_bottom = bottom.attempt(plan.0);
    let to_arms: Vec<RemoteSender> = std::mem::take(&mut links_top.senders)
        .into_values()
        .collect();
    let mut to_bottom = std::mem::take(&mut links_arms.senders).into_values();
    let sent = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&sent);
    let source = std::thread::spawn(move || feed(to_arms, more, &counting));
    let (fast_out, slow_out) = (to_bottom.next().unwrap(), to_bottom.next().unwrap());
    let fast = std::thread::spawn(move || pass(fast, fast_out, 0));
    let slow = std::thread::spawn(move || pass(slow, slow_out, 1_000));
    let read = align([first, second], &sent).await;
    for thread in [fast, slow] {
        drop(thread.join().unwrap());
    }
    drop(source.join().unwrap());
    #[expect(clippy::print_stdout, reason = "what was seen, for those who look")]
    {
        println!("{read:?}");
    }
    let batches = sent.load(Ordering::Acquire);
    assert_eq!((read.batches, read.barriers), (batches, batches / 50));
    // In each of four channels: less than its window, and the batch for which there was room; and what a
    // reader has taken and not sent on.
    let size = numbers(500).bytes() as u64;
    let bound = 4 * (WINDOW as u64 + 2 * size);
    let most = read.most_under_way * size;
    assert!(most <= bound, "{most} of {bound} bytes");
    assert!(
        2 * most > 3 * WINDOW as u64,
        "the fast arm is never full: {most} bytes"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_diamond_with_a_slow_arm_comes_to_its_end() {
    diamond(|number| number <= 3_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn extended_a_diamond_with_a_slow_arm_flows_for_ten_minutes() {
    let end = Instant::now() + Duration::from_mins(10);
    // A barrier follows the last batch.
    diamond(move |number| number % 50 != 1 || Instant::now() < end).await;
}

fn feed(
    arms: Vec<RemoteSender>,
    more: impl Fn(u64) -> bool,
    sent: &AtomicU64,
) -> Vec<RemoteSender> {
    for number in (1..).take_while(|number| more(*number)) {
        let arm = &arms[usize::from(number % 10 == 0)];
        send(arm, &Element::Batch(numbers(500))).unwrap();
        sent.fetch_add(1, Ordering::AcqRel);
        if number % 50 == 0 {
            let barrier = Barrier {
                checkpoint: CheckpointId(number / 50),
                kind: CheckpointKind::Checkpoint,
                triggered_at: Timestamp(0),
                aligned_timeout_ms: None,
            };
            for arm in &arms {
                send(arm, &Element::Barrier(barrier)).unwrap();
            }
        }
    }
    for arm in &arms {
        send(arm, &Element::End).unwrap();
    }
    arms
}

fn pass(mut delivered: Delivered, sender: RemoteSender, work: usize) -> RemoteSender {
    while let Some((element, credit)) = delivered.blocking_recv() {
        drop(credit);
        if let Element::Batch(batch) = &element {
            for _ in 0..work {
                let mut hashes = Vec::new();
                millstream_types::keys::hash(batch.records(), &[0, 1], &mut hashes).unwrap();
            }
        }
        send(&sender, &element).unwrap();
        if element == Element::End {
            break;
        }
    }
    sender
}

/// What came together at the end of a diamond.
#[derive(Debug, Default)]
struct Aligned {
    batches: u64,
    barriers: u64,
    /// Batches that were sent and had not come yet, at most.
    most_under_way: u64,
    longest_wait: Duration,
}

/// Reads two channels as a task does. Fails if nothing comes for long.
async fn align([mut first, mut second]: [Delivered; 2], sent: &AtomicU64) -> Aligned {
    let (mut held, mut ended) = ([false; 2], [false; 2]);
    let mut aligned = Aligned::default();
    while ended != [true; 2] {
        let received = async {
            tokio::select! {
                Some(received) = first.recv(), if !held[0] && !ended[0] => (0, received),
                Some(received) = second.recv(), if !held[1] && !ended[1] => (1, received),
            }
        };
        let began = Instant::now();
        let (from, (element, credit)) = soon(received).await;
        aligned.longest_wait = aligned.longest_wait.max(began.elapsed());
        drop(credit);
        match element {
            Element::Batch(_) => aligned.batches += 1,
            Element::End => ended[from] = true,
            Element::Barrier(_) => held[from] = true,
            other => panic!("{other:?}"),
        }
        let under_way = sent.load(Ordering::Acquire).saturating_sub(aligned.batches);
        aligned.most_under_way = aligned.most_under_way.max(under_way);
        if held == [true; 2] {
            held = [false; 2];
            aligned.barriers += 1;
        }
    }
    aligned
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stops_ends_its_sender_and_no_other() {
    let mut pair = Pair::connected(2, WINDOW, None).await;
    let (ended, beside) = (pair.sender(0), pair.sender(1));
    pair.delivered.remove(0);
    let ending = tokio::task::spawn_blocking(move || {
        loop {
            if let Err(error) = send(&ended, &Element::Batch(numbers(100))) {
                return error;
            }
        }
    });
    assert_eq!(soon(ending).await.unwrap(), SendError::Closed);
    send(&beside, &Element::Idle).unwrap();
    let (element, _) = soon(pair.delivered[0].recv()).await.unwrap();
    assert_eq!(element, Element::Idle);
}
