//! An HTTP server that gives recorded answers of a Kubernetes API server and remembers what it
//! was asked. Not a cluster: what a real one does is tested by the suites that start one.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// One answer: to which method, to a path that begins so, what.
pub(crate) struct Answer {
    method: &'static str,
    path: &'static str,
    status: u16,
    body: String,
}

/// Answers with JSON.
pub(crate) fn json(method: &'static str, path: &'static str, status: u16, body: &Value) -> Answer {
    text(method, path, status, &body.to_string())
}

/// Answers with text.
pub(crate) fn text(method: &'static str, path: &'static str, status: u16, body: &str) -> Answer {
    Answer {
        method,
        path,
        status,
        body: body.to_owned(),
    }
}

/// A request that came in.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) body: Value,
}

/// The server.
pub(crate) struct Server {
    directory: tempfile::TempDir,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Begins to answer. The longest path that fits counts; nothing that fits is a plain 404, as
    /// for a kind that is not installed.
    pub(crate) fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let answers = Arc::new(answers);
        let remembered = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (answers, asked) = (Arc::clone(&answers), Arc::clone(&remembered));
                std::thread::spawn(move || serve(&stream.unwrap(), &answers, &asked));
            }
        });
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:{port}'}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u, namespace: shop}}}}]\n\
             users: [{{name: u, user: {{}}}}]\n"
        );
        std::fs::write(directory.path().join("config"), kubeconfig).unwrap();
        Self { directory, asked }
    }

    /// The plugin with a command line, not started yet.
    pub(crate) fn plugin(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-streamjob"));
        command
            .args(line.split_whitespace())
            .env("KUBECONFIG", self.directory.path().join("config"))
            .current_dir(self.directory.path());
        command
    }

    /// Runs the plugin against it, in a directory of its own.
    pub(crate) fn run(&self, line: &str) -> Output {
        self.plugin(line).output().unwrap()
    }

    /// A file in that directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Requests of a method, in order.
    pub(crate) fn asked(&self, method: &str) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap();
        let asked = asked.iter().filter(|asked| asked.method == method);
        asked.cloned().collect()
    }
}

fn serve(stream: &TcpStream, answers: &[Answer], asked: &Mutex<Vec<Asked>>) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader) {
        let fits = answers.iter().filter(|answer| {
            answer.method == request.method && request.path.starts_with(answer.path)
        });
        let found = fits.max_by_key(|answer| answer.path.len());
        let (status, body) = found.map_or((404, "404 page not found\n"), |answer| {
            (answer.status, answer.body.as_str())
        });
        asked.lock().unwrap().push(request);
        let head = format!(
            "HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = stream;
        let written = stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(body.as_bytes()));
        if written.is_err() {
            return;
        }
    }
}

/// Reads a request; none when the client has gone.
fn read(reader: &mut impl BufRead) -> Option<Asked> {
    let mut line = String::new();
    reader
        .read_line(&mut line)
        .ok()
        .filter(|length| *length > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Some(Asked { method, path, body })
}
