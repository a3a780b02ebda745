//! A network between two processes that can be made bad: slow, cut in one way or both, broken off,
//! or closed to new connections. Where Kafka's protocol goes over it, requests can be held up by
//! their kind, and their answers lost.
//!
//! It is a proxy for TCP on a port of its own: whoever is to feel the faults is given its address
//! instead of the server's. A cut loses nothing, as with TCP: what was sent meanwhile arrives once
//! it is healed, unless somebody has given up. A new connection over a link that is cut is taken
//! at once, though, and nobody is heard on it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::SockRef;

use crate::wait::pause;

/// What is passed on at once.
const PIECE_BYTES: usize = 64 << 10;
/// No request of a test is longer.
const MAX_FRAME_BYTES: usize = 64 << 20;

/// One of the two ways over a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From who connects.
    ToServer,
    /// To who has connected.
    ToClient,
}

/// What goes over a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Traffic {
    Bytes,
    /// Requests of Kafka's protocol, without TLS.
    Kafka,
}

/// A link. All its connections end when it is dropped.
pub struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    traffic: Traffic,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    server: String,
    delay: Duration,
    is_cut: [bool; 2],
    is_refusing: bool,
    has_ended: bool,
    next: u64,
    /// Both ends of every connection.
    open: BTreeMap<u64, [TcpStream; 2]>,
    /// Kinds of requests that are held, and how many are.
    held: BTreeMap<i16, usize>,
    /// Kinds of requests whose answers are lost, and how many were.
    lost: BTreeMap<i16, usize>,
    /// Connections whose next answer is one of these.
    awaited: BTreeMap<u64, i16>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({} -> {})", self.address, self.shared.lock().server)
    }
}

impl Link {
    /// A link to `server` (`host:port`), over which anything may go.
    #[track_caller]
    pub fn to(server: &str) -> Self {
        Self::start(server, Traffic::Bytes)
    }

    /// A link to a Kafka broker. Where it is may be said later ([`lead_to`](Self::lead_to)): a
    /// broker must know the address of its link before it starts.
    #[track_caller]
    pub fn to_kafka(server: &str) -> Self {
        Self::start(server, Traffic::Kafka)
    }

    #[track_caller]
    fn start(server: &str, traffic: Traffic) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound listener");
        let shared = Arc::new(Shared {
            traffic,
            state: Mutex::new(State {
                server: server.to_owned(),
                ..State::default()
            }),
            changed: Condvar::new(),
        });
        std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self { address, shared }
    }

    /// `host:port` for who connects.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// New connections lead to another server.
    pub fn lead_to(&self, server: &str) {
        self.change(|state| server.clone_into(&mut state.server));
    }

    /// Every piece, in both ways, arrives so much later.
    pub fn delay(&self, time: Duration) {
        self.change(|state| state.delay = time);
    }

    /// Nothing more arrives in this way.
    pub fn cut(&self, way: Way) {
        self.change(|state| state.is_cut[way as usize] = true);
    }

    /// Nothing more arrives in either way: a black hole.
    pub fn cut_off(&self) {
        self.change(|state| state.is_cut = [true; 2]);
    }

    /// Every connection ends at once with a reset, at both ends.
    pub fn reset(&self) {
        self.change(|state| {
            for ends in std::mem::take(&mut state.open).into_values() {
                for end in ends {
                    reset(&end);
                }
            }
        });
    }

    /// New connections are reset at once, until it is healed.
    pub fn refuse(&self) {
        self.change(|state| state.is_refusing = true);
    }

    /// Requests of this kind (its number in Kafka's protocol) do not arrive until it is healed.
    ///
    /// # Panics
    /// It is no link to Kafka.
    pub fn hold(&self, api_key: i16) {
        assert_eq!(self.shared.traffic, Traffic::Kafka, "requests have a kind");
        self.change(|state| {
            state.held.entry(api_key).or_default();
        });
    }

    /// Requests of this kind arrive; when they are answered, the connection breaks and the answer
    /// is lost. Until it is healed.
    ///
    /// # Panics
    /// It is no link to Kafka.
    pub fn lose_answers(&self, api_key: i16) {
        assert_eq!(self.shared.traffic, Traffic::Kafka, "requests have a kind");
        self.change(|state| {
            state.lost.entry(api_key).or_default();
        });
    }

    /// How many requests of this kind are held up now.
    pub fn held(&self, api_key: i16) -> usize {
        self.shared.lock().held.get(&api_key).copied().unwrap_or(0)
    }

    /// How many answers to requests of this kind were lost since it was last healed.
    pub fn lost(&self, api_key: i16) -> usize {
        self.shared.lock().lost.get(&api_key).copied().unwrap_or(0)
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.shared.lock().open.len()
    }

    /// All is well again; what was held up goes on.
    pub fn heal(&self) {
        self.change(|state| {
            state.delay = Duration::ZERO;
            state.is_cut = [false; 2];
            state.is_refusing = false;
            state.held.clear();
            state.lost.clear();
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.lock());
        self.shared.changed.notify_all();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.reset();
        self.change(|state| state.has_ended = true);
        // Wakes the listener up.
        drop(TcpStream::connect(self.address));
    }
}

