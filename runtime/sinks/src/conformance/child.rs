//! Processes that do one step and die.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use millstream_types::Committable;
use serde::{Deserialize, Serialize};

use super::Subject;
use super::rig::{Rig, at, outcome};

/// Variable that makes of a test a child of it.
const VARIABLE: &str = "MILLSTREAM_CONFORMANCE";
/// What a line for the parent begins with.
const MARK: &str = "conformance-step: ";

/// What a child is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) step: Step,
    pub(super) place: String,
    pub(super) job: String,
    pub(super) attempt: u64,
    pub(super) ids: Vec<i64>,
    /// What is to be committed.
    pub(super) committables: Vec<Committable>,
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Step {
    /// Writes rows, and dies.
    Write,
    /// Writes rows, prepares them, and dies.
    Prepare,
    /// Writes rows, waits to be told, and prepares them.
    PrepareLate,
    /// Says that it begins, and commits.
    Commit,
}

/// A running child.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Running {
    /// What it says next.
    pub(super) fn said(&mut self) -> Result<String, String> {
        let mut line = String::new();
        loop {
            line.clear();
            match self.output.read_line(&mut line) {
                Ok(0) => return Err("the process has ended without a word".to_owned()),
                Ok(_) => {
                    // A test's own line may have no end.
                    if let Some((_, said)) = line.trim_end().split_once(MARK) {
                        return Ok(said.to_owned());
                    }
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// What it has prepared.
    pub(super) fn prepared(&mut self) -> Result<Vec<Committable>, String> {
        let said = self.said()?;
        serde_json::from_str(&said).map_err(|_| said)
    }

    /// Lets it go on.
    pub(super) fn go_on(&mut self) -> Result<(), String> {
        let told = self
            .input
            .write_all(b"\n")
            .and_then(|()| self.input.flush());
        told.map_err(|error| error.to_string())
    }

    /// Kills it, if it has not died by itself.
    pub(super) fn kill(mut self) -> Result<(), String> {
        // It may be gone.
        drop(self.child.kill());
        self.child
            .wait()
            .map(|_| ())
            .map_err(|error| error.to_string())
    }
}

/// Starts a child.
pub(super) fn start(order: &Order) -> Result<Running, String> {
    let told = serde_json::to_string(order).map_err(|error| error.to_string())?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    // The test that runs in this thread, and no other.
    if let Some(name) = std::thread::current().name().filter(|name| *name != "main") {
        command.args([name, "--exact", "--nocapture", "--test-threads=1"]);
    }
    let child = command
        .env(VARIABLE, told)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = child.map_err(|error| error.to_string())?;
    match (child.stdin.take(), child.stdout.take()) {
        (Some(input), Some(output)) => Ok(Running {
            child,
            input,
            output: BufReader::new(output),
        }),
        _ => Err("a child without pipes".to_owned()),
    }
}

/// Does a child's step, in a child; never returns there. A parent goes on.
pub(super) fn serve(subject: &dyn Fn(&str) -> Box<dyn Subject>) {
    let Ok(told) = std::env::var(VARIABLE) else {
        return;
    };
    let said = match serde_json::from_str::<Order>(&told) {
        Ok(order) => step(subject, &order).unwrap_or_else(|error| error),
        Err(error) => error.to_string(),
    };
    say(&said);
    // Without a goodbye to anybody.
    std::process::abort();
}

fn say(text: &str) {
    let line = format!("\n{MARK}{}\n", text.replace('\n', " "));
    let mut out = std::io::stdout().lock();
    // Who does not listen has gone.
    drop(out.write_all(line.as_bytes()).and_then(|()| out.flush()));
}

fn step(subject: &dyn Fn(&str) -> Box<dyn Subject>, order: &Order) -> Result<String, String> {
    let rig = Rig::new(subject(&order.place), &order.job);
    if order.step == Step::Commit {
        say("commits");
        return Ok(format!("{:?}", rig.commit(&order.committables)?));
    }
    let mut writer = rig.writer(order.attempt)?;
    outcome(writer.write(&rig.batch(&order.ids)))?;
    if order.step == Step::Write {
        return Ok("written".to_owned());
    }
    if order.step == Step::PrepareLate {
        say("written");
        let mut line = String::new();
        let read = std::io::stdin().read_line(&mut line);
        read.map_err(|error| error.to_string())?;
    }
    let prepared = outcome(writer.prepare(at(order.attempt)))?;
    serde_json::to_string(&prepared).map_err(|error| error.to_string())
}
