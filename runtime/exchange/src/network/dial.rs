//! Connections that are made from here.

use std::sync::Arc;
use std::time::Duration;

use millstream_transport::{Stream, Transport};
use millstream_types::{ErrorCode, WorkerId};
use tokio::io::split;
use tokio::time::{Instant, sleep, timeout};

use super::Link;
use crate::connection::{self, Ended};
use crate::frame::ChannelId;
use crate::hello::{self, Answer, Hello, HelloError};
use crate::inbound::Answers;
use crate::outbox::{Outbox, RemoteSender};

/// Pauses between attempts to connect: doubled from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The channels of one connection that is made from here.
pub(super) struct Outbound {
    attempt: u64,
    outbox: Arc<Outbox>,
    channels: Vec<ChannelId>,
}

impl Outbound {
    pub(super) fn new(attempt: u64) -> Self {
        Self {
            attempt,
            outbox: Arc::new(Outbox::new(attempt)),
            channels: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, channel: ChannelId, window: usize) -> RemoteSender {
        self.channels.push(channel);
        RemoteSender::new(channel, window, &self.outbox)
    }
}

pub(super) fn hello(job: &str, attempt: u64, from: &WorkerId, to: &WorkerId) -> Hello {
    Hello {
        job: job.to_owned(),
        attempt,
        from: from.0.clone(),
        to: to.0.clone(),
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error(transparent)]
    Hello(#[from] HelloError),
    #[error("it refuses the connection: {0}")]
    Refused(String),
    #[error("it does not answer")]
    Silent,
}

/// The whole life of a connection to another worker.
pub(super) async fn run(
    link: Link,
    transport: Transport,
    peer: WorkerId,
    address: Option<String>,
    hello: Hello,
    outbound: Outbound,
) {
    let Outbound {
        attempt,
        outbox,
        channels,
    } = outbound;
    let done = link.done.clone();
    let connecting = done.run_until_cancelled(connect(
        &link,
        &transport,
        &peer,
        address.as_deref(),
        &hello,
    ));
    match connecting.await {
        Some(Ok(stream)) => {
            link.connected();
            let mut answers = Answers::new(attempt, channels.iter().copied(), &outbox);
            let take = |header: &_, body: &_| answers.take(header, body);
            let liveness = link.settings.liveness;
            let ended = connection::carry(split(stream), &outbox, liveness, &done, take).await;
            match ended {
                Ok(Ended::Bye | Ended::Here) => {}
                Err(lost) => {
                    // Whoever hears of it finds the channels closed.
                    outbox.close();
                    link.lost(&peer, channels, &address.unwrap_or_default(), &lost);
                }
            }
        }
        Some(Err(message)) => {
            outbox.close();
            link.failed(&peer, channels, ErrorCode::ExchangeLost, message);
        }
        None => {}
    }
    outbox.close();
}

/// Connects, trying again until there is no time left or the other side refuses.
async fn connect(
    link: &Link,
    transport: &Transport,
    peer: &WorkerId,
    address: Option<&str>,
    hello: &Hello,
) -> Result<Stream, String> {
    let Some(address) = address else {
        return Err(format!(
            "worker `{}` does not know where worker `{peer}` listens",
            link.worker
        ));
    };
    let patience = link.settings.connect;
    let deadline = Instant::now() + patience;
    let mut pause = FIRST_PAUSE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let tried = timeout(left, try_connect(transport, address, hello)).await;
        let error = match tried.unwrap_or(Err(DialError::Silent)) {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let again = matches!(error, DialError::Hello(HelloError::Io(_)));
        if !again || Instant::now() + pause > deadline {
            return Err(format!(
                "worker `{}` cannot connect to worker `{peer}` at {address} within {} ms: {error}",
                link.worker,
                patience.as_millis()
            ));
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn try_connect(
    transport: &Transport,
    address: &str,
    hello: &Hello,
) -> Result<Stream, DialError> {
    let mut stream = transport.connect(address).await.map_err(HelloError::from)?;
    hello::write(&mut stream, hello).await?;
    let answer: Answer = hello::read(&mut stream).await?;
    match answer.refused {
        Some(refused) => Err(DialError::Refused(refused)),
        None => Ok(stream),
    }
}
