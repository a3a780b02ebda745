//! A proxy for HTTP/1.1 that does to requests what a rule says: forwards them, answers in the
//! server's place, holds them up, or cuts the connection before or after the server has acted.
//!
//! One request per connection: it asks both sides to close, so that an answer ends where its
//! connection ends, also that of a watch.

use std::fmt;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::wait::pause;

/// A request's head may be as long as this.
const MAX_HEAD_BYTES: usize = 1 << 20;

/// What a rule sees of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `PATCH`, …
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Its body.
    pub body: Vec<u8>,
}

impl Request {
    /// The path without its query.
    pub fn place(&self) -> &str {
        self.path.split('?').next().unwrap_or_default()
    }
}

/// Something to do at a cut.
pub type Hook = Box<dyn FnOnce() + Send>;

/// What to do with a request.
pub enum Action {
    /// Let it through.
    Forward,
    /// Answer this status; the server does not hear of it.
    Answer(u16),
    /// Let it through later.
    Delay(Duration),
    /// Call the hook and close; the server does not hear of it.
    CutBefore(Hook),
    /// Let it through, wait for the whole answer, call the hook and close; the client never sees
    /// the answer.
    CutAfter(Hook),
}

type Rule = dyn Fn(&Request) -> Action + Send + Sync;

struct Shared {
    server: String,
    rule: Mutex<Arc<Rule>>,
    stop: AtomicBool,
}

/// A running proxy. Ends when dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({} -> {})", self.address, self.shared.server)
    }
}

