//! The coordinator's end.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream;
use millstream_coordinator::{OUTGOING_CAPACITY, WorkerConnection};
use millstream_transport::{Stream, Transport};
use millstream_types::protocol::{ToCoordinator, ToWorker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};

use super::codec::Json;
use super::{CONNECT, MESSAGE_BYTES_MAX, PING_EVERY, PING_TIMEOUT, QUEUE, SERVICE};

/// How long open connections may take to end after the listener has stopped.
const DRAIN: Duration = Duration::from_secs(2);

/// Most connections whose other end has not yet shown that it belongs to the job, and how long it may
/// take to do so.
const HANDSHAKES_MAX: usize = 64;
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Accepts workers until `shutdown`, and hands each to the coordinator.
///
/// # Errors
/// The listener fails.
pub(crate) async fn serve(
    listener: TcpListener,
    transport: Transport,
    workers: mpsc::Sender<WorkerConnection>,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let pumps = TaskTracker::new();
    let service = Connect {
        workers,
        pumps: pumps.clone(),
    };
    let opened = TcpListenerStream::new(listener).map(|accepted| open(transport.clone(), accepted));
    let incoming = stream::StreamExt::buffer_unordered(opened, HANDSHAKES_MAX)
        .filter_map(|connection| connection)
        .map(Ok::<_, io::Error>);
    let server = Server::builder()
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .serve_with_incoming_shutdown(service, incoming, shutdown.clone().cancelled_owned());
    let drained = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    let result = tokio::select! {
        result = server => result,
        () = drained => Ok(()),
    };
    pumps.close();
    result
}

/// A connection whose other end has shown that it belongs to the job, where that is asked for.
async fn open(transport: Transport, accepted: io::Result<TcpStream>) -> Option<Connection> {
    let opened = async { transport.accept(accepted?).await };
    let error = match tokio::time::timeout(HANDSHAKE, opened).await {
        Ok(Ok(stream)) => return Some(Connection(stream)),
        Ok(Err(error)) => error,
        Err(_) => io::Error::from(io::ErrorKind::TimedOut),
    };
    tracing::warn!(%error, "a connection that is not one of a worker of this job");
    None
}

/// A worker's connection, as the server wants it.
struct Connection(Stream);

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[derive(Debug, Clone)]
struct Connect {
    workers: mpsc::Sender<WorkerConnection>,
    /// Owns the tasks that carry messages from connections to the coordinator.
    pumps: TaskTracker,
}

impl NamedService for Connect {
    const NAME: &'static str = SERVICE;
}

impl Service<http::Request<Body>> for Connect {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let connect = self.clone();
        Box::pin(async move {
            if request.uri().path() != CONNECT {
                let path = request.uri().path();
                return Ok(Status::unimplemented(format!("{path} is not served")).into_http());
            }
            let mut grpc = Grpc::new(Json::default()).max_decoding_message_size(MESSAGE_BYTES_MAX);
            Ok(grpc.streaming(connect, request).await)
        })
    }
}

impl StreamingService<ToCoordinator> for Connect {
    type Response = ToWorker;
    type ResponseStream = stream::BoxStream<'static, Result<ToWorker, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<ToCoordinator>>) -> Self::Future {
        let connect = self.clone();
        Box::pin(async move {
            let (outgoing, to_worker) = mpsc::channel(OUTGOING_CAPACITY);
            let (to_coordinator, incoming) = mpsc::channel(QUEUE);
            let connection = WorkerConnection { outgoing, incoming };
            let gone = |_| Status::unavailable("the coordinator has ended");
            connect.workers.send(connection).await.map_err(gone)?;
            connect
                .pumps
                .spawn(carry(request.into_inner(), to_coordinator));
            let stream: Self::ResponseStream = Box::pin(ReceiverStream::new(to_worker).map(Ok));
            Ok(Response::new(stream))
        })
    }
}

/// Carries what a worker says to the coordinator, until either side is gone.
async fn carry(mut stream: Streaming<ToCoordinator>, coordinator: mpsc::Sender<ToCoordinator>) {
    loop {
        let message = tokio::select! {
            message = stream.message() => message,
            () = coordinator.closed() => return,
        };
        match message {
            Ok(Some(message)) => {
                if coordinator.send(message).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(status) => {
                tracing::debug!(%status, "a worker's connection broke");
                return;
            }
        }
    }
}
