//! `kubectl streamjob ui`: the console at an address of this machine.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use serde_json::json;

use super::server::{Server, json as answer, text};
use super::{JOB, PODS, case, err, everything, list};

const PROXY: &str =
    "/api/v1/namespaces/shop/pods/order-processor-coordinator-6c5d8f7b9-x2x9p:8081/proxy";
const SAVEPOINT: &str = "/api/v1/namespaces/shop/pods/order-processor-coordinator-6c5d8f7b9-x2x9p:8081/proxy/v1/savepoints";

/// The plugin while it serves.
struct Ui {
    process: Child,
    address: String,
}

impl Drop for Ui {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Ui {
    fn start(server: &Server) -> Self {
        let mut command = server.plugin("ui order-processor");
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let output = process.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").unwrap();
        Self {
            address: address.trim_end_matches('/').to_owned(),
            process,
        }
    }

    /// Status and body of an answer.
    fn ask(&self, method: &str, path: &str, host: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }
}

#[test]
fn ui_serves_the_console_and_a_savepoint_and_lets_nothing_else_through() {
    let mut answers = everything("running");
    answers.push(text("GET", PROXY, 200, "<!doctype html>the console"));
    let status = json!({"name": "by-hand", "state": "InProgress"});
    answers.push(answer("POST", SAVEPOINT, 202, &status));
    let server = Server::start(answers);
    let ui = Ui::start(&server);
    let here = &ui.address;

    let (status, body) = ui.ask("GET", "/", here, "");
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("the console"), "{body}");
    let (status, body) = ui.ask("GET", "/v1/job", here, "");
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("\"state\":\"Running\""), "{body}");
    let (status, body) = ui.ask("POST", "/v1/savepoints", here, r#"{"name":"by-hand"}"#);
    assert_eq!(status, 202, "{body}");
    let asked = server.asked("POST");
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].body, json!({"name": "by-hand"}));

    for (method, path, host) in [
        ("POST", "/v1/cancel", here.as_str()),
        ("POST", "/v1/stop", here),
        ("GET", "/metrics", here),
        ("GET", "/v1/job", "rebound.example"),
    ] {
        let (status, body) = ui.ask(method, path, host, "{}");
        assert_eq!(status, 403, "{method} {path}: {body}");
    }
    assert_eq!(server.asked("POST").len(), 1);
}

#[test]
fn ui_without_a_coordinator_says_where_to_look() {
    let job = &case("running")["job"];
    let server = Server::start(vec![
        answer("GET", JOB, 200, job),
        answer("GET", PODS, 200, &list(&json!([]))),
    ]);
    let output = server.run("ui order-processor");
    assert_eq!(output.status.code(), Some(1));
    let text = err(&output);
    assert!(
        text.contains("no coordinator of `order-processor` runs"),
        "{text}"
    );
    assert!(
        text.contains("kubectl streamjob status order-processor"),
        "{text}"
    );
}
