//! Connections that others make.

use std::sync::Arc;

use millstream_transport::{Stream, Transport};
use millstream_types::{ErrorCode, WorkerId};
use tokio::io::split;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Duration, sleep, timeout};

use super::{Expected, Expecting, Settings};
use crate::connection::{self, Ended};
use crate::hello::{self, Answer, Hello, HelloError};
use crate::inbound::Inbound;

type Current = watch::Receiver<Option<Arc<Expecting>>>;

/// Most connections at a time, whatever they are for. Each worker makes one per attempt.
const CONNECTIONS_MAX: usize = 1_024;

/// Pause after an error of the listener, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn serve(
    listener: TcpListener,
    transport: Transport,
    current: Current,
    settings: Settings,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) if connections.len() < CONNECTIONS_MAX => {
                    let address = address.to_string();
                    let (transport, current) = (transport.clone(), current.clone());
                    connections.spawn(async move {
                        if let Some(stream) = open(&transport, stream, &address, settings).await {
                            welcome(stream, address, current, settings).await;
                        }
                    });
                }
                Ok((_, address)) => {
                    tracing::warn!(%address, "a connection of another worker is turned away: there are too many");
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection of another worker is not accepted");
                    sleep(PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// A connection whose other end has shown that it belongs to the job, where that is asked for.
async fn open(
    transport: &Transport,
    stream: TcpStream,
    address: &str,
    settings: Settings,
) -> Option<Stream> {
    match timeout(settings.liveness.timeout, transport.accept(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::warn!(address, %error, "a connection that is not one of a worker of this job");
            None
        }
        Err(_) => {
            tracing::debug!(address, "a connection says nothing");
            None
        }
    }
}

/// What to do about a connection.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Its attempt has not begun here yet.
    Wait,
    Refuse(String),
    Welcome,
}

/// Whether the connection belongs to the current attempt. Pure.
fn judge(hello: &Hello, job: &str, attempt: u64, worker: &WorkerId) -> Verdict {
    if hello.job != job {
        return Verdict::Refuse(format!("worker `{worker}` works for another job"));
    }
    if hello.to != worker.as_str() {
        let to = &hello.to;
        return Verdict::Refuse(format!("this is worker `{worker}` and not worker `{to}`"));
    }
    match hello.attempt.cmp(&attempt) {
        std::cmp::Ordering::Less => Verdict::Refuse(format!(
            "attempt {} is over: worker `{worker}` is in attempt {attempt}",
            hello.attempt
        )),
        std::cmp::Ordering::Equal => Verdict::Welcome,
        std::cmp::Ordering::Greater => Verdict::Wait,
    }
}

/// The whole life of a connection that another worker has made.
async fn welcome(mut stream: Stream, address: String, mut current: Current, settings: Settings) {
    let heard = timeout(settings.liveness.timeout, hello::read::<Hello>(&mut stream)).await;
    let hello = match heard {
        Ok(Ok(hello)) => hello,
        Ok(Err(error)) => {
            tracing::warn!(%address, %error, "a connection that is not one of a worker of this job");
            if matches!(error, HelloError::Version(_)) {
                refuse(&mut stream, error.to_string()).await;
            }
            return;
        }
        Err(_) => {
            tracing::debug!(%address, "a connection says nothing");
            return;
        }
    };
    let found = timeout(settings.connect, find(&hello, &mut current)).await;
    let (expecting, expected) = match found {
        Ok(Ok(found)) => found,
        Ok(Err(refused)) => {
            tracing::debug!(%address, from = hello.from, refused, "a connection is refused");
            return refuse(&mut stream, refused).await;
        }
        Err(_) => {
            let attempt = hello.attempt;
            return refuse(&mut stream, format!("attempt {attempt} has not begun here")).await;
        }
    };
    run(
        stream,
        &address,
        &WorkerId(hello.from),
        &expecting,
        expected,
    )
    .await;
}

async fn refuse(stream: &mut Stream, refused: String) {
    let answer = Answer {
        refused: Some(refused),
    };
    if let Err(error) = hello::write(stream, &answer).await {
        tracing::debug!(%error, "a refusal is not heard");
    }
}

/// Waits until the attempt of a connection has begun here.
async fn find(hello: &Hello, current: &mut Current) -> Result<(Arc<Expecting>, Expected), String> {
    loop {
        let expecting = current.borrow_and_update().clone();
        if let Some(expecting) = expecting {
            match judge(hello, &expecting.job, expecting.attempt, &expecting.worker) {
                Verdict::Wait => {}
                Verdict::Refuse(refused) => return Err(refused),
                Verdict::Welcome if expecting.done.is_cancelled() => {
                    return Err(format!("attempt {} is over", hello.attempt));
                }
                Verdict::Welcome => {
                    let peer = WorkerId(hello.from.clone());
                    let unexpected = || {
                        format!(
                            "no connection of worker `{peer}` is expected, or it is there already"
                        )
                    };
                    let expected = expecting.take(&peer).ok_or_else(unexpected)?;
                    return Ok((expecting, expected));
                }
            }
        }
        if current.changed().await.is_err() {
            return Err(String::from("the worker ends"));
        }
    }
}

async fn run(
    mut stream: Stream,
    address: &str,
    peer: &WorkerId,
    expecting: &Expecting,
    Expected { outbox, channels }: Expected,
) {
    let link = &expecting.link;
    let ids: Vec<_> = channels.keys().copied().collect();
    if let Err(error) = hello::write(&mut stream, &Answer { refused: None }).await {
        let message = format!(
            "worker `{}` has lost worker `{peer}` ({address}): {error}",
            link.worker
        );
        return link.failed(peer, ids, ErrorCode::ExchangeLost, message);
    }
    link.connected();
    let mut inbound = Inbound::new(expecting.attempt, channels);
    let take = |header: &_, body: &_| inbound.take(header, body);
    let liveness = link.settings.liveness;
    let ended = connection::carry(split(stream), &outbox, liveness, &expecting.done, take).await;
    // Before the channels end: who finds one at its end may look for the reason.
    match ended {
        Ok(Ended::Bye | Ended::Here) => {}
        Err(lost) => link.lost(peer, ids, address, &lost),
    }
    outbox.close();
    drop(inbound);
}

/// Says so of the workers that have not connected in time.
pub(super) async fn miss(expecting: Arc<Expecting>) {
    let link = &expecting.link;
    tokio::select! {
        () = sleep(link.settings.connect) => {}
        () = expecting.done.cancelled() => {}
    }
    for (peer, expected) in expecting.take_all() {
        let message = format!(
            "worker `{peer}` has not connected to worker `{}` within {} ms",
            link.worker,
            link.settings.connect.as_millis()
        );
        let channels = expected.channels.keys().copied().collect();
        link.failed(&peer, channels, ErrorCode::ExchangeLost, message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_connection_of_the_current_attempt_of_the_job_is_welcome() {
        let hello = |job: &str, attempt, to: &str| Hello {
            job: job.to_owned(),
            attempt,
            from: "a".to_owned(),
            to: to.to_owned(),
        };
        let judge = |hello: &Hello| judge(hello, "job", 5, &WorkerId::from("b"));
        assert_eq!(judge(&hello("job", 5, "b")), Verdict::Welcome);
        assert_eq!(judge(&hello("job", 6, "b")), Verdict::Wait);
        for refused in [
            hello("job", 4, "b"),
            hello("other", 5, "b"),
            hello("other", 6, "b"),
            hello("job", 5, "c"),
        ] {
            assert!(matches!(judge(&refused), Verdict::Refuse(_)), "{refused:?}");
        }
    }
}
