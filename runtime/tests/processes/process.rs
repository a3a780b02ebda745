//! Processes of the binary.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::job::Job;

const PATIENCE: Duration = Duration::from_mins(1);

/// Waits for a condition; `what` says which.
pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// A process that is killed with the test.
pub(crate) struct Process {
    child: Child,
    /// What it writes, in files: a pipe that nobody reads would hold it.
    output: PathBuf,
    log: PathBuf,
}

impl Process {
    /// `millstream run` of the job.
    pub(crate) fn run(job: &Job) -> Self {
        Self::start(
            job.path(),
            &[
                "run",
                "--progress",
                "lines",
                &job.file().display().to_string(),
            ],
        )
    }

    /// `millstream run` of the job, with more options.
    pub(crate) fn run_with(job: &Job, options: &[&str]) -> Self {
        let file = job.file().display().to_string();
        let arguments = ["run", "--progress", "lines", &file];
        Self::start(job.path(), &[arguments.as_slice(), options].concat())
    }

    /// Any command.
    pub(crate) fn start(directory: &Path, arguments: &[&str]) -> Self {
        Self::start_with(directory, arguments, &[])
    }

    /// Any command, with more in its environment.
    pub(crate) fn start_with(
        directory: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let name = nanos();
        let output = directory.join(format!("{name}.out"));
        let log = directory.join(format!("{name}.log"));
        let child = Command::new(env!("CARGO_BIN_EXE_millstream"))
            .args(arguments)
            .current_dir(directory)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(File::create(&output).unwrap())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, output, log }
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the end; its status, standard output and log.
    pub(crate) fn end(mut self) -> (ExitStatus, String, String) {
        let child = &mut self.child;
        let status = wait_for("the process ends", || child.try_wait().unwrap());
        let output = std::fs::read_to_string(&self.output).unwrap();
        let log = std::fs::read_to_string(&self.log).unwrap();
        (status, output, log)
    }

    /// Waits for the end, which must be a good one; its standard output.
    pub(crate) fn succeeds(self) -> String {
        let (status, output, log) = self.end();
        assert!(status.success(), "{status}\n{output}\n{log}");
        output
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }
}

/// Sends a request to a REST interface; the status line and body of the answer.
pub(crate) fn post(port: u16, path: &str, body: &str) -> String {
    request(port, "POST", path, body)
}

/// Asks a REST interface, which may not be there yet; the status line and body of the answer.
pub(crate) fn get(port: u16, path: &str) -> Option<String> {
    TcpStream::connect(("127.0.0.1", port)).ok()?;
    Some(request(port, "GET", path, ""))
}

fn request(port: u16, method: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Waits until somebody listens.
pub(crate) fn wait_for_port(port: u16) {
    wait_for("somebody listens", || {
        TcpStream::connect(("127.0.0.1", port)).ok()
    });
}

fn nanos() -> u128 {
    static FIRST: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    FIRST.get_or_init(Instant::now).elapsed().as_nanos()
}