impl Proxy {
    /// Listens on a free port of `host` and forwards everything to `server` (`host:port`).
    #[track_caller]
    pub fn start(host: &str, server: &str) -> Self {
        let listener = TcpListener::bind((host, 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound listener");
        let shared = Arc::new(Shared {
            server: server.to_owned(),
            rule: Mutex::new(Arc::new(|_: &Request| Action::Forward)),
            stop: AtomicBool::new(false),
        });
        std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self { address, shared }
    }

    /// `host:port` for clients.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// From now on does with requests what `rule` says.
    pub fn set_rule(&self, rule: impl Fn(&Request) -> Action + Send + Sync + 'static) {
        let mut place = self
            .shared
            .rule
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *place = Arc::new(rule);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Wakes the listener up.
        drop(TcpStream::connect(self.address));
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        let Ok(client) = client else { continue };
        let shared = Arc::clone(shared);
        // A connection that breaks is for its two ends to notice.
        std::thread::spawn(move || drop(serve(client, &shared)));
    }
}

fn serve(mut client: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let Some((head, request)) = read_request(&mut client)? else {
        return Ok(());
    };
    let rule = Arc::clone(&shared.rule.lock().unwrap_or_else(PoisonError::into_inner));
    match rule(&request) {
        Action::Forward => forward(client, &head, &request.body, shared),
        Action::Delay(time) => {
            pause(time);
            forward(client, &head, &request.body, shared)
        }
        Action::Answer(status) => write!(
            client,
            "HTTP/1.1 {status} Injected\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        ),
        Action::CutBefore(hook) => {
            hook();
            client.shutdown(Shutdown::Both)
        }
        Action::CutAfter(hook) => {
            let mut server = send(&head, &request.body, shared)?;
            let mut answer = Vec::new();
            server.read_to_end(&mut answer)?;
            hook();
            client.shutdown(Shutdown::Both)
        }
    }
}

fn send(head: &[u8], body: &[u8], shared: &Shared) -> std::io::Result<TcpStream> {
    let mut server = TcpStream::connect(&shared.server)?;
    server.write_all(head)?;
    server.write_all(body)?;
    Ok(server)
}

fn forward(
    mut client: TcpStream,
    head: &[u8],
    body: &[u8],
    shared: &Shared,
) -> std::io::Result<()> {
    let mut server = send(head, body, shared)?;
    watch_for_hangup(&client, &server)?;
    let copied = std::io::copy(&mut server, &mut client);
    client.shutdown(Shutdown::Both)?;
    copied.map(drop)
}

/// A client that goes away must end its watch on the server, too.
fn watch_for_hangup(client: &TcpStream, server: &TcpStream) -> std::io::Result<()> {
    let (mut client, server) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || {
        let mut rest = [0; 64];
        while client.read(&mut rest).is_ok_and(|length| length > 0) {}
        drop(server.shutdown(Shutdown::Both));
    });
    Ok(())
}

/// The head as it goes on to the server, and what a rule sees; `None` where the client closed
/// without a request.
fn read_request(client: &mut TcpStream) -> std::io::Result<Option<(Vec<u8>, Request)>> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        let mut part = [0; 8_192];
        let length = client.read(&mut part)?;
        if length == 0 || bytes.len() > MAX_HEAD_BYTES {
            return Ok(None);
        }
        bytes.extend_from_slice(&part[..length]);
    };
    let mut body = bytes.split_off(end + 4);
    let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default().to_owned();
    let mut length = 0;
    let mut head = format!("{first}\r\n");
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        match name.to_ascii_lowercase().as_str() {
            "connection" => continue,
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "transfer-encoding" => panic!("a request in chunks is not expected here: {first}"),
            _ => {}
        }
        head.push_str(line);
        head.push_str("\r\n");
    }
    head.push_str("connection: close\r\n\r\n");
    let missing = length.max(body.len()) - body.len();
    let mut rest = vec![0; missing];
    client.read_exact(&mut rest)?;
    body.append(&mut rest);
    let mut words = first.split(' ');
    let mut word = || words.next().unwrap_or_default().to_owned();
    let request = Request {
        method: word(),
        path: word(),
        body,
    };
    Ok(Some((head.into_bytes(), request)))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// A server that counts what it is asked and answers `done`.
    fn server() -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let count = Arc::new(AtomicUsize::new(0));
        std::thread::spawn({
            let count = Arc::clone(&count);
            move || {
                for client in listener.incoming() {
                    let mut client = client.unwrap();
                    if read_request(&mut client).unwrap().is_some() {
                        count.fetch_add(1, Ordering::Relaxed);
                        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone";
                        client.write_all(answer.as_bytes()).unwrap();
                    }
                }
            }
        });
        (address, count)
    }

    fn post(proxy: &Proxy) -> Result<String, ureq::Error> {
        let url = format!("http://{}/a?b=c", proxy.address());
        ureq::post(&url).send("body")?.body_mut().read_to_string()
    }

    #[test]
    fn a_request_is_forwarded_answered_or_cut_on_either_side_of_the_server() {
        let (address, count) = server();
        let proxy = Proxy::start("127.0.0.1", &address);
        assert_eq!(post(&proxy).unwrap(), "done");
        assert_eq!(count.load(Ordering::Relaxed), 1);

        proxy.set_rule(|request| {
            assert_eq!(request.method, "POST");
            assert_eq!(request.place(), "/a");
            assert_eq!(request.body, b"body");
            Action::Answer(503)
        });
        assert!(matches!(post(&proxy), Err(ureq::Error::StatusCode(503))));
        assert_eq!(count.load(Ordering::Relaxed), 1);

        let hooks = Arc::new(AtomicUsize::new(0));
        let hook = |hooks: &Arc<AtomicUsize>| -> Hook {
            let hooks = Arc::clone(hooks);
            Box::new(move || {
                hooks.fetch_add(1, Ordering::Relaxed);
            })
        };
        let before = Arc::clone(&hooks);
        proxy.set_rule(move |_| Action::CutBefore(hook(&before)));
        assert!(post(&proxy).is_err());
        assert_eq!(count.load(Ordering::Relaxed), 1);

        let after = Arc::clone(&hooks);
        proxy.set_rule(move |_| Action::CutAfter(hook(&after)));
        assert!(post(&proxy).is_err());
        assert_eq!(count.load(Ordering::Relaxed), 2);
        assert_eq!(hooks.load(Ordering::Relaxed), 2);
    }
}
