//! Exchanges of several workers, readers that are as slow as a test wants, and a proxy between them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use millstream_types::Element;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::super::*;
use crate::inbound::{Credit, Gone};

pub(super) const SETTINGS: Settings = Settings {
    liveness: Liveness {
        interval: Duration::from_millis(100),
        timeout: Duration::from_millis(1_500),
    },
    connect: Duration::from_secs(15),
};

/// No test waits longer for anything.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

/// More than the windows of any test let through.
const DELIVERED: usize = 100_000;

pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("in time")
}

#[derive(Debug)]
struct Reader(mpsc::Sender<(Element, Option<Credit>)>);

impl Deliver for Reader {
    fn deliver(&mut self, element: Element, credit: Option<Credit>) -> Result<(), Gone> {
        self.0.try_send((element, credit)).map_err(|_| Gone)
    }
}

pub(super) type Delivered = mpsc::Receiver<(Element, Option<Credit>)>;

pub(super) fn channel(edge: u32, from: u32, to: u32) -> ChannelId {
    ChannelId { edge, from, to }
}

pub(super) async fn exchange() -> Exchange {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    Exchange::listen(any, Transport::plain(), SETTINGS)
        .await
        .unwrap()
}

/// A plan of one worker, put together channel by channel.
pub(super) struct Plan(pub(super) AttemptPlan);

impl Plan {
    pub(super) fn of(worker: &str, attempt: u64) -> Self {
        Self(AttemptPlan {
            job: "job".to_owned(),
            attempt: Attempt(attempt),
            worker: WorkerId::from(worker),
            peers: BTreeMap::new(),
            outgoing: Vec::new(),
            incoming: Vec::new(),
        })
    }

    pub(super) fn peer(mut self, worker: &str, address: SocketAddr) -> Self {
        self.0
            .peers
            .insert(WorkerId::from(worker), address.to_string());
        self
    }

    pub(super) fn to(mut self, worker: &str, channel: ChannelId, window: usize) -> Self {
        let to = WorkerId::from(worker);
        self.0.outgoing.push(Outgoing {
            channel,
            to,
            window,
        });
        self
    }

    pub(super) fn from(
        mut self,
        worker: &str,
        channel: ChannelId,
        window: usize,
    ) -> (Self, Delivered) {
        let (sender, delivered) = mpsc::channel(DELIVERED);
        self.0.incoming.push(Incoming {
            channel,
            from: WorkerId::from(worker),
            window,
            deliver: Box::new(Reader(sender)),
        });
        (self, delivered)
    }
}

/// Two workers with channels from `a` to `b`, perhaps through a proxy.
pub(super) struct Pair {
    pub(super) a: Exchange,
    pub(super) b: Exchange,
    pub(super) links_a: Links,
    pub(super) links_b: Links,
    pub(super) delivered: Vec<Delivered>,
}

impl Pair {
    pub(super) async fn connected(channels: u32, window: usize, proxy: Option<&Proxy>) -> Self {
        let (a, b) = (exchange().await, exchange().await);
        let address = match proxy {
            Some(proxy) => {
                *proxy.to.lock().unwrap() = Some(b.address());
                proxy.address
            }
            None => b.address(),
        };
        let mut plan_a = Plan::of("a", 1).peer("b", address);
        let mut plan_b = Plan::of("b", 1);
        let mut delivered = Vec::new();
        for number in 0..channels {
            plan_a = plan_a.to("b", channel(0, 0, number), window);
            let (plan, reader) = plan_b.from("a", channel(0, 0, number), window);
            plan_b = plan;
            delivered.push(reader);
        }
        let mut links_a = a.attempt(plan_a.0);
        let mut links_b = b.attempt(plan_b.0);
        soon(links_a.connected()).await.unwrap();
        soon(links_b.connected()).await.unwrap();
        Self {
            a,
            b,
            links_a,
            links_b,
            delivered,
        }
    }

    pub(super) fn sender(&mut self, number: u32) -> RemoteSender {
        self.links_a.senders.remove(&channel(0, 0, number)).unwrap()
    }
}

/// Stands between two workers, and can stop to forward, or change what it forwards.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    pub(super) to: Mutex<Option<SocketAddr>>,
    cut: AtomicBool,
    corrupt: AtomicBool,
    tasks: Mutex<JoinSet<()>>,
}

impl Proxy {
    pub(super) async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Arc::new(Self {
            address: listener.local_addr().unwrap(),
            to: Mutex::default(),
            cut: AtomicBool::new(false),
            corrupt: AtomicBool::new(false),
            tasks: Mutex::default(),
        });
        let serving = Arc::clone(&proxy);
        proxy
            .tasks
            .lock()
            .unwrap()
            .spawn(async move { serving.serve(listener).await });
        proxy
    }

    async fn serve(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            let (here, _) = listener.accept().await.unwrap();
            let address = self.to.lock().unwrap().expect("the other side");
            let there = TcpStream::connect(address).await.unwrap();
            let (read_here, write_here) = here.into_split();
            let (read_there, write_there) = there.into_split();
            connections.spawn(Arc::clone(&self).forward(read_here, write_there, true));
            connections.spawn(Arc::clone(&self).forward(read_there, write_here, false));
        }
    }

    async fn forward(
        self: Arc<Self>,
        mut from: tokio::net::tcp::OwnedReadHalf,
        mut to: tokio::net::tcp::OwnedWriteHalf,
        onwards: bool,
    ) {
        let mut bytes = vec![0; 64 * 1_024];
        while let Ok(read @ 1..) = from.read(&mut bytes).await {
            if self.cut.load(Ordering::Acquire) {
                // Neither an end nor a reset: packets that are dropped.
                std::future::pending::<()>().await;
            }
            if onwards && self.corrupt.swap(false, Ordering::AcqRel) {
                bytes[read - 1] ^= 0x40;
            }
            if to.write_all(&bytes[..read]).await.is_err() {
                return;
            }
        }
    }

    /// Forwards nothing any more, and says nothing of it.
    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::Release);
    }

    /// Changes a bit of what is forwarded next.
    pub(super) fn corrupt(&self) {
        self.corrupt.store(true, Ordering::Release);
    }
}
