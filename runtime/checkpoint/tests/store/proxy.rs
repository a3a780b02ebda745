//! A network between a client and a store that loses things on request.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Barrier, Notify};
use tokio::task::JoinSet;

/// What happens to a request.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// It reaches the store, but the answer does not come back.
    ReplyLost,
    /// It does not reach the store.
    Dropped,
    /// It reaches the store when this is notified; the client's connection is cut at once.
    Late(Arc<Notify>),
    /// It waits at the barrier for others and then reaches the store.
    Meet(Arc<Barrier>),
    /// It reaches the store, but 409 `ConditionalRequestConflict` comes back.
    AppliedConflict,
    /// It does not reach the store; 409 `ConditionalRequestConflict` comes back.
    Conflict,
    /// It does not reach the store; 503 `SlowDown` comes back.
    SlowDown,
}

/// Requests of this method (any, if empty) and path meet these faults, one each, in order.
#[derive(Debug, Default)]
struct Plan {
    method: &'static str,
    path: &'static str,
    faults: VecDeque<Fault>,
    /// Every request, after the faults.
    always: Option<Fault>,
    met: usize,
}

/// The running proxy. Ends with its value.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    plan: Arc<Mutex<Plan>>,
    _connections: JoinSet<()>,
}

impl Proxy {
    /// A proxy before the store at `upstream` (`host:port`).
    pub(crate) async fn before(upstream: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let plan = Arc::new(Mutex::new(Plan::default()));
        let shared = Arc::clone(&plan);
        let mut connections = JoinSet::new();
        connections.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (upstream, plan) = (upstream.clone(), Arc::clone(&shared));
                open.spawn(async move {
                    // A connection that breaks is what this is for.
                    drop(serve(client, &upstream, &plan).await);
                });
            }
        });
        Self {
            address,
            plan,
            _connections: connections,
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next requests of this method and path meet these faults.
    pub(crate) fn next(&self, method: &'static str, path: &'static str, faults: Vec<Fault>) {
        *self.plan.lock().unwrap() = Plan {
            method,
            path,
            faults: faults.into(),
            always: None,
            met: 0,
        };
    }

    /// All requests of this method and path meet this fault.
    pub(crate) fn always(&self, method: &'static str, path: &'static str, fault: Fault) {
        self.next(method, path, Vec::new());
        self.then_always(fault);
    }

    /// Requests that meet none of the planned faults meet this one.
    pub(crate) fn then_always(&self, fault: Fault) {
        self.plan.lock().unwrap().always = Some(fault);
    }

    /// Requests meet no fault any more. Returns how many have met one.
    pub(crate) fn heal(&self) -> usize {
        std::mem::take(&mut *self.plan.lock().unwrap()).met
    }
}

/// One message: its head and its body.
struct Message {
    head: String,
    bytes: Vec<u8>,
}

async fn serve(client: TcpStream, upstream: &str, plan: &Mutex<Plan>) -> std::io::Result<()> {
    let mut client = BufReader::new(client);
    let mut store = BufReader::new(TcpStream::connect(upstream).await?);
    loop {
        let request = read_message(&mut client, false).await?;
        let mut fault = fault_for(&request.head, plan);
        if let Some(Fault::Meet(barrier)) = fault {
            barrier.wait().await;
            fault = None;
        }
        match fault {
            Some(Fault::Dropped) => return Ok(()),
            Some(Fault::Conflict) => answer(&mut client, 409, "ConditionalRequestConflict").await?,
            Some(Fault::SlowDown) => answer(&mut client, 503, "SlowDown").await?,
            Some(Fault::Late(notify)) => {
                client.get_mut().shutdown().await?;
                drop(client);
                notify.notified().await;
                exchange(&mut store, &request).await?;
                return Ok(());
            }
            Some(Fault::ReplyLost) => {
                exchange(&mut store, &request).await?;
                return Ok(());
            }
            Some(Fault::AppliedConflict) => {
                exchange(&mut store, &request).await?;
                answer(&mut client, 409, "ConditionalRequestConflict").await?;
            }
            None | Some(Fault::Meet(_)) => {
                let reply = exchange(&mut store, &request).await?;
                client.get_mut().write_all(&reply.bytes).await?;
            }
        }
    }
}

fn fault_for(head: &str, plan: &Mutex<Plan>) -> Option<Fault> {
    let mut plan = plan.lock().unwrap();
    let line = head.lines().next().unwrap_or_default();
    let meant = !plan.path.is_empty() && line.starts_with(plan.method) && line.contains(plan.path);
    let fault = meant.then(|| plan.faults.pop_front().or_else(|| plan.always.clone()))?;
    plan.met += usize::from(fault.is_some());
    fault
}

async fn exchange(store: &mut BufReader<TcpStream>, request: &Message) -> std::io::Result<Message> {
    store.get_mut().write_all(&request.bytes).await?;
    read_message(store, request.head.starts_with("HEAD")).await
}

async fn answer(client: &mut BufReader<TcpStream>, status: u16, code: &str) -> std::io::Result<()> {
    let body = format!("<Error><Code>{code}</Code><Message>by the proxy</Message></Error>");
    let reply = format!(
        "HTTP/1.1 {status} Fault\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    client.get_mut().write_all(reply.as_bytes()).await
}

/// Reads a head and the body of its `Content-Length`.
async fn read_message(
    stream: &mut BufReader<TcpStream>,
    without_body: bool,
) -> std::io::Result<Message> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found
                .eq_ignore_ascii_case(name)
                .then(|| value.trim().to_owned())
        })
    };
    assert!(
        header("transfer-encoding").is_none(),
        "not understood:\n{head}"
    );
    let length: usize = header("content-length").map_or(0, |length| length.parse().unwrap());
    if !without_body {
        let head_length = bytes.len();
        bytes.resize(head_length + length, 0);
        stream.read_exact(&mut bytes[head_length..]).await?;
    }
    Ok(Message { head, bytes })
}