/// The other end sees a reset once the last copy of this one is closed.
fn reset(end: &TcpStream) {
    // One that has ended already needs no reset.
    drop(SockRef::from(end).set_linger(Some(Duration::ZERO)));
    drop(end.shutdown(Shutdown::Read));
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.lock().has_ended {
            return;
        }
        let Ok(client) = client else { continue };
        let shared = Arc::clone(shared);
        // A connection that breaks is for its two ends to notice.
        std::thread::spawn(move || drop(serve(client, &shared)));
    }
}

fn serve(client: TcpStream, shared: &Arc<Shared>) -> std::io::Result<()> {
    if shared.lock().is_refusing {
        reset(&client);
        return Ok(());
    }
    // The server does not hear of it before anything can reach it.
    let is_cut = |state: &State| state.is_cut[Way::ToServer as usize];
    let address = shared.wait_while(is_cut).server.clone();
    let server = TcpStream::connect(address)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let number = {
        let mut state = shared.lock();
        let number = state.next;
        state.next += 1;
        state
            .open
            .insert(number, [client.try_clone()?, server.try_clone()?]);
        number
    };
    let back = std::thread::spawn({
        let (shared, from, to) = (Arc::clone(shared), server.try_clone()?, client.try_clone()?);
        move || pump(&shared, number, Way::ToClient, from, to)
    });
    pump(shared, number, Way::ToServer, client, server);
    // A thread that has panicked has nothing to pass on any more.
    drop(back.join());
    shared.lock().open.remove(&number);
    Ok(())
}

/// Passes on what comes, until one side has ended.
fn pump(shared: &Shared, number: u64, way: Way, mut from: TcpStream, mut to: TcpStream) {
    while let Ok(Some(piece)) = shared.read(way, &mut from) {
        if !shared.pass(number, way, &piece) || to.write_all(&piece).is_err() {
            break;
        }
    }
    let state = shared.wait_while(|state| state.is_open(number) && state.is_cut[way as usize]);
    // One that was reset must not seem to have ended well.
    if state.is_open(number) {
        drop(to.shutdown(Shutdown::Write));
    }
}

impl State {
    fn is_open(&self, number: u64) -> bool {
        self.open.contains_key(&number)
    }

