//! A coordinator and workers of the drill: processes of this very program, killed with it.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use millstream_checkpoint::WRITE_DELAY_VARIABLE;
use millstream_types::Failure;
use millstream_types::api::{AuditReport, JobStatus};
use millstream_types::duration::KubeDuration;
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;

use super::{failed, pause, system};
use crate::cli::DrillOptions;
use crate::job::LoadedJob;

/// Between two looks at a process.
const LOOK: Duration = Duration::from_millis(50);
/// How long a coordinator may take until it listens.
const LISTENS: Duration = Duration::from_secs(60);
/// How long it may take to answer.
const ANSWERS: Duration = Duration::from_secs(5);

/// Everything that runs of a job.
#[derive(Debug)]
pub(super) struct Processes {
    file: PathBuf,
    directory: PathBuf,
    slots: u32,
    /// How long each write to the storage takes longer.
    pub(super) delay: Duration,
    addresses: Option<Addresses>,
    coordinator: Option<Process>,
    workers: Vec<Process>,
    wanted: u32,
    /// Workers that were frozen and replaced, and may live on.
    replaced: Vec<Process>,
    started: u32,
    agent: ureq::Agent,
}

/// Where the coordinator is reached.
#[derive(Debug, Clone)]
struct Addresses {
    grpc: String,
    rest: String,
}

