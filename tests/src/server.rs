//! Processes that end with their owner.
//!
//! Each runs under a small shell that holds the read end of a pipe. When the owner drops the
//! write end, or dies in whatever way, the shell kills the process. So neither a failing test nor
//! a killed test run leaves a broker behind.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::{poll_until, wait_for};

/// The pid of a process and when it was started, in ticks; nothing once it is gone. Its pid may be
/// another's by then.
macro_rules! identity {
    () => {
        r#"
identity() {
    read -r stat 2>/dev/null <"/proc/$1/stat" && set -- "${stat%% *}" ${stat##*) } && echo "$1 ${21}"
}
"#
    };
}

/// Starts a process that prints its identity first, however short its life is. Kills it when standard
/// input ends, and exits as it exits (128 + the signal's number, if by a signal).
const SUPERVISOR: &str = concat!(
    identity!(),
    r#"
log=$1; shift
exec 3<&0
( identity self; exec "$@" </dev/null >>"$log" 2>&1 3<&- ) &
child=$!
known=$(identity "$child")
( read -r _ <&3; [ -z "$known" ] || [ "$(identity "$child")" != "$known" ] || kill -9 "$child" ) >/dev/null 2>&1 &
reaper=$!
exec 3<&-
wait "$child"; status=$?
kill "$reaper"
exit "$status"
"#
);

/// How a process is to be started.
#[derive(Debug, Clone)]
pub struct Launch {
    command: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    directory: Option<PathBuf>,
}

impl Launch {
    /// Runs `program`.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            command: vec![program.as_ref().to_owned()],
            environment: Vec::new(),
            directory: None,
        }
    }

    /// Another program with the same arguments.
    pub fn program(mut self, program: impl AsRef<OsStr>) -> Self {
        program.as_ref().clone_into(&mut self.command[0]);
        self
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command.extend(
            arguments
                .into_iter()
                .map(|argument| argument.as_ref().to_owned()),
        );
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// Sets the directory it starts in.
    pub fn directory(mut self, path: &Path) -> Self {
        self.directory = Some(path.to_owned());
        self
    }

    /// Starts it. Both its outputs are appended to the file `log`.
    #[track_caller]
    pub fn start(&self, log: &Path) -> Server {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", SUPERVISOR, "supervisor"])
            .arg(log)
            .args(&self.command)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        let mut supervisor = command.spawn().expect("/bin/sh starts");
        let lifeline = supervisor.stdin.take().expect("standard input is piped");
        let mut line = String::new();
        BufReader::new(supervisor.stdout.take().expect("standard output is piped"))
            .read_line(&mut line)
            .expect("the process prints its identity");
        let (pid, born) = line
            .trim()
            .split_once(' ')
            .and_then(|(pid, born)| Some((Pid::from_raw(pid.parse().ok()?)?, born.to_owned())))
            .unwrap_or_else(|| panic!("{:?} did not start", self.command));
        Server {
            supervisor,
            lifeline: Some(lifeline),
            pid,
            born,
            log: log.to_owned(),
        }
    }
}

/// A running process. Killed when dropped.
#[derive(Debug)]
pub struct Server {
    supervisor: Child,
    lifeline: Option<ChildStdin>,
    pid: Pid,
    /// When it was started, as the system says.
    born: String,
    log: PathBuf,
}

impl Server {
    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// The file that its outputs are appended to.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Everything it and earlier processes of the same log have printed.
    pub fn output(&self) -> String {
        std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// How it ended; `None` while it runs. Ended by a signal, the code is 128 + its number.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.supervisor.try_wait().expect("the supervisor is ours")
    }

    /// Whether it runs (or is stopped by [`pause`](Self::pause)).
    pub fn is_running(&mut self) -> bool {
        self.exit_status().is_none()
    }

    /// `kill -9`; returns when it is gone. Whether it still ran.
    pub fn kill(&mut self) -> bool {
        let signalled = self.signal(Signal::KILL);
        self.wait(Duration::from_secs(10));
        signalled
    }

    /// Asks it to end (SIGTERM) and waits; kills it after `deadline`. How it ended.
    pub fn terminate(&mut self, deadline: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        if let Some(status) = poll_until(deadline, || self.exit_status()) {
            return status;
        }
        self.kill();
        self.wait(Duration::from_secs(10))
    }

    /// SIGINT, as Ctrl-C sends.
    pub fn interrupt(&mut self) {
        self.signal(Signal::INT);
    }