    /// Breaks a connection whose next answer is to be lost.
    fn loses_answer(&mut self, number: u64) -> bool {
        let Some(kind) = self.awaited.remove(&number) else {
            return false;
        };
        let Some(lost) = self.lost.get_mut(&kind) else {
            // It was healed meanwhile.
            return false;
        };
        *lost += 1;
        for end in self.open.remove(&number).into_iter().flatten() {
            reset(&end);
        }
        true
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while(&self, mut waits: impl FnMut(&State) -> bool) -> MutexGuard<'_, State> {
        let waited = self
            .changed
            .wait_while(self.lock(), |state| !state.has_ended && waits(state));
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    /// What comes next: one request towards Kafka, any bytes otherwise.
    fn read(&self, way: Way, from: &mut TcpStream) -> std::io::Result<Option<Vec<u8>>> {
        if self.traffic == Traffic::Kafka && way == Way::ToServer {
            return read_frame(from);
        }
        let mut piece = vec![0; PIECE_BYTES];
        let length = from.read(&mut piece)?;
        piece.truncate(length);
        Ok((length > 0).then_some(piece))
    }

    /// Waits until a piece may arrive; `false` if it never does.
    fn pass(&self, number: u64, way: Way, piece: &[u8]) -> bool {
        let delay = self.lock().delay;
        if !delay.is_zero() {
            pause(delay);
        }
        if self.traffic == Traffic::Kafka && way == Way::ToServer {
            self.hold_up(number, kind(piece));
        }
        let mut state =
            self.wait_while(|state| state.is_open(number) && state.is_cut[way as usize]);
        if !state.is_open(number) {
            return false;
        }
        match way {
            Way::ToServer if self.traffic == Traffic::Kafka => {
                let kind = kind(piece);
                if state.lost.contains_key(&kind) {
                    state.awaited.insert(number, kind);
                }
                true
            }
            Way::ToServer => true,
            Way::ToClient => !state.loses_answer(number),
        }
    }

    /// Waits while requests of this kind are held.
    fn hold_up(&self, number: u64, kind: i16) {
        {
            let mut state = self.lock();
            let Some(held) = state.held.get_mut(&kind) else {
                return;
            };
            *held += 1;
        }
        let mut state =
            self.wait_while(|state| state.is_open(number) && state.held.contains_key(&kind));
        if let Some(held) = state.held.get_mut(&kind) {
            *held -= 1;
        }
    }
}

/// A request with its length; `None` at the end.
fn read_frame(from: &mut TcpStream) -> std::io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    if let Err(error) = from.read_exact(&mut length) {
        let is_end = error.kind() == std::io::ErrorKind::UnexpectedEof;
        return if is_end { Ok(None) } else { Err(error) };
    }
    let bytes = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if bytes > MAX_FRAME_BYTES {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    let mut frame = length.to_vec();
    frame.resize(4 + bytes, 0);
    from.read_exact(&mut frame[4..])?;
    Ok(Some(frame))
}

/// Which request it is.
fn kind(frame: &[u8]) -> i16 {
    match frame.get(4..6) {
        Some(bytes) => i16::from_be_bytes([bytes[0], bytes[1]]),
        None => -1,
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::error::{KafkaError, RDKafkaErrorCode};
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

    use super::*;
    use crate::kafka::client;
    use crate::kafka::topics::Isolation;
    use crate::wait::{poll_until, wait_until};
    use crate::{Broker, BrokerOptions};

    const DEADLINE: Duration = Duration::from_secs(30);
    /// Long enough to see that nothing comes.
    const QUIET: Duration = Duration::from_millis(300);
    /// `EndTxn` in Kafka's protocol.
    const END_TXN: i16 = 26;

    /// A server that sends back what it is sent.
    fn echo() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (mut from, mut to) = (client.as_ref().unwrap(), client.as_ref().unwrap());
                drop(std::io::copy(&mut from, &mut to));
            }
        });
        address
    }

    fn connect(link: &Link) -> TcpStream {
        let stream = TcpStream::connect(link.address()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    fn say(stream: &mut TcpStream, word: &str) {
        stream.write_all(word.as_bytes()).unwrap();
    }

    fn hear(stream: &mut TcpStream, word: &str) {
        let mut heard = vec![0; word.len()];
        stream.read_exact(&mut heard).unwrap();
        assert_eq!(heard, word.as_bytes());
    }

    fn is_quiet(stream: &mut TcpStream) -> bool {
        stream.set_read_timeout(Some(QUIET)).unwrap();
        let heard = stream.read(&mut [0; 1]);
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        heard.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }

    #[test]
    fn what_is_cut_in_either_way_arrives_when_it_is_healed() {
        let link = Link::to(&echo());
        let mut stream = connect(&link);
        say(&mut stream, "one");
        hear(&mut stream, "one");
        for way in [Way::ToServer, Way::ToClient] {
            link.cut(way);
            say(&mut stream, "two");
            assert!(is_quiet(&mut stream), "{way:?}");
            link.heal();
            hear(&mut stream, "two");
        }
        link.cut_off();
        let mut late = connect(&link);
        say(&mut late, "three");
        assert!(is_quiet(&mut late));
        // Also the end of a connection does not get through.
        assert_eq!(link.connections(), 1);
        link.heal();
        // The server hears one after another.
        stream.shutdown(Shutdown::Both).unwrap();
        hear(&mut late, "three");
    }

    #[test]
    fn a_delay_is_felt_in_both_ways() {
        let link = Link::to(&echo());
        let mut stream = connect(&link);
        link.delay(Duration::from_millis(100));
        let started = std::time::Instant::now();
        say(&mut stream, "one");
        hear(&mut stream, "one");
        assert!(started.elapsed() >= Duration::from_millis(200));
    }

    #[test]
    fn a_reset_is_seen_as_one_and_a_link_that_refuses_takes_nobody() {
        let link = Link::to(&echo());
        let mut stream = connect(&link);
        say(&mut stream, "one");
        hear(&mut stream, "one");
        link.reset();
        let error = stream.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        link.refuse();
        let mut refused = connect(&link);
        assert!(
            refused.read(&mut [0; 1]).is_ok_and(|read| read == 0) || refused.take_error().is_ok()
        );
        assert_eq!(link.connections(), 0);
        link.heal();
        let mut again = connect(&link);
        say(&mut again, "two");
        hear(&mut again, "two");
    }

    #[test]
    fn a_commit_is_held_up_or_its_answer_lost_and_other_requests_are_not() {
        let broker = Broker::start(BrokerOptions {
            link: true,
            ..BrokerOptions::default()
        });
        let link = broker.link();
        broker.create_topic("output", 1);
        let producer: BaseProducer = client(&link.address())
            .set("transactional.id", "held")
            .create()
            .unwrap();
        producer.init_transactions(DEADLINE).unwrap();
        let write = |value: &str| {
            producer.begin_transaction().unwrap();
            let record = BaseRecord::<str, str>::to("output").payload(value);
            producer.send(record).unwrap();
            producer.flush(DEADLINE).unwrap();
        };
        let committed = || broker.read_to_end("output", Isolation::Committed).len();

        link.hold(END_TXN);
        write("one");
        std::thread::scope(|scope| {
            let commit = scope.spawn(|| producer.commit_transaction(DEADLINE));
            wait_until("the commit is held", DEADLINE, || link.held(END_TXN) > 0);
            assert!(poll_until(QUIET, || (committed() > 0).then_some(())).is_none());
            link.heal();
            commit.join().unwrap().unwrap();
        });
        wait_until("the first is committed", DEADLINE, || committed() == 1);

        link.lose_answers(END_TXN);
        write("two");
        let answer = producer.commit_transaction(Duration::from_secs(2));
        assert!(
            matches!(&answer, Err(KafkaError::Transaction(error))
                if error.code() == RDKafkaErrorCode::OperationTimedOut),
            "{answer:?}"
        );
        assert!(link.lost(END_TXN) > 0);
        // It has reached the broker all the same.
        wait_until("the second is committed", DEADLINE, || committed() == 2);
        link.heal();
        producer.commit_transaction(DEADLINE).unwrap();
    }
}
