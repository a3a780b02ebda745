//! The worker's end.

use std::error::Error;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use millstream_transport::Transport;
use millstream_types::protocol::ToWorker;
use millstream_worker::CoordinatorConnection;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Endpoint, Uri};
use tonic::{Request, Status, Streaming};
use tower::service_fn;

use super::codec::Json;
use super::{CONNECT, MESSAGE_BYTES_MAX, PING_EVERY, PING_TIMEOUT, QUEUE};

/// How long one attempt to connect may take. Short: what does not answer is most likely the address
/// of a coordinator that is gone, and the next attempt finds the one that follows it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// Nothing answers there.
    #[error(transparent)]
    Transport(#[from] tonic::transport::Error),
    /// Something answers, but not as a coordinator.
    #[error("{} ({:?})", .0.message(), .0.code())]
    Answer(Box<Status>),
}

impl ConnectError {
    /// The error with its causes.
    pub(crate) fn text(&self) -> String {
        let cause: &(dyn Error + 'static) = self;
        millstream_types::error::chain(cause)
    }
}

/// Connects to a coordinator at `host:port`. `pumps` owns what carries the messages.
///
/// # Errors
/// There is no coordinator, now.
pub(crate) async fn connect(
    transport: &Transport,
    address: &str,
    pumps: &mut JoinSet<()>,
) -> Result<CoordinatorConnection, ConnectError> {
    let transport = transport.clone();
    let connector = service_fn(move |uri: Uri| {
        let transport = transport.clone();
        async move {
            let authority = uri.authority().map_or("", |authority| authority.as_str());
            transport.connect(authority).await.map(TokioIo::new)
        }
    });
    // Whether there is TLS below is not HTTP's concern.
    let channel = Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await?;
    let mut grpc = Grpc::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    grpc.ready().await?;
    let (outgoing, to_coordinator) = mpsc::channel(QUEUE);
    let request = Request::new(ReceiverStream::new(to_coordinator));
    let path = PathAndQuery::from_static(CONNECT);
    let response = grpc
        .streaming(request, path, Json::default())
        .await
        .map_err(|status| ConnectError::Answer(Box::new(status)))?;
    let (to_worker, incoming) = mpsc::channel(QUEUE);
    pumps.spawn(carry(response.into_inner(), to_worker));
    Ok(CoordinatorConnection {
        outgoing,
        incoming,
        exchange: None,
    })
}

/// Carries what the coordinator says to the worker, until either side is gone.
async fn carry(mut stream: Streaming<ToWorker>, worker: mpsc::Sender<ToWorker>) {
    loop {
        let message = tokio::select! {
            message = stream.message() => message,
            () = worker.closed() => return,
        };
        match message {
            Ok(Some(message)) => {
                if worker.send(message).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(status) => {
                tracing::debug!(%status, "the connection to the coordinator broke");
                return;
            }
        }
    }
}
