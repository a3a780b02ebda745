//! A PostgreSQL 15 server: the second opinion on what SQL means, and what sinks write to.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::certificates::Authority;
use crate::ports::free_port;
use crate::scratch::Scratch;
use crate::server::{Launch, Server};
use crate::tools;
use crate::wait::{poll_until, wait_until};

const STARTS: u32 = 3;
const READY: Duration = Duration::from_secs(30);

/// Evaluates an expression; what fails gives its message behind a mark.
const TRY: &str = "CREATE FUNCTION pg_temp.evaluated(expression text) RETURNS text \
     LANGUAGE plpgsql AS $f$ DECLARE result text; BEGIN \
     EXECUTE 'SELECT (' || expression || ')::text' INTO result; RETURN result; \
     EXCEPTION WHEN OTHERS THEN RETURN 'failed: ' || SQLERRM; END $f$;";

/// How a server is set up.
#[derive(Debug, Clone, Default)]
pub struct PostgresOptions {
    /// Settings, as on its command line.
    pub settings: Vec<(&'static str, String)>,
    /// Whether it takes connections over TLS only, from those who know a password.
    pub is_secure: bool,
}

/// The password of the user `postgres` where one is asked for.
pub const PASSWORD: &str = "a secret";

/// A running server.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    port: u16,
    launch: Launch,
    server: Server,
    scratch: Scratch,
    is_secure: bool,
}

impl Postgres {
    /// Starts a server on a free port of the loopback interface and waits until it is ready.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(&PostgresOptions::default())
    }

    /// As [`start`](Self::start), with settings.
    #[track_caller]
    pub fn start_with(options: &PostgresOptions) -> Self {
        let programs = PathBuf::from(tools::install("postgres.sh", &[]).trim());
        let scratch = Scratch::new("postgres");
        let data = scratch.join("data");
        std::fs::create_dir(&data).expect("a directory in the scratch directory");
        std::fs::write(scratch.join("password"), PASSWORD).expect("a file in it");
        let user = Owner::of(&scratch, &data);
        let made = user
            .command(&programs.join("initdb"))
            .args(["-U", "postgres", "-E", "UTF8", "--no-locale", "-N"])
            .args([
                "-A",
                if options.is_secure {
                    "scram-sha-256"
                } else {
                    "trust"
                },
            ])
            .arg(format!("--pwfile={}", scratch.join("password").display()))
            .arg("-D")
            .arg(&data)
            .output()
            .expect("initdb starts");
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "initdb failed:\n{said}");
        if options.is_secure {
            let authority = Authority::make(scratch.path());
            let (certificate, key) = authority.sign("DNS:localhost,IP:127.0.0.1");
            // The user `tests` is who the certificate is of.
            let rules = "hostssl all tests 127.0.0.1/32 cert\n\
                hostssl all all 127.0.0.1/32 scram-sha-256\n";
            std::fs::write(data.join("pg_hba.conf"), rules).expect("a file in it");
            user.give(&certificate, &data.join("server.crt"));
            user.give(&key, &data.join("server.key"));
        }
        let authority = format!("ssl_ca_file={}", scratch.join("ca.pem").display());
        let launch_at = |port| {
            let settings = options.settings.iter();
            let settings = settings.map(|(name, value)| format!("{name}={value}"));
            let secure = ["ssl=on".to_owned(), authority.clone()].into_iter();
            let secure = secure.filter(|_| options.is_secure);
            let launch = user.launch(&programs, &data, port);
            settings
                .chain(secure)
                .fold(launch, |launch, setting| launch.args(["-c", &setting]))
        };
        let port = free_port();
        let launch = launch_at(port);
        let mut postgres = Self {
            server: launch.start(&scratch.join("log")),
            launch,
            port,
            programs: programs.clone(),
            scratch,
            is_secure: options.is_secure,
        };
        for _ in 0..STARTS {
            if postgres.is_ready() {
                return postgres;
            }
            postgres.port = free_port();
            postgres.launch = launch_at(postgres.port);
            postgres.server = postgres.launch.start(&postgres.scratch.join("log"));
        }
        let log = std::fs::read_to_string(postgres.scratch.join("log")).unwrap_or_default();
        panic!("the PostgreSQL server does not start:\n{log}");
    }

    /// Waits until it is ready; whether it is.
    fn is_ready(&mut self) -> bool {
        let ready = poll_until(READY, || {
            let answer = psql(&self.programs, self.port, self.is_secure, "SELECT 1");
            match answer.as_deref() {
                Ok("1") => Some(true),
                _ => (!self.server.is_running()).then_some(false),
            }
        });
        ready == Some(true)
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A PEM file of a secure server: `ca.pem` of the authority of all certificates; `signed.crt` and
    /// `signed.key` are its own, and those of the user `tests`.
    pub fn pem_file(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// Runs a script; returns what it prints, a line for each row with `|` between the values.
    #[track_caller]
    pub fn query(&self, script: &str) -> String {
        self.try_query(script)
            .unwrap_or_else(|error| panic!("psql failed: {error}"))
    }

    /// As [`query`](Self::query), where it may fail.
    ///
    /// # Errors
    /// What the server says.
    pub fn try_query(&self, script: &str) -> Result<String, String> {
        psql(&self.programs, self.port, self.is_secure, script)
    }

    /// As [`try_query`](Self::try_query), of a server that another process has started.
    ///
    /// # Errors
    /// What the server says.
    pub fn query_at(address: &str, script: &str) -> Result<String, String> {
        let programs = PathBuf::from(tools::install("postgres.sh", &[]).trim());
        let (_, port) = address.rsplit_once(':').expect("an address has a port");
        psql(&programs, port.parse().expect("a port"), false, script)
    }

    /// Kills it: all its connections break.
    pub fn kill(&mut self) {
        assert!(self.server.kill(), "the PostgreSQL server was running");
    }

    /// Starts it again where it was.
    #[track_caller]
    pub fn restart(&mut self) {
        // Processes of the one before may still hold its memory.
        wait_until("the PostgreSQL server runs again", READY, || {
            self.server = self.launch.start(&self.scratch.join("log"));
            self.is_ready()
        });
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
        let said = psql(&self.programs, self.port, self.is_secure, &script)
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

    /// Copies a file that only the server may read.
    fn give(&self, from: &Path, to: &Path) {
        std::fs::copy(from, to).expect("a file is copied");
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(to, mode).expect("its mode is set");
        if self.is_root {
            let given = Command::new("chown").arg("postgres").arg(to).status();
            assert!(given.is_ok_and(|status| status.success()));
        }
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
fn psql(programs: &Path, port: u16, is_secure: bool, script: &str) -> Result<String, String> {
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
        .env("PGPASSWORD", PASSWORD)
        .env("PGSSLMODE", if is_secure { "require" } else { "disable" })
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