    /// SIGSTOP: it freezes where it is, its connections stay open.
    pub fn pause(&mut self) -> bool {
        self.signal(Signal::STOP)
    }

    /// SIGCONT: it goes on as if nothing had happened.
    pub fn resume(&mut self) -> bool {
        self.signal(Signal::CONT)
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let log = self.log.clone();
        wait_for(
            &format!("the process ends (its log: {})", log.display()),
            deadline,
            || self.exit_status(),
        )
    }

    fn signal(&mut self, signal: Signal) -> bool {
        self.is_running() && kill_process(self.pid, signal).is_ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        let _reaped = self.supervisor.wait();
    }
}

/// What is never dropped cannot remove its directory. This waits for the end of the process that
/// holds its standard input open, and removes it then.
const JANITOR: &str = concat!(
    identity!(),
    r#"
read -r _
[ "$(identity "$1")" != "$1 $2" ] || kill -9 "$1"
rm -rf "$3" || rm -rf "$3"
"#
);

/// Removes the directory of a server that all tests of a process share, after the process.
#[derive(Debug)]
pub(crate) struct Janitor {
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "it ends with its standard input")
    )]
    shell: Child,
}

impl Janitor {
    pub(crate) fn of(server: &Server, directory: &Path) -> Self {
        let shell = Command::new("/bin/sh")
            .args(["-c", JANITOR, "janitor"])
            .arg(server.pid().to_string())
            .arg(&server.born)
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("/bin/sh starts");
        Self { shell }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scratch;

    fn is_alive(pid: i32) -> bool {
        std::fs::exists(format!("/proc/{pid}")).unwrap()
    }

    #[test]
    fn output_goes_to_the_log_and_the_exit_code_is_passed_on() {
        let scratch = Scratch::new("server");
        let mut server = Launch::new("sh")
            .args(["-c", "echo $GREETING; exit 7"])
            .env("GREETING", "good morning")
            .start(&scratch.join("log"));
        assert_eq!(server.wait(Duration::from_secs(10)).code(), Some(7));
        assert_eq!(server.output(), "good morning\n");
    }

    #[test]
    fn a_process_that_ends_at_once_has_been_started() {
        let scratch = Scratch::new("server");
        let launch = Launch::new("true");
        for _ in 0..200 {
            let mut server = launch.start(&scratch.join("log"));
            assert!(server.wait(Duration::from_secs(10)).success());
        }
    }

    #[test]
    fn a_dropped_server_is_gone() {
        let scratch = Scratch::new("server");
        let server = Launch::new("tail")
            .args(["-f", "/dev/null"])
            .start(&scratch.join("log"));
        let pid = server.pid();
        assert!(is_alive(pid));
        drop(server);
        assert!(!is_alive(pid));
    }

    #[test]
    fn a_server_whose_owner_is_gone_is_killed() {
        let scratch = Scratch::new("server");
        let mut server = Launch::new("tail")
            .args(["-f", "/dev/null"])
            .start(&scratch.join("log"));
        // What the kernel does when the owner dies.
        drop(server.lifeline.take());
        assert_eq!(server.wait(Duration::from_secs(10)).code(), Some(128 + 9));
    }

    #[test]
    fn a_paused_server_can_be_killed() {
        let scratch = Scratch::new("server");
        let mut server = Launch::new("tail")
            .args(["-f", "/dev/null"])
            .start(&scratch.join("log"));
        assert!(server.pause());
        assert!(server.is_running());
        assert!(server.kill());
        assert!(!server.kill());
    }

    /// A janitor of a server, whose owner is gone. Its directory is gone when this returns.
    fn clean_up(mut janitor: Janitor, directory: &Path) {
        drop(janitor.shell.stdin.take());
        assert!(janitor.shell.wait().unwrap().success());
        assert!(!std::fs::exists(directory).unwrap());
    }

    #[test]
    fn a_janitor_ends_its_server_and_no_other_process_that_has_got_its_number() {
        let scratch = Scratch::new("server");
        let launch = Launch::new("tail").args(["-f", "/dev/null"]);
        let directory = scratch.join("data");
        for is_the_same in [false, true] {
            let mut server = launch.start(&scratch.join("log"));
            std::fs::create_dir(&directory).unwrap();
            if !is_the_same {
                server.born = "1".to_owned();
            }
            clean_up(Janitor::of(&server, &directory), &directory);
            if is_the_same {
                let status = server.wait(Duration::from_secs(10));
                assert_eq!(status.code(), Some(128 + 9));
            } else {
                assert!(is_alive(server.pid()));
            }
        }
    }
}