/// A process that is killed when it is dropped.
#[derive(Debug)]
pub(super) struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Processes {
    pub(super) fn new(options: &DrillOptions, loaded: &LoadedJob, directory: PathBuf) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(ANSWERS))
            .build();
        Self {
            file: options.file.clone(),
            directory,
            slots: loaded.job.slots().div_ceil(options.workers),
            delay: Duration::ZERO,
            addresses: None,
            coordinator: None,
            workers: Vec::new(),
            wanted: options.workers,
            replaced: Vec::new(),
            started: 0,
            agent: config.new_agent(),
        }
    }

    /// Starts everything.
    pub(super) async fn start(&mut self) -> Result<(), Failure> {
        self.start_coordinator().await?;
        self.workers.clear();
        for number in 0..self.wanted {
            let worker = self.start_worker(number)?;
            self.workers.push(worker);
        }
        Ok(())
    }

    /// Starts a coordinator, in the place of one before it.
    pub(super) async fn start_coordinator(&mut self) -> Result<(), Failure> {
        let ready = self.directory.join("coordinator.ready");
        drop(std::fs::remove_file(&ready));
        let at = self.addresses.clone();
        let address = |of: fn(&Addresses) -> &String| {
            at.as_ref()
                .map_or_else(|| "127.0.0.1:0".to_owned(), |at| of(at).clone())
        };
        let mut command = self.command("coordinator")?;
        command
            .arg("--job")
            .arg(&self.file)
            .args(["--listen", &address(|at| &at.grpc)])
            .args(["--rest", &address(|at| &at.rest)])
            .arg("--ready-file")
            .arg(&ready);
        let mut process = self.spawn("coordinator", command)?;
        let began = Instant::now();
        let listening = loop {
            let text = std::fs::read_to_string(&ready).unwrap_or_default();
            if let Some(addresses) = parse(&text) {
                break addresses;
            }
            process.ensure_running()?;
            if began.elapsed() > LISTENS {
                return Err(failed(format!("{} does not listen", process.named())));
            }
            pause(LOOK).await;
        };
        self.addresses = Some(listening);
        self.coordinator = Some(process);
        Ok(())
    }

    /// Starts a worker in the place of one before it.
    pub(super) fn restart_worker(&mut self, number: usize) -> Result<Process, Failure> {
        let of = u32::try_from(number).unwrap_or(u32::MAX);
        let new = self.start_worker(of)?;
        let old = self.workers.get_mut(number);
        let old = old.ok_or_else(|| failed(format!("there is no worker {number}")))?;
        Ok(std::mem::replace(old, new))
    }

    fn start_worker(&mut self, number: u32) -> Result<Process, Failure> {
        let addresses = self.addresses.clone();
        let grpc = addresses.map_or_else(String::new, |at| at.grpc);
        let mut command = self.command("worker")?;
        command
            .args(["--coordinator", &grpc])
            .args(["--id", &format!("drill-{number}")])
            .args(["--slots", &self.slots.to_string()])
            .args(["--exchange", "127.0.0.1:0"]);
        self.spawn(&format!("worker-{number}"), command)
    }

    fn command(&self, role: &str) -> Result<Command, Failure> {
        let program = std::env::current_exe().map_err(|error| system("this program", &error))?;
        let mut command = Command::new(program);
        command.arg(role).env_remove(WRITE_DELAY_VARIABLE);
        if !self.delay.is_zero() {
            command.env(WRITE_DELAY_VARIABLE, KubeDuration(self.delay).to_string());
        }
        // Ctrl-C is for the drill, which ends them.
        command.process_group(0);
        Ok(command)
    }

    fn spawn(&mut self, name: &str, mut command: Command) -> Result<Process, Failure> {
        self.started += 1;
        let log = self
            .directory
            .join(format!("{:03}-{name}.log", self.started));
        let cannot = |error: std::io::Error| system(&log.display().to_string(), &error);
        let file = File::create(&log).map_err(cannot)?;
        let again = file.try_clone().map_err(cannot)?;
        let command = command.stdin(Stdio::null()).stdout(file).stderr(again);
        let child = command.spawn().map_err(|error| system(name, &error))?;
        Ok(Process {
            name: name.to_owned(),
            log,
            child,
        })
    }

    /// The first worker, which is the one that is hurt.
    pub(super) fn worker(&mut self) -> Result<&mut Process, Failure> {
        let first = self.workers.first_mut();
        first.ok_or_else(|| failed("no worker runs".to_owned()))
    }

    pub(super) fn coordinator(&mut self) -> Result<&mut Process, Failure> {
        let coordinator = self.coordinator.as_mut();
        coordinator.ok_or_else(|| failed("no coordinator runs".to_owned()))
    }

    /// Sets a worker aside that lives on beside its replacement.
    pub(super) fn set_aside(&mut self, worker: Process) {
        self.replaced.push(worker);
    }

    /// Lets frozen workers go on that were replaced meanwhile.
    pub(super) fn wake_replaced(&mut self) -> Result<(), Failure> {
        wake(&mut self.replaced)
    }

    /// What the coordinator says of the job, if it answers.
    pub(super) fn job(&self) -> Option<JobStatus> {
        self.get("/v1/job")
    }

    /// What it says of the records.
    pub(super) fn audit(&self) -> Result<AuditReport, Failure> {
        let audit = self.get("/v1/audit");
        audit.ok_or_else(|| failed("the coordinator does not answer".to_owned()))
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Option<T> {
        let url = format!("http://{}{path}", self.addresses.as_ref()?.rest);
        let mut answer = self.agent.get(&url).call().ok()?;
        let text = answer.body_mut().read_to_string().ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Starts again what has ended by itself, as a cluster would. A job that has ended is an error.
    pub(super) async fn tend(&mut self) -> Result<(), Failure> {
        if let Some(status) = self.coordinator()?.ended()? {
            if status.success() {
                return Err(failed(
                    "the job has ended by itself: give it a source without an end, or one that \
                     lasts longer than the drill"
                        .to_owned(),
                ));
            }
            let text = self.coordinator()?.last_words();
            if matches!(status.code(), Some(2 | 3)) {
                return Err(failed(format!("the coordinator has given up: {text}")));
            }
            self.start_coordinator().await?;
        }
        for number in 0..self.workers.len() {
            let worker = self.workers.get_mut(number);
            let has_ended = worker.map(Process::ended).transpose()?.flatten().is_some();
            if has_ended {
                drop(self.restart_worker(number)?);
            }
        }
        Ok(())
    }

    /// Stops the job after a last checkpoint, and waits until all processes have ended.
    pub(super) async fn stop(&mut self, deadline: Duration) -> Result<(), Failure> {
        let rest = self.addresses.as_ref().map(|at| at.rest.clone());
        let url = format!("http://{}/v1/stop", rest.unwrap_or_default());
        let request = self.agent.post(&url);
        let request = request.header("content-type", "application/json");
        let asked = request.send("{}");
        asked.map_err(|error| failed(format!("the coordinator does not stop the job: {error}")))?;
        let began = Instant::now();
        while self.coordinator()?.ended()?.is_none() {
            if began.elapsed() > deadline {
                let named = self.coordinator()?.named();
                return Err(failed(format!(
                    "the job has not stopped after {deadline:?}: {named}"
                )));
            }
            pause(LOOK).await;
        }
        let status = self.coordinator()?.ended()?;
        if status.is_none_or(|status| !status.success()) {
            let words = self.coordinator()?.last_words();
            return Err(failed(format!(
                "the job has not stopped in good order: {words}"
            )));
        }
        self.coordinator = None;
        self.workers.clear();
        self.replaced.clear();
        Ok(())
    }
}

/// Those that woke up in an earlier round have found themselves fenced, and ended.
fn wake(workers: &mut Vec<Process>) -> Result<(), Failure> {
    for mut worker in std::mem::take(workers) {
        if worker.ended()?.is_none() {
            worker.thaw()?;
            workers.push(worker);
        }
    }
    Ok(())
}

/// `listening grpc=ADDRESS rest=ADDRESS`
fn parse(text: &str) -> Option<Addresses> {
    let value = |name: &str| {
        let mut words = text.split_whitespace();
        words.find_map(|word| word.strip_prefix(name).map(str::to_owned))
    };
    Some(Addresses {
        grpc: value("grpc=")?,
        rest: value("rest=")?,
    })
}

impl Process {
    /// `kill -9`, and waits until it is gone.
    pub(super) fn kill(&mut self) -> Result<(), Failure> {
        self.ensure_running()?;
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .map_err(|error| system(&self.name, &error))?;
        Ok(())
    }

    /// Freezes it where it is; its connections stay open.
    pub(super) fn freeze(&mut self) -> Result<(), Failure> {
        self.signal(Signal::STOP)
    }

    /// It goes on as if nothing had happened.
    pub(super) fn thaw(&mut self) -> Result<(), Failure> {
        self.signal(Signal::CONT)
    }

    fn signal(&mut self, signal: Signal) -> Result<(), Failure> {
        self.ensure_running()?;
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| failed(format!("{} has no process id", self.name)))?;
        kill_process(pid, signal).map_err(|error| system(&self.name, &error.into()))
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Result<Option<std::process::ExitStatus>, Failure> {
        let ended = self.child.try_wait();
        ended.map_err(|error| system(&self.name, &error))
    }

    fn ensure_running(&mut self) -> Result<(), Failure> {
        match self.ended()? {
            None => Ok(()),
            Some(_) => Err(failed(format!(
                "{} has ended by itself: {}",
                self.named(),
                self.last_words()
            ))),
        }
    }

    fn named(&self) -> String {
        format!("{} (its log: {})", self.name, self.log.display())
    }

    /// The error that it ended with, or its last line.
    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let mut lines = text.lines().rev();
        let error = lines.clone().find(|line| line.starts_with("error: "));
        let words = error.or_else(|| lines.next()).unwrap_or("it says nothing");
        words.to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A frozen process is killed as well.
        drop(self.child.kill().and_then(|()| self.child.wait()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(program: &str, argument: &str) -> Process {
        let child = Command::new(program).arg(argument).spawn().unwrap();
        Process {
            name: program.to_owned(),
            log: PathBuf::new(),
            child,
        }
    }

    #[test]
    fn a_worker_that_has_ended_since_it_woke_up_is_not_woken_again() {
        let mut ended = process("true", "");
        ended.child.wait().unwrap();
        let mut workers = vec![ended, process("sleep", "600")];
        wake(&mut workers).unwrap();
        let names: Vec<_> = workers.iter().map(|worker| worker.name.as_str()).collect();
        assert_eq!(names, ["sleep"]);
    }

    #[test]
    fn addresses_are_read_from_the_line_that_a_coordinator_writes() {
        let at = parse("listening grpc=127.0.0.1:4 rest=127.0.0.1:5\n").unwrap();
        assert_eq!(
            (at.grpc.as_str(), at.rest.as_str()),
            ("127.0.0.1:4", "127.0.0.1:5")
        );
        assert!(parse("listening grpc=127.0.0.1:4").is_none());
    }
}
