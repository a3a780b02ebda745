//! What goes wrong between two workers, and whom it names.

use millstream_types::{Batch, Element};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::super::*;
use super::rig::*;
use crate::hello::{self, Answer, Hello};
use crate::outbox::SendError;
use crate::testing::{batch, send};

const WINDOW: usize = 64 * 1_024;

fn numbers(rows: usize) -> Batch {
    batch(&[0, 1], &vec![vec![Some(7), Some(8)]; rows])
}

/// Whether a failure blames the other worker and names both.
fn names(failure: &LinkFailure, peer: &str, code: ErrorCode) {
    assert_eq!(failure.peer, WorkerId::from(peer));
    assert_eq!(failure.failure.code, code);
    for worker in ["worker `a`", "worker `b`"] {
        assert!(failure.failure.message.contains(worker), "{failure:?}");
    }
    assert!(!failure.channels.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_is_cut_is_seen_on_both_sides_and_names_the_other_worker() {
    let proxy = Proxy::start().await;
    let mut pair = Pair::connected(1, WINDOW, Some(&proxy)).await;
    let sender = pair.sender(0);
    let blocked = std::thread::spawn(move || {
        loop {
            if let Err(error) = send(&sender, &Element::Batch(numbers(100))) {
                return error;
            }
        }
    });
    soon(pair.delivered[0].recv()).await.unwrap();
    proxy.cut();
    let began = Instant::now();
    let (at_a, at_b) = (
        soon(pair.links_a.failed()).await,
        soon(pair.links_b.failed()).await,
    );
    names(&at_a, "b", ErrorCode::ExchangeLost);
    names(&at_b, "a", ErrorCode::ExchangeLost);
    let bound = SETTINGS.liveness.timeout * 6;
    assert!(began.elapsed() < bound, "{:?}", began.elapsed());
    assert_eq!(
        blocked.join().unwrap(),
        SendError::Closed,
        "a sender does not hang"
    );
    while soon(pair.delivered[0].recv()).await.is_some() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_dies_is_named_by_the_other() {
    let b = exchange().await;
    let (plan, _delivered) = Plan::of("b", 1).from("a", channel(0, 0, 0), WINDOW);
    let mut links = b.attempt(plan.0);
    let plan = Plan::of("a", 1)
        .peer("b", b.address())
        .to("b", channel(0, 0, 0), WINDOW);
    let process = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let living = process.spawn(async {
        let a = exchange().await;
        let mut links = a.attempt(plan.0);
        links.connected().await.unwrap();
        (a, links)
    });
    soon(links.connected()).await.unwrap();
    let living = soon(living).await.unwrap();
    // All its tasks end where they are, without a word.
    process.shutdown_background();
    names(&soon(links.failed()).await, "a", ErrorCode::ExchangeLost);
    drop(living);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_bit_is_an_error_of_the_channel_that_names_both_workers() {
    let proxy = Proxy::start().await;
    let mut pair = Pair::connected(1, WINDOW, Some(&proxy)).await;
    proxy.corrupt();
    let sent = send(&pair.sender(0), &Element::Batch(numbers(10)));
    // The schema goes before the records: the connection may have ended between the two.
    assert!(matches!(sent, Ok(()) | Err(SendError::Closed)), "{sent:?}");
    let at_b = soon(pair.links_b.failed()).await;
    names(&at_b, "a", ErrorCode::ExchangeFrame);
    names(
        &soon(pair.links_a.failed()).await,
        "b",
        ErrorCode::ExchangeLost,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_is_over_here_is_no_failure_there() {
    let mut pair = Pair::connected(1, WINDOW, None).await;
    let sender = pair.sender(0);
    pair.links_b.close();
    let ending = tokio::task::spawn_blocking(move || {
        loop {
            if let Err(error) = send(&sender, &Element::Batch(numbers(10))) {
                return error;
            }
        }
    });
    assert_eq!(soon(ending).await.unwrap(), SendError::Closed);
    while soon(pair.delivered[0].recv()).await.is_some() {}
    let quiet = tokio::time::timeout(SETTINGS.liveness.timeout * 2, pair.links_a.failed()).await;
    assert!(quiet.is_err(), "{quiet:?}");
}

/// Says hello as another worker would, and tells what was answered.
async fn greet(address: SocketAddr, hello: &Hello) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    hello::write(&mut stream, hello).await.unwrap();
    let answer: Answer = soon(hello::read(&mut stream)).await.unwrap();
    let mut rest = Vec::new();
    if answer.refused.is_some() {
        use tokio::io::AsyncReadExt;
        soon(stream.read_to_end(&mut rest)).await.unwrap();
        assert!(rest.is_empty(), "a refused connection ends");
    }
    answer.refused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_of_older_attempts_other_jobs_and_strangers_are_refused() {
    let b = exchange().await;
    let (plan, _delivered) = Plan::of("b", 5).from("a", channel(0, 0, 0), WINDOW);
    let mut links = b.attempt(plan.0);
    let hello = |job: &str, attempt, from: &str| Hello {
        job: job.to_owned(),
        attempt,
        from: from.to_owned(),
        to: "b".to_owned(),
    };
    let old = greet(b.address(), &hello("job", 4, "a")).await.unwrap();
    assert!(old.contains("attempt 4 is over"), "{old}");
    let other = greet(b.address(), &hello("another", 5, "a")).await.unwrap();
    assert!(other.contains("another job"), "{other}");
    let stranger = greet(b.address(), &hello("job", 5, "x")).await.unwrap();
    assert!(stranger.contains("`x`"), "{stranger}");
    assert_eq!(greet(b.address(), &hello("job", 5, "a")).await, None);
    let twice = greet(b.address(), &hello("job", 5, "a")).await.unwrap();
    assert!(twice.contains("is there already"), "{twice}");
    // The one that was welcome has ended without a word.
    names(&soon(links.failed()).await, "a", ErrorCode::ExchangeLost);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_attempt_ends_the_connections_of_the_old_one_and_connects_again() {
    let mut pair = Pair::connected(1, WINDOW, None).await;
    let old = pair.sender(0);
    let address = pair.b.address();
    let (plan, mut delivered) = Plan::of("b", 2).from("a", channel(0, 0, 0), WINDOW);
    // The first attempt is given up at `b` before it is at `a`.
    pair.links_b.close();
    let mut links_b = pair.b.attempt(plan.0);
    while send(&old, &Element::Idle).is_ok() {
        tokio::task::yield_now().await;
    }
    pair.links_a.close();
    let plan = Plan::of("a", 2)
        .peer("b", address)
        .to("b", channel(0, 0, 0), WINDOW);
    let mut links_a = pair.a.attempt(plan.0);
    soon(links_a.connected()).await.unwrap();
    soon(links_b.connected()).await.unwrap();
    links_a.senders[&channel(0, 0, 0)]
        .send(&Element::End)
        .unwrap();
    assert_eq!(soon(delivered.recv()).await.unwrap().0, Element::End);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_begin_an_attempt_in_any_order() {
    let (a, b) = (exchange().await, exchange().await);
    let plan = Plan::of("a", 1)
        .peer("b", b.address())
        .to("b", channel(0, 0, 0), WINDOW);
    let mut links_a = a.attempt(plan.0);
    links_a.senders[&channel(0, 0, 0)]
        .send(&Element::Idle)
        .unwrap();
    let early = tokio::time::timeout(Duration::from_millis(100), links_a.connected()).await;
    assert!(early.is_err(), "nobody expects it yet");
    let (plan, mut delivered) = Plan::of("b", 1).from("a", channel(0, 0, 0), WINDOW);
    let mut links_b = b.attempt(plan.0);
    soon(links_a.connected()).await.unwrap();
    soon(links_b.connected()).await.unwrap();
    assert_eq!(soon(delivered.recv()).await.unwrap().0, Element::Idle);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_cannot_be_reached_or_does_not_connect_is_named() {
    let settings = Settings {
        connect: Duration::from_millis(300),
        ..SETTINGS
    };
    let listening =
        || Exchange::listen("127.0.0.1:0".parse().unwrap(), Transport::plain(), settings);
    let (a, b, gone) = (
        listening().await.unwrap(),
        listening().await.unwrap(),
        listening().await.unwrap(),
    );
    let address = gone.address();
    drop(gone);
    let plan = Plan::of("a", 1)
        .peer("b", address)
        .to("b", channel(0, 0, 0), WINDOW);
    let mut links_a = a.attempt(plan.0);
    let sender = links_a.senders.remove(&channel(0, 0, 0)).unwrap();
    names(
        &soon(links_a.connected()).await.unwrap_err(),
        "b",
        ErrorCode::ExchangeLost,
    );
    assert_eq!(send(&sender, &Element::Idle), Err(SendError::Closed));
    let (plan, mut delivered) = Plan::of("b", 1).from("a", channel(0, 0, 0), WINDOW);
    let mut links_b = b.attempt(plan.0);
    names(
        &soon(links_b.connected()).await.unwrap_err(),
        "a",
        ErrorCode::ExchangeLost,
    );
    assert!(soon(delivered.recv()).await.is_none());
    let plan = Plan::of("a", 2).to("b", channel(0, 0, 0), WINDOW);
    let mut links = a.attempt(plan.0);
    names(
        &soon(links.connected()).await.unwrap_err(),
        "b",
        ErrorCode::ExchangeLost,
    );
}
