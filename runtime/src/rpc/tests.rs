use std::time::Duration;

use millstream_coordinator::WorkerConnection;
use millstream_tests::Scratch;
use millstream_tests::certificates::Authority;
use millstream_transport::Transport;
use millstream_types::protocol::{PROTOCOL_VERSION, Register, ToCoordinator, ToWorker};
use millstream_types::{Attempt, WorkerId};
use millstream_worker::CoordinatorConnection;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{client, server};

const PATIENCE: Duration = Duration::from_secs(20);

struct Pair {
    coordinator: WorkerConnection,
    worker: CoordinatorConnection,
    workers: mpsc::Receiver<WorkerConnection>,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("in time")
}

async fn connected() -> Pair {
    connected_by(&Transport::plain(), &Transport::plain()).await
}

async fn connected_by(theirs: &Transport, ours: &Transport) -> Pair {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (connections, mut workers) = mpsc::channel(4);
    let shutdown = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let serving = server::serve(listener, theirs.clone(), connections, shutdown.clone());
    tasks.spawn(async move { serving.await.unwrap() });
    let worker = soon(client::connect(ours, &address, &mut tasks))
        .await
        .unwrap();
    let coordinator = soon(workers.recv()).await.unwrap();
    Pair {
        coordinator,
        worker,
        workers,
        shutdown,
        tasks,
    }
}

fn register() -> ToCoordinator {
    ToCoordinator::Register(Register {
        protocol: PROTOCOL_VERSION,
        worker: WorkerId::from("w"),
        slots: 3,
        build: "test".to_owned(),
        exchange: Some("10.0.0.7:6124".to_owned()),
    })
}

const fn cancel(attempt: u64) -> ToWorker {
    ToWorker::Cancel {
        attempt: Attempt(attempt),
    }
}

#[tokio::test]
async fn messages_pass_both_ways_in_order() {
    let mut pair = connected().await;
    pair.worker.outgoing.send(register()).await.unwrap();
    assert_eq!(
        soon(pair.coordinator.incoming.recv()).await,
        Some(register())
    );
    for attempt in 0..1_000 {
        let sent = pair.coordinator.outgoing.send(cancel(attempt));
        soon(sent).await.unwrap();
        let received = soon(pair.worker.incoming.recv()).await;
        assert_eq!(received, Some(cancel(attempt)));
    }
}

#[tokio::test]
async fn a_message_larger_than_the_usual_limit_passes() {
    let mut pair = connected().await;
    let large = ToCoordinator::Register(Register {
        build: "x".repeat(20_000_000),
        protocol: PROTOCOL_VERSION,
        worker: WorkerId::from("w"),
        slots: 1,
        exchange: None,
    });
    pair.worker.outgoing.send(large.clone()).await.unwrap();
    assert_eq!(soon(pair.coordinator.incoming.recv()).await, Some(large));
}

#[tokio::test]
async fn the_coordinator_notices_that_a_worker_is_gone() {
    let mut pair = connected().await;
    drop(pair.worker);
    assert_eq!(soon(pair.coordinator.incoming.recv()).await, None);
}

#[tokio::test]
async fn a_worker_notices_that_the_coordinator_has_dropped_it() {
    let mut pair = connected().await;
    pair.coordinator.outgoing.send(cancel(1)).await.unwrap();
    drop(pair.coordinator);
    assert_eq!(soon(pair.worker.incoming.recv()).await, Some(cancel(1)));
    assert_eq!(soon(pair.worker.incoming.recv()).await, None);
}

#[tokio::test]
async fn a_listener_ends_once_the_coordinator_has_ended() {
    let mut pair = connected().await;
    pair.coordinator
        .outgoing
        .send(ToWorker::Shutdown)
        .await
        .unwrap();
    pair.shutdown.cancel();
    drop(pair.coordinator);
    let last = soon(pair.worker.incoming.recv()).await;
    assert_eq!(last, Some(ToWorker::Shutdown), "what was said is heard");
    soon(pair.tasks.join_next()).await;
    assert_eq!(soon(pair.worker.incoming.recv()).await, None);
    assert!(soon(pair.workers.recv()).await.is_none());
}

#[tokio::test]
async fn an_address_where_nothing_listens_is_an_error_that_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = soon(client::connect(
        &Transport::plain(),
        &address,
        &mut JoinSet::new(),
    ))
    .await;
    let text = error.err().unwrap().text();
    assert!(text.contains("refused"), "{text}");
}

#[tokio::test]
async fn messages_pass_by_tls_and_only_if_both_ends_have_it() {
    let scratch = Scratch::new("rpc");
    let files = Authority::make(scratch.path()).sign_process("orders");
    let secured = Transport::tls(&files).unwrap();
    let mut pair = connected_by(&secured, &secured).await;
    pair.worker.outgoing.send(register()).await.unwrap();
    let heard = soon(pair.coordinator.incoming.recv()).await;
    assert_eq!(heard, Some(register()));

    for (theirs, ours, names_tls) in [
        (secured.clone(), Transport::plain(), "coordinator"),
        (Transport::plain(), secured, "worker"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (connections, _workers) = mpsc::channel(4);
        let mut tasks = JoinSet::new();
        let shutdown = CancellationToken::new();
        tasks.spawn(async move { server::serve(listener, theirs, connections, shutdown).await });
        let error = soon(client::connect(&ours, &address, &mut JoinSet::new())).await;
        let text = error.err().unwrap().text();
        // Who speaks in the clear is cut off before it hears a word.
        assert!(text.contains("TLS") || names_tls == "coordinator", "{text}");
    }
}
