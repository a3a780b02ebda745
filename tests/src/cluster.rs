//! A coordinator and its workers as processes of their own, as a cluster would run them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::ports::free_port;
use crate::rest::Rest;
use crate::scratch::Scratch;
use crate::server::{Launch, Server};
use crate::tools;
use crate::wait::wait_for;

const READY: Duration = Duration::from_secs(30);

/// Path of the `millstream` binary with named crash points, built now unless `MILLSTREAM_BIN` names
/// one.
#[track_caller]
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("MILLSTREAM_BIN") {
        return path.into();
    }
    tools::install("binary.sh", &[]).trim_end().into()
}

/// Where a running coordinator can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// For workers.
    pub grpc: String,
    /// For people and tools.
    pub rest: String,
}

/// Everything that the processes of one job have in common.
#[derive(Debug)]
pub struct Cluster {
    scratch: Scratch,
    binary: PathBuf,
    environment: Vec<(String, String)>,
    starts: u32,
}

impl Cluster {
    /// Writes the job file. Nothing runs yet.
    #[track_caller]
    pub fn new(name: &str, job: &str) -> Self {
        let cluster = Self {
            scratch: Scratch::new(name),
            binary: binary(),
            environment: Vec::new(),
            starts: 0,
        };
        cluster.rewrite_job(job);
        cluster
    }

    /// Replaces the job file, for coordinators that start from now on.
    #[track_caller]
    pub fn rewrite_job(&self, job: &str) {
        std::fs::write(self.scratch.join("streamjob.yaml"), job)
            .expect("a file in the scratch directory");
    }

    /// Sets environment variables of every process.
    pub fn environment<N: Into<String>>(
        mut self,
        variables: impl IntoIterator<Item = (N, String)>,
    ) -> Self {
        let variables = variables.into_iter();
        self.environment
            .extend(variables.map(|(name, value)| (name.into(), value)));
        self
    }

    /// The directory with the job file and one log per started process.
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// Starts a coordinator and waits until it can be reached. `at` is where a former one was.
    #[track_caller]
    pub fn coordinator(&mut self, at: Option<&Addresses>) -> Coordinator {
        self.coordinator_with(at, |launch| launch)
    }

    /// As [`coordinator`](Self::coordinator), with more arguments or variables.
    #[track_caller]
    pub fn coordinator_with(
        &mut self,
        at: Option<&Addresses>,
        more: impl FnOnce(Launch) -> Launch,
    ) -> Coordinator {
        let address = |of: fn(&Addresses) -> &String| {
            // One that another process does not take while nobody listens.
            let new = || format!("127.0.0.1:{}", free_port());
            at.map_or_else(new, |at| of(at).clone())
        };
        let launch = self
            .millstream("coordinator")
            .arg("--job")
            .arg(self.scratch.join("streamjob.yaml"))
            .args(["--listen", &address(|at| &at.grpc)])
            .args(["--rest", &address(|at| &at.rest)])
            .args(["--heartbeat-interval", "500ms", "--heartbeat-timeout", "3s"]);
        let mut server = self.start("coordinator", &more(launch));
        let addresses = wait_for("the coordinator listens", READY, || {
            let output = server.output();
            let found = listening(&output);
            assert!(
                found.is_some() || server.is_running(),
                "the coordinator has ended:\n{output}"
            );
            found
        });
        Coordinator {
            rest: Rest::new(&addresses.rest),
            server,
            addresses,
        }
    }

    /// Starts a worker of the coordinator at `grpc`.
    #[track_caller]
    pub fn worker(&mut self, name: &str, grpc: &str, slots: u32) -> Server {
        self.worker_with(name, grpc, slots, |launch| launch)
    }

    /// As [`worker`](Self::worker), with more arguments or variables.
    #[track_caller]
    pub fn worker_with(
        &mut self,
        name: &str,
        grpc: &str,
        slots: u32,
        more: impl FnOnce(Launch) -> Launch,
    ) -> Server {
        let launch = self
            .millstream("worker")
            .args(["--coordinator", grpc, "--id", name])
            .args(["--slots", &slots.to_string()]);
        self.start(name, &more(launch))
    }

    /// The start of a command line.
    pub fn millstream(&self, command: &str) -> Launch {
        let mut launch = Launch::new(&self.binary)
            .arg(command)
            .directory(self.scratch.path());
        for (name, value) in &self.environment {
            launch = launch.env(name, value);
        }
        launch
    }

    /// What `millstream checkpoints show` or `verify` says of a job's folder.
    #[track_caller]
    pub fn checkpoints<T: DeserializeOwned>(&mut self, what: &str, folder: &str) -> T {
        let launch = self.millstream("checkpoints");
        let launch = launch.args([what, folder, "--output", "json"]);
        let mut process = self.start(what, &launch);
        process.wait(Duration::from_mins(1));
        let output = process.output();
        let json = output.find('{').map(|start| &output[start..]);
        serde_json::from_str(json.unwrap_or_default())
            .unwrap_or_else(|error| panic!("checkpoints {what}: {error} in:\n{output}"))
    }

    /// Starts a process with a log of its own.
    #[track_caller]
    pub fn start(&mut self, name: &str, launch: &Launch) -> Server {
        self.starts += 1;
        let log = format!("{:03}-{name}.log", self.starts);
        launch.start(&self.scratch.join(&log))
    }

    /// How many lines of all logs so far contain `text`.
    pub fn log_lines(&self, text: &str) -> usize {
        let Ok(entries) = std::fs::read_dir(self.scratch.path()) else {
            return 0;
        };
        entries
            .flatten()
            .filter(|entry| entry.path().extension().is_some_and(|end| end == "log"))
            .filter_map(|entry| std::fs::read(entry.path()).ok())
            .map(|bytes| String::from_utf8_lossy(&bytes).matches(text).count())
            .sum()
    }
}

/// A running coordinator.
#[derive(Debug)]
pub struct Coordinator {
    /// Its process.
    pub server: Server,
    /// Where it can be reached.
    pub addresses: Addresses,
    /// Its REST interface.
    pub rest: Rest,
}

/// The addresses in `listening grpc=ADDRESS rest=ADDRESS`.
fn listening(output: &str) -> Option<Addresses> {
    // Only complete lines: the last one may still be on its way.
    let (complete, _) = output.rsplit_once('\n')?;
    let line = complete
        .lines()
        .find(|line| line.starts_with("listening "))?;
    let field = |name: &str| {
        line.split_whitespace()
            .find_map(|word| word.strip_prefix(name))
            .map(str::to_owned)
    };
    Some(Addresses {
        grpc: field("grpc=")?,
        rest: field("rest=")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listening_line_is_understood_once_it_is_complete() {
        let line = "listening grpc=127.0.0.1:7100 rest=127.0.0.1:7101";
        assert_eq!(listening(line), None);
        let addresses = listening(&format!("a log line\n{line}\n")).unwrap();
        assert_eq!(addresses.grpc, "127.0.0.1:7100");
        assert_eq!(addresses.rest, "127.0.0.1:7101");
    }
}
