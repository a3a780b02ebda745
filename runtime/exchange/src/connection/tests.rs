use std::sync::Arc;

use tokio::io::{AsyncWriteExt, DuplexStream, split};
use tokio::time::Instant;

use super::*;
use crate::frame::{Body, ChannelId};

const LIVENESS: Liveness = Liveness {
    interval: Duration::from_millis(50),
    timeout: Duration::from_millis(400),
};
const CHANNEL: ChannelId = ChannelId {
    edge: 0,
    from: 0,
    to: 0,
};

async fn carry_from(
    stream: DuplexStream,
    outbox: &Outbox,
    done: &CancellationToken,
) -> Result<Ended, Lost> {
    let carrying = carry(split(stream), outbox, LIVENESS, done, |_, _| Ok(()));
    timeout(Duration::from_secs(20), carrying)
        .await
        .expect("it ends")
}

/// What `carry` makes of these bytes.
async fn lost_by(bytes: &[u8], ends: bool) -> Lost {
    let (here, mut there) = tokio::io::duplex(1_024 * 1_024);
    there.write_all(bytes).await.unwrap();
    let kept = (!ends).then_some(there);
    let lost = carry_from(here, &Outbox::new(1), &CancellationToken::new())
        .await
        .unwrap_err();
    drop(kept);
    lost
}

#[tokio::test]
async fn silence_is_seen_within_the_timeout() {
    let began = Instant::now();
    let lost = lost_by(&[], false).await;
    assert!(matches!(lost, Lost::Silent(_)), "{lost}");
    assert!(began.elapsed() >= LIVENESS.timeout);
    assert!(
        began.elapsed() < LIVENESS.timeout * 20,
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn two_workers_without_records_hear_of_each_other_and_go_on() {
    let (here, there) = tokio::io::duplex(1_024);
    let (a, b) = (Outbox::new(1), Outbox::new(1));
    let done = CancellationToken::new();
    // As many as take several times the timeout.
    let mut heard = 0;
    let listening = carry(split(here), &a, LIVENESS, &done, |header, _| {
        assert_eq!(header.kind, Kind::Heartbeat);
        heard += 1;
        if heard == 30 {
            done.cancel();
        }
        Ok(())
    });
    let open = CancellationToken::new();
    let began = Instant::now();
    let (first, second) = tokio::join!(listening, carry_from(there, &b, &open));
    assert_eq!(first.unwrap(), Ended::Here);
    assert_eq!(second.unwrap(), Ended::Bye);
    assert!(began.elapsed() > 2 * LIVENESS.timeout);
}

#[tokio::test]
async fn an_end_without_a_word_is_a_loss() {
    assert!(matches!(lost_by(&[], true).await, Lost::Closed));
    let frame = Frame::new(CHANNEL, 1, 0, Kind::Heartbeat, Body::default()).unwrap();
    let bytes = frame.to_bytes();
    for end in [1, 39] {
        assert!(
            matches!(lost_by(&bytes[..end], true).await, Lost::Closed),
            "{end}"
        );
    }
}

#[tokio::test]
async fn a_changed_frame_is_an_error() {
    let frame = Frame::new(CHANNEL, 1, 0, Kind::Idle, Body::default()).unwrap();
    let mut bytes = frame.to_bytes();
    bytes[22] ^= 1;
    let lost = lost_by(&bytes, false).await;
    assert!(
        matches!(lost, Lost::Frame(FrameError::Checksum { .. })),
        "{lost}"
    );
}

#[tokio::test]
async fn a_long_body_that_does_not_come_takes_no_memory() {
    let body = Body::new(vec![0; 8], Vec::new());
    let mut bytes = Frame::new(CHANNEL, 1, 0, Kind::Batch, body)
        .unwrap()
        .to_bytes();
    let length = u32::try_from(Kind::Batch.longest()).unwrap();
    bytes[32..36].copy_from_slice(&length.to_le_bytes());
    let (mut here, mut there) = tokio::io::duplex(1_024);
    there.write_all(&bytes).await.unwrap();
    drop(there);
    let mut header = [0; HEADER_BYTES];
    AsyncReadExt::read_exact(&mut here, &mut header)
        .await
        .unwrap();
    let header = Header::decode(&header).unwrap();
    assert_eq!(header.length, length);
    let mut body = MutableBuffer::new(0);
    let reading = read_into(
        &mut here,
        &mut body,
        header.length as usize,
        LIVENESS.timeout,
    )
    .await;
    assert!(matches!(reading, Err(Lost::Closed)));
    assert!(body.capacity() <= 2 * FIRST_PIECE, "{}", body.capacity());
}

#[tokio::test]
async fn a_body_of_several_pieces_is_read_whole() {
    let data: Vec<u8> = (0..5 * FIRST_PIECE + 77)
        .map(|at| u8::try_from(at % 251).unwrap())
        .collect();
    let (mut here, mut there) = tokio::io::duplex(64 * 1_024);
    let expected = data.clone();
    let mut writing = tokio::task::JoinSet::new();
    writing.spawn(async move { there.write_all(&data).await });
    let body = read_body(&mut here, expected.len(), LIVENESS.timeout)
        .await
        .unwrap();
    assert_eq!(body.as_slice(), expected);
    assert_eq!(body.as_ptr() as usize % 64, 0);
    writing.join_next().await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_worker_that_takes_nothing_is_given_up() {
    let (here, there) = tokio::io::duplex(16);
    let outbox = Arc::new(Outbox::new(1));
    for _ in 0..100 {
        outbox.put(CHANNEL, Kind::Idle, Body::default()).unwrap();
    }
    let lost = carry_from(here, &outbox, &CancellationToken::new())
        .await
        .unwrap_err();
    assert!(matches!(lost, Lost::Silent(_) | Lost::Stalled(_)), "{lost}");
    drop(there);
}
