//! A PostgreSQL 15 server: the second opinion on what SQL means.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::ports::free_port;
use crate::scratch::Scratch;
use crate::server::{Launch, Server};
use crate::tools;
use crate::wait::poll_until;

const STARTS: u32 = 3;
const READY: Duration = Duration::from_secs(30);

/// Evaluates an expression; what fails gives its message behind a mark.
const TRY: &str = "CREATE FUNCTION pg_temp.evaluated(expression text) RETURNS text \
     LANGUAGE plpgsql AS $f$ DECLARE result text; BEGIN \
     EXECUTE 'SELECT (' || expression || ')::text' INTO result; RETURN result; \
     EXCEPTION WHEN OTHERS THEN RETURN 'failed: ' || SQLERRM; END $f$;";

/// A running server.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    port: u16,
    _server: Server,
    _scratch: Scratch,
}

impl Postgres {
    /// Starts a server on a free port of the loopback interface and waits until it is ready.
    #[track_caller]
    pub fn start() -> Self {
        let programs = PathBuf::from(tools::install("postgres.sh", &[]).trim());
        let scratch = Scratch::new("postgres");
        let data = scratch.join("data");
        std::fs::create_dir(&data).expect("a directory in the scratch directory");
        let user = Owner::of(&scratch, &data);
        let made = user
            .command(&programs.join("initdb"))
            .args([
                "-A",
                "trust",
                "-U",
                "postgres",
                "-E",
                "UTF8",
                "--no-locale",
                "-N",
                "-D",
            ])
            .arg(&data)
            .output()
            .expect("initdb starts");
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "initdb failed:\n{said}");
        for _ in 0..STARTS {
            let port = free_port();
            let mut server = user
                .launch(&programs, &data, port)
                .start(&scratch.join("log"));
            let ready = poll_until(READY, || {
                match psql(&programs, port, "SELECT 1").as_deref() {
                    Ok("1") => Some(true),
                    _ => (!server.is_running()).then_some(false),
                }
            });
            if ready == Some(true) {
                return Self {
                    programs,
                    port,
                    _server: server,
                    _scratch: scratch,
                };
            }
        }
        let log = std::fs::read_to_string(scratch.join("log")).unwrap_or_default();
        panic!("the PostgreSQL server does not start:\n{log}");
    }

    /// What each expression gives, as text; `None` for NULL, and what fails says so.
    #[track_caller]
    pub fn evaluate(&self, expressions: &[String]) -> Vec<Option<String>> {
        let mut script = String::from(
            "SET timezone = 'UTC'; SET extra_float_digits = 3; SET bytea_output = 'hex'; \
             SET client_min_messages = error;\n",
        );
        script.push_str(TRY);
        script.push_str("\nCREATE TEMP TABLE given (id int, expression text);\n");
        for (id, expression) in expressions.iter().enumerate() {
            writeln!(
                script,
                "INSERT INTO given VALUES ({id}, $q${expression}$q$);"
            )
            .expect("a text can be written to");
        }
        script.push_str(
            "SELECT json_build_array(id, pg_temp.evaluated(expression)) FROM given ORDER BY id;\n",
        );
        let said = psql(&self.programs, self.port, &script)
            .unwrap_or_else(|error| panic!("psql failed: {error}"));
        let values = said
            .lines()
            .filter(|line| line.starts_with('['))
            .map(|line| {
                let (_, value): (usize, Option<String>) =
                    serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
                value
            });
        let values: Vec<_> = values.collect();
        assert_eq!(
            values.len(),
            expressions.len(),
            "every expression has an answer"
        );
        values
    }
}

/// Who a server runs as: never root.
struct Owner {
    is_root: bool,
}

impl Owner {
    /// Gives the data directory to the one.
    fn of(scratch: &Scratch, data: &Path) -> Self {
        let is_root = rustix::process::geteuid().is_root();
        if is_root {
            let given = Command::new("chown")
                .arg("-R")
                .arg("postgres")
                .arg(data)
                .status();
            assert!(
                given.is_ok_and(|status| status.success()),
                "the user postgres is there"
            );
            let open = Command::new("chmod")
                .arg("o+x")
                .arg(scratch.path())
                .status();
            assert!(open.is_ok_and(|status| status.success()));
        }
        Self { is_root }
    }

    fn words(&self, program: &Path) -> Vec<std::ffi::OsString> {
        let drop = [
            "setpriv",
            "--reuid=postgres",
            "--regid=postgres",
            "--clear-groups",
        ];
        let drop = drop.into_iter().filter(|_| self.is_root).map(Into::into);
        drop.chain([program.as_os_str().to_owned()]).collect()
    }

    fn command(&self, program: &Path) -> Command {
        let words = self.words(program);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir("/");
        command
    }

    fn launch(&self, programs: &Path, data: &Path, port: u16) -> Launch {
        let words = self.words(&programs.join("postgres"));
        Launch::new(&words[0])
            .args(&words[1..])
            .arg("-D")
            .arg(data)
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "unix_socket_directories=", "-c", "fsync=off"])
    }
}

/// Runs a script and returns what it prints.
fn psql(programs: &Path, port: u16, script: &str) -> Result<String, String> {
    let mut child = Command::new(programs.join("psql"))
        .args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "postgres",
        ])
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-d",
            "postgres",
            "-f",
            "-",
        ])
        .env("PGCLIENTENCODING", "UTF8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut stdin = child.stdin.take().expect("standard input is piped");
    let script = script.to_owned();
    // Beside the reading: neither side may wait for the other.
    let writer = std::thread::spawn(move || stdin.write_all(script.as_bytes()));
    let output = child
        .wait_with_output()
        .map_err(|error| error.to_string())?;
    let written = writer.join().expect("the writer does not panic");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    written.map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
